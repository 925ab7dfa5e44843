"""Trust: which identities are let in here, by the policy and by what a person decided. Pure, and local to this node.

    policy `open`      every node of the network is let in
    policy `approve`   a node that was never met is pending: it waits until a person approves or rejects it

    approved   let in without a question, under either policy
    rejected   kept out under either policy
    denied     let in or not: its versions are hidden from readers here (node/denials.py)

The configuration decides as a person does, and no command takes back what stands there.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import ClassVar, Final, TypeAlias

from echonode.limits import CANDIDATES_MAX
from echonode.model.identity import IdentityId

Names: TypeAlias = Mapping[IdentityId, str]  # identities, with the name that each had, "" where it is not known

_HOUR_MS: Final = 3_600_000
_TOLD_PER_HOUR_MAX: Final = 16  # nodes that begin to wait; `peers --pending` lists all


class Policy(Enum):
    """The ways to treat a node of the network that was never met. The value is its word in the configuration."""

    OPEN = "open"
    APPROVE = "approve"


class Standing(Enum):
    """The answer to an identity that wants in."""

    LET_IN = "let in"
    PENDING = "pending"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Decisions:
    """The identities about which something was decided. None is both approved and rejected."""

    approved: Names = field(default_factory=dict)
    rejected: Names = field(default_factory=dict)
    denied: Names = field(default_factory=dict)

    def approve(self, identity: IdentityId, name: str) -> "Decisions":
        """Return these decisions with `identity` approved."""
        return replace(self.forget(identity), approved={**self.approved, identity: name})

    def reject(self, identity: IdentityId, name: str) -> "Decisions":
        """Return these decisions with `identity` rejected."""
        return replace(self.forget(identity), rejected={**self.rejected, identity: name})

    def forget(self, identity: IdentityId) -> "Decisions":
        """Return these decisions with `identity` neither approved nor rejected."""
        return replace(self, approved=_without(self.approved, identity), rejected=_without(self.rejected, identity))

    def deny(self, identity: IdentityId, name: str) -> "Decisions":
        """Return these decisions with `identity` denied."""
        return replace(self, denied={**self.denied, identity: name})

    def allow(self, identity: IdentityId) -> "Decisions":
        """Return these decisions with `identity` not denied."""
        return replace(self, denied=_without(self.denied, identity))


@dataclass(frozen=True, slots=True)
class TrustSettings:
    """The policy, the decisions that stand in the configuration, and those that a person made since."""

    policy: Policy = Policy.OPEN
    configured: Decisions = Decisions()
    decided: Decisions = Decisions()


@dataclass(frozen=True, slots=True)
class Pending:
    """A node that waits to be let in.

    `name` is "" until its hello was heard; `address`: where it can be dialled if `is_dialled`, else the host that it
    came from; `since_ms`, `seen_ms`: when it was met first and last, on the wall clock."""

    id: IdentityId
    name: str
    address: str
    is_dialled: bool
    since_ms: int
    seen_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerPending:
    """A node that was never met wants in. It waits until a person approves or rejects it."""

    name: ClassVar[str] = "peer.pending"
    level: ClassVar[str] = "warning"
    peer: bytes
    peer_name: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustChanged:
    """A person decided about a node: `decision` is approved, rejected, denied or allowed."""

    name: ClassVar[str] = "trust.changed"
    level: ClassVar[str] = "info"
    peer: bytes
    peer_name: str
    decision: str


class Trust:
    """The door of one node: who is let in, who is kept out, who waits.

    At most CANDIDATES_MAX nodes are pending: the longest unseen makes room."""

    def __init__(self) -> None:
        self.policy = Policy.OPEN
        self.configured = Decisions()
        self.decided = Decisions()
        self._pending: dict[IdentityId, Pending] = {}

    def load(self, settings: TrustSettings) -> None:
        """Take in what the configuration says, and what was kept over a restart."""
        self.policy, self.configured, self.decided = settings.policy, settings.configured, settings.decided

    def standing(self, identity: IdentityId, *, is_met: bool) -> Standing:
        """Return whether `identity` is let in. `is_met`: there was a session with it before."""
        if self.is_rejected(identity):
            return Standing.REJECTED
        is_approved = identity in self.configured.approved or identity in self.decided.approved
        if self.policy is Policy.OPEN or is_approved or is_met:
            return Standing.LET_IN
        return Standing.PENDING

    def is_rejected(self, identity: IdentityId) -> bool:
        """Return whether `identity` is kept out. The configuration goes before a person's decision."""
        if identity in self.configured.approved:
            return False
        return identity in self.configured.rejected or identity in self.decided.rejected

    @property
    def rejected(self) -> Names:
        """Every identity that is kept out."""
        known = {**self.configured.rejected, **self.decided.rejected}
        return {identity: name for identity, name in known.items() if self.is_rejected(identity)}

    @property
    def pending(self) -> Iterable[Pending]:
        """The nodes that wait, the first to come first."""
        return tuple(self._pending.values())

    def note_pending(self, pending: Pending) -> bool:
        """Note that a node waits, or that it was seen again.

        Return True when it is new and a person should be told: made-up identities must not fill the log.
        """
        earlier = self._pending.get(pending.id)
        lately = sum(each.since_ms > pending.since_ms - _HOUR_MS for each in self._pending.values())
        if earlier is None and len(self._pending) >= CANDIDATES_MAX:
            del self._pending[min(self._pending.values(), key=lambda each: each.seen_ms).id]
        if earlier is not None:
            pending = replace(pending, since_ms=earlier.since_ms, name=pending.name or earlier.name)
            if earlier.is_dialled and not pending.is_dialled:
                pending = replace(pending, address=earlier.address, is_dialled=True)
        self._pending[pending.id] = pending
        return earlier is None and lately < _TOLD_PER_HOUR_MAX

    def settle(self, identity: IdentityId) -> None:
        """Note that `identity` does not wait any more."""
        self._pending.pop(identity, None)

    def names(self) -> Iterator[tuple[IdentityId, str]]:
        """Yield each identity that waits or was decided about, with its name; one may come several times."""
        for decisions in (self.configured, self.decided):
            for names in (decisions.denied, decisions.rejected, decisions.approved):
                yield from names.items()
        yield from ((each.id, each.name) for each in self._pending.values())


def _without(names: Names, identity: IdentityId) -> Names:
    return {each: name for each, name in names.items() if each != identity}
