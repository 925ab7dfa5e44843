"""The session registry: of two sessions that cross both ends keep the same; a dead one gives way to the next."""

import asyncio
from collections.abc import Awaitable, Callable
from itertools import permutations

import pytest

from echonode.errors import PeerRefused, Reason, TransportError
from echonode.model.identity import IdentityId
from echonode.node.session_registry import SessionRegistry
from echonode.sim.event_loop import SimClock, SimLoop
from echonode.sim.network import SimNetwork
from echonode.sync.streams import ByteStream
from echonode.sync.transport import StreamTransport
from tests.wire.ends import past_auth

LOW, HIGH = IdentityId(b"\1" * 32), IdentityId(b"\2" * 32)


class Wire:
    """Connections between two hosts, as the transports of both ends."""

    def __init__(self) -> None:
        self.loop = SimLoop(seed=3)
        self.network = SimNetwork(self.loop, seed=3)

    async def connect(self, dialler: str, listener: str) -> tuple[StreamTransport, StreamTransport]:
        """Return the end of the dialler and the end of the listener."""
        accepted: asyncio.Future[ByteStream] = self.loop.create_future()

        async def accept(stream: ByteStream) -> None:
            accepted.set_result(stream)
            await asyncio.sleep(1e6)

        opened = self.network.listen(f"{listener}:0", accept)
        stream = await self.network.dial(dialler)(opened.address)
        ours, theirs = past_auth()
        return StreamTransport(stream, ours), StreamTransport(await accepted, theirs)


def on_a_wire(work: Callable[[Wire], Awaitable[None]]) -> None:
    wire = Wire()

    async def main() -> None:
        await work(wire)

    wire.loop.complete(main())


def sessions_of(me: IdentityId) -> SessionRegistry:
    return SessionRegistry(me, SimClock(asyncio.get_running_loop()))


def survivors(live: SessionRegistry, peer: IdentityId, transports: dict[str, StreamTransport]) -> set[str]:
    """Enter sessions in this order. Return the names of those that are still up."""
    up = set()
    for name, transport in transports.items():
        try:
            live.enter(peer, transport)
            up.add(name)
        except PeerRefused as refused:
            assert refused.reason is Reason.DUPLICATE_SESSION
    return {name for name in up if not live.leave(transports[name].stream)}


def test_two_that_dial_each_other_keep_the_same_one_of_both_sessions():
    async def work(wire: Wire) -> None:
        for one, other in ((LOW, HIGH), (HIGH, LOW)):
            ours, theirs = sessions_of(one), sessions_of(other)
            for dialled_by_us in (True, False):
                kept = ours.survives(other, is_initiator=dialled_by_us)
                assert kept == theirs.survives(one, is_initiator=not dialled_by_us)
            assert ours.survives(other, is_initiator=True) != ours.survives(other, is_initiator=False)

    on_a_wire(work)


@pytest.mark.parametrize("orders", [(one, two) for one in permutations("xy") for two in permutations("xy")], ids=str)
@pytest.mark.parametrize("ids", [(LOW, HIGH), (HIGH, LOW)], ids=["a is low", "a is high"])
def test_crossing_sessions_are_settled_alike_whatever_comes_first_where(orders, ids):
    async def work(wire: Wire) -> None:
        x, y = await wire.connect("a", "b"), await wire.connect("b", "a")
        at_a, at_b = {"x": x[0], "y": y[1]}, {"x": x[1], "y": y[0]}
        kept_by_a = survivors(sessions_of(ids[0]), ids[1], {name: at_a[name] for name in orders[0]})
        kept_by_b = survivors(sessions_of(ids[1]), ids[0], {name: at_b[name] for name in orders[1]})
        assert kept_by_a == kept_by_b == ({"x"} if ids[0] > ids[1] else {"y"})

    on_a_wire(work)


def test_a_dropped_session_is_closed_with_the_reason():
    async def work(wire: Wire) -> None:
        x, y = await wire.connect("a", "b"), await wire.connect("b", "a")
        live = sessions_of(HIGH)
        live.enter(LOW, y[1])
        live.enter(LOW, x[0])
        with pytest.raises(PeerRefused) as closed:
            await y[0].recv()
        assert closed.value.reason is Reason.DUPLICATE_SESSION
        with pytest.raises(TransportError):
            await y[1].recv()
        assert live.leave(y[1].stream)
        assert not live.leave(x[0].stream)
        assert not live.leave(x[0].stream), "nothing is known of it any more"

    on_a_wire(work)


