"""Settings and presence: the values that a node is given, and those that discovery makes known of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from echonode.digest import GROUP_TAG, keyed
from echonode.model.known_pool import KnownPool
from echonode.model.member_secret import MemberSecret
from echonode.model.past_networks import PastNetwork
from echonode.node.pauses import Pause
from echonode.node.trust import Decisions, TrustSettings

_OPEN_GROUP_KEY = b"echonode open network"  # group tags of the public network hide nothing


@dataclass(frozen=True, slots=True)
class Presence:
    """One announcement to the local network.

    `tag`: fresh random bytes of this start; `group`: names the network, to its members alone; `slot`: the number of
    the open invitation, None for no invitation.
    """

    tag: bytes
    group: bytes
    slot: str | None


@dataclass(frozen=True, slots=True)
class Quota:
    """The most that is taken: records, their bytes, and tombstones among them. 0 stands for no bound."""

    records: int = 0
    bytes: int = 0
    tombstones: int = 0


@dataclass(frozen=True, slots=True)
class Quotas:
    """The quota of each author, that of the whole store, and how many records a second one peer may bring (0: any)."""

    author: Quota = Quota()
    total: Quota = Quota()
    peer_rate: int = 0

    @property
    def are_set(self) -> bool:
        """True when something of what is held is bounded, so that it must be counted."""
        return (self.author, self.total) != (Quota(), Quota())


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A person's decisions about a node.

    `member_secret`     that of the private network, None for the open network
    `past`              secrets that it had before
    `is_provisional`    the secret is a placeholder that no other node has, until an invitation brings the real one
    `contexts`          the contexts that are kept, None for any that peers offer
    `subscriptions`     by context, the terms of the filter that says which part is wanted (model/filter_text.py)
    `models`            versions of the record models that are read here
    `pauses`            those that were made before this start
    `quotas`            what is taken of others at most
    `trust`             who is let in, and whose records are hidden
    `is_restored`       the store was put back from a backup, and did not run since
    `pools`             the pools beside `shared` that this node has labels for
    `echo_author`       whose records are the state of the Echo Sync Protocol: `shared`, `me`, or None for `shared`
                        where the network has it, and `me` on the open one
    """

    name: str
    member_secret: MemberSecret | None
    past: Sequence[PastNetwork] = ()
    is_provisional: bool = False
    contexts: frozenset[str] | None = None
    subscriptions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    models: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    is_restored: bool = False
    pauses: tuple[Pause, ...] = ()
    echo_author: str | None = None
    pools: tuple[KnownPool, ...] = ()
    quotas: Quotas = Quotas()
    trust: TrustSettings = field(default_factory=TrustSettings)


class Safe(Protocol):
    """The place where a node keeps its secrets and decisions over a restart.

    Its methods raise EchonodeError where that fails."""

    def write_pools(self, pools: Sequence[KnownPool]) -> None:
        """Keep these pools, in place of those before."""
        ...

    def write_device_seed(self, seed: bytes) -> None:
        """Keep the seed of a new device key, in place of the one before."""
        ...

    def write_root_seed(self, seed: bytes | None, public: bytes) -> None:
        """Keep the seed of the root key, or with None its public key alone."""
        ...

    def write_trust(self, decisions: Decisions) -> None:
        """Keep what a person decided about nodes, in place of what was kept before."""
        ...


def group_tag(network_key: bytes | None, tag: bytes) -> bytes:
    """Return 8 bytes by which members know that the node announcing `tag` is of their network (SECURITY.md H5)."""
    return keyed(GROUP_TAG, _OPEN_GROUP_KEY if network_key is None else network_key, tag, 8)
