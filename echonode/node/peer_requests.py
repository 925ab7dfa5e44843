"""Asking one peer: which records it has (`pull`), for some of them (`get`), or to take some of ours (`put`).

Each question has a session of its own, and ends in one of the founding answers: success, not supported (naming what
is), or an error.
"""

from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from echonode.errors import PeerRefused
from echonode.model.filter import Filter
from echonode.model.identity import IdentityId
from echonode.model.record import LeafKey
from echonode.node.conversations import Conversations
from echonode.node.handshake import Session
from echonode.node.mode_table import GET, PULL, PUT, ModeSpec
from echonode.node.on_demand import SyncRequests
from echonode.node.refusals import DECLINED
from echonode.node.session_report import SessionReport
from echonode.sync.conversation import Conversation
from echonode.sync.modes import get, pull, put
from echonode.wire.messages import RecordRequest

Opening = TypeVar("Opening")
Answer = TypeVar("Answer")


class Asking:
    """All of these raise PeerRefused when the peer does not, RemoteError when it answers nonsense, and TransportError
    when it cannot be reached or `timeout_s` is over."""

    def __init__(self, requests: SyncRequests, manager: Conversations) -> None:
        self._requests = requests
        self._manager = manager

    async def pull(
        self, peer: IdentityId, context: str, wanted: Filter, *, after: int, limit: int, timeout_s: float
    ) -> pull.Pulled:
        """Ids of what `wanted` takes of the peer's context, from behind `after` in its log; at least `limit` of them,
        by whole pages, where there are so many."""
        return await self._ask(peer, context, PULL, pull.Query(wanted, after, limit), timeout_s)

    async def get(self, peer: IdentityId, context: str, wanted: Sequence[RecordRequest], timeout_s: float) -> get.Got:
        """Fetch these and keep them, whether a subscription takes them or not."""
        return await self._ask(peer, context, GET, wanted, timeout_s)

    async def offer(
        self, peer: IdentityId, context: str, keys: Sequence[LeafKey], timeout_s: float
    ) -> list[put.Answer]:
        """Offer these records of ours; what became of every head."""
        return await self._ask(peer, context, PUT, keys, timeout_s)

    async def _ask(
        self,
        peer: IdentityId,
        context: str,
        spec: ModeSpec[Opening, Any, Answer],
        opening: Opening,
        timeout_s: float,
    ) -> Answer:
        def question(conversation: Conversation) -> Awaitable[Answer]:
            return spec.executor.run_initiator(conversation, opening)

        answers: list[Answer] = []
        refusals: list[PeerRefused] = []

        async def work(session: Session, log: SessionReport) -> None:
            try:
                answers.append(await self._manager.ask(session, log, context, spec.mode, question))
            except PeerRefused as refused:
                if refused.reason not in DECLINED:
                    raise
                refusals.append(refused)  # and the session ended as it should

        await self._requests.ask(peer, work, timeout_s)
        if refusals:
            raise refusals[-1]
        return answers[-1]
