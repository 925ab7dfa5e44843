"""Versions that are asked for by name, by `reconcile` and `get`: the request with its check, and the answer.

    requester                               holder
      Want(ids) | GetInit(..) | GetMore  ->
                                         <-   Records(.., more) .. Records(.., no more)
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from echonode.errors import Reason, RemoteError
from echonode.model.record import LeafKey, Record, VersionId
from echonode.sync.conversation import Conversation
from echonode.sync.record_batches import heads_of
from echonode.sync.transfer import send_answer
from echonode.sync.verify_apply import merge
from echonode.sync.work import RECORD_SENT_S
from echonode.wire.messages import GetInit, GetMore, Records, Want


async def send_named(conversation: Conversation, wanted: Mapping[LeafKey, Collection[bytes] | None]) -> None:
    """Answer with the heads of the leaves `wanted`: the versions named for a leaf, or all its heads for None."""

    def is_named(head: Record) -> bool:
        named = wanted[head.key]
        return named is None or head.id in named

    heads = heads_of(conversation, list(wanted), is_named)
    await send_answer(conversation, heads, lambda raws, more: Records(raws, (), more))
    await conversation.charge(RECORD_SENT_S * len(wanted))


@dataclass(slots=True)
class NamedRequest:
    """One request for versions by name, as a PendingRequest.

    `versions`  ids of versions, of any record
    `leaves`    by key of a record: the versions of it that are asked for, None for all its heads
    `came`      the versions that came, with the key of their record
    `refused`   those of them that were refused here, with the reason
    """

    conversation: Conversation
    message: GetInit | GetMore | Want
    versions: Collection[bytes] = ()
    leaves: Mapping[LeafKey, Collection[bytes] | None] = field(default_factory=dict)
    came: dict[VersionId, LeafKey] = field(default_factory=dict)
    refused: dict[VersionId, Reason] = field(default_factory=dict)

    def check(self, message: Records) -> None:
        """Raise RemoteError for an answer that leaves a rest, or promises more and brings nothing."""
        if message.rest or (message.more and not message.records):
            raise RemoteError(Reason.PROTOCOL_ERROR, "versions asked for by name leave no rest, and promise none")

    async def store(self, _: Records, records: list[Record]) -> None:
        """Merge `records`. Raises RemoteError for a version that was not asked for, or came before."""
        for record in records:
            named = self.leaves.get(record.key, ())
            is_asked = record.id in self.versions or named is None or record.id in named
            if not is_asked or record.id in self.came:
                raise RemoteError(Reason.PROTOCOL_ERROR, "a version that was not asked for, or came before")
            self.came[record.id] = record.key
        applied = await merge(self.conversation, records)
        self.refused.update((refused.version, refused.reason) for refused in applied.refused)

    def rest(self, _: Records) -> None:
        """Return None: such an answer leaves no rest."""
