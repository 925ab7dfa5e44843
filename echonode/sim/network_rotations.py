"""Rotations of the network secret while faults go on, drawn from the seed (PROTOCOL.md §10.4).

    rotation     a node replaces the secret
    two          two nodes replace it before they hear of each other
    exclusion    a node replaces it without another one, which stays up and keeps the secret of before, or replaces
                 it too before it hears of that
    absence      a node is off until the faults end, and hears of all rotations then

What must hold, once the faults have ended:

    N1  all honest nodes are members of one network             sim/scenario.py, with E3
    N2  a node that was left out is not: nothing that it writes  `check_outsiders`
        from now on comes in, and nothing of the others gets out
    N3  what honest nodes wrote in `shared` can be read          `check_shared`
        there, whichever pool that is now, and all can write it
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Final

from echonode.errors import EchonodeError
from echonode.model.heads import winner
from echonode.model.identity import IdentityId
from echonode.model.record import IDENTITIES, MAIN, Draft, Record
from echonode.sim.disk import SimStore
from echonode.sim.invariants.checks import Invariants, Violation
from echonode.sim.invariants.expected_heads import all_heads, leaves_of
from echonode.sim.world import Member, World
from echonode.sync.tasks import all_ended

_KINDS: Final = ("rotation", "two", "exclusion", "exclusion", "absence")
_LEAST_NODES: Final = 3  # for one to be left out, or to be off: the others go on together
_STEP_S: Final = 0.5
_LATE_SHARE: Final = 0.3  # of those left out replace the secret in the same moment
_OUTSIDE_S: Final = 30.0  # in which nothing of outsiders may arrive


class NetworkRotations:
    """The rotations of one world. Nodes that are left out are taken from `honest` and from `members`.

    A rotation names the members that its node knows. So only a node rotates that knows all of `honest` and `partials`.
    """

    def __init__(
        self,
        world: World,
        honest: list[Member],
        partials: Sequence[Member],
        members: list[Member],
        invariants: Invariants,
        *,
        count: int,
        during_s: float,
        seed: int | str,
    ) -> None:
        self._world = world
        self._honest = honest
        self._partials = partials
        self._members = members
        self._invariants = invariants
        self._count = count
        self._during_s = during_s
        self._draw = Random(f"rotations/{seed}")
        self._excluders: set[Member] = set()
        self._away: list[Member] = []
        self._outside: dict[Member, Member] = {}  # those that were left out for certain, and by whom
        self._unsure: list[Member] = []  # those of rotations that failed, perhaps after they had begun

    async def keep_rotating(self) -> None:
        """Rotate one time after another. A rotation that fails, as its node has just died, is not repeated."""
        for _ in range(self._count):
            await asyncio.sleep(self._draw.uniform(0, self._during_s / self._count))
            kind, order = self._draw.choice(_KINDS), self._draw.sample(range(100), 100)
            members = [self._members[each] for each in order if each < len(self._members)]
            up = [member for member in members if member.is_up]
            able = [member for member in up if self._knows_all(member)]
            match kind:
                case "two" if len(able) > 1:
                    await all_ended([asyncio.create_task(self._rotate(member)) for member in able[:2]])
                case "exclusion" if able and len(up) >= _LEAST_NODES and (others := self._may_be_left_out(up, able[0])):
                    await self._leave_out(able[0], others[0])
                case "absence" if len(up) >= _LEAST_NODES and not self._away:
                    await self._switch_off(up[0])
                case _ if able:
                    await self._rotate(able[0])

    async def end(self) -> None:
        """Start what is off."""
        while self._away:
            await self._world.start(self._away.pop())

    def _may_be_left_out(self, members: Sequence[Member], rotator: Member) -> list[Member]:
        """Return those of `members` that left nobody out: who did, and is left out before others hear of it, may take
        some along (PROTOCOL.md §10.4)."""
        return [member for member in members if member is not rotator and member not in self._excluders]

    def _knows_all(self, member: Member) -> bool:
        return member.node.rotations.members() >= {each.identity.id for each in (*self._honest, *self._partials)}

    async def _rotate(self, member: Member, without: Sequence[IdentityId] = ()) -> bool:
        if without:
            self._excluders.add(member)
        try:
            await member.node.rotations.rotate(without)
        except EchonodeError:
            return False  # its disk is full, or it died
        return True

    async def _leave_out(self, member: Member, other: Member) -> None:
        self._members.remove(other)
        self._honest.remove(other)
        self._invariants.note_left_out(other)
        is_late = self._draw.random() < _LATE_SHARE
        exclusion = asyncio.create_task(self._rotate(member, [other.identity.id]))
        await all_ended([exclusion, *([asyncio.create_task(self._rotate(other))] if is_late else [])])
        if exclusion.result():
            self._outside[other] = member
        else:
            self._unsure.append(other)

    async def _switch_off(self, member: Member) -> None:
        self._away.append(member)
        member.is_up = False  # no fault may take it down too
        await self._world.leave(member)
        assert isinstance(member.store, SimStore), "every member's store is one"
        member.store = member.store.reopen()

    # -- after the faults --------------------------------------------------------------------------------------------

    async def check_shared(self, within_s: float) -> None:
        """N3: wait until one node has in `shared` what was there before; all hold the same. Raises Violation."""
        until_s = self._world.loop.time() + within_s
        while lost := [record async for record in self._lost(self._honest[0])]:
            if self._world.loop.time() > until_s:
                where = f"{lost[0].context}/{lost[0].name}"
                raise Violation(f"N3: {where} was in `shared` before a rotation, and is not after {within_s:.0f} s")
            await asyncio.sleep(_STEP_S)

    async def _lost(self, member: Member) -> AsyncIterator[Record]:
        """Yield the records of past pools, not deleted and signed by honest nodes, that `shared` lacks."""
        store, records = member.node.store, member.node.records
        ours = {key for each in self._honest for key in store.keyring.keys_of(each.identity.id)}
        for context in sorted(set(store.contexts()) - {IDENTITIES}):
            leaves = leaves_of(await all_heads(store, context)).values()
            names = {leaf[0].name for leaf in leaves if leaf[0].author == records.shared}
            for leaf in leaves:
                kept = [head for head in leaf if head.kid in ours]
                is_past = leaf[0].author in records.past_pools
                if is_past and kept and not winner(kept).is_tombstone and leaf[0].name not in names:
                    yield winner(kept)

    async def check_outsiders(self) -> None:
        """N2: let nodes inside and outside write, and check that nothing crosses. Raises Violation."""
        # Of a rotation whose node is gone nobody may have heard.
        outside = [member for member, by in self._outside.items() if member.is_up and by in self._honest]
        if not outside:
            return
        inside = [member for member in self._honest if member.is_up]
        secrets = {member.member_secret for member in inside}
        for member in outside:
            if member.member_secret in secrets:
                raise Violation(f"N2: {member.name} was left out of the network, and is a member")
        ours = [await self._write(member) for member in inside]
        theirs = [await self._write(member) for member in outside]
        await asyncio.sleep(_OUTSIDE_S)
        for members, forbidden in ((inside, theirs), (outside, ours)):
            for member in members:
                held = {head.id for head in await all_heads(member.node.store, MAIN)}
                if crossed := [record for record in forbidden if record is not None and record.id in held]:
                    raise Violation(f"N2: {crossed[0].name} crossed the border of the network to {member.name}")

    async def dismiss(self) -> None:
        """Stop the nodes that were left out: they dial the others for ever, and those tell them so."""
        for member in (*self._outside, *self._unsure):
            if member.is_up:
                await self._world.leave(member)

    async def _write(self, member: Member) -> Record | None:
        records = member.node.records
        draft = Draft(context=MAIN, author=records.shared or records.id, name=f"of {member.name}", body=b"border")
        record = await records.put(draft)
        self._invariants.acknowledge(member, [record])
        return record
