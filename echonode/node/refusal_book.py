"""RefusalBook: versions that were refused here lately, by record, so that a person can be told why one is not here."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from echonode.clock import Clock
from echonode.errors import Reason
from echonode.model.identity import IdentityId
from echonode.model.record import LeafKey, Record
from echonode.node.remembered import remember
from echonode.store.port import RefusedVersion


@dataclass(frozen=True, slots=True)
class Refusal:
    """The latest refusal of a version of one record: who brought it, when (ms since 1970), and why it was refused."""

    peer: IdentityId
    at_ms: int
    version: bytes
    reason: Reason
    detail: str


@dataclass(slots=True)
class RefusalBook:
    """The latest refusals, bounded: the oldest are dropped."""

    clock: Clock
    _by_record: "OrderedDict[tuple[str, LeafKey], Refusal]" = field(default_factory=OrderedDict)

    def note(
        self, peer: IdentityId, context: str, records: Sequence[Record], refused: Sequence[RefusedVersion]
    ) -> None:
        """Note which of the `records` that `peer` brought were refused."""
        keys = {record.id: record.key for record in records}
        now_ms = self.clock.now_ms()
        for each in refused:
            key = keys.get(each.version)
            if key is not None:
                remember(
                    self._by_record,
                    (context, key),
                    Refusal(peer, now_ms, each.version, each.reason, each.detail),
                )

    def of(self, context: str, key: LeafKey) -> Refusal | None:
        """Return the latest refusal of a version of one record, None when there was none."""
        return self._by_record.get((context, key))

    def by(self, peer: IdentityId) -> list[tuple[str, Refusal]]:
        """Return the refusals of what `peer` brought, each with its context, the latest last."""
        return [(context, each) for (context, _), each in self._by_record.items() if each.peer == peer]
