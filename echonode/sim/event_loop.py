"""A deterministic asyncio event loop: virtual time, an order of callbacks drawn from a seed, and nothing real.

    time        stands still while a callback is ready, then jumps to the next timer; it starts at 0
    order       callbacks that are ready at the same time run in an order drawn from the seed
    executors   run their function at once; the awaiting task resumes in a later step, as it would with a thread
    deadlock    no callback is ready, no timer is set and the main task is not done: `Deadlock` names every waiting task
    livelock    a million callbacks ran and time did not move: `Livelock`
    forbidden   sockets, processes, threads, signals and blocking sleep: `Forbidden`
    owners      a task has the owner of the task that started it; `kill(owner)` ends them all, as if a process died;
                `stall(owner)` holds all its callbacks up until `resume(owner)`, as SIGSTOP and SIGCONT do

The same seed gives the same run in any process. Tasks and futures hash by their order of creation, because a TaskGroup
cancels in the order of a set. Garbage is collected at counted steps, and not when the allocator decides.
`SimLoop.trace` is a rolling hash over (time, callback); two runs are equal if their traces are.

The loop uses these parts of asyncio.BaseEventLoop, which are the same in CPython 3.11 to 3.13: `_ready`, `_scheduled`,
`_run_once`, `_timer_handle_cancelled`, and the `_run` and `_callback` of a handle.
"""

import asyncio
import gc
import heapq
import random
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from functools import partial
from hashlib import blake2b
from itertools import count
from typing import Any, Final, TypeVar, cast
from weakref import WeakSet

from echonode.errors import LocalError
from echonode.sim.isolation import Forbidden, forbid, isolated

__all__ = ["Forbidden", "SimClock", "SimEntropy", "SimLoop", "Trace", "run"]

T = TypeVar("T")

CLOCK_RESOLUTION_S: Final = 1e-6  # after a virtual year a float cannot hold steps of 1e-9, and a loop would spin
STEPS_AT_ONE_TIME_MAX: Final = 1_000_000
STEPS_PER_COLLECTION: Final = 100_000
STEPS_PER_REPORT: Final = 10_000  # between two calls of on_progress
CANCEL_TIMEOUT_S: Final = 3600.0  # virtual time that a cancelled task may take to end
EPOCH_MS: Final = 1_735_689_600_000  # 2025-01-01, where the simulated wall clock starts
LAST_EVENTS: Final = 200  # lines of a trace that are kept as text

# The owner of new tasks: the simulated process that they run in. "" is the simulation itself.
OWNER: Final[ContextVar[str]] = ContextVar("owner", default="")


class Deadlock(LocalError):
    """No callback can ever run again, and the main task is not done."""


class Livelock(LocalError):
    """Callbacks schedule each other for ever, and time does not move."""


class Trace:
    """The events of a run: a rolling hash of their lines, and the last lines as text."""

    def __init__(self, keep: int = LAST_EVENTS) -> None:
        self.count = 0
        self.last: deque[str] = deque(maxlen=keep)
        self._hash = blake2b(digest_size=16)

    def note(self, line: str) -> None:
        """Add `line`. It must be the same in every run of one seed: no memory address, no wall time."""
        self.count += 1
        self.last.append(line)
        self._hash.update(line.encode() + b"\n")

    @property
    def digest(self) -> str:
        """The hash in hexadecimal; equal for two runs that noted the same lines in the same order."""
        return self._hash.hexdigest()


class SimTask(asyncio.Task[T]):
    """A task that hashes by order of creation, so that a set of tasks has the same order in every process."""

    def __init__(self, coro: Any, *, sequence: int, owner: str, **options: Any) -> None:
        self.sequence = sequence  # set before Task.__init__, which puts the task into a set
        self.owner = owner
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self.sequence


