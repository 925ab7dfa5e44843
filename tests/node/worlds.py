"""Worlds of real nodes for the tests of this room, in virtual time."""

import asyncio
import copy
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from echonode.model.identity import PublicKey, SigningKey
from echonode.model.record import MAIN, Draft, Record
from echonode.node.events import Event, PeerAbsent, PeerConnected, SessionFailed, SyncCompleted
from echonode.node.handshake import Introduction
from echonode.node.views import PeerView
from echonode.sim.event_loop import SimLoop
from echonode.sim.world import PORT, Member, World
from echonode.store.memory import MemoryStore
from echonode.wire.messages import Hello

E = TypeVar("E")

# The events that an operator reads in the log.
LOUD = (SessionFailed, PeerAbsent, PeerConnected, SyncCompleted)


class HushedWorld(World):
    """A world without discovery: nodes see each other by `sight` alone."""

    def _announce(self, member: Member) -> None:
        pass


def in_a_world(work: Callable[[World], Awaitable[None]], *, seed: int = 1, hushed: bool = False) -> SimLoop:
    """Run `work` with a world of no nodes yet. An exception that no code caught in a task fails the test."""
    loop = SimLoop(seed=seed)
    world = (HushedWorld if hushed else World)(loop, seed=seed)

    async def main() -> None:
        await work(world)
        await world.stop()

    loop.complete(main())
    return loop


async def put(member: Member, name: str, body: bytes = b"", *, shared: bool = False, context: str = MAIN) -> Record:
    author = member.node.records.shared if shared else member.node.id
    assert author is not None
    return await member.node.records.put(Draft(context=context, author=author, name=name, body=body))


async def put_unnoticed(member: Member, name: str) -> None:
    """Write into the store directly: neither the node nor a link notices."""
    records = member.node.records
    draft = Draft(context=MAIN, author=records.id, name=name)
    await records.store.write([draft], records.identity.device, records.tick)


def sight(member: Member, *others: Member) -> None:
    """Let `member` see `others`, and not the other way round."""
    for other in others:
        announced = other.announcement
        assert announced is not None
        member.node.sighted(
            other.name, [f"{other.host}:{PORT}"], tag=announced.tag, group=announced.group, slot=announced.slot
        )


def told(member: Member, kind: type[E]) -> list[E]:
    return [event for event in member.events if isinstance(event, kind)]


def loud(member: Member, since: int = 0) -> list[Event]:
    return [event for event in member.events[since:] if isinstance(event, LOUD)]


def view_of(member: Member, other: Member) -> PeerView:
    (view,) = [view for view in member.node.peers() if view.id == other.node.id]
    return view


async def names(member: Member, context: str = MAIN) -> set[str]:
    return {record.name async for page in member.node.records.scan(context) for record in page}


class Bent:
    """The introduction of a node, with `change` applied to its hellos."""

    def __init__(self, honest: Introduction, change: Callable[[Hello], Hello]) -> None:
        self._honest = honest
        self._change = change

    @property
    def device(self) -> SigningKey:
        return self._honest.device

    def statements(self) -> Sequence[Record]:
        return self._honest.statements()

    def make(self, peer: PublicKey, session: bytes, instance: bytes = b"") -> Hello:
        return self._change(self._honest.make(peer, session, instance))


def bend_hellos(member: Member, change: Callable[[Hello], Hello]) -> Callable[[], None]:
    """Apply `change` to the hellos of `member`. Return the function that ends it."""
    connections = member.node.connections
    honest = connections.local
    connections.local = replace(honest, introduction=Bent(honest.introduction, change))

    def straighten() -> None:
        connections.local = honest

    return straighten


def saved(member: Member) -> Callable[[], None]:
    """Copy the node's store. Return the function that puts the copy back, as from a backup."""
    held = copy.deepcopy(vars(member.node.store))

    def restore() -> None:
        vars(member.node.store).clear()
        vars(member.node.store).update(held)

    return restore


class SlowStore(MemoryStore):
    """A store whose writes answer a second after they are done: a caller may be gone by then."""

    async def write(self, *arguments, **options):
        written = await super().write(*arguments, **options)
        await asyncio.sleep(1)
        return written
