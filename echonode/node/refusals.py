"""Which InitPayloads are not served, and why: a Refused, after which the session goes on."""

from collections.abc import Callable
from typing import Final

from echonode.errors import Reason
from echonode.node.bulk_gate import BulkGate
from echonode.node.subscriptions import SERVED_IN_PART, Subscriptions
from echonode.store.port import Store
from echonode.wire.messages import (
    PROTOCOL_VERSION,
    DeltaInit,
    GetInit,
    InitPayload,
    PullInit,
    ReconcileInit,
    Refused,
    SnapshotInit,
    version_text,
)

# Answers to an InitPayload after which another may fare better.
DECLINED: Final = (Reason.UNSUPPORTED_MODE, Reason.UNKNOWN_CONTEXT, Reason.BUSY, Reason.STALE_CURSOR)


def refusal_of(
    init: InitPayload, store: Store, takes: Callable[[str], bool], filling: BulkGate, partial: Subscriptions
) -> Refused | None:
    """The answer to `init` when it is not served, None when it is."""
    if init.version[0] != PROTOCOL_VERSION[0]:
        return Refused(Reason.UNSUPPORTED_PROTOCOL, (version_text(PROTOCOL_VERSION),))
    if not takes(init.context):
        return Refused(Reason.UNKNOWN_CONTEXT, store.contexts()[:32])
    if partial.refuses(init):
        return Refused(Reason.UNSUPPORTED_MODE, tuple(mode.value for mode in SERVED_IN_PART))
    if filling.is_busy(init.context) and not isinstance(init, SnapshotInit | PullInit | GetInit):
        return Refused(Reason.BUSY)
    if isinstance(init, ReconcileInit) and partial.is_busy:
        return Refused(Reason.BUSY)
    if isinstance(init, PullInit) and init.after > store.seq(init.context):
        return Refused(Reason.STALE_CURSOR)
    if isinstance(init, DeltaInit):
        is_ours = init.instance == store.instance and init.since <= store.seq(init.context)
        return None if is_ours else Refused(Reason.STALE_CURSOR)
    return None
