"""The one writer: calls queue up, and all that wait are planned and written in one transaction (group commit).

    caller     submit(plan) ------------------------------------------- awaits ------------> result
    writer       take a group -> plan each in turn -> BEGIN .. COMMIT (one hop) -> finish each

A plan looks at what stands, adds rows to the transaction as its last step, and returns what to do once they are
durable. So a call that fails while planning leaves the others of its group alone, memory never shows what the disk may
lose, and a transaction is one function on the database's thread, which no cancelled caller can cut in two.

A failed write ends the store: after an fsync error nobody knows what the disk holds (only a restart reads it again).
The exceptions are a full disk and a lock held by somebody else, where nothing was written and nothing is lost.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from echonode.errors import StoreError
from echonode.limits import BATCH_RECORDS_MAX, STORE_CALLS_WAITING_MAX
from echonode.store.sqlite.connection import Database, UndoneError
from echonode.store.sqlite.disk_space import DiskSpace
from echonode.store.sqlite.transaction import Ledger, Transaction, delete_some

T = TypeVar("T")
Finish: TypeAlias = Callable[[], T]
PlanCall: TypeAlias = Callable[[Transaction], Awaitable[Finish[T]]]

_GROUP_RECORDS_MAX: Final = 4 * BATCH_RECORDS_MAX  # more would hold up the loop while the trees follow
_SPACE_CHECK_INTERVAL_S: Final = 1.0
_PURGED_ROWS: Final = 500  # a call that comes meanwhile waits for so many deletes


@dataclass(slots=True, eq=False)
class _Call:
    plan: PlanCall[Any]
    joins: bool
    size: int
    done: asyncio.Future[Any]


class Writer:
    """Owns the writing connection and the ledger."""

    def __init__(self, database: Database, path: Path, ledger: Ledger, now_ms: Callable[[], int]) -> None:
        self.ledger = ledger
        self.database = database
        self._space = DiskSpace(path)
        self._now_ms = now_ms
        self._waiting: deque[_Call] = deque()
        self._group: list[_Call] = []
        self._slots = asyncio.Semaphore(STORE_CALLS_WAITING_MAX)
        self._arrived = asyncio.Event()
        self._is_closing = False
        self._broken: StoreError | None = None
        self._has_broken = asyncio.Event()
        self._space_checked_s = float("-inf")
        self._garbage: list[int] = []
        self._task = asyncio.create_task(self._run(), name="store writer")

    async def submit(self, plan: PlanCall[T], *, joins: bool = False, size: int = 1) -> T:
        """Have `plan` carried out; what its finish returned. `joins`: it may share its transaction with others that
        join, and sees their effects. `size`: about how many records it brings.

        Raises what `plan` raised, and StoreError. A caller that gives up takes its call back if it has not begun."""
        async with self._slots:
            if self._broken is not None:
                raise self._broken
            if self._is_closing:
                raise StoreError("the store is closed")
            call = _Call(plan, joins, size, asyncio.get_running_loop().create_future())
            self._waiting.append(call)
            self._arrived.set()
            result: T = await call.done
            return result

    def discard(self, context: int) -> None:
        """Delete the rows of a nameless context, bit by bit, whenever there is nothing else to do."""
        self._garbage.append(context)
        self._arrived.set()

    async def wait_until_broken(self) -> StoreError:
        """What ended the store, once something did."""
        await self._has_broken.wait()
        assert self._broken is not None, "set with it"
        return self._broken

    def _break(self, error: StoreError) -> None:
        self._broken = error
        self._has_broken.set()

    async def close(self) -> None:
        """Carry out what waits, then let go of the connection."""
        self._is_closing = True
        self._arrived.set()
        await asyncio.wait([self._task])  # which, unlike awaiting it, does not cancel it with the caller
        await self.database.close()
        if not self._task.cancelled():
            self._task.result()

    async def _run(self) -> None:
        try:
            while self._waiting or not self._is_closing:
                if self._waiting:
                    self._group = self._take()
                    await self._commit(self._group)
                elif self._garbage and self._broken is None:
                    await self._purge(self._garbage[-1])
                else:
                    self._arrived.clear()
                    await self._arrived.wait()
        finally:
            # With calls left over, this is a bug or the end of the event loop; nobody may wait for ever.
            self._is_closing = True
            self._fail([*self._group, *self._waiting], StoreError("the store is closed"))

    def _take(self) -> list[_Call]:
        """The next call, and those behind it that may share its transaction."""
        group = [self._waiting.popleft()]
        size = group[0].size
        while self._waiting and group[-1].joins and self._waiting[0].joins:
            size += self._waiting[0].size
            if size > _GROUP_RECORDS_MAX:
                break
            group.append(self._waiting.popleft())
        return group

    async def _commit(self, group: list[_Call]) -> None:
        if self._broken is not None:
            self._fail(group, self._broken)
            return
        transaction = Transaction(self.ledger, self._now_ms())
        planned: list[tuple[_Call, Finish[Any]]] = []
        for call in group:
            if call.done.done():
                continue
            try:
                planned.append((call, await call.plan(transaction)))
            except Exception as error:  # whatever it is, it is the caller's: the others go on
                self._fail([call], error)
        if not planned:
            return
        if not transaction.is_empty and not await self._write(transaction, [call for call, _ in planned]):
            return
        self.ledger.follow(transaction)
        for call, finish in planned:
            result = finish()
            if not call.done.done():
                call.done.set_result(result)

    async def _write(self, transaction: Transaction, calls: list[_Call]) -> bool:
        try:
            self._check_space()
            await self.database.run(transaction.write)
        except UndoneError as error:
            self._fail(calls, error)
            return False
        except Exception as error:  # whatever it is: what the file holds now is not what memory shows
            broken = error if isinstance(error, StoreError) else StoreError(f"a write failed: {error!r}")
            self._break(broken)
            self._fail(calls, broken)
            return False
        return True

    def _check_space(self) -> None:
        """Stop taking writes while there is still room for what SQLite itself must write to stay whole."""
        now_s = asyncio.get_running_loop().time()
        if now_s - self._space_checked_s >= _SPACE_CHECK_INTERVAL_S:
            self._space.check()
            self._space_checked_s = now_s

    async def _purge(self, context: int) -> None:
        """Delete some rows of a context that nobody sees. What cannot be deleted waits for the next start."""
        try:
            self._check_space()
            is_gone = await self.database.run(lambda connection: delete_some(connection, context, _PURGED_ROWS))
        except StoreError as error:
            self._garbage.clear()
            if not isinstance(error, UndoneError):
                self._break(error)
            return
        if is_gone:
            self._garbage.remove(context)

    @staticmethod
    def _fail(calls: Iterable[_Call], error: Exception) -> None:
        for call in calls:
            if not call.done.done():
                call.done.set_exception(error)
