"""The executor contract: every mode of the table, through the Protocol, over TCP on loopback and in simulation.

Both stages carry the same secured transport (SECURITY.md H1). On each stage both sides end as the contract says, the
responder is handed its opening message as data, and both stages end alike.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, get_args

import pytest

from echonode.host.tcp import Listener, TcpDial
from echonode.model.filter import Filter
from echonode.model.identity import Instance
from echonode.model.record import MAIN
from echonode.node.mode_table import MODES, AnyMode, spec_of
from echonode.sim.network import SimNetwork
from echonode.sim.tcp_link import LinkConditions
from echonode.store.memory import MemoryStore
from echonode.store.port import Cursor
from echonode.sync.conversation import Conversation, Result
from echonode.sync.executor import InitiatorOptions
from echonode.sync.modes.get import Got
from echonode.sync.modes.pull import IdQuery, Pulled
from echonode.sync.modes.put import Answer, Outcome
from echonode.sync.select import Mode
from echonode.sync.streams import ByteStream
from echonode.sync.transport import StreamTransport
from echonode.wire.messages import InitPayload, RecordRequest
from tests.sync.pair import ignore
from tests.sync.test_transport import between
from tests.sync.universe import root_of, universe
from tests.wire.ends import past_auth

PEER = universe().pool
LIFE = Instance(bytes(8))  # of every store of the universe
COMMON, OURS, THEIRS = frozenset(range(120)), frozenset(range(130, 150)), frozenset(range(140, 170))
WITHIN_S = 30.0

Talk = Callable[[StreamTransport, StreamTransport], Awaitable["Ending"]]
Stage = Callable[[Talk], "Ending"]


@dataclass(frozen=True)
class Ending:
    """The outcome of one conversation, as far as it must be the same on every stage."""

    answer: Any
    result: Result
    roots: tuple[bytes, bytes]
    received: tuple[int, int]
    sent: tuple[int, int]
    bytes_sent: tuple[int, int]


def over_tcp(talk: Talk) -> Ending:
    """Run `talk` on both ends of a TCP connection on loopback."""

    async def main() -> Ending:
        accepted: asyncio.Future[ByteStream] = asyncio.get_running_loop().create_future()
        is_over = asyncio.Event()

        async def accept(stream: ByteStream) -> None:
            accepted.set_result(stream)
            await is_over.wait()

        listener = Listener()
        await listener.start("127.0.0.1:0", accept, lambda _: None)
        try:
            async with asyncio.timeout(WITHIN_S):
                ours, theirs = past_auth()
                dialled = StreamTransport(await TcpDial()(listener.addresses[0]), ours)
                ending = await talk(dialled, StreamTransport(await accepted, theirs))
                await dialled.stream.close()
                return ending
        finally:
            is_over.set()
            await listener.close()

    return asyncio.run(main())


def in_simulation(talk: Talk) -> Ending:
    """Run `talk` on both ends of a simulated connection, in virtual time."""
    endings: list[Ending] = []

    async def run(ours: StreamTransport, theirs: StreamTransport, _: SimNetwork) -> None:
        endings.append(await talk(ours, theirs))

    between(run, LinkConditions())
    return endings[0]


STAGES: dict[str, Stage] = {"over TCP": over_tcp, "in simulation": in_simulation}


def stores(mode: Mode) -> tuple[MemoryStore, MemoryStore]:
    """Return two stores that were equal and differ now. The first is empty where the mode needs that."""
    if mode is Mode.SNAPSHOT:
        return universe().store(()), universe().store(COMMON | THEIRS)
    return universe().store(COMMON | OURS), universe().store(COMMON | THEIRS)


def opening_for(mode: Mode, ours: MemoryStore, theirs: MemoryStore) -> object:
    """Return an opening for the mode's initiator."""
    match mode:
        case Mode.PULL:
            return IdQuery(Filter(name="main-*"), after=0, limit=10)
        case Mode.GET:
            return [RecordRequest(key, None) for key, _ in theirs.tree(MAIN).leaves_at(b"")]
        case Mode.PUT:
            return [key for key, _ in ours.tree(MAIN).leaves_at(b"")]
        case _:
            return InitiatorOptions(expected=None)


