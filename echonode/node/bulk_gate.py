"""Contexts that peers are bringing us right now: others need not send the same again, nor stage a snapshot twice.

One conversation that brings much keeps all others out, but only while it gets on: a peer that claims much and brings
nothing soon, or little, or takes for ever, keeps nobody out. Of all others those that we lead come one after another,
and none waits long: when many nodes meet at once, most of them have the same news.
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
    began_s: float
    until_s: float  # unless another record comes that is new


@dataclass(slots=True)
class _Led:
    moved_s: float = 0.0  # when it began, or brought something new
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class BulkGate:
    """By context, the one conversation that brings much more than is there, and the one that we lead."""

    clock: Clock
    _fills: dict[str, _Fill] = field(default_factory=dict)
    _mistrusted: dict[tuple[IdentityId, str], float] = field(default_factory=dict)
    _led: dict[str, _Led] = field(default_factory=dict)

    @property
    def fills(self) -> int:
        """The number of contexts that a peer is filling."""
        return len(self._fills)

    def is_busy(self, context: str) -> bool:
        """Whether a peer is filling `context`, and getting on with it."""
        fill = self._fills.get(context)
        now_s = self.clock.monotonic_s()
        return fill is not None and now_s < min(fill.until_s, fill.began_s + BULK_FILL_S_MAX)

    def is_going_on(self, context: str) -> bool:
        """Whether a peer is filling `context`, however slowly."""
        return context in self._fills

    def moved_on(self, context: str) -> None:
        """A record came that was new."""
        now_s = self.clock.monotonic_s()
        if context in self._fills:
            self._fills[context].until_s = now_s + FRAME_TIMEOUT_S
        if context in self._led:
            self._led[context].moved_s = now_s

    @asynccontextmanager
    async def after_others(self, context: str, choose: Callable[[], Selection]) -> AsyncIterator[Selection]:
        """What `choose` selects when no other conversation that we lead about `context` is under way any more, or it
        does not get on. Nobody waits who has nothing to say, nor keeps others waiting."""
        if (selection := choose()).mode is None:
            yield selection
            return
        led = self._led.setdefault(context, _Led())
        is_alone = await self._wait_for(led)
        try:
            yield choose()
        finally:
            if is_alone:
                led.lock.release()

    async def _wait_for(self, led: _Led) -> bool:
        still_s, all_s = BULK_WAIT_S
        until_s = self.clock.monotonic_s() + all_s
        while led.lock.locked():
            left_s = min(led.moved_s + still_s, until_s) - self.clock.monotonic_s()
            if left_s <= 0:
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await led.lock.acquire()
                    break
        else:
            await led.lock.acquire()
        led.moved_s = self.clock.monotonic_s()
        return True

    @contextmanager
    def by(
        self, peer: IdentityId, context: str, claimed: int, held: Callable[[], int], *, is_snapshot: bool
    ) -> Iterator[None]:
        """A conversation with `peer`, which claims that many records; `held` counts ours. A no-op when it is not much,
        or somebody is filling already."""
        is_bulk = claimed > held() + BATCH_RECORDS_MAX
        now_s = self.clock.monotonic_s()
        is_believed = now_s >= self._mistrusted.get((peer, context), 0.0)
        # A snapshot is staged, and only one can be: it is exclusive whoever serves it.
        if self.is_busy(context) or not (is_snapshot or (is_bulk and is_believed)):
            yield
            return
        fill = self._fills[context] = _Fill(now_s, now_s + BULK_START_S)
        try:
            yield
        finally:
            now_s = self.clock.monotonic_s()
            self._mistrusted = {which: until_s for which, until_s in self._mistrusted.items() if until_s > now_s}
            if not is_snapshot and held() < claimed // 2:
                self._mistrusted[peer, context] = now_s + BULK_BAN_S
            if self._fills.get(context) is fill:
                del self._fills[context]
