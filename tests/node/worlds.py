"""Worlds of real nodes for the tests of this room, in virtual time."""

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
from echonode.wire.messages import Hello

E = TypeVar("E")

# What an operator would read in the log.
LOUD = (SessionFailed, PeerAbsent, PeerConnected, SyncCompleted)


class HushedWorld(World):
    """Nobody sights anybody but by `sight`."""

    def _announce(self, member: Member) -> None:
        pass


def in_a_world(work: Callable[[World], Awaitable[None]], *, seed: int = 1, hushed: bool = False) -> SimLoop:
    """Run `work` with a world of no nodes yet; whatever a task raised unseen fails the test."""
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
    """Into the store, behind the node's back: nobody is told."""
    records = member.node.records
    draft = Draft(context=MAIN, author=records.id, name=name)
    await records.store.write([draft], records.identity.device, records.tick)


def sight(member: Member, *others: Member) -> None:
    """`member` alone sights these."""
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
    """Introduces a node as `honest` does, by a hello that `change` made of its own."""

    def __init__(self, honest: Introduction, change: Callable[[Hello], Hello]) -> None:
        self._honest = honest
        self._change = change

    @property
    def device(self) -> SigningKey:
        return self._honest.device

    def statements(self) -> Sequence[Record]:
        return self._honest.statements()

    def make(self, peer: PublicKey, session: bytes) -> Hello:
        return self._change(self._honest.make(peer, session))


def bend_hellos(member: Member, change: Callable[[Hello], Hello]) -> Callable[[], None]:
    """Let `member` send what `change` makes of its hellos, until the function that is returned is called."""
    connections = member.node.connections
    honest = connections.local
    connections.local = replace(honest, introduction=Bent(honest.introduction, change))

    def straighten() -> None:
        connections.local = honest

    return straighten


def saved(member: Member) -> Callable[[], None]:
    """A copy of the node's store as it is now; calling it puts that back, as a restored backup would."""
    held = copy.deepcopy(vars(member.node.store))

    def restore() -> None:
        vars(member.node.store).clear()
        vars(member.node.store).update(held)

    return restore
