"""SessionRegistry: the sessions that are up, and which of two that cross survives (SECURITY.md §3).

With one peer there is one working session at a time and, beside it, one link: a session that goes on as `follow`.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final

from echonode.clock import Clock
from echonode.errors import PeerRefused, Reason
from echonode.limits import AUTH_TIMEOUT_S, DIAL_TIMEOUT_S, HANDSHAKE_TIMEOUT_S
from echonode.model.identity import IdentityId
from echonode.sync.streams import ByteStream
from echonode.sync.tasks import all_ended
from echonode.sync.transport import StreamTransport

# No node dials a peer with which it has a session. A peer that still dials after this time has lost its session.
_CROSSING_S: Final = DIAL_TIMEOUT_S + HANDSHAKE_TIMEOUT_S + AUTH_TIMEOUT_S


@dataclass(slots=True)
class _Live:
    """A session or link that is up. `was_replaced`: it was dropped here in favour of another."""

    peer: IdentityId
    transport: StreamTransport
    began_s: float
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    was_replaced: bool = False


@dataclass(slots=True)
class SessionRegistry:
    """Streams whose peer is known, by peer and direction; `me` is this node."""

    me: IdentityId
    clock: Clock
    _by_peer: dict[tuple[IdentityId, bool], _Live] = field(default_factory=dict)
    _links: dict[IdentityId, _Live] = field(default_factory=dict)
    _by_stream: dict[ByteStream, _Live] = field(default_factory=dict)
    _partings: set["asyncio.Task[None]"] = field(default_factory=set)

    def survives(self, peer: IdentityId, *, is_initiator: bool) -> bool:
        """Return whether a session with `peer` survives one that was opened in the other direction.

        Both ends decide alike: they keep the session whose initiator has the greater id.
        """
        return (self.me > peer) == is_initiator

    def enter(self, peer: IdentityId, transport: StreamTransport) -> None:
        """Enter a new session with `peer`; drop the one that it replaces. Raises PeerRefused when another survives."""
        is_initiator = transport.channel.is_initiator
        crossing = self._by_peer.get((peer, not is_initiator))
        if crossing is not None:
            is_recent = self.clock.monotonic_s() - crossing.began_s < _CROSSING_S
            if is_recent and not self.survives(peer, is_initiator=is_initiator):
                raise PeerRefused(Reason.DUPLICATE_SESSION, "both sides dialled at once; the other session goes on")
            self._drop(crossing)
        earlier = self._by_peer.get((peer, is_initiator))
        if earlier is not None:
            # The peer began anew, so the earlier connection is dead, even if TCP has not noticed.
            self._drop(earlier)
        live = _Live(peer, transport, self.clock.monotonic_s())
        self._by_peer[peer, is_initiator] = self._by_stream[transport.stream] = live

    def becomes_link(self, peer: IdentityId, stream: ByteStream) -> bool:
        """Make the working session over `stream` a link. Drop an earlier link with `peer`: it has lost that one.

        Return False for a session that was dropped just before: its stream is being closed, and makes no link."""
        working = self._by_stream[stream]
        if working.was_replaced:
            return False
        self._remove(working)
        earlier = self._links.get(peer)
        if earlier is not None:
            self._drop(earlier)
        self._links[peer] = self._by_stream[stream] = _Live(peer, working.transport, working.began_s)
        return True

    def has(self, stream: ByteStream) -> bool:
        """Return whether a session over `stream` was entered and did not leave, dropped ones included."""
        return stream in self._by_stream

    def peer_at(self, stream: ByteStream) -> IdentityId | None:
        """Return the peer whose session goes over `stream`; None when it is not known, or was dropped for another
        session that is up."""
        live = self._by_stream.get(stream)
        if live is None or (live.was_replaced and any((live.peer, side) in self._by_peer for side in (True, False))):
            return None
        return live.peer

    def leave(self, stream: ByteStream) -> bool:
        """Forget the session over `stream`, which ended. Return True when it was dropped here in favour of another."""
        live = self._by_stream.pop(stream, None)
        if live is None:
            return False
        self._remove(live)
        return live.was_replaced

    def silence_s(self, peer: IdentityId) -> float:
        """Return for how many seconds nothing was heard of `peer` over any session or link, infinity without one."""
        lives = (self._by_peer.get((peer, True)), self._by_peer.get((peer, False)), self._links.get(peer))
        heard_s = max((live.transport.heard_s for live in lives if live is not None), default=-float("inf"))
        return asyncio.get_running_loop().time() - heard_s

    @property
    def streams(self) -> int:
        """The number of streams whose peer is known, links included."""
        return len(self._by_stream)

    @property
    def partings(self) -> int:
        """The number of dropped sessions whose Close is still to be sent."""
        return len(self._partings)

    async def wait_until_over(self, peer: IdentityId) -> bool:
        """Wait for the end of the working session with `peer` that is up now. Return False when there is none."""
        live = self._by_peer.get((peer, True)) or self._by_peer.get((peer, False))
        if live is None:
            return False
        await live.ended.wait()
        return True

    def drop_all(self) -> None:
        """End every session that is up."""
        self.drop(None)

    def drop(self, peer: IdentityId | None) -> None:
        """End every session with `peer`, or with None with every peer."""
        for live in list(self._by_stream.values()):
            if peer is None or live.peer == peer:
                self._drop(live)

    async def parted(self) -> None:
        """Wait until every dropped session has sent its Close, or cannot."""
        await all_ended(tuple(self._partings))

    def _drop(self, live: _Live) -> None:
        live.was_replaced = True
        self._remove(live)
        parting = asyncio.create_task(live.transport.part(Reason.DUPLICATE_SESSION))
        self._partings.add(parting)
        parting.add_done_callback(self._partings.discard)

    def _remove(self, live: _Live) -> None:
        live.ended.set()
        for key, other in list(self._by_peer.items()):
            if other is live:
                del self._by_peer[key]
        for peer, other in list(self._links.items()):
            if other is live:
                del self._links[peer]
