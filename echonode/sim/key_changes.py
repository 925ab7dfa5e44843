"""Changes of keys and pools while faults go on, drawn from the seed.

    new key       a node signs with another key; the one before stays active, is retired, or is stated compromised, and
                  then what it wrote is signed again
    pool          a node makes a pool, closed or common; another becomes a member; both write
    removal       the maker of a closed pool removes a member, with or without what it wrote
    theft         a node states another's key as its own, and compromised: that voids nothing of the other's

What keys admit is judged by a second implementation of the rules (sim/invariants/stated_keys.py).
"""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Final

from echonode.errors import EchonodeError
from echonode.model.identity import PoolKind
from echonode.model.keys import KeyState, statement_draft
from echonode.model.known_pool import KnownPool
from echonode.model.record import MAIN, Draft
from echonode.sim.invariants.checks import Invariants
from echonode.sim.world import Member

_KINDS: Final = ("new key", "pool", "removal", "theft")
_RETRY_S: Final = 0.5


class KeyChanges:
    """The changes of one world, at `members`, which may change. `count` of them are spread over `during_s`."""

    def __init__(
        self, members: Sequence[Member], invariants: Invariants, *, count: int, during_s: float, seed: int | str
    ) -> None:
        self._members = members
        self._invariants = invariants
        self._count = count
        self._during_s = during_s
        self._draw = Random(f"keys/{seed}")
        self._pools: list[tuple[Member, KnownPool]] = []  # with the node that made each

    async def keep_changing(self) -> None:
        """Make the changes one after another. One that fails, as its node has just died, is left out."""
        for number in range(self._count):
            await asyncio.sleep(self._draw.uniform(0, self._during_s / self._count))
            kind = self._draw.choice(_KINDS)
            one, other = self._draw.sample(list(self._members), 2)
            try:
                if kind == "new key":
                    await self._replace_key(one)
                elif kind == "pool" or not self._pools:
                    await self._make_pool(one, other, f"pool {number}")
                elif kind == "removal":
                    await self._remove(other)
                else:
                    await self._steal(other)
            except EchonodeError:
                await asyncio.sleep(_RETRY_S)

    async def _replace_key(self, member: Member) -> None:
        if not member.is_up:
            return
        keys, old = member.node.device_keys, member.node.records.identity.device.public
        await keys.new_key()
        state = self._draw.choice([None, KeyState.RETIRED, KeyState.COMPROMISED])
        if state is not None:
            await keys.state(old, state)
        if state is KeyState.COMPROMISED:
            await keys.sign_again(old)

    async def _make_pool(self, maker: Member, other: Member, label: str) -> None:
        if not maker.is_up:
            return
        kind = self._draw.choice(list(PoolKind))
        known = await maker.node.pools.create(label, kind)
        self._pools.append((maker, known))
        await self._write(maker, known)
        if other.is_up and kind is PoolKind.COMMON:
            await other.node.pools.accept(known)
        elif other.is_up and maker.is_up:
            await maker.node.pools.add(known, other.node.pools.request(known.id, label))
            await asyncio.sleep(self._draw.uniform(0, 2.0))  # the listing travels meanwhile, or does not
        await self._write(other, known)

    async def _write(self, member: Member, known: KnownPool) -> None:
        if not member.is_up:
            return
        name = self._draw.choice(["plan", "list"])
        draft = Draft(context=MAIN, author=known.id, name=name, body=self._draw.randbytes(4))
        self._invariants.acknowledge(member, [await member.node.records.put(draft)])

    async def _remove(self, other: Member) -> None:
        maker, known = self._draw.choice(self._pools)
        if maker.is_up and known.kind is PoolKind.CLOSED:
            await maker.node.pools.remove(known, other.identity.id, is_void=self._draw.random() < 0.5)

    async def _steal(self, victim: Member) -> None:
        """State the victim's key as another node's own, and compromised."""
        thief, _ = self._draw.choice(self._pools)
        if not thief.is_up or thief is victim:
            return
        key, root = victim.identity.device.public, thief.identity.root
        assert root is not None, "no simulated root key is taken off its machine"
        for state in (KeyState.ACTIVE, KeyState.COMPROMISED):
            await thief.node.records.state_once(statement_draft(thief.identity.id, key, state), root)
