"""Network moves: this node becomes a member under another network secret, by a rotation or because a person says so."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from echonode.clock import Clock
from echonode.errors import ConfigError
from echonode.model.address import SHARED
from echonode.model.identity import IdentityId, shared_pool
from echonode.model.member_secret import MemberSecret
from echonode.model.past_networks import PastNetwork, left_for
from echonode.node.event_bus import EventBus
from echonode.node.events import LinkEqual, NetworkJoined, RecordsApplied, RecordsStaged, SyncCompleted
from echonode.node.invitations import Invitations
from echonode.node.live_links import LiveLinks
from echonode.node.membership import Membership
from echonode.node.peer_table import PeerTable
from echonode.node.pool_copies import PoolCopies
from echonode.node.record_book import RecordBook
from echonode.node.session_registry import SessionRegistry
from echonode.node.views import LeftBehind
from echonode.text import to_base32


@dataclass(slots=True, eq=False)
class NetworkMoves:
    """Moves one node. `subscribe` reads the subscriptions anew, whose terms may name `shared`.

    `left_out_by`: peers that said that the network was rotated without this node.
    """

    membership: Membership
    records: RecordBook
    invitations: Invitations
    table: PeerTable
    registry: SessionRegistry
    links: LiveLinks
    bus: EventBus
    clock: Clock
    wake: asyncio.Event
    subscribe: Callable[[], None]
    spawn: Callable[[Coroutine[Any, Any, None]], None]
    copies: PoolCopies = field(init=False)
    left_out_by: set[IdentityId] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.copies = PoolCopies(self.records, self.spawn)
        self.bus.on(SyncCompleted, self.copies.note_synced)
        self.bus.on(LinkEqual, self.copies.note_linked)
        self.bus.on(RecordsApplied, self.copies.note_brought)
        self.bus.on(RecordsStaged, self.copies.note_brought)

    def may_be_member(self, tag: bytes, group: bytes) -> bool:
        """Return whether the node that announces `tag` and `group` may be a member of our network.

        It may be a member of another one by its group: of two rotations at once each of us may have followed another.
        """
        if self.membership.is_shared_by(tag, group):
            return True
        peer = self.table.tagged(tag)
        rotations = (each.rotation for each in self.membership.served())
        return any(rotation is not None and peer in rotation.members for rotation in rotations)

    async def move(self, secret: MemberSecret, past: Sequence[PastNetwork]) -> None:
        """Be a member under `secret` from now on. Records stay; sessions under the one before end.

        Raises StoreError, and ConfigError where the secret cannot be kept in the home; then this node is as before.
        """
        await self.records.introduce(secret)
        try:
            self.membership.move_to(secret, past)
        except ConfigError:
            await self.records.introduce(self.membership.member_secret)  # it stated that before, and writes nothing
            raise
        self.left_out_by.clear()
        self.name_past_pools()
        self.subscribe()
        self.links.end_all()
        self.registry.drop_all()
        self.table.membership_changed(self.may_be_member)
        self.invitations.void()
        self.wake.set()

    async def leave_for(self, secret: MemberSecret, *, is_first: bool) -> LeftBehind | None:
        """Become a member of another network. Return what was left behind, None where nothing was.

        `is_first`: the present secret is a placeholder that no other node has.
        """
        present, pool, name = self.membership.member_secret, self.records.shared, self.membership.name
        if secret == present:
            return None
        peers = sum(entry.is_reachable for entry in self.table.peers.values())
        if present is None or is_first:
            await self.move(secret, self.membership.past)
            self.bus.publish(NetworkJoined(network=self.membership.name))
            return None
        past = self.membership.past
        await self.move(secret, left_for(secret, None, present=present, past=past, now_ms=self.clock.now_ms()))
        self.bus.publish(NetworkJoined(network=self.membership.name))
        return LeftBehind(network=name, peers=peers, past_pool=self.label_of(pool))

    def label_of(self, pool: IdentityId | None) -> str:
        """Return the label of what was `shared` before, "" for a pool that still is."""
        return "" if pool is None else self.records.past_pools.get(pool, "")

    def name_past_pools(self) -> None:
        """Give every pool that was `shared` before a label, and have what is missing copied from those rotated away."""
        past, rotators = {}, {}
        for each in self.membership.past:
            pool = shared_pool(each.secret.pool_seed).id
            if pool != self.records.shared:
                past[pool] = f"{SHARED}-{to_base32(each.secret.netid)[:4]}"
                if each.rotation is not None:
                    rotators[pool] = each.rotation.rotator
        self.records.past_pools, self.copies.rotators = past, rotators
