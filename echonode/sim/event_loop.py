"""A deterministic asyncio event loop: virtual time, an order drawn from a seed, and nothing real.

    time        stands still while anything is ready, then jumps to the next timer; it starts at 0
    order       callbacks that are ready together run in an order drawn from the seed
    executors   run inline; the awaiting task is resumed in a later step, as it would be
    deadlock    nothing ready, no timer, and the main task not done: `Deadlock`, naming who waits where
    livelock    a million callbacks without time moving: `Livelock`
    forbidden   sockets, processes, threads, signals, blocking sleep: `Forbidden`
    owners      what a task starts is its owner's too; `kill(owner)` ends all of it, as the death of a process would

The same seed gives the same run, in any process: tasks and futures hash by order of creation (a TaskGroup cancels in
the order of a set), and garbage is collected at counted steps, not when the allocator says. `SimLoop.trace` is a
rolling hash over (time, callback) that two runs can be compared by.

It rests on these parts of asyncio.BaseEventLoop, the same in CPython 3.11 to 3.13: `_ready`, `_scheduled`,
`_run_once`, `_timer_handle_cancelled`, and a handle's `_run` and `_callback`.
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
from echonode.sim.isolation import Forbidden, forbidden, sealed

__all__ = ["Forbidden", "SimClock", "SimEntropy", "SimLoop", "Trace", "run"]

T = TypeVar("T")

CLOCK_RESOLUTION_S: Final = 1e-6  # at 1e-9 a loop spins for ever after a virtual year: a float has no such digits
STEPS_AT_ONE_TIME_MAX: Final = 1_000_000
STEPS_PER_COLLECTION: Final = 100_000
STEPS_PER_WORD: Final = 10_000  # to whoever waits for the end
REAPED_WITHIN_S: Final = 3600.0  # virtual time a cancelled task may take to end
EPOCH_MS: Final = 1_735_689_600_000  # 2025-01-01, where the simulated wall clock starts
LAST_EVENTS: Final = 200  # how much of a trace is kept as text

# Whose process a task runs in; "" is the simulation itself.
OWNER: Final[ContextVar[str]] = ContextVar("owner", default="")


class Deadlock(LocalError):
    """Nothing can ever happen again, and the main task is not done."""


class Livelock(LocalError):
    """Callbacks keep each other busy and time never moves."""


class Trace:
    """What happened, as a rolling hash of lines and the last of those lines."""

    def __init__(self, keep: int = LAST_EVENTS) -> None:
        self.count = 0
        self.last: deque[str] = deque(maxlen=keep)
        self._hash = blake2b(digest_size=16)

    def note(self, line: str) -> None:
        """Add `line`. It may hold nothing that differs between runs of one seed: no address, no wall time."""
        self.count += 1
        self.last.append(line)
        self._hash.update(line.encode() + b"\n")

    @property
    def digest(self) -> str:
        """Equal for two runs that noted the same lines in the same order."""
        return self._hash.hexdigest()


class SimTask(asyncio.Task[T]):
    """A task that hashes by order of creation: what is kept in a set is visited in the same order in every process."""

    def __init__(self, coro: Any, *, sequence: int, owner: str, **options: Any) -> None:
        self.sequence = sequence  # before Task.__init__, which already puts the task into a set
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
    """The loop. `complete(main)` runs a whole simulation; the asyncio functions work inside it as usual."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, *, seed: int, keep_events: int = LAST_EVENTS) -> None:
        super().__init__()
        self.seed = seed
        self.trace = Trace(keep_events)
        self.unhandled: list[BaseException] = []
        self.on_time: Callable[[float], None] = lambda _: None  # told the virtual time now and then
        self._now = 0.0
        self._random = random.Random(f"order/{seed}")
        self._sequence = count(1)
        self._owned: defaultdict[str, WeakSet[SimTask[Any]]] = defaultdict(WeakSet)
        self._cancelled_timers = 0
        self._steps = 0
        self._collected_all_at = STEPS_PER_COLLECTION
        self._steps_at_one_time = 0
        self.set_exception_handler(_collect_exception)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now

    def create_future(self) -> asyncio.Future[Any]:
        """A future that hashes by order of creation."""
        return SimFuture(sequence=next(self._sequence), loop=self)

    def create_task(
        self, coro: Any, *, name: object = None, context: Context | None = None, **options: Any
    ) -> asyncio.Task[Any]:
        """A task that hashes by order of creation and, unless named, is called `ORDER COROUTINE`."""
        sequence = next(self._sequence)
        name = name or f"{sequence} {getattr(coro, '__qualname__', type(coro).__name__)}"
        owner = OWNER.get() if context is None else context.get(OWNER, "")
        told = {"loop": self, "name": name, "context": context, **options}
        task: SimTask[Any] = SimTask(coro, sequence=sequence, owner=owner, **told)
        self._owned[owner].add(task)
        return task

    def tasks_of(self, owner: str) -> "list[SimTask[Any]]":
        """The tasks of `owner` that are not done, oldest first."""
        return sorted([task for task in self._owned[owner] if not task.done()], key=hash)

    def kill(self, owner: str) -> None:
        """End every task of `owner`. They still run what they run when cancelled; see to it that it reaches nobody."""
        for task in self.tasks_of(owner):
            task.cancel()

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Run `func` here and now, whatever `executor` is; its outcome is seen in a later step."""
        future = self.create_future()
        try:
            self.call_soon(_settle, future, func(*args), None)
        except Exception as error:
            self.call_soon(_settle, future, None, error)
        return future

    def _write_to_self(self) -> None:
        """Wake the selector, of which there is none: call_soon_threadsafe is call_soon."""

    def _run_once(self) -> None:
        self._move_time()
        due = self._now + CLOCK_RESOLUTION_S
        while self._scheduled and self._scheduled[0].when() <= due:  # not <: in a millennium now + resolution is now
            timer = heapq.heappop(self._scheduled)
            self._now = max(self._now, timer.when())  # or who waits for what is due in less would do so for ever
            self._ready.append(timer)
        batch = list(self._ready)
        self._ready.clear()
        self._random.shuffle(batch)
        while batch:  # emptied, for a traceback keeps this frame, and must not keep tasks alive with it
            self._step(batch.pop())

    def _move_time(self) -> None:
        """Go to the next timer if nothing is ready."""
        while self._scheduled and self._scheduled[0].cancelled():
            heapq.heappop(self._scheduled)
        if self._ready:
            return
        if not self._scheduled:
            waiting = ", ".join(_where(task) for task in self._tasks())
            raise Deadlock(f"nothing is ready and no timer is set at {self._now:.6f}; waiting: {waiting}")
        if self._scheduled[0].when() > self._now:
            self._now = self._scheduled[0].when()
            self._steps_at_one_time = 0

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Forget cancelled timers once most are: a timeout that never fires must not stay until its time comes."""
        self._cancelled_timers += 1
        if 100 < len(self._scheduled) < 2 * self._cancelled_timers:
            self._scheduled = [timer for timer in self._scheduled if not timer.cancelled()]
            heapq.heapify(self._scheduled)
            self._cancelled_timers = 0

    def _step(self, handle: asyncio.Handle) -> None:
        if handle.cancelled():
            return
        self._steps += 1
        self._steps_at_one_time += 1
        if self._steps_at_one_time > STEPS_AT_ONE_TIME_MAX:
            raise Livelock(f"time does not move on from {self._now:.6f}; last: {list(self.trace.last)[-5:]}")
        if self._steps % STEPS_PER_COLLECTION == 0:
            self._collect()
        if self._steps % STEPS_PER_WORD == 0:
            self.on_time(self._now)
        self.trace.note(f"{self._now:.6f} {_callback_name(cast(Any, handle)._callback)}")
        handle._run()

    def _collect(self) -> None:
        """Look for garbage among what is new; among all there is, ever more seldom: of a thousand nodes that takes
        longer than all they do."""
        is_due = self._steps >= 2 * self._collected_all_at
        if is_due:
            self._collected_all_at = self._steps
        gc.collect(2 if is_due else 1)

    def _tasks(self) -> list[SimTask[Any]]:
        return sorted(cast("set[SimTask[Any]]", asyncio.all_tasks(self)), key=hash)

    def complete(self, main: Coroutine[Any, Any, T]) -> T:
        """Run `main` to its end, cancel and collect every task it left, close the loop, and give main's result.

        Raises what `main` raises, with the seed and the last events as notes; or an ExceptionGroup of what tasks and
        callbacks raised unseen. Both together: main's exception, the unseen ones among its notes.
        """
        with sealed():
            try:
                result = self.run_until_complete(main)
                self._collect_tasks()
            except BaseException as error:
                self._collect_tasks()
                self._annotate(error)
                for unseen in self.unhandled:
                    error.add_note(f"and unseen: {unseen!r}")
                raise
            finally:
                self.close()
        if self.unhandled:
            group = BaseExceptionGroup("raised in the simulation, and nobody looked", self.unhandled)
            self._annotate(group)
            raise group
        return result

    def _collect_tasks(self) -> None:
        self._steps_at_one_time = 0  # it may be a livelock that we clean up after
        self.run_until_complete(self._reap())
        self.run_until_complete(self.shutdown_asyncgens())
        gc.collect()  # tasks nobody awaited say so when they are destroyed

    async def _reap(self) -> None:
        """Cancel what is left and wait for it; what it raises on the way is unhandled by definition."""
        tasks = [task for task in self._tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=REAPED_WITHIN_S)
        for task in tasks:
            if not task.done():
                self.unhandled.append(LocalError(f"{_where(task)} did not end when it was cancelled"))
            elif not task.cancelled() and (error := task.exception()):
                self.unhandled.append(error)

    def _annotate(self, error: BaseException) -> None:
        error.add_note(f"seed {self.seed}, virtual time {self._now:.6f} s, {self.trace.count} events, the last:")
        for line in list(self.trace.last)[-20:]:
            error.add_note(f"  {line}")


