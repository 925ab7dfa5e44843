"""What clients do to the nodes of a world: seeded puts, edits, deletes, bursts, imports, and questions.

Every acknowledged write goes to the judge. A refused one (a full disk, a process that died meanwhile) was not
acknowledged, and may be there or not.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from echonode.errors import EchonodeError, LocalError, StoreError
from echonode.model.filter import Filter
from echonode.model.identity import IdentityId
from echonode.model.record import Draft, leaf_key, winner
from echonode.node.views import SyncReport, SyncStatus
from echonode.sim.invariants import Invariants, Violation
from echonode.sim.world import Member
from echonode.sync.tasks import all_ended
from echonode.wire.messages import Asked, Direction

SYNC_TIMEOUT_S: Final = 20.0
_BODIES: Final = (0, 10, 10, 10, 100, 1_000, 10_000)
_TAGS: Final = ((), (), ("red",), ("blue", "red"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How clients behave. Rates are per second over the whole world."""

    contexts: tuple[str, ...] = ("main",)
    names: int = 30
    writes_per_s: float = 0.7
    questions_per_s: float = 0.2
    burst_records: int = 20
    import_records: int = 0  # in one import, now and then; 0: nobody imports
    bodies: tuple[int, ...] = _BODIES


class Clients:
    """The clients of one world; `members` are the nodes they talk to."""

    def __init__(self, members: Sequence[Member], judge: Invariants, habits: Habits, seed: int | str) -> None:
        self._members = members
        self._judge = judge
        self._habits = habits
        self._draw = Random(f"workload/{seed}")
        self._lookups = Random(f"lookups/{seed}")
        self._questions: set[asyncio.Task[list[SyncReport]]] = set()
        self._looked_up: set[asyncio.Task[None]] = set()

    async def stock(self, member: Member, records: int) -> None:
        """That many records in one import, of names that are nobody else's."""
        context, author = self._habits.contexts[0], member.node.id
        drafts = [Draft(context=context, author=author, name=f"stock-{number}") for number in range(records)]
        self._judge.acknowledge(member, await member.node.records.put_all(drafts) if drafts else [])

    async def fill(self, member: Member, records: int) -> None:
        """Records that are there from the start."""
        for _ in range(records):
            await self._write(member)

    async def keep_writing(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(self._draw.expovariate(self._habits.writes_per_s))
            up = [member for member in self._members if member.is_up]
            if up:
                await self._write(self._draw.choice(up))

    async def keep_asking(self) -> None:
        """Somebody types `echonode sync` now and then; a word he waits for comes in time."""
        while True:
            await asyncio.sleep(self._draw.expovariate(self._habits.questions_per_s))
            up = [member for member in self._members if member.is_up]
            if up:
                member, direction = self._draw.choice(up), self._draw.choice(list(Direction))
                asked = member.node.sync(None, direction, SYNC_TIMEOUT_S)
                self._questions.add(asyncio.create_task(asked))

    async def keep_looking_up(self) -> None:
        """Somebody asks one peer what it has, for some of it, or to take something."""
        draw = self._lookups
        while True:
            await asyncio.sleep(draw.expovariate(self._habits.questions_per_s))
            up = [member for member in self._members if member.is_up]
            member = draw.choice(up or self._members)
            if met := list(member.node.peer_table.peers) if member.is_up else []:
                self._looked_up.add(asyncio.create_task(self._look_up(member, draw.choice(met))))

    async def _look_up(self, member: Member, peer: IdentityId) -> None:
        on_demand, context = member.node.on_demand, self._lookups.choice(self._habits.contexts)
        wanted = Filter(tags_any=frozenset(self._lookups.choice([[], ["red"]])))
        ours = [key for key, _ in member.node.store.tree(context).leaves_at(b"")]
        offered = self._lookups.sample(ours, min(len(ours), 3))
        try:
            there = await on_demand.pull(peer, context, wanted, after=0, limit=10, timeout_s=SYNC_TIMEOUT_S)
            some = [Asked(leaf_key(IdentityId(one.author), one.name), None) for one in there.ids[:5]]
            if some:
                await on_demand.get(peer, context, some, SYNC_TIMEOUT_S)
            if offered:
                await on_demand.put(peer, context, offered, SYNC_TIMEOUT_S)
        except EchonodeError:
            return  # nobody is there, or it says why not

    async def hear_answers(self) -> None:
        """Every question is answered, with a reason unless all is well."""
        for failed in await all_ended((*self._questions, *self._looked_up)):
            raise failed
        for question in self._questions:
            for report in question.result():
                if not report.error and report.status is not SyncStatus.VERIFIED:
                    raise Violation(f"I12: a sync with {report.name} ended {report.status.value}, and nobody says why")

    async def _write(self, member: Member) -> None:
        """One put, edit, delete, burst, import or resolution."""
        node, draw = member.node, self._draw
        author = node.id if node.records.shared is None else draw.choice([node.id, node.records.shared])
        context = draw.choice(self._habits.contexts)
        name = f"r{draw.randrange(self._habits.names)}"
        kind = draw.random()
        try:
            if kind < 0.12:
                self._judge.acknowledge(member, [await node.records.delete(context, author, name)])
                return
            if kind < 0.18:
                await self._resolve(member, context)
                return
            names, body = [name], draw.randbytes(draw.choice(self._habits.bodies))
            is_import = kind > 0.985 and self._habits.import_records > 0
            if is_import:
                names = [f"{name}-{number}" for number in range(self._habits.import_records)]
            elif kind > 0.95:
                names = [f"{name}-{number}" for number in range(draw.randrange(self._habits.burst_records + 1))]
            drafts = [
                Draft(context=context, author=author, name=each, body=body[: 10 if len(names) > 1 else None],
                      tags=draw.choice(_TAGS))
                for each in names
            ]
            self._judge.acknowledge(member, await node.records.put_all(drafts, skip_unchanged=is_import))
        except (StoreError, LocalError):
            # Nothing to delete, a full disk, or the process died: not acknowledged.
            return

    async def _resolve(self, member: Member, context: str) -> None:
        """Somebody settles the oldest conflict, as a person would: by writing what should stand."""
        for heads in await member.node.records.conflicts(context):
            best = winner(heads)
            if best.author in (member.node.id, member.node.records.shared):
                draft = Draft(context=context, author=best.author, name=best.name, body=best.body or b"settled")
                self._judge.acknowledge(member, [await member.node.records.put(draft)])
            return
