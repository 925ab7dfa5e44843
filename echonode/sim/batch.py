"""Many worlds, in as many processes as are wanted: a simulation takes over its process while it runs."""

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
from echonode.sim.mdns import Air
from echonode.sim.options import Options, draw_options
from echonode.sim.scenario import run_seed

OnTime: TypeAlias = Callable[[float, float], None]

_AHEAD: Final = 8  # worlds handed out to each process before the first came back
_CALM_NODES: Final = 10
_CALM_RECORDS: Final = 200
_IDLE_S: Final = 600.0
_LIVE_S: Final = 60.0


def calm() -> Options:
    """A LAN on which nothing goes wrong: all nodes hold their records before they meet, all at once; then they have
    nothing to tell for ten minutes, in which links settle; then for a minute somebody writes about every second."""
    return Options(
        nodes=_CALM_NODES,
        is_all_at_once=True,
        records=_CALM_RECORDS,
        habits=Habits(names=1_000_000, writes_per_s=1.0, questions_per_s=1e-9, burst_records=0, bodies=(200,)),
        air=Air(delay_s=1.0),
        commit_s=0.005,
        meets_first=True,
        idle_s=_IDLE_S,
        faults_s=_LIVE_S,
    )


class Wishes(Protocol):
    """What a person asks of a world. None: as the seed draws it, or in the calm world the usual."""

    @property
    def is_calm(self) -> bool:
        """Nothing goes wrong but what is asked for."""
        ...

    @property
    def nodes(self) -> int | None:
        """How many there are."""
        ...

    @property
    def records(self) -> int | None:
        """How many they hold before they meet, in all."""
        ...

    @property
    def losses_per_minute(self) -> float | None:
        """Connections cut, in the whole network, beside whatever else befalls it."""
        ...

    @property
    def partition_s(self) -> float | None:
        """How long one half hears nothing of the other."""
        ...


def options_for(seed: int, wishes: Wishes) -> Options:
    """The world of `seed`, or the calm one, with what is given in place of what it would have."""
    options = calm() if wishes.is_calm else draw_options(seed)
    if wishes.nodes is not None:
        options = replace(options, nodes=wishes.nodes)
    if wishes.records is not None:
        options = replace(options, records=wishes.records)
    if wishes.losses_per_minute is not None:
        options = replace(options, loss_rate=wishes.losses_per_minute / 60.0)
    if wishes.partition_s:
        lasting_s = max(options.faults_s, wishes.partition_s)
        options = replace(options, partition_s=wishes.partition_s, faults_s=lasting_s)
    return options


def run_many(
    worlds: Iterator[tuple[int, Options]], jobs: int, on_time: OnTime = lambda _now_s, _lasts_s: None
) -> Iterator[Figures]:
    """The figures of each world, as they come to their end. `on_time` is told of worlds in this process, if jobs is 1,
    their virtual time and about how long they last."""
    if jobs == 1:
        yield from (_run(seed, options, on_time) for seed, options in worlds)
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
                worker.terminate()  # or whoever pressed Ctrl-C would wait for worlds that nobody will look at
            pool.shutdown(cancel_futures=True)
            raise


def _begin_worker() -> None:
    """A worker ends when it is told to, or when the process that would take its results is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "workers have one"
    parent.join()
    os._exit(1)


def _run(seed: int, options: Options, on_time: OnTime | None = None) -> Figures:
    try:
        told = None if on_time is None else lambda now_s: on_time(now_s, options.lasts_s)
        return run_seed(seed, options, told)
    except Exception as error:
        # Whatever ended a world is what was looked for.
        return failed(seed, f"{type(error).__name__}: {error}\n{''.join(format_exception(error))}")
