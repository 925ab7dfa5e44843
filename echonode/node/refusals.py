"""The rules by which a node declines an InitPayload; the session goes on after its Refused (PROTOCOL.md §8).

    reason                 declined
    unsupported protocol   an opening of another major version
    unknown context        a context that is not kept here
    unsupported mode       a context that is kept in part, by a mode that answers for the whole
    busy                   a mode that brings records, while another peer fills the context; or one too many reconciles
    stale cursor           an opening that names a place this store's log does not have

The modes' own properties are in node/mode_table.py.
"""

from collections.abc import Callable
from typing import Final

from echonode.errors import Reason
from echonode.node.bulk_gate import BulkGate
from echonode.node.mode_table import SERVED_IN_PART, spec_of
from echonode.node.subscriptions import Subscriptions
from echonode.store.port import Store
from echonode.wire.messages import PROTOCOL_VERSION, InitPayload, Refused, version_text

# Answers to an InitPayload after which another may fare better.
DECLINED: Final = (Reason.UNSUPPORTED_MODE, Reason.UNKNOWN_CONTEXT, Reason.BUSY, Reason.STALE_CURSOR)


def refusal_of(
    init: InitPayload, store: Store, takes: Callable[[str], bool], filling: BulkGate, partial: Subscriptions
) -> Refused | None:
    """Return the answer to `init` when it is declined, None when it is served. `takes`: True for a kept context."""
    spec = spec_of(init)
    if init.version[0] != PROTOCOL_VERSION[0]:
        return Refused(Reason.UNSUPPORTED_PROTOCOL, (version_text(PROTOCOL_VERSION),))
    if not takes(init.context):
        return Refused(Reason.UNKNOWN_CONTEXT, store.contexts()[:32])
    if partial.of(init.context) is not None and not spec.serves_part:
        return Refused(Reason.UNSUPPORTED_MODE, tuple(mode.value for mode in SERVED_IN_PART))
    if spec.brings_records and filling.is_busy(init.context):
        return Refused(Reason.BUSY)
    if spec.is_limited and partial.is_busy:
        return Refused(Reason.BUSY)
    if spec.is_stale(init, store):
        return Refused(Reason.STALE_CURSOR)
    return None