def run_on(stage: Stage, spec: AnyMode) -> Ending:
    """Run both sides of the mode's executor on `stage`."""
    ours, theirs = stores(spec.mode)

    async def talk(initiator: StreamTransport, responder: StreamTransport) -> Ending:
        cursor = Cursor(PEER, LIFE, MAIN, 0)
        here, there = (
            replace(Conversation(end, store, MAIN, ignore, ignore), cursor=cursor, session=b"session")
            for end, store in ((initiator, ours), (responder, theirs))
        )

        async def respond() -> Result:
            init = await responder.recv()
            assert isinstance(init, InitPayload)
            assert spec_of(init) is spec
            return await spec.executor.run_responder(there, init)

        opening = opening_for(spec.mode, ours, theirs)
        answer, result = await asyncio.gather(spec.executor.run_initiator(here, opening), respond())
        return Ending(
            answer,
            result,
            roots=(ours.tree(MAIN).root, theirs.tree(MAIN).root),
            received=(here.tally.received, there.tally.received),
            sent=(here.tally.sent, there.tally.sent),
            bytes_sent=(initiator.bytes_sent, responder.bytes_sent),
        )

    return stage(talk)


AGREEING = [mode for mode in MODES if mode not in (Mode.PULL, Mode.GET, Mode.PUT)]
on_each_stage = pytest.mark.parametrize("stage", STAGES.values(), ids=list(STAGES))


@on_each_stage
@pytest.mark.parametrize("mode", AGREEING, ids=lambda mode: mode.value)
def test_a_mode_makes_two_stores_equal_and_both_sides_say_so(mode: Mode, stage: Stage) -> None:
    ending = run_on(stage, spec_of(mode))
    assert ending.answer is ending.result is Result.EQUAL
    held = COMMON | THEIRS if mode is Mode.SNAPSHOT else COMMON | OURS | THEIRS
    assert ending.roots == (root_of(universe().some(held)),) * 2


@on_each_stage
def test_pull_answers_with_ids_and_moves_no_record(stage: Stage) -> None:
    ending = run_on(stage, spec_of(Mode.PULL))
    assert isinstance(ending.answer, Pulled) and len(ending.answer.ids) >= 10
    assert ending.result is Result.ANSWERED
    assert ending.roots == (root_of(universe().some(COMMON | OURS)), root_of(universe().some(COMMON | THEIRS)))


@on_each_stage
def test_get_answers_with_the_versions_that_came(stage: Stage) -> None:
    ending = run_on(stage, spec_of(Mode.GET))
    assert isinstance(ending.answer, Got) and not ending.answer.refused
    assert ending.result is Result.ANSWERED
    both = root_of(universe().some(COMMON | OURS | THEIRS))
    assert ending.roots == (both, root_of(universe().some(COMMON | THEIRS)))


@on_each_stage
def test_put_answers_for_every_head_that_was_offered(stage: Stage) -> None:
    ending = run_on(stage, spec_of(Mode.PUT))
    assert all(isinstance(answer, Answer) for answer in ending.answer)
    assert {answer.outcome for answer in ending.answer} >= {Outcome.STORED, Outcome.HAD}
    assert ending.result is Result.ANSWERED
    assert ending.roots[1] == root_of(universe().some(COMMON | OURS | THEIRS))


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_a_mode_ends_in_simulation_as_it_does_over_tcp(mode: Mode) -> None:
    assert run_on(over_tcp, spec_of(mode)) == run_on(in_simulation, spec_of(mode))


def test_every_opening_message_and_every_mode_has_one_row() -> None:
    rows = [spec_of(mode) for mode in Mode]
    assert [row.mode for row in rows] == list(Mode)
    assert {row.init for row in rows} == set(get_args(InitPayload))
    assert len({row.init for row in rows}) == len({id(row.executor) for row in rows}) == len(rows)
