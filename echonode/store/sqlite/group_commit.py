"""Group commit: calls wait in a queue, and all that wait are planned and written in one transaction.

    caller         submit(plan) ------------------------------------------- awaits ------------> result
    GroupCommit      take a group -> plan each in turn -> BEGIN .. COMMIT (one hop) -> finish each -> report each

Calls of a few records pass those of many that may share a transaction, but not twice in a row: a write of one record
waits for one bulk group at most, and a bulk for one group of such writes.

A plan reads what is stored, adds rows to the transaction as its last step, and returns a function to call once the rows
are durable. A call that fails while planning therefore leaves the other calls of its group alone, and memory never
shows what the disk may lose. A transaction is one function on the connection's thread, so that a cancelled caller
cannot cut it in two.

A failed write ends the store: after an fsync error the content of the disk is unknown until the file is opened again.
The exceptions are a full disk and a lock held by another process: then nothing was written and nothing is lost.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from echonode.errors import StoreError
from echonode.limits import BATCH_RECORDS_MAX, STORE_CALLS_WAITING_MAX
from echonode.store.sqlite.connection import DatabaseConnection, NothingWrittenError, release_memory
from echonode.store.sqlite.disk_space import DiskSpace
from echonode.store.sqlite.life_watch import SAVE_MARK, LifeWatch
from echonode.store.sqlite.transaction import Catalog, Transaction, delete_rows

T = TypeVar("T")
Finish: TypeAlias = Callable[[], T]
CallPlan: TypeAlias = Callable[[Transaction], Awaitable[Finish[T]]]

_GROUP_RECORDS_MAX: Final = BATCH_RECORDS_MAX  # a single record waits for such a group, the event loop for its trees
_FEW_RECORDS: Final = 16  # a call of no more passes bulks
_SPACE_CHECK_INTERVAL_S: Final = 1.0
_QUIET_S: Final = 1.0  # without a call after a bulk; the next one reads a few pages again
_PURGE_ROWS: Final = 500  # a call that arrives meanwhile waits for at most so many deletes


@dataclass(slots=True, eq=False)
class _Call:
    """One call. `arrival` wakes its caller, and is cancelled with it: then a call that has not begun is taken back."""

    plan: CallPlan[Any]
    may_share: bool
    record_count: int
    report: Callable[[Any], None] | None
    arrival: asyncio.Future[None]
    has_begun: bool = False
    is_over: bool = False
    result: Any = None
    error: Exception | None = None

    def begin(self) -> bool:
        """Begin the call. Return False when it was taken back."""
        self.has_begun = not self.arrival.cancelled()
        return self.has_begun

    def end(self, result: Any, error: Exception | None = None) -> None:
        """Set the outcome, and wake the caller."""
        self.is_over, self.result, self.error = True, result, error
        if not self.arrival.done():
            self.arrival.set_result(None)

    def tell(self) -> None:
        """Report the result, before the caller goes on. An error of that is the caller's."""
        if self.report is not None:
            try:
                self.report(self.result)
            except Exception as error:
                self.error = error

    async def outcome(self) -> Any:
        """Return the result once the call is over. Raises its error, and CancelledError for a cancelled caller."""
        try:
            await self.arrival
        except asyncio.CancelledError:
            while self.has_begun and not self.is_over:
                self.arrival = asyncio.get_running_loop().create_future()
                with suppress(asyncio.CancelledError):
                    await self.arrival
            raise
        if self.error is not None:
            raise self.error
        return self.result


