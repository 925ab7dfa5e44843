"""The requests of a link: announced versions that the peer is asked for, at most REQUESTS_MAX requests at a time.

    ask ──> waiting ──Missing──> open ──Bodies──> answered
               └────── drop: it came by another link

The peer answers in order. It would end a link that asks without waiting for answers (PROTOCOL.md §8.15).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from echonode.errors import Reason, RemoteError, TransportError
from echonode.limits import COMMITS_RECORDS_MAX, FRAME_TIMEOUT_S, REQUEST_RETRY_S, REQUESTS_MAX
from echonode.sync.live.plumtree import PlumtreeLink, ShortId
from echonode.sync.live.send_queue import SendQueue
from echonode.wire.messages import Missing

_Place = tuple[str, int]  # context and seq


@dataclass(slots=True)
class _Request:
    """One Missing. `left`: the seqs that are not answered yet, and the versions announced under them."""

    asked_s: float
    left: dict[int, ShortId]


@dataclass(slots=True)
class Requests:
    """The versions that `link` asks its peer for."""

    queue: SendQueue
    link: PlumtreeLink
    _waiting: dict[_Place, tuple[ShortId, float]] = field(default_factory=dict)  # and since when
    _open: dict[_Place, _Request] = field(default_factory=dict)
    _open_count: int = 0
    _retry_timer: asyncio.TimerHandle | None = None

    @property
    def is_waiting(self) -> bool:
        """True while versions are wanted or asked for."""
        return bool(self._waiting or self._open)

    def ask(self, wanted: Mapping[ShortId, _Place]) -> None:
        """Ask the peer for these versions, now or when it has answered earlier requests."""
        now_s = asyncio.get_running_loop().time()
        for version, place in wanted.items():
            if place not in self._open and place not in self._waiting:
                self._waiting[place] = version, now_s
                self.queue.environment.plumtree.ask(version, self.link)
        self._send(now_s)
        self._start_retry_timer()

    def _send(self, now_s: float) -> None:
        while self._waiting and self._open_count < REQUESTS_MAX:
            context = next(iter(self._waiting))[0]
            places = [place for place in self._waiting if place[0] == context][:COMMITS_RECORDS_MAX]
            request = _Request(now_s, {place[1]: self._waiting.pop(place)[0] for place in places})
            self._open.update(dict.fromkeys(places, request))
            self._open_count += 1
            self.queue.is_eager = True
            self.queue.send_soon(Missing(context, tuple(request.left)))

    def drop(self, context: str, seq: int) -> None:
        """Do not ask for that version any more, if it was not asked for yet."""
        self._waiting.pop((context, seq), None)

    def answered(self, context: str, seqs: Sequence[int]) -> set[ShortId]:
        """Note an answer. Return the versions that it answers. Raises RemoteError for what was not asked for."""
        ids: set[ShortId] = set()
        for seq in seqs:
            request = self._open.pop((context, seq), None)
            if request is None:
                raise RemoteError(Reason.PROTOCOL_ERROR, "it sends what was not asked for")
            ids.add(request.left.pop(seq))
            self._open_count -= not request.left
        self._send(asyncio.get_running_loop().time())
        return ids

    def check(self) -> None:
        """Raise TransportError when the peer does not answer."""
        now_s = asyncio.get_running_loop().time()
        if any(now_s - request.asked_s > FRAME_TIMEOUT_S for request in self._open.values()):
            raise TransportError("the peer does not deliver what it announced")

    def close(self) -> None:
        """Cancel the timer: the link has ended."""
        if self._retry_timer is not None:
            self._retry_timer.cancel()

    def _start_retry_timer(self) -> None:
        if self.is_waiting and self._retry_timer is None:
            self._retry_timer = asyncio.get_running_loop().call_later(REQUEST_RETRY_S, self._let_others_ask)

    def _let_others_ask(self) -> None:
        """Let other links that announced the late versions ask for them. The late ones may still come by this link."""
        self._retry_timer = None
        before_s = asyncio.get_running_loop().time() - REQUEST_RETRY_S
        late = [version for version, since_s in self._waiting.values() if since_s <= before_s]
        late += [request.left[seq] for (_, seq), request in self._open.items() if request.asked_s <= before_s]
        if late:
            self.queue.environment.plumtree.note_late(late, self.link)
        self._start_retry_timer()