class SimFuture(asyncio.Future[T]):
    """A future that hashes by order of creation."""

    def __init__(self, *, sequence: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.sequence = sequence

    def __hash__(self) -> int:
        return self.sequence


class SimLoop(asyncio.BaseEventLoop):
    """The event loop. `complete(main)` runs a whole simulation; inside it the functions of asyncio work as usual."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, *, seed: int, keep_events: int = LAST_EVENTS) -> None:
        super().__init__()
        self.seed = seed
        self.trace = Trace(keep_events)
        self.unhandled: list[BaseException] = []
        self.on_progress: Callable[[float], None] = lambda _: None  # called with the virtual time now and then
        self._now = 0.0
        self._random = random.Random(f"order/{seed}")
        self._sequence = count(1)
        self._owned: defaultdict[str, WeakSet[SimTask[Any]]] = defaultdict(WeakSet)
        self._held: dict[str, list[asyncio.Handle]] = {}  # by owner that is stalled
        self.resumed_s: dict[str, float] = {}  # by owner: when it went on last
        self._cancelled_timers = 0
        self._steps = 0
        self._full_collection_at = STEPS_PER_COLLECTION
        self._steps_at_one_time = 0
        self.set_exception_handler(_note_unhandled)

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._now

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future that hashes by order of creation."""
        return SimFuture(sequence=next(self._sequence), loop=self)

    def create_task(
        self, coro: Any, *, name: object = None, context: Context | None = None, **options: Any
    ) -> asyncio.Task[Any]:
        """Start a task that hashes by order of creation. Without a name it is called `ORDER COROUTINE`."""
        sequence = next(self._sequence)
        name = name or f"{sequence} {getattr(coro, '__qualname__', type(coro).__name__)}"
        owner = OWNER.get() if context is None else context.get(OWNER, "")
        task_options = {"loop": self, "name": name, "context": context, **options}
        task: SimTask[Any] = SimTask(coro, sequence=sequence, owner=owner, **task_options)
        self._owned[owner].add(task)
        return task

    def tasks_of(self, owner: str) -> "list[SimTask[Any]]":
        """Return the tasks of `owner` that are not done, oldest first."""
        return sorted([task for task in self._owned[owner] if not task.done()], key=hash)

    def kill(self, owner: str) -> None:
        """Cancel every task of `owner`.

        A cancelled task still runs its handlers. The caller must see to it that they reach no network and no disk.
        """
        for task in self.tasks_of(owner):
            task.cancel()

    def stall(self, owner: str) -> None:
        """Run no callback of `owner` until `resume`. What it had sent before is not delivered either."""
        self._held.setdefault(owner, [])

    def resume(self, owner: str) -> None:
        """Run what was held up by `stall`, now."""
        self._ready.extend(self._held.pop(owner, []))
        self.resumed_s[owner] = self._now

    def is_stalled(self, owner: str) -> bool:
        """Return True between `stall` and `resume`."""
        return owner in self._held

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Run `func` at once and ignore `executor`. Its result is delivered in a later step."""
        future = self.create_future()
        try:
            self.call_soon(_resolve, future, func(*args), None)
        except Exception as error:
            self.call_soon(_resolve, future, None, error)
        return future

    def _write_to_self(self) -> None:
        """Do nothing: there is no selector to wake, so call_soon_threadsafe is call_soon."""

    def _run_once(self) -> None:
        self._move_time()
        due = self._now + CLOCK_RESOLUTION_S
        while self._scheduled and self._scheduled[0].when() <= due:  # not <: after a millennium, due == now
            timer = heapq.heappop(self._scheduled)
            self._now = max(self._now, timer.when())  # else a wait for less than the resolution never ends
            self._ready.append(timer)
        batch = list(self._ready)
        self._ready.clear()
        self._random.shuffle(batch)
        while batch:  # emptied, because a traceback keeps this frame and would keep the tasks alive
            self._step(batch.pop())

    def _move_time(self) -> None:
        """Advance to the next timer if no callback is ready. Raises Deadlock if there is no timer."""
        while self._scheduled and self._scheduled[0].cancelled():
            heapq.heappop(self._scheduled)
        if self._ready:
            return
        if not self._scheduled:
            waiting = ", ".join(_describe_task(task) for task in self._tasks())
            raise Deadlock(f"nothing is ready and no timer is set at {self._now:.6f}; waiting: {waiting}")
        if self._scheduled[0].when() > self._now:
            self._now = self._scheduled[0].when()
            self._steps_at_one_time = 0

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Drop cancelled timers once most are: a cancelled timeout should not stay in memory until its time comes."""
        self._cancelled_timers += 1
        if 100 < len(self._scheduled) < 2 * self._cancelled_timers:
            self._scheduled = [timer for timer in self._scheduled if not timer.cancelled()]
            heapq.heapify(self._scheduled)
            self._cancelled_timers = 0

    def _step(self, handle: asyncio.Handle) -> None:
        if handle.cancelled():
            return
        if self._held and (held := self._held.get(cast(Any, handle)._context.get(OWNER, ""))) is not None:
            held.append(handle)
            return
        self._steps += 1
        self._steps_at_one_time += 1
        if self._steps_at_one_time > STEPS_AT_ONE_TIME_MAX:
            raise Livelock(f"time does not move on from {self._now:.6f}; last: {list(self.trace.last)[-5:]}")
        if self._steps % STEPS_PER_COLLECTION == 0:
            self._collect_garbage()
        if self._steps % STEPS_PER_REPORT == 0:
            self.on_progress(self._now)
        self.trace.note(f"{self._now:.6f} {_callback_name(cast(Any, handle)._callback)}")
        handle._run()

    def _collect_garbage(self) -> None:
        """Collect new garbage, and all garbage each time the number of steps has doubled.

        With a thousand nodes, full collections at regular steps would take longer than everything else.
        """
        is_due = self._steps >= 2 * self._full_collection_at
        if is_due:
            self._full_collection_at = self._steps
        gc.collect(2 if is_due else 1)

    def _tasks(self) -> list[SimTask[Any]]:
        return sorted(cast("set[SimTask[Any]]", asyncio.all_tasks(self)), key=hash)

    def complete(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` to its end, cancel and await every task that is left, close the loop, and return main's result.

        Raises main's exception, with the seed and the last events as notes. Raises an ExceptionGroup if tasks or
        callbacks raised exceptions that no code looked at. In case of both, the second kind is among the notes.
        """
        with isolated():
            try:
                result = self.run_until_complete(main)
                self._end_leftover_tasks()
            except BaseException as error:
                self._end_leftover_tasks()
                self._annotate(error)
                for unhandled in self.unhandled:
                    error.add_note(f"also unhandled: {unhandled!r}")
                raise
            finally:
                self.close()
        if self.unhandled:
            group = BaseExceptionGroup("exceptions that the simulation did not handle", self.unhandled)
            self._annotate(group)
            raise group
        return result

    def _end_leftover_tasks(self) -> None:
        self._steps_at_one_time = 0  # a livelock may have ended the run
        self.run_until_complete(self._cancel_leftovers())
        self.run_until_complete(self.shutdown_asyncgens())
        gc.collect()  # a task that was never awaited reports its exception when it is destroyed

    async def _cancel_leftovers(self) -> None:
        """Cancel all tasks that are left and wait for them. Their exceptions count as unhandled."""
        tasks = [task for task in self._tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_TIMEOUT_S)
        for task in tasks:
            if not task.done():
                self.unhandled.append(LocalError(f"{_describe_task(task)} did not end when it was cancelled"))
            elif not task.cancelled() and (error := task.exception()):
                self.unhandled.append(error)

    def _annotate(self, error: BaseException) -> None:
        error.add_note(f"seed {self.seed}, virtual time {self._now:.6f} s, {self.trace.count} events, the last:")
        for line in list(self.trace.last)[-20:]:
            error.add_note(f"  {line}")


def run(main: Coroutine[Any, Any, T], *, seed: int) -> T:
    """Run `main` on a new SimLoop and return its result. See SimLoop.complete."""
    return SimLoop(seed=seed).complete(main)


class SimClock:
    """The Clock port over a loop: monotonic time is the loop's; wall time is that plus an epoch and `skew_ms`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, skew_ms: int = 0, epoch_ms: int = EPOCH_MS) -> None:
        self.skew_ms = skew_ms  # may change while the world runs: a person sets the clock
        self._loop = loop
        self._epoch_ms = epoch_ms

    def now_ms(self) -> int:
        """Return the wall time in milliseconds since the Unix epoch."""
        return self._epoch_ms + self.skew_ms + int(self._loop.time() * 1000)

    def monotonic_s(self) -> float:
        """Return seconds that never go back."""
        return self._loop.time()


class SimEntropy:
    """The Entropy port over a seed.

    Give each part of a world a label of its own (`f"{seed}/node-3"`): one part's draws then do not change another's.
    """

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(f"entropy/{seed}")  # Random hashes a str by SHA-512: the same in every process

    def random_bytes(self, size: int) -> bytes:
        """Return `size` bytes."""
        return self._random.randbytes(size)

    def uniform(self, low: float, high: float) -> float:
        """Return a number between `low` and `high`."""
        return self._random.uniform(low, high)


def _resolve(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if not future.cancelled():
        future.set_exception(error) if error else future.set_result(result)


def _note_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    assert isinstance(loop, SimLoop)
    loop.unhandled.append(context.get("exception") or LocalError(context["message"]))


def _callback_name(callback: Any) -> str:
    """Return a name for `callback` without a memory address: the task's for a step of a task, else the function's."""
    if isinstance(owner := getattr(callback, "__self__", None), asyncio.Task):
        return owner.get_name()
    while isinstance(callback, partial):
        callback = callback.func
    return str(getattr(callback, "__qualname__", type(callback).__qualname__))


def _describe_task(task: asyncio.Task[Any]) -> str:
    """Return the task's name and the calls that it is in, outermost first."""
    calls, awaited = [], cast(Any, task.get_coro())
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        calls.append(f"{awaited.__name__}:{frame.f_lineno}")
        awaited = awaited.cr_await
    return f"{task.get_name()} ({' > '.join(calls)})"


for _name in ("add_reader", "add_writer", "add_signal_handler", "subprocess_exec", "subprocess_shell"):
    setattr(SimLoop, _name, forbid(f"loop.{_name}"))
