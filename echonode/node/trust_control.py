"""TrustControl: a person decides about nodes here, and what follows from that.

    approve  the node is let in, and dialled at once where its address is known
    reject   sessions and links with it end; it is neither dialled nor let in
    forget   as if it was never met: under the policy `approve` it has to wait again
    deny     its versions are hidden from readers at this node; sessions with it go on, and both stay equal
    allow    they are shown again

A decision is kept before it holds. What the configuration decides is changed there.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from echonode.errors import LocalError
from echonode.model.address import LABEL_MARK, ME, SHARED, distinct_label, fitting, maybe_id
from echonode.model.identity import IdentityId
from echonode.node.addresses import Addresses
from echonode.node.connections import Connections
from echonode.node.events import TrustChanged
from echonode.node.record_book import RecordBook
from echonode.node.trust import Decisions, Names, Policy, Standing, Trust, TrustSettings
from echonode.text import escape, nfc, to_base32


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision that holds. `label`: how the node is shown; `is_configured`: it stands in the configuration."""

    id: IdentityId
    label: str
    decision: str
    is_configured: bool


class TrustControl:
    """The decisions of one node. `save` keeps them over a restart, and raises EchonodeError where that fails."""

    def __init__(
        self,
        connections: Connections,
        addresses: Addresses,
        records: RecordBook,
        save: Callable[[Decisions], None],
    ) -> None:
        self._connections = connections
        self._addresses = addresses
        self._records = records
        self._save = save

    @property
    def trust(self) -> Trust:
        """The policy and the decisions that hold now."""
        return self._connections.table.trust

    def load(self, settings: TrustSettings) -> None:
        """Take in what the configuration says, and what was kept over a restart."""
        self.trust.load(settings)
        self._hide()

    def reconfigure(self, policy: Policy, configured: Decisions) -> None:
        """Take in what the configuration says now, in place of what it said before."""
        before, still_denied = self.trust.configured, self.trust.decided.denied
        self.trust.policy, self.trust.configured = policy, configured
        self._hide()
        news = (
            ("approved", before.approved, configured.approved),
            ("rejected", before.rejected, configured.rejected),
            ("denied", before.denied, configured.denied),
            ("allowed", configured.denied, before.denied),
        )
        for decision, earlier, present in news:
            for identity in present.keys() - earlier.keys():
                if decision != "allowed" or identity not in still_denied:
                    self._publish(identity, decision)
        for each in self.trust.pending:
            if self.trust.standing(each.id, is_met=False) is not Standing.PENDING:
                self._settle(each.id)
        for identity in self.trust.rejected:
            self._end_sessions(identity)
        self._connections.compare_with_all()

    # -- names -------------------------------------------------------------------------------------------------------

    def labels(self, *texts: str) -> dict[IdentityId, str]:
        """Return each identity with a label, or that waits or was decided about, and all whose ids may be meant by a
        text in `texts`, "" for no label."""
        labels = self._addresses.labels(*texts)
        for identity, name in self.trust.names():
            labels[identity] = labels.get(identity) or name
        return labels

    def label(self, identity: IdentityId) -> str:
        """Return how `identity` is shown: by its label, or by the beginning of its id."""
        return distinct_label(identity, self.labels()) or to_base32(identity)[:8]

    def resolve(self, text: str) -> IdentityId:
        """Return the node that `text` names: by its label, the beginning of its id, or a whole id, which need not be
        known. Raises LocalError for none, for several, for a pool, and for this node."""
        text = nfc(text).removeprefix(LABEL_MARK)
        found = self._addresses.resolve_author(text) if text in (ME, SHARED) else maybe_id(text) or self._find(text)
        if found == self._records.id:
            raise LocalError(f"{escape(text)} is this node itself: name another one")
        book = self._records
        if found in (book.shared, *book.pools, *book.past_pools) or book.store.keyring.members_of(found):
            raise LocalError(f"{escape(text)} is a pool: name a node")
        return found

    def _find(self, text: str) -> IdentityId:
        labels = self.labels(text)
        found = fitting(text, labels) | {identity for identity, label in labels.items() if text and label == text}
        if not found:
            raise LocalError(f"no node is known as {escape(text)}")
        if len(found) > 1:
            shown = ", ".join(sorted(escape(distinct_label(each, labels) or to_base32(each)) for each in found))
            raise LocalError(f"{escape(text)} could be {len(found)} nodes: {shown}")
        return found.pop()

    # -- sessions ----------------------------------------------------------------------------------------------------

    def approve(self, peer: IdentityId) -> None:
        """Let `peer` in from now on. Raises LocalError where the configuration rejects it."""
        self._check(peer, self.trust.configured.rejected, "trust.reject")
        self._decide(self.trust.decided.approve(peer, self._name(peer)), peer, "approved")
        self._settle(peer)
        self._connections.compare_with_all()

    def reject(self, peer: IdentityId) -> None:
        """Keep `peer` out from now on. Raises LocalError where the configuration approves it."""
        self._check(peer, self.trust.configured.approved, "trust.approve")
        self._decide(self.trust.decided.reject(peer, self._name(peer)), peer, "rejected")
        self.trust.settle(peer)
        self._end_sessions(peer)

    def forget(self, peer: IdentityId) -> bool:
        """Drop what was decided about letting `peer` in, as if it was never met. Return False for nothing to drop."""
        decided, is_pending = self.trust.decided, any(each.id == peer for each in self.trust.pending)
        is_decided = peer in decided.approved or peer in decided.rejected
        if is_decided:
            self._keep(decided.forget(peer))
        self.trust.settle(peer)
        return is_decided or is_pending

    def acquainted(self) -> Collection[IdentityId] | None:
        """Return the nodes that are let in, this one too, and the pools that are known here; None where all nodes are
        let in. Other authors are strangers."""
        trust, book = self.trust, self._records
        if trust.policy is Policy.OPEN:
            return None
        met = {*self._connections.table.peers, *trust.configured.approved, *trust.decided.approved}
        pools = {*book.pools, *book.past_pools, *(() if book.shared is None else (book.shared,))}
        return {book.id, *pools, *(met - trust.rejected.keys())}

    # -- readers -----------------------------------------------------------------------------------------------------

    def deny(self, node: IdentityId) -> None:
        """Hide the versions of `node` from readers here."""
        self._decide(self.trust.decided.deny(node, self._name(node)), node, "denied")

    def allow(self, node: IdentityId) -> None:
        """Show the versions of `node` again. Raises LocalError where it is not denied, or the configuration does it."""
        self._check(node, self.trust.configured.denied, "trust.deny")
        if node not in self.trust.decided.denied:
            raise LocalError(f"{escape(self.label(node))} is not denied: its records are shown")
        self._decide(self.trust.decided.allow(node), node, "allowed")

    # -- inside ------------------------------------------------------------------------------------------------------

    def decisions(self) -> Iterator[Decided]:
        """Yield every decision that holds, those of the configuration first."""
        labels = self.labels()
        for source in (self.trust.configured, self.trust.decided):
            is_configured = source is self.trust.configured
            kinds: tuple[tuple[str, Names], ...] = (
                ("approved", source.approved),
                ("rejected", source.rejected),
                ("denied", source.denied),
            )
            for decision, names in kinds:
                for identity in names:
                    yield Decided(identity, distinct_label(identity, labels), decision, is_configured)

    def _name(self, identity: IdentityId) -> str:
        return self.labels().get(identity, "")

    def _check(self, identity: IdentityId, configured: Names, key: str) -> None:
        if identity in configured:
            raise LocalError(
                f"{escape(self.label(identity))} stands under {key} in the configuration: take it out there; "
                "a running node reads it again on SIGHUP"
            )

    def _settle(self, peer: IdentityId) -> None:
        """Take `peer` from those that wait, and dial it at once where its address is known."""
        waiting = next((each for each in self.trust.pending if each.id == peer), None)
        self.trust.settle(peer)
        if waiting is not None and waiting.is_dialled:
            self._connections.table.sighted(f"peer:{to_base32(peer)}", "peer", (waiting.address,))

    def _end_sessions(self, peer: IdentityId) -> None:
        self._connections.links.end(peer)
        self._connections.registry.drop(peer)
        self._connections.wake.set()

    def _decide(self, decisions: Decisions, identity: IdentityId, decision: str) -> None:
        self._keep(decisions)
        self._publish(identity, decision)

    def _publish(self, identity: IdentityId, decision: str) -> None:
        self._connections.bus.publish(TrustChanged(peer=identity, peer_name=self._name(identity), decision=decision))

    def _keep(self, decisions: Decisions) -> None:
        self._save(decisions)
        self.trust.decided = decisions
        self._hide()

    def _hide(self) -> None:
        self._records.denials.set({*self.trust.configured.denied, *self.trust.decided.denied} - {self._records.id})
