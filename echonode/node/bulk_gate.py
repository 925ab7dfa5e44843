"""BulkGate: one peer at a time fills a context, so that others need not send the same records again.

One conversation that brings much keeps all others out, but only while new records come. A peer that claims much keeps
no other out when it brings nothing soon, brings little, or takes for ever. A snapshot always keeps others out, as only
one can be staged.

Of all other conversations about a context, those that this node leads come one after another: when many nodes meet at
once, most of them have the same news. None waits long.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

from echonode.clock import Clock
from echonode.limits import BATCH_RECORDS_MAX, BULK_BAN_S, BULK_FILL_S_MAX, BULK_START_S, BULK_WAIT_S, FRAME_TIMEOUT_S
from echonode.model.identity import IdentityId
from echonode.sync.select import Selection


@dataclass(slots=True)
class _Fill:
    """A conversation that keeps others out, until `until_s` unless a new record comes before."""

    began_s: float
    until_s: float


@dataclass(slots=True)
class _Queue:
    """The conversations about one context that this node leads: the holder of `lock` runs, the others wait."""

    moved_s: float = 0.0  # when the running one began, or last brought a new record
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class BulkGate:
    """By context, the conversation that fills it, and the queue of those that this node leads."""

    clock: Clock
    _fills: dict[str, _Fill] = field(default_factory=dict)
    _banned: dict[tuple[IdentityId, str], float] = field(default_factory=dict)  # until when
    _queues: dict[str, _Queue] = field(default_factory=dict)

    @property
    def fills(self) -> int:
        """The number of contexts that a peer is filling."""
        return len(self._fills)

    def is_busy(self, context: str) -> bool:
        """Return True while a peer fills `context` and new records come."""
        fill = self._fills.get(context)
        now_s = self.clock.monotonic_s()
        return fill is not None and now_s < min(fill.until_s, fill.began_s + BULK_FILL_S_MAX)

    def is_going_on(self, context: str) -> bool:
        """Return True while a peer fills `context`, however slowly."""
        return context in self._fills

    def moved_on(self, context: str) -> None:
        """Note that a new record came."""
        now_s = self.clock.monotonic_s()
        if context in self._fills:
            self._fills[context].until_s = now_s + FRAME_TIMEOUT_S
        if context in self._queues:
            self._queues[context].moved_s = now_s

    @asynccontextmanager
    async def after_others(self, context: str, choose: Callable[[], Selection]) -> AsyncIterator[Selection]:
        """Wait for the other conversations about `context` that this node leads, then yield what `choose` selects.

        The wait ends early when the running conversation brings nothing new. When `choose` selects no mode, there is
        nothing to wait for, and no other conversation waits for this one.
        """
        if (selection := choose()).mode is None:
            yield selection
            return
        queue = self._queues.setdefault(context, _Queue())
        is_alone = await self._wait_for(queue)
        try:
            yield choose()
        finally:
            if is_alone:
                queue.lock.release()

    async def _wait_for(self, queue: _Queue) -> bool:
        """Take the lock of `queue`. Return False when the wait for it took too long."""
        still_s, all_s = BULK_WAIT_S
        until_s = self.clock.monotonic_s() + all_s
        while queue.lock.locked():
            left_s = min(queue.moved_s + still_s, until_s) - self.clock.monotonic_s()
            if left_s <= 0:
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await queue.lock.acquire()
                    break
        else:
            await queue.lock.acquire()
        queue.moved_s = self.clock.monotonic_s()
        return True

    @contextmanager
    def by(
        self, peer: IdentityId, context: str, claimed: int, held: Callable[[], int], *, is_snapshot: bool
    ) -> Iterator[None]:
        """Keep other conversations about `context` out while the body runs, if this one brings much.

        `claimed`: the number of records that `peer` claims to have; `held` counts ours. Keep nothing out when another
        peer fills the context already, or when `peer` lately brought less than half of what it claimed.
        """
        is_bulk = claimed > held() + BATCH_RECORDS_MAX
        now_s = self.clock.monotonic_s()
        is_believed = now_s >= self._banned.get((peer, context), 0.0)
        # A snapshot is staged, and only one can be: it is exclusive whichever peer serves it.
        if self.is_busy(context) or not (is_snapshot or (is_bulk and is_believed)):
            yield
            return
        fill = self._fills[context] = _Fill(now_s, now_s + BULK_START_S)
        try:
            yield
        finally:
            now_s = self.clock.monotonic_s()
            self._banned = {pair: until_s for pair, until_s in self._banned.items() if until_s > now_s}
            if not is_snapshot and held() < claimed // 2:
                self._banned[peer, context] = now_s + BULK_BAN_S
            if self._fills.get(context) is fill:
                del self._fills[context]