def test_a_peer_that_begins_anew_has_left_its_earlier_session():
    async def work(wire: Wire) -> None:
        first, second = await wire.connect("b", "a"), await wire.connect("b", "a")
        live = sessions_of(HIGH)
        live.enter(LOW, first[1])
        live.enter(LOW, second[1])
        assert (live.peer_at(first[1].stream), live.peer_at(second[1].stream)) == (None, LOW)
        assert live.leave(first[1].stream)
        assert not live.leave(second[1].stream)

    on_a_wire(work)


@pytest.mark.parametrize("me", [LOW, HIGH])
def test_a_peer_that_dials_long_after_a_session_began_has_lost_it(me):
    async def work(wire: Wire) -> None:
        live, peer = sessions_of(me), HIGH if me == LOW else LOW
        ours, theirs = await wire.connect("a", "b"), await wire.connect("b", "a")
        live.enter(peer, ours[0])
        await asyncio.sleep(60)
        live.enter(peer, theirs[1])
        assert live.leave(ours[0].stream)
        assert not live.leave(theirs[1].stream)

    on_a_wire(work)


def test_sessions_with_others_do_not_matter():
    async def work(wire: Wire) -> None:
        one, two = await wire.connect("a", "b"), await wire.connect("c", "a")
        live = sessions_of(HIGH)
        live.enter(LOW, one[0])
        live.enter(IdentityId(b"\0" * 32), two[1])
        assert not live.leave(one[0].stream)
        assert not live.leave(two[1].stream)

    on_a_wire(work)


def test_waiting_lasts_as_long_as_the_session():
    async def work(wire: Wire) -> None:
        (ours, _) = await wire.connect("a", "b")
        live = sessions_of(HIGH)
        assert not await live.wait_until_over(LOW)
        live.enter(LOW, ours)
        waiting = asyncio.create_task(live.wait_until_over(LOW))
        await asyncio.sleep(100)
        assert not waiting.done()
        live.leave(ours.stream)
        assert await waiting
        assert not await live.wait_until_over(LOW)

    on_a_wire(work)


def test_a_session_that_becomes_a_link_leaves_room_for_a_working_one_and_a_later_link_takes_its_place():
    async def work(wire: Wire) -> None:
        first, second, third = [await wire.connect("b", "a") for _ in range(3)]
        live = sessions_of(HIGH)
        live.enter(LOW, first[1])
        waiting = asyncio.create_task(live.wait_until_over(LOW))
        await asyncio.sleep(0.01)
        live.becomes_link(LOW, first[1].stream)
        assert await waiting, "it is no working session any more"
        assert not await live.wait_until_over(LOW)
        live.enter(LOW, second[1])
        live.becomes_link(LOW, second[1].stream)
        with pytest.raises(PeerRefused) as closed:
            await first[0].recv()
        assert closed.value.reason is Reason.DUPLICATE_SESSION
        assert live.leave(first[1].stream)
        live.enter(LOW, third[1])
        assert not live.leave(third[1].stream)
        assert not live.leave(second[1].stream)

    on_a_wire(work)


def test_a_session_that_was_dropped_makes_no_link():
    """Its stream is being closed: a link over it would read what is left of it, and call that a fault of the peer."""

    async def work(wire: Wire) -> None:
        first, second = [await wire.connect("b", "a") for _ in range(2)]
        live = sessions_of(HIGH)
        live.enter(LOW, first[1])
        live.enter(LOW, second[1])
        assert not live.becomes_link(LOW, first[1].stream)
        assert live.becomes_link(LOW, second[1].stream)
        assert live.leave(first[1].stream), "it was replaced, which is no failure"
        assert not live.leave(second[1].stream)

    on_a_wire(work)


def test_all_are_dropped_at_once():
    async def work(wire: Wire) -> None:
        one, two = await wire.connect("a", "b"), await wire.connect("c", "a")
        live = sessions_of(HIGH)
        live.enter(LOW, one[0])
        live.enter(IdentityId(b"\0" * 32), two[1])
        live.drop_all()
        for end in (one[1], two[0]):
            with pytest.raises(PeerRefused):
                await end.recv()
        assert live.peer_at(one[0].stream) == LOW, "no other session takes its place: its hello was in vain"
        assert live.leave(one[0].stream) and live.leave(two[1].stream)

    on_a_wire(work)


def test_sessions_that_were_dropped_are_told_before_a_node_has_stopped():
    async def work(wire: Wire) -> None:
        ours, _ = await wire.connect("one", "two")
        live = sessions_of(LOW)
        live.enter(HIGH, ours)
        live.drop_all()
        assert wire.network.connections_of("one") == 1
        await live.parted()
        assert wire.network.connections_of("one") == 0

    on_a_wire(work)
