"""Intake: which of the versions that peers bring are kept here. That is local policy: it makes this node partial, never
a context different (PROTOCOL.md §4.5).

A version that belongs to a record held here is always kept: an edit or a tombstone must not stop spreading.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from echonode.errors import Reason
from echonode.model.identity import IdentityId
from echonode.model.keys import Admission
from echonode.model.record import IDENTITIES, Record
from echonode.node.kept_contexts import KeptContexts
from echonode.store.port import RefusedVersion, Store

_TOO_MANY_CONTEXTS: Final = "its author introduced as many contexts as one identity may"


@dataclass(slots=True)
class Intake:
    """Judges what peers bring to `store`."""

    store: Store
    kept: KeptContexts

    def judge(self, context: str, peer: IdentityId, records: Sequence[Record]) -> list[RefusedVersion]:
        """Return those of `records` of `context`, brought by `peer`, that are not taken, each with the reason."""
        if context == IDENTITIES or len(self.store.tree(context)):
            return []
        return [
            RefusedVersion(record.id, Reason.QUOTA, _TOO_MANY_CONTEXTS)
            for record in records
            if self.store.keyring.admission(record) is Admission.ADMITTED  # the store refuses the others
            if not self.kept.introduce(context, self.kept.introducer(record, peer))
        ]
