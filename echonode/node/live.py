"""The sessions that are up: one with a peer at a time, and how two that cross are settled (SECURITY.md §3)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from echonode.errors import PeerRefused, Reason
from echonode.model.identity import IdentityId
from echonode.sync.port import ByteStream


@dataclass(slots=True)
class _Live:
    stream: ByteStream
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    was_replaced: bool = False


@dataclass(slots=True)
class LiveSessions:
    """Streams whose peer is known, by peer and direction. `survives(peer, is_initiator=..)` is the scheduler's rule."""

    survives: Callable[..., bool]
    _by_peer: dict[tuple[IdentityId, bool], _Live] = field(default_factory=dict)
    _by_stream: dict[ByteStream, _Live] = field(default_factory=dict)

    def enter(self, peer: IdentityId, stream: ByteStream, *, is_initiator: bool) -> None:
        """A session with `peer` begins. A crossing one that loses is dropped; raises PeerRefused when it wins."""
        crossing = self._by_peer.get((peer, not is_initiator))
        if crossing is not None:
            if not self.survives(peer, is_initiator=is_initiator):
                raise PeerRefused(Reason.DUPLICATE_SESSION, "both sides dialled at once; the other session goes on")
            self._drop(crossing)
        earlier = self._by_peer.get((peer, is_initiator))
        if earlier is not None:
            # The peer began anew, so the earlier connection is dead, whatever TCP still believes.
            self._drop(earlier)
        self._by_peer[peer, is_initiator] = self._by_stream[stream] = _Live(stream)

    def leave(self, stream: ByteStream) -> bool:
        """Whatever went over `stream` ended. True when it was dropped here in favour of another."""
        live = self._by_stream.pop(stream, None)
        if live is None:
            return False
        self._remove(live)
        return live.was_replaced

    async def wait_until_over(self, peer: IdentityId) -> bool:
        """Wait for a session with `peer` that is up now. False when there was none."""
        live = self._by_peer.get((peer, True)) or self._by_peer.get((peer, False))
        if live is None:
            return False
        await live.ended.wait()
        return True

    def abort_all(self) -> None:
        """Drop every connection."""
        for live in list(self._by_stream.values()):
            self._drop(live)

    def _drop(self, live: _Live) -> None:
        live.was_replaced = True
        self._remove(live)
        live.stream.abort()

    def _remove(self, live: _Live) -> None:
        live.ended.set()
        for which, other in list(self._by_peer.items()):
            if other is live:
                del self._by_peer[which]