class GroupCommit:
    """Owns the connection that writes, and the catalog."""

    def __init__(
        self,
        database: DatabaseConnection,
        path: Path,
        catalog: Catalog,
        now_ms: Callable[[], int],
        life: LifeWatch | None = None,
    ) -> None:
        self.catalog = catalog
        self.database = database
        self._life = life
        self._space = DiskSpace(path)
        self._now_ms = now_ms
        self._waiting: deque[_Call] = deque()
        self._group: list[_Call] = []
        self._slots = asyncio.Semaphore(STORE_CALLS_WAITING_MAX)
        self._has_passed = False  # the last group passed a bulk
        self._arrived = asyncio.Event()
        self._is_closing = False
        self._broken: StoreError | None = None
        self._broken_event = asyncio.Event()
        self._space_checked_s = float("-inf")
        self._began_s: float | None = None  # loop time at which the group in work began
        self._garbage: dict[int, int] = {}  # nameless contexts, and the seq from which their rows are left
        self._records_since_rest = BATCH_RECORDS_MAX  # opening leaves pages in memory too
        self._resting_since_s: float | None = None  # loop time
        self._quiet_timer: asyncio.TimerHandle | None = None  # one over many calls: each would cost more
        self._is_quiet = False
        self._task = asyncio.create_task(self._run(), name="store writer")

    async def submit(
        self,
        plan: CallPlan[T],
        *,
        may_share: bool = False,
        record_count: int = 1,
        report: Callable[[T], None] | None = None,
    ) -> T:
        """Carry out `plan` and return the result of its finish.

        `may_share`: the call may share its transaction with others that may, and sees their effects. `record_count`:
        about how many records it brings. `report` is called with the result as soon as that is durable. Raises what
        `plan` raised, and StoreError. A cancelled caller takes its call back if the call has not begun, else it waits
        for the end of it."""
        async with self._slots:
            if self._broken is not None:
                raise self._broken
            if self._is_closing:
                raise StoreError("the store is closed")
            call = _Call(plan, may_share, record_count, report, asyncio.get_running_loop().create_future())
            self._waiting.append(call)
            self._arrived.set()
            result: T = await call.outcome()
            return result

    def discard(self, context_id: int, first_seq: int) -> None:
        """Delete the rows of the nameless context `context_id`, none of them below `first_seq`, bit by bit, whenever no
        call waits."""
        self._garbage[context_id] = first_seq
        self._arrived.set()

    async def wait_until_broken(self) -> StoreError:
        """Return the error that ended the store, once one did."""
        await self._broken_event.wait()
        assert self._broken is not None, "set with it"
        return self._broken

    def stuck_s(self) -> float:
        """Return how long the group in work has taken up to now, 0 between groups, infinity when nothing takes calls.
        """
        if self._task.done() or self._broken is not None:
            return float("inf")
        return 0.0 if self._began_s is None else asyncio.get_running_loop().time() - self._began_s

    def _break(self, error: StoreError) -> None:
        self._broken = error
        self._broken_event.set()

    async def close(self) -> None:
        """Carry out the waiting calls, then close the connection."""
        self._is_closing = True
        self._arrived.set()
        await asyncio.wait([self._task])  # unlike a plain await, this does not cancel the task with the caller
        await self.database.close()
        if not self._task.cancelled():
            self._task.result()

    async def _run(self) -> None:
        try:
            while self._waiting or not self._is_closing:
                if self._waiting:
                    self._group = self._next_group()
                    self._began_s = asyncio.get_running_loop().time()
                    await self._commit(self._group)
                    self._began_s = None
                elif self._is_quiet:
                    await self._release_memory()
                elif self._garbage and self._broken is None:
                    await self._purge(*next(reversed(self._garbage.items())))
                else:
                    await self._rest()
        finally:
            if self._quiet_timer is not None:
                self._quiet_timer.cancel()
            # Calls left over mean a bug or the end of the event loop. Their callers must not wait for ever.
            self._is_closing = True
            self._fail([*self._group, *self._waiting], StoreError("the store is closed"))

    async def _rest(self) -> None:
        """Wait for the next call. The pages of a bulk leave memory when none comes for _QUIET_S."""
        self._arrived.clear()
        loop = asyncio.get_running_loop()
        self._resting_since_s = loop.time()
        if self._records_since_rest >= BATCH_RECORDS_MAX and self._quiet_timer is None:
            self._quiet_timer = loop.call_later(_QUIET_S, self._on_quiet_timer)
        await self._arrived.wait()
        self._resting_since_s = None

    def _on_quiet_timer(self) -> None:
        """Have memory released if no call came for _QUIET_S, else look again later."""
        self._quiet_timer = None
        loop = asyncio.get_running_loop()
        rest_s = 0.0 if self._resting_since_s is None else loop.time() - self._resting_since_s
        if rest_s < _QUIET_S:
            self._quiet_timer = loop.call_later(_QUIET_S - rest_s, self._on_quiet_timer)
        else:
            self._is_quiet = True
            self._arrived.set()

    async def _release_memory(self) -> None:
        self._is_quiet = False
        self._records_since_rest = 0
        with suppress(StoreError):
            await self.database.run(release_memory)

    def _next_group(self) -> list[_Call]:
        """Return the next call, and those behind it that may share its transaction; or the small ones that pass it."""
        passing = [] if self._has_passed else self._passing()
        self._has_passed = bool(passing)
        if passing:
            self._waiting = deque(call for call in self._waiting if call not in passing)
            return passing
        group = [self._waiting.popleft()]
        record_count = group[0].record_count
        while self._waiting and group[-1].may_share and self._waiting[0].may_share:
            record_count += self._waiting[0].record_count
            if record_count > _GROUP_RECORDS_MAX:
                break
            group.append(self._waiting.popleft())
        return group

    def _passing(self) -> list[_Call]:
        """Return the calls of few records behind a bulk, up to one that may not share its transaction."""
        sharing = list(takewhile(lambda call: call.may_share, self._waiting))
        if not sharing or sharing[0].record_count <= _FEW_RECORDS:
            return []
        return [call for call in sharing if call.record_count <= _FEW_RECORDS]

    async def _commit(self, group: list[_Call]) -> None:
        if self._broken is not None:
            self._fail(group, self._broken)
            return
        transaction = Transaction(self.catalog, self._now_ms())
        planned: list[tuple[_Call, Finish[Any]]] = []
        for call in group:
            if not call.begin():
                continue
            try:
                planned.append((call, await call.plan(transaction)))
            except Exception as error:  # any error of one call goes to its caller; the other calls go on
                self._fail([call], error)
        if not planned:
            return
        if not transaction.is_empty and not await self._write(transaction, [call for call, _ in planned]):
            return
        self.catalog.update(transaction)
        for call, finish in planned:
            call.end(finish())
        for call, _ in planned:  # now all that the log holds is shown
            call.tell()

    async def _write(self, transaction: Transaction, calls: list[_Call]) -> bool:
        try:
            self._check_space()
            self._records_since_rest += sum(call.record_count for call in calls)
            await self.database.run(lambda connection: self._write_rows(transaction, connection))
        except NothingWrittenError as error:
            self._fail(calls, error)
            return False
        except Exception as error:  # after any error the file may hold something else than memory shows
            broken = error if isinstance(error, StoreError) else StoreError(f"a write failed: {error!r}")
            self._break(broken)
            self._fail(calls, broken)
            return False
        return True

    def _write_rows(self, transaction: Transaction, connection: sqlite3.Connection) -> None:
        """Write `transaction`, and with it the marks of this life where it holds own versions."""
        life = self._life
        if life is None or not (transaction.own_writes or transaction.renews_life):
            transaction.write(connection)
            return
        upcoming = life.next_marks(transaction.own_writes, is_renewal=transaction.renews_life)
        transaction.execute(SAVE_MARK, *upcoming.marks.rows())
        transaction.write(connection)
        life.put_in_place(upcoming)

    def _check_space(self) -> None:
        """Raise NothingWrittenError while there is still room for what SQLite itself must write to stay whole."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._space_checked_s >= _SPACE_CHECK_INTERVAL_S:
            self._space.check()
            self._space_checked_s = now_s

    async def _purge(self, context_id: int, first_seq: int) -> None:
        """Delete some rows of a context that no reader sees. Rows that cannot be deleted wait for the next start."""
        try:
            self._check_space()
            next_seq = await self.database.run(
                lambda connection: delete_rows(connection, context_id, first_seq, _PURGE_ROWS)
            )
        except StoreError as error:
            self._garbage.clear()
            if not isinstance(error, NothingWrittenError):
                self._break(error)
            return
        if next_seq is None:
            del self._garbage[context_id]
        else:
            self._garbage[context_id] = next_seq

    @staticmethod
    def _fail(calls: Iterable[_Call], error: Exception) -> None:
        for call in calls:
            if not call.is_over:
                call.end(None, error)
