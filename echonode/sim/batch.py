"""Many worlds, one after another or in several processes. A simulation takes over the process in which it runs."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from itertools import islice
from threading import Thread
from traceback import format_exception
from typing import Final, Protocol, TypeAlias

from echonode.sim.clients import Habits
from echonode.sim.figures import Figures, failed
from echonode.sim.mdns import MulticastConditions
from echonode.sim.options import Options, draw_options
from echonode.sim.scenario import run_seed

OnProgress: TypeAlias = Callable[[float, float], None]  # (virtual time, expected duration), both in seconds

_AHEAD: Final = 8  # worlds handed to each process in advance
_CALM_NODES: Final = 10
_CALM_RECORDS: Final = 200
_IDLE_S: Final = 600.0
_LIVE_S: Final = 60.0


def calm() -> Options:
    """Return the options of a LAN without faults.

    All nodes hold their records and then meet at once. For ten minutes no client writes, and links come to rest. Then
    clients write about once a second for a minute.
    """
    return Options(
        nodes=_CALM_NODES,
        is_all_at_once=True,
        records=_CALM_RECORDS,
        habits=Habits(names=1_000_000, writes_per_s=1.0, requests_per_s=1e-9, burst_records=0, bodies=(200,)),
        multicast=MulticastConditions(delay_s=1.0),
        commit_s=0.005,
        meets_first=True,
        idle_s=_IDLE_S,
        faults_s=_LIVE_S,
    )


class RequestedOptions(Protocol):
    """The options that a person may choose. None: as drawn from the seed, or as in the calm world."""

    @property
    def is_calm(self) -> bool:
        """True for the calm world: no faults but the requested ones."""
        ...

    @property
    def nodes(self) -> int | None:
        """The number of nodes."""
        ...

    @property
    def records(self) -> int | None:
        """The number of records that all nodes together hold before they meet."""
        ...

    @property
    def losses_per_minute(self) -> float | None:
        """Connections cut per minute in the whole network, beside all other faults."""
        ...

    @property
    def partition_s(self) -> float | None:
        """The seconds for which one half of the nodes is cut off from the other."""
        ...


def options_for(seed: int, requested: RequestedOptions) -> Options:
    """Return the options of the world of `seed`, or of the calm world, with the requested ones in their place."""
    options = calm() if requested.is_calm else draw_options(seed)
    if requested.nodes is not None:
        options = replace(options, nodes=requested.nodes)
    if requested.records is not None:
        options = replace(options, records=requested.records)
    if requested.losses_per_minute is not None:
        options = replace(options, loss_rate=requested.losses_per_minute / 60.0)
    if requested.partition_s:
        faults_s = max(options.faults_s, requested.partition_s)
        options = replace(options, partition_s=requested.partition_s, faults_s=faults_s)
    return options


def run_many(
    worlds: Iterator[tuple[int, Options]], jobs: int, on_progress: OnProgress = lambda _now_s, _expected_s: None
) -> Iterator[Figures]:
    """Yield the figures of each world as soon as it ends, in any order.

    With one job the worlds run in this process, and `on_progress` is called now and then. Other processes do not call
    it.
    """
    if jobs == 1:
        yield from (_run(seed, options, on_progress) for seed, options in worlds)
        return
    with ProcessPoolExecutor(jobs, initializer=_begin_worker) as pool:
        try:
            waiting = {pool.submit(_run, *world) for world in islice(worlds, jobs * _AHEAD)}
            while waiting:
                done = next(as_completed(waiting))
                waiting.remove(done)
                yield done.result()
                waiting |= {pool.submit(_run, *world) for world in islice(worlds, 1)}
        except BaseException:
            for worker in multiprocessing.active_children():
                worker.terminate()  # after Ctrl-C the results of running worlds are not wanted
            pool.shutdown(cancel_futures=True)
            raise


def _begin_worker() -> None:
    """Let a worker end when its parent ends it, and when the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "workers have one"
    parent.join()
    os._exit(1)


def _run(seed: int, options: Options, on_progress: OnProgress | None = None) -> Figures:
    try:
        report = None if on_progress is None else lambda now_s: on_progress(now_s, options.expected_duration_s)
        return run_seed(seed, options, report)
    except Exception as error:
        # A simulation looks for any exception that ends a world.
        return failed(seed, f"{type(error).__name__}: {error}\n{''.join(format_exception(error))}")