def run(main: Coroutine[Any, Any, T], *, seed: int) -> T:
    """The result of `main`, run on a SimLoop of its own. See SimLoop.complete."""
    return SimLoop(seed=seed).complete(main)


class SimClock:
    """The Clock port over a loop: monotonic time is the loop's, wall time is that plus an epoch and `skew_ms`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, skew_ms: int = 0, epoch_ms: int = EPOCH_MS) -> None:
        self.skew_ms = skew_ms  # may be changed while running: somebody set the clock
        self._loop = loop
        self._epoch_ms = epoch_ms

    def now_ms(self) -> int:
        """Wall time in milliseconds since the Unix epoch."""
        return self._epoch_ms + self.skew_ms + int(self._loop.time() * 1000)

    def monotonic_s(self) -> float:
        """Seconds that never go back."""
        return self._loop.time()


class SimEntropy:
    """The Entropy port over a seed. Give each part of a world its own (`f"{seed}/node-3"`): draws then stay apart."""

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(f"entropy/{seed}")  # a str is hashed by SHA-512: the same in every process

    def random_bytes(self, size: int) -> bytes:
        """`size` bytes."""
        return self._random.randbytes(size)

    def uniform(self, low: float, high: float) -> float:
        """A number between `low` and `high`."""
        return self._random.uniform(low, high)


def _settle(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    if not future.cancelled():
        future.set_exception(error) if error else future.set_result(result)


def _collect_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    assert isinstance(loop, SimLoop)
    loop.unhandled.append(context.get("exception") or LocalError(context["message"]))


def _callback_name(callback: Any) -> str:
    """A name for `callback` without addresses: the task's for a task's step, else the function's."""
    if isinstance(owner := getattr(callback, "__self__", None), asyncio.Task):
        return owner.get_name()
    while isinstance(callback, partial):
        callback = callback.func
    return str(getattr(callback, "__qualname__", type(callback).__qualname__))


def _where(task: asyncio.Task[Any]) -> str:
    """The task's name and the calls it is in, outermost first."""
    calls, awaited = [], cast(Any, task.get_coro())
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        calls.append(f"{awaited.__name__}:{frame.f_lineno}")
        awaited = awaited.cr_await
    return f"{task.get_name()} ({' > '.join(calls)})"


for _name in ("add_reader", "add_writer", "add_signal_handler", "subprocess_exec", "subprocess_shell"):
    setattr(SimLoop, _name, forbidden(f"loop.{_name}"))
