"""`get`: fetches records of a peer by their names, verified and merged like all others (PROTOCOL.md §8.12).

    initiator                                       responder
      GetInit(keys, with a version or without)  ->
                                                <-    Records .. Records(no more)
      GetMore(..)                               ->
                                                <-    Records ..
      Done(root, is_final)                      ->
                                                <-    Done(root, is_final)

Only heads travel: a version that is asked for by its id comes only while it is a head at the peer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from echonode.errors import Reason
from echonode.limits import BATCH_RECORDS_MAX
from echonode.model.record import LeafKey, VersionId
from echonode.sync.conversation import Conversation, Result
from echonode.sync.done import answer_end, end
from echonode.sync.named_records import NamedRequest, send_named
from echonode.sync.transfer import request_records
from echonode.sync.transport import unexpected
from echonode.wire.messages import PROTOCOL_VERSION, Done, GetInit, GetMore, RecordRequest


@dataclass(frozen=True, slots=True)
class Got:
    """The versions that came, with the key of their record; and those of them that were refused here, with a reason."""

    versions: dict[VersionId, LeafKey]
    refused: dict[VersionId, Reason]


async def run_initiator(conversation: Conversation, wanted: Sequence[RecordRequest]) -> Got:
    """Fetch and merge the versions `wanted`, at least one."""
    requests: list[NamedRequest] = []
    for start in range(0, len(wanted), BATCH_RECORDS_MAX):
        page = tuple(wanted[start : start + BATCH_RECORDS_MAX])
        message = GetMore(page) if start else GetInit(PROTOCOL_VERSION, conversation.context, page)
        requests.append(NamedRequest(conversation, message, leaves=_by_key(page)))
    # The first one alone: no message may follow an InitPayload before its answer.
    await request_records(conversation, requests[:1])
    await request_records(conversation, requests[1:])
    await end(conversation)
    return Got(
        {version: key for request in requests for version, key in request.came.items()},
        {version: reason for request in requests for version, reason in request.refused.items()},
    )


async def run_responder(conversation: Conversation, init: GetInit) -> Result:
    """Serve the conversation that `init` opened."""
    await send_named(conversation, _by_key(init.wanted))
    while True:
        match await conversation.transport.recv():
            case GetMore(wanted):
                await send_named(conversation, _by_key(wanted))
            case Done():
                return await answer_end(conversation)
            case other:
                raise unexpected(other)


def _by_key(wanted: Sequence[RecordRequest]) -> dict[LeafKey, set[bytes] | None]:
    """Return the versions that are asked for, by key of their record; None for all its heads."""
    named: dict[LeafKey, set[bytes] | None] = {}
    for asked in wanted:
        key = LeafKey(asked.key)
        versions = named.setdefault(key, set())
        if asked.version is None:
            named[key] = None
        elif versions is not None:
            versions.add(asked.version)
    return named
