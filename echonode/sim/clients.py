"""The clients of a world: drawn puts, edits, deletes, bursts, imports, syncs and requests at its nodes.

Clients report every acknowledged write to the invariants. A refused write (a full disk, a process that died meanwhile)
was not acknowledged; its records may be stored or not.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from echonode.errors import EchonodeError, LocalError, StoreError
from echonode.limits import BATCH_RECORDS_MAX
from echonode.model.filter import Filter
from echonode.model.heads import winner
from echonode.model.identity import IdentityId
from echonode.model.record import Draft, leaf_key
from echonode.node.views import SyncReport, SyncStatus
from echonode.sim.invariants.checks import Invariants, Violation
from echonode.sim.world import Member
from echonode.sync.tasks import all_ended
from echonode.wire.messages import Direction, RecordRequest

SYNC_TIMEOUT_S: Final = 20.0
BESIDE: Final = "books"  # a context that clients import into and do not write
_BODIES: Final = (0, 10, 10, 10, 100, 1_000, 10_000)
_TAGS: Final = ((), (), ("red",), ("blue", "red"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """The habits of clients. Rates are per second for all nodes together."""

    contexts: tuple[str, ...] = ("main",)
    names: int = 30
    writes_per_s: float = 0.7
    requests_per_s: float = 0.2  # of `sync`, and as many of `pull`, `get` and `put`
    burst_records: int = 20  # at most, in one burst
    import_records: int = 0  # in one import, now and then; 0: no imports
    bodies: tuple[int, ...] = _BODIES  # sizes of bodies in bytes, one drawn for each write


class Clients:
    """The clients of one world. `members` are the nodes they talk to; the list may change."""

    def __init__(self, members: Sequence[Member], invariants: Invariants, habits: Habits, seed: int | str) -> None:
        self._members = members
        self._invariants = invariants
        self._habits = habits
        self._draw = Random(f"workload/{seed}")  # another label would change the world of every seed
        self._request_draw = Random(f"lookups/{seed}")
        self._syncs: set[asyncio.Task[list[SyncReport]]] = set()
        self._requests: set[asyncio.Task[None]] = set()

    async def import_common(self, member: Member, records: int) -> None:
        """Import so many records at once, with names that no other write uses."""
        context, author = self._habits.contexts[0], member.node.id
        drafts = [Draft(context=context, author=author, name=f"stock-{number}") for number in range(records)]
        self._invariants.acknowledge(member, await member.node.records.put_all(drafts) if drafts else [])

    async def import_beside(self, records: int) -> None:
        """Import so many records into a context of their own, in transactions of a thousand."""
        member = self._members[0]
        for first in range(0, records, BATCH_RECORDS_MAX):
            numbers = range(first, min(first + BATCH_RECORDS_MAX, records))
            drafts = [Draft(context=BESIDE, author=member.node.id, name=f"bulk-{number}") for number in numbers]
            try:
                self._invariants.acknowledge(member, await member.node.records.put_all(drafts))
            except (StoreError, LocalError):
                return  # the disk is full, or the process died

    async def write(self, member: Member, records: int) -> None:
        """Make so many writes now."""
        for _ in range(records):
            await self._write_once(member)

    async def keep_writing(self) -> None:
        """Write until cancelled."""
        while True:
            await asyncio.sleep(self._draw.expovariate(self._habits.writes_per_s))
            up = [member for member in self._members if member.is_up]
            if up:
                await self._write_once(self._draw.choice(up))

    async def keep_syncing(self) -> None:
        """Ask a node to sync with all its peers now and then, until cancelled."""
        while True:
            await asyncio.sleep(self._draw.expovariate(self._habits.requests_per_s))
            up = [member for member in self._members if member.is_up]
            if up:
                member, direction = self._draw.choice(up), self._draw.choice(list(Direction))
                sync = member.node.sync(None, direction, SYNC_TIMEOUT_S)
                self._syncs.add(asyncio.create_task(sync))

    async def keep_requesting(self) -> None:
        """List, get and offer records at one peer of a node now and then, until cancelled."""
        draw = self._request_draw
        while True:
            await asyncio.sleep(draw.expovariate(self._habits.requests_per_s))
            up = [member for member in self._members if member.is_up]
            member = draw.choice(up or self._members)
            if peers := list(member.node.peer_table.peers) if member.is_up else []:
                self._requests.add(asyncio.create_task(self._request(member, draw.choice(peers))))

    async def _request(self, member: Member, peer: IdentityId) -> None:
        requests, context = member.node.on_demand, self._request_draw.choice(self._habits.contexts)
        wanted = Filter(tags_any=frozenset(self._request_draw.choice([[], ["red"]])))
        held = [key for key, _ in member.node.store.tree(context).leaves_at(b"")]
        offered = self._request_draw.sample(held, min(len(held), 3))
        try:
            listed = await requests.pull(peer, context, wanted, after=0, limit=10, timeout_s=SYNC_TIMEOUT_S)
            wanted_records = [RecordRequest(leaf_key(IdentityId(one.author), one.name), None) for one in listed.ids[:5]]
            if wanted_records:
                await requests.get(peer, context, wanted_records, SYNC_TIMEOUT_S)
            if offered:
                await requests.put(peer, context, offered, SYNC_TIMEOUT_S)
        except EchonodeError:
            return  # the peer is away, or refused with a reason

    async def check_answers(self) -> None:
        """I12: wait for every sync and request. Raises Violation if a sync was not verified and gives no reason."""
        for failed in await all_ended((*self._syncs, *self._requests)):
            raise failed
        for sync in self._syncs:
            for report in sync.result():
                if not report.error and report.status is not SyncStatus.VERIFIED:
                    raise Violation(f"I12: a sync with {report.name} ended {report.status.value} without a reason")

    async def _write_once(self, member: Member) -> None:
        """Make one put, edit, delete, burst, import or resolution of a conflict."""
        node, draw = member.node, self._draw
        author = node.id if node.records.shared is None else draw.choice([node.id, node.records.shared])
        context = draw.choice(self._habits.contexts)
        name = f"r{draw.randrange(self._habits.names)}"
        kind = draw.random()
        try:
            if kind < 0.12:
                self._invariants.acknowledge(member, [await node.records.delete(context, author, name)])
                return
            if kind < 0.18:
                await self._resolve_conflict(member, context)
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
            self._invariants.acknowledge(member, await node.records.put_all(drafts, skip_unchanged=is_import))
        except (StoreError, LocalError):
            # There is nothing to delete, the disk is full, or the process died. The write was not acknowledged.
            return

    async def _resolve_conflict(self, member: Member, context: str) -> None:
        """Resolve the oldest conflict as a person would: write the version that should stand."""
        for heads in await member.node.records.conflicts(context):
            best = winner(heads)
            if best.author in (member.node.id, member.node.records.shared):
                draft = Draft(context=context, author=best.author, name=best.name, body=best.body or b"settled")
                self._invariants.acknowledge(member, [await member.node.records.put(draft)])
            return
