"""Turns, and the conversations in them: two ends over real stores, with every message between them recorded."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field, replace

import pytest

from echonode import cbor
from echonode.errors import EchonodeError, PeerRefused, Reason, RemoteError
from echonode.limits import BATCH_RECORDS_MAX, BULK_START_S, FRAME_TIMEOUT_S, ROUNDS_MAX
from echonode.model.filter import Filter
from echonode.model.filter_text import full_id
from echonode.model.identity import IdentityId, Instance, PublicKey
from echonode.model.keys import KeyState
from echonode.model.merkle import Tree
from echonode.model.record import IDENTITIES, MAIN
from echonode.node.conversations import Conversations
from echonode.node.event_bus import EventBus
from echonode.node.events import (
    ContextShown,
    Event,
    RecordRefused,
    RecordsApplied,
    RecordsStaged,
    SyncCompleted,
    SyncProgress,
)
from echonode.node.handshake import Session
from echonode.node.hello import NAMES
from echonode.node.intake import Intake
from echonode.node.kept_contexts import KeptContexts
from echonode.node.link_selection import LinkSelection
from echonode.node.live_links import LiveLinks
from echonode.node.mode_table import MODES
from echonode.node.other_lives import OtherLives
from echonode.node.peer_table import PeerTable
from echonode.node.record_book import RecordBook
from echonode.node.session_report import SessionReport
from echonode.node.settings import Quotas
from echonode.node.subscriptions import Subscriptions
from echonode.node.summaries import summarise
from echonode.node.work_budgets import WorkBudgets
from echonode.sim.event_loop import SimClock, SimEntropy
from echonode.store.memory import MemoryStore
from echonode.store.port import Cursor
from echonode.sync import tree_parts
from echonode.sync.select import Mode
from echonode.wire import messages as m
from echonode.wire.auth import Peer
from echonode.wire.messages import Direction, Message
from tests.sync.pair import Cut, PairedTransport, paired
from tests.sync.talk import heads_in, lacks, versions_in, virtually
from tests.sync.universe import OTHER, Writing, at_once, universe

TREES = (Mode.LEVEL_WISE, Mode.HASH_COMPARISON)


class Recorded(PairedTransport):
    """A paired transport; `both` lists the messages of both ends, in order."""

    both: list[Message]
    hook: Callable[[Message], Awaitable[None]] | None = None

    async def send(self, message: Message) -> None:
        self.both.append(message)
        await super().send(message)
        if self.hook is not None:
            await self.hook(message)


class Wanted(Subscriptions):
    """Takes the contexts that its side takes, even where that leaves out the key statements."""

    side: "Side"

    def takes(self, context: str) -> bool:
        return self.side.takes is None or context in self.side.takes


@dataclass
class Side:
    """One end: conversations with their store, and the events that they published."""

    number: int
    store: MemoryStore
    takes: Collection[str] | None = None
    modes: tuple[Mode, ...] = MODES
    events: list[Event] = field(default_factory=list)
    shown: list[ContextShown] = field(default_factory=list)
    staged: list[RecordsStaged] = field(default_factory=list)
    runner: Conversations = field(init=False)
    bus: EventBus = field(init=False)

    def __post_init__(self) -> None:
        clock, entropy = SimClock(asyncio.get_running_loop()), SimEntropy(f"side {self.number}")
        table, bus = PeerTable(entropy), EventBus(self.events.append)
        bus.on(ContextShown, self.shown.append)
        bus.on(RecordsStaged, self.staged.append)
        self.bus = bus
        identity = universe().writers[self.number].identity
        kept = KeptContexts(self.store, identity, None)
        wanted, intake = Wanted(self.store, kept), Intake(self.store, kept, identity.id, Quotas(), lambda: None)
        budgets = WorkBudgets(clock)
        wanted.side = self
        selection = LinkSelection(table, entropy)
        wake = asyncio.Event()
        links = LiveLinks(self.store, clock, entropy, bus, table, selection, wanted, intake, budgets, wake)
        lives = OtherLives(RecordBook(self.store, identity, clock, entropy, bus), asyncio.ensure_future, self.receive)
        self.runner = Conversations(self.store, clock, bus, wanted, links, intake, budgets, lives)

    async def receive(self, _peer: IdentityId, _timeout_s: float) -> None:
        raise AssertionError("no store here has another life")

    @property
    def changed_by(self) -> list[bytes]:
        told = [*self.events, *self.shown]
        return [event.source for event in told if isinstance(event, RecordsApplied | ContextShown)]

    @property
    def peer(self) -> Peer:
        writer = universe().writers[self.number]
        return Peer(writer.id, PublicKey(writer.identity.device.public), ())

    def hello(self) -> m.Hello:
        wanted = self.runner.subscriptions
        names = [name for name in dict.fromkeys((IDENTITIES, *self.store.contexts())) if wanted.takes(name)]
        summaries = tuple(summarise(self.store, name) for name in names)
        modes = tuple(mode.value for mode in self.modes)
        return m.Hello((1, 0), bytes(16), "n", bytes(8), self.store.instance, 0, {}, modes, summaries, ())

    def session(self, other: "Side", transport: PairedTransport, *, is_initiator: bool) -> Session:
        return Session(bytes(16), transport, other.peer, other.hello(), is_initiator)  # type: ignore[arg-type]

    @property
    def conversations(self) -> list[SyncCompleted]:
        return [event for event in self.events if isinstance(event, SyncCompleted)]


@dataclass
class Met:
    """A session that is over."""

    ours: SessionReport
    theirs: SessionReport
    ends: list[EchonodeError | None]
    said: list[Message]

    def count(self, *kinds: type[Message]) -> int:
        return sum(isinstance(message, kinds) for message in self.said)


Script = Callable[[PairedTransport], Awaitable[None]]


async def ended(work: Awaitable[None], transport: PairedTransport) -> EchonodeError | None:
    try:
        await work
    except EchonodeError as error:
        return error
    finally:
        transport.end()
    return None


async def meet(
    ours: Side,
    theirs: Side,
    direction: Direction = Direction.BOTH,
    *,
    cut: int | None = None,
    hook: Callable[[Message], Awaitable[None]] | None = None,
    instead: Script | None = None,
    before: Callable[[Session], Session] = lambda session: session,
) -> Met:
    """Run a session that `ours` leads, with `theirs` or a script `instead` of it at the other end."""
    pair = [Recorded(end._inbox, end._outbox, end._cut) for end in paired(Cut(cut))]
    said: list[Message] = []
    for end in pair:
        end.both, end.hook = said, hook
    sessions = (
        before(ours.session(theirs, pair[0], is_initiator=True)),
        theirs.session(ours, pair[1], is_initiator=False),
    )
    logs = SessionReport(), SessionReport()
    answer = theirs.runner.serve(sessions[1], logs[1]) if instead is None else instead(pair[1])
    ends = await asyncio.gather(
        ended(ours.runner.lead(sessions[0], logs[0], direction), pair[0]), ended(answer, pair[1])
    )
    return Met(*logs, list(ends), said)


async def asked(theirs: Side, ours: Side, script: Script) -> EchonodeError | None:
    """Return the error that ends serving when a script is the session's initiator; None for a good end."""
    pair = [Recorded(end._inbox, end._outbox, end._cut) for end in paired()]
    for end in pair:
        end.both = []
    session = theirs.session(ours, pair[1], is_initiator=False)
    (_, end) = await asyncio.gather(
        ended(script(pair[0]), pair[0]), ended(theirs.runner.serve(session, SessionReport()), pair[1])
    )
    return end


def filled(numbers: Collection[int], others: Collection[int] = ()) -> MemoryStore:
    store = universe().store(numbers)
    at_once(store.apply(OTHER, universe().some(others, OTHER)))
    return store


def roots(side: Side) -> dict[str, bytes]:
    return {name: side.store.tree(name).root for name in side.store.contexts()}


def all_well(met: Met) -> bool:
    return met.ends == [None, None] and met.ours.in_sync is True and met.theirs.in_sync is True


# -- turns -----------------------------------------------------------------------------------------------------------


def test_a_session_makes_every_context_equal_and_keys_travel_first():
    async def main() -> None:
        ours = Side(0, filled(range(100), range(20)))
        theirs = Side(1, MemoryStore(universe().store(()).instance))
        await theirs.store.apply(IDENTITIES, universe().statements[:1])
        await theirs.store.apply(MAIN, universe().some(range(5)))
        met = await meet(ours, theirs)
        assert all_well(met)
        assert roots(ours) == roots(theirs)
        assert [done.context for done in theirs.conversations] == [IDENTITIES, MAIN, OTHER]
        assert [done.role for done in theirs.conversations] == ["responder", "responder", "initiator"]
        assert all(done.verified for side in (ours, theirs) for done in side.conversations)

    virtually(main())


def test_nothing_to_do_is_a_close_and_no_conversation():
    async def main() -> None:
        ours, theirs = Side(0, filled(range(50))), Side(1, filled(range(50)))
        met = await meet(ours, theirs)
        assert all_well(met)
        assert met.said == [m.Close(Reason.FINISHED)]
        assert ours.events == theirs.events == []

    virtually(main())


def test_a_context_empty_at_the_peer_is_left_to_it_and_taken_by_snapshot():
    async def main() -> None:
        ours, theirs = Side(0, filled(range(100), range(20))), Side(1, filled(()))
        met = await meet(ours, theirs)
        assert all_well(met)
        assert [message for message in met.said if isinstance(message, m.Turn)] == [
            m.Turn((MAIN, OTHER)),
            m.Turn(()),
        ]
        assert met.said[-1] == m.Close(Reason.FINISHED)
        assert met.count(m.SnapshotInit) == 2
        assert roots(ours) == roots(theirs)
        assert {event.context for event in theirs.shown} == {MAIN, OTHER}
        assert set(theirs.changed_by) == {event.source for event in theirs.staged} == {ours.peer.id}
        ids = {record.id for event in theirs.staged for record in event.records}
        assert ids == {version for event in theirs.shown for version in event.latest}
        assert ids == versions_in(theirs.store) | versions_in(theirs.store, OTHER)

    virtually(main())


def test_each_record_of_a_snapshot_is_told_while_somebody_listens():
    async def main() -> None:
        ours, theirs = Side(0, filled(range(100))), Side(1, filled(()))
        theirs.bus.hear(lambda event: None, has_readers=lambda: True)
        assert all_well(await meet(ours, theirs))
        applied = [event for event in theirs.events if isinstance(event, RecordsApplied)]
        assert {record.id for event in applied for record in event.records} == versions_in(theirs.store)
        assert {event.source for event in applied} == {ours.peer.id}
        assert not theirs.shown

    virtually(main())


def test_a_context_empty_here_is_filled_by_snapshot_in_our_own_turn():
    async def main() -> None:
        ours, theirs = Side(0, filled(())), Side(1, filled(range(100), range(20)))
        met = await meet(ours, theirs)
        assert all_well(met)
        assert met.count(m.Turn) == 0
        assert [done.mode for done in ours.conversations] == ["snapshot", "snapshot"]
        assert roots(ours) == roots(theirs)

    virtually(main())


@pytest.mark.parametrize("why", ["it does not take it", "another is filling it"])
def test_a_context_left_to_a_peer_that_does_not_ask_for_it_is_not_called_equal(why):
    async def main() -> None:
        ours, theirs = Side(0, filled(range(100))), Side(1, filled(()))
        if why == "it does not take it":
            theirs.takes = {IDENTITIES, OTHER}
        else:
            other = theirs.runner.bulk_gate.by(IdentityId(bytes(32)), MAIN, 0, lambda: 0, is_snapshot=True)
            other.__enter__()
        met = await meet(ours, theirs)
        assert met.ends == [None, None]
        assert met.ours.in_sync is False
        assert list(met.ours.unequal) == [MAIN]

    virtually(main())


def test_turns_are_taken_by_whom_they_are_given_to():
    async def main() -> None:
        ours, theirs = Side(0, filled(range(9))), Side(1, filled(()))

        async def turns_back(transport: PairedTransport) -> None:
            assert isinstance(await transport.recv(), m.Turn)
            await transport.send(m.Turn(()))
            with pytest.raises(PeerRefused):
                await transport.recv()

        met = await meet(ours, theirs, instead=turns_back)
        assert met.ends == [None, None]
        assert list(met.ours.unequal) == [MAIN]

        async def closes_without(transport: PairedTransport) -> None:
            assert isinstance(await transport.recv(), m.Turn)
            await transport.send(m.Close(Reason.SHUTTING_DOWN))

        met = await meet(ours, theirs, instead=closes_without)
        assert isinstance(met.ends[0], PeerRefused)

    virtually(main())


@pytest.mark.parametrize("said", [m.Turn(()), m.LevelWiseInit((1, 0), MAIN, 0, 16, (b"",))])
def test_behind_the_second_turn_there_is_nothing_but_the_end(said):
    async def main() -> None:
        async def script(transport: PairedTransport) -> None:
            await transport.send(m.Turn(()))
            assert await transport.recv() == m.Turn(())
            await transport.send(said)

        end = await asked(Side(1, filled(())), Side(0, filled(())), script)
        assert isinstance(end, RemoteError) and end.reason is Reason.PROTOCOL_ERROR

    virtually(main())


@pytest.mark.parametrize(
    "message", [m.Done(bytes(32), 0, 0, True), m.Records((), (), False), m.Credit(1), m.PairConfirm(bytes(32))]
)
def test_what_opens_no_conversation_ends_the_session(message):
    async def main() -> None:
        async def script(transport: PairedTransport) -> None:
            await transport.send(message)

        end = await asked(Side(1, filled(())), Side(0, filled(())), script)
        assert isinstance(end, RemoteError) and end.reason is Reason.PROTOCOL_ERROR

    virtually(main())


# -- cursors ---------------------------------------------------------------------------------------------------------


async def apart(ours: Side, theirs: Side) -> None:
    """Let both meet until they are equal, and then each write one record more."""
    assert all_well(await meet(ours, theirs))
    for side in (ours, theirs):
        await side.store.apply(MAIN, [universe().writers[side.number].record(f"of {side.number}")])


@pytest.mark.parametrize("held", [((), range(50)), (range(50), ()), (range(50), range(50)), (range(40), range(9, 50))])
def test_whoever_has_met_catches_up_by_cursor_in_one_conversation_both_ways(held):
    async def main() -> None:
        ours, theirs = Side(0, filled(held[0])), Side(1, filled(held[1]))
        await apart(ours, theirs)
        for one, other in ((ours, theirs), (theirs, ours)):
            before = len(one.conversations)
            assert all_well(await meet(one, other))
            (done,) = one.conversations[before:]
            assert (done.mode, done.sent, done.received, done.verified) == ("delta", 1, 1, True)
            assert done.reason.startswith("followed to ")
            assert roots(one) == roots(other)
            await other.store.apply(MAIN, [universe().writers[2].record("another")])
            await one.store.apply(MAIN, [universe().writers[1].record("and one")])

    virtually(main())


@pytest.mark.parametrize("why", ["it went back", "it is a clone", "it does not say so"])
def test_a_store_that_is_not_the_one_that_was_followed_is_compared_by_its_tree(why):
    async def main() -> None:
        ours, theirs = Side(0, filled(range(50))), Side(1, filled(range(50)))
        await apart(ours, theirs)
        before = theirs.store.seq(MAIN)
        if why == "it went back":
            theirs.store = theirs.runner.store = theirs.runner.subscriptions.store = filled(range(45))
            assert theirs.store.seq(MAIN) < before
        else:
            await theirs.store.renew_instance(Instance(b"new life"))

        def as_before(session: Session) -> Session:
            return replace(session, hello=replace(session.hello, instance=bytes(8)))

        met = await meet(ours, theirs, before=as_before if why == "it does not say so" else lambda session: session)
        assert all_well(met)
        modes = [done.mode for done in ours.conversations]
        assert modes[0] == "delta" if why == "it does not say so" else "delta" not in modes
        assert met.count(m.DeltaInit) == (why == "it does not say so")
        refused = [one.reason for one in met.said if isinstance(one, m.Refused)]
        assert refused == [Reason.STALE_CURSOR] * modes.count("delta")
        assert roots(ours) == roots(theirs)

    virtually(main())


def test_a_peer_that_never_followed_us_gets_what_it_lacks_by_its_tree():
    async def main() -> None:
        ours, theirs = Side(0, filled(range(50))), Side(1, filled(range(40)))
        ours.store.note(Cursor(theirs.peer.id, Instance(bytes(8)), MAIN, theirs.store.seq(MAIN)))
        assert all_well(await meet(ours, theirs))
        assert [done.mode for done in ours.conversations] == ["delta", "level_wise"]
        assert ours.conversations[1].reason == "following its log did not make the roots equal"

    virtually(main())


def test_a_key_that_was_unknown_is_asked_for_and_the_log_followed_on():
    async def main() -> None:
        ours, theirs = Side(0, filled(range(50))), Side(1, filled(range(50)))
        assert all_well(await meet(ours, theirs))
        stranger = Writing(77)

        async def learns(message: Message) -> None:
            if isinstance(message, m.DeltaInit) and not theirs.store.keyring.state_of(stranger.id, key):
                await theirs.store.apply(IDENTITIES, [stranger.states(key)])
                await theirs.store.apply(MAIN, [stranger.record("early")])

        key = PublicKey(stranger.identity.device.public)
        await theirs.store.apply(MAIN, [universe().writers[1].record("late")])
        met = await meet(ours, theirs, hook=learns)
        assert all_well(met)
        assert [done.mode for done in ours.conversations] == ["delta", "level_wise", "delta"]
        assert roots(ours) == roots(theirs)

    virtually(main())


def test_a_snapshot_that_writes_ran_away_from_is_followed_up_by_its_cursor():
    async def main() -> None:
        ours, theirs = Side(0, filled(())), Side(1, filled(range(100)))

        async def write_on(message: Message) -> None:
            if isinstance(message, m.Page):
                await theirs.store.apply(MAIN, [universe().writers[1].record("meanwhile")])

        met = await meet(ours, theirs, hook=write_on)
        assert all_well(met)
        assert [done.mode for done in ours.conversations] == ["snapshot", "delta"]
        assert ours.conversations[1].received == 1

    virtually(main())


# -- one way ---------------------------------------------------------------------------------------------------------


def test_a_pull_brings_everything_here_and_tells_nothing_of_equality():
    async def main() -> None:
        ours, theirs = Side(0, filled(range(50))), Side(1, filled(range(40, 90), range(20)))
        there = roots(theirs)
        met = await meet(ours, theirs, Direction.RECEIVE)
        assert met.ends == [None, None]
        assert met.ours.in_sync is None and met.ours.unequal == {}
        assert roots(theirs) == there
        assert not lacks(ours.store, heads_in(theirs.store))
        assert ours.store.tree(OTHER).root == theirs.store.tree(OTHER).root

    virtually(main())


def test_a_push_takes_everything_there_and_changes_nothing_here():
    async def main() -> None:
        ours, theirs = Side(0, filled(range(50), range(20))), Side(1, filled(range(40, 90)))
        here = roots(ours)
        met = await meet(ours, theirs, Direction.SEND)
        assert met.ends == [None, None]
        assert roots(ours) == here
        assert not lacks(theirs.store, heads_in(ours.store))
        assert ours.store.tree(OTHER).root == theirs.store.tree(OTHER).root
        nothing = Side(0, filled(()))
        assert (await meet(nothing, theirs, Direction.SEND)).said == [m.Close(Reason.FINISHED)]

    virtually(main())


# -- what is taken, what is spoken -----------------------------------------------------------------------------------


def test_contexts_that_one_side_does_not_take_stay_where_they_are():
    async def main() -> None:
        ours, theirs = Side(0, filled(range(50), range(20))), Side(1, filled(range(10)), takes={IDENTITIES, MAIN})
        await meet(theirs, ours)
        assert OTHER not in theirs.store.contexts()
        assert ours.store.tree(MAIN).root == theirs.store.tree(MAIN).root

    virtually(main())


def test_a_mode_that_the_peer_does_not_name_is_not_opened():
    async def main() -> None:
        ours, theirs = Side(0, filled(())), Side(1, filled(range(50)), modes=(Mode.LEVEL_WISE,))
        met = await meet(ours, theirs)
        assert all_well(met)
        assert [done.mode for done in ours.conversations] == ["level_wise"]
        ours, theirs = Side(0, filled(())), Side(1, filled(range(50)), modes=())
        met = await meet(ours, theirs)
        assert met.ends == [None, None]
        assert met.ours.unequal == {MAIN: "no mode in common"}
        assert met.ours.in_sync is False

    virtually(main())


def test_few_differences_are_compared_depth_first_and_many_level_by_level():
    async def main() -> None:
        ours, theirs = Side(0, filled(range(100))), Side(1, filled(range(100)), modes=TREES)
        await theirs.store.apply(MAIN, [universe().writers[1].record("one more")])
        assert all_well(await meet(ours, theirs))
        await theirs.store.apply(MAIN, [universe().writers[1].record(f"more-{number}") for number in range(60)])
        assert all_well(await meet(ours, theirs))
        assert [done.mode for done in ours.conversations] == ["hash_comparison", "level_wise"]
        assert [done.mode for done in theirs.conversations] == ["hash_comparison", "level_wise"]

    virtually(main())


def partly(session: Session) -> Session:
    """Return the session as if the peer wanted only a part of every context."""
    contexts = tuple(
        replace(summary, is_partial=summary.context != IDENTITIES) for summary in session.hello.contexts
    )
    return replace(session, hello=replace(session.hello, contexts=contexts))


def test_what_a_peer_wants_only_a_part_of_is_left_to_it_and_it_is_not_called_unequal():
    async def main() -> None:
        ours, theirs = Side(0, filled(range(10))), Side(1, filled(range(50)))
        met = await meet(ours, theirs, before=partly)
        assert met.said[0] == m.Turn((MAIN,))
        assert MAIN not in met.ours.unequal and MAIN not in met.theirs.unequal
        assert versions_in(ours.store) != versions_in(theirs.store)

    virtually(main())


def test_a_pull_from_a_peer_that_holds_a_part_takes_all_that_it_holds():
    async def main() -> None:
        ours, theirs = Side(0, filled(range(10))), Side(1, filled(range(50)))
        met = await meet(ours, theirs, Direction.RECEIVE, before=partly)
        assert met.ends == [None, None]
        assert [done.mode for done in ours.conversations] == ["reconcile"]
        assert not lacks(ours.store, heads_in(theirs.store))

    virtually(main())


def test_a_summary_that_is_no_summary_is_the_peers_fault():
    async def main() -> None:
        ours, theirs = Side(0, filled(range(10))), Side(1, filled(range(50)))

        def garbled(session: Session) -> Session:
            contexts = tuple(replace(summary, level1=b"\1") for summary in session.hello.contexts)
            return replace(session, hello=replace(session.hello, contexts=contexts))

        met = await meet(ours, theirs, before=garbled)
        assert isinstance(met.ends[0], RemoteError)

    virtually(main())


INITS: list[Callable[[tuple[int, int], str], Message]] = [
    lambda version, context: m.LevelWiseInit(version, context, 0, 16, (b"",)),
    lambda version, context: m.HashComparisonInit(version, context, 0, 16, 2, bytes(3)),
    lambda version, context: m.SnapshotInit(version, context, None),
    lambda version, context: m.DeltaInit(version, context, 0, bytes(8), 0),
    lambda version, context: m.SketchInit(version, context, bytes(8), 9, b""),
    lambda version, context: m.ReconcileInit(version, context, 0, {}, bytes.fromhex("6100000200")),
    lambda version, context: m.PullInit(version, context, {}, 0),
    lambda version, context: m.GetInit(version, context, (m.RecordRequest(bytes(32), None),)),
    lambda version, context: m.PutInit(version, context, ((bytes(32), bytes(16)),)),
]


def test_every_first_message_is_among_these_but_that_of_links():
    kinds = {type(init((1, 0), MAIN)) for init in INITS}
    assert kinds == set(m.InitPayload.__args__) - {m.FollowInit}


def test_a_link_of_another_major_is_refused_naming_the_one_that_is_spoken():
    async def main() -> None:
        async def script(transport: PairedTransport) -> None:
            await transport.send(m.FollowInit((2, 0), bytes(8), (m.ContextCursor(MAIN, None),)))
            assert await transport.recv() == m.Refused(Reason.UNSUPPORTED_PROTOCOL, ("1.0",))
            await transport.send(m.Close(Reason.FINISHED))

        assert await asked(Side(0, filled(range(9))), Side(1, filled(range(9))), script) is None

    virtually(main())


@pytest.mark.parametrize("init", INITS)
def test_what_is_not_served_is_refused_by_name_and_the_session_goes_on(init):
    async def main() -> None:
        ours, theirs = Side(0, filled(range(9))), Side(1, filled(range(9), range(5)), takes={IDENTITIES, MAIN, OTHER})
        answers: list[Message] = []

        async def script(transport: PairedTransport) -> None:
            for version, context in (((2, 0), MAIN), ((1, 9), "unheard of"), ((1, 9), MAIN)):
                await transport.send(init(version, context))
                answers.append(await transport.recv())
            while not isinstance(answers[-1], m.Done):
                await transport.send(m.Done(bytes(32), 0, 0, True))
                answers.append(await transport.recv())
            await transport.send(m.Close(Reason.FINISHED))

        assert await asked(theirs, ours, script) is None
        assert answers[0] == m.Refused(Reason.UNSUPPORTED_PROTOCOL, ("1.0",))
        assert answers[1] == m.Refused(Reason.UNKNOWN_CONTEXT, (IDENTITIES, MAIN, OTHER))
        assert not isinstance(answers[2], m.Refused), "a higher minor is served"

    virtually(main())


@pytest.mark.parametrize("init", INITS)
def test_who_holds_a_part_refuses_what_only_the_whole_can_answer_and_the_session_goes_on(init):
    async def main() -> None:
        ours, theirs = Side(0, filled(range(9))), Side(1, filled(range(5), range(5)))
        theirs.runner.subscriptions.filters = {MAIN: Filter(tags_any=frozenset({"news"}))}
        answers: list[Message] = []

        async def script(transport: PairedTransport) -> None:
            for context in (MAIN, OTHER):  # a part of one, and all of the other
                await transport.send(init((1, 0), context))
                answers.append(await transport.recv())
                while not isinstance(answers[-1], m.Done | m.Refused):
                    await transport.send(m.Done(bytes(32), 0, 0, True))
                    answers.append(await transport.recv())
            await transport.send(m.Close(Reason.FINISHED))

        assert await asked(theirs, ours, script) is None
        asks_for_part = isinstance(init((1, 0), MAIN), m.ReconcileInit | m.PullInit | m.GetInit | m.PutInit)
        refused = [answer for answer in answers if isinstance(answer, m.Refused)]
        in_part = m.Refused(Reason.UNSUPPORTED_MODE, ("reconcile", "pull", "get", "put"))
        assert refused == ([] if asks_for_part else [in_part])

    virtually(main())


def test_a_mode_to_come_is_refused_naming_those_that_are_spoken_and_the_session_goes_on():
    async def main() -> None:
        async def script(transport: PairedTransport) -> None:
            transport._outbox.put_nowait(cbor.encode([19, [1, 0], MAIN, "of some later mode"]))
            assert await transport.recv() == m.Refused(Reason.UNSUPPORTED_MODE, NAMES)
            await transport.send(m.SnapshotInit((1, 0), MAIN, None))
            assert isinstance(await transport.recv(), m.Page)
            await transport.send(m.Done(Tree().root, 0, 0, True))
            await transport.recv()
            await transport.send(m.Close(Reason.FINISHED))

        assert await asked(Side(1, filled(range(9))), Side(0, filled(())), script) is None

    virtually(main())


@pytest.mark.parametrize("reason", [Reason.UNSUPPORTED_MODE, Reason.UNKNOWN_CONTEXT, Reason.BUSY])
def test_a_refused_conversation_leaves_its_context_unequal_and_the_next_goes_on(reason):
    async def main() -> None:
        ours, theirs = Side(0, filled(range(9))), Side(1, filled(range(20), range(9)))

        async def refuses(transport: PairedTransport) -> None:
            for _ in range(2):
                await transport.recv()
                await transport.send(m.Refused(reason, ("what would do",)))
            with pytest.raises(PeerRefused):
                await transport.recv()

        met = await meet(ours, theirs, instead=refuses)
        assert met.ends == [None, None]
        assert set(met.ours.unequal) == {MAIN, OTHER}
        assert [done.outcome for done in ours.conversations] == ["refused", "refused"]

    virtually(main())


def test_a_refusal_for_another_reason_ends_the_session():
    async def main() -> None:
        ours, theirs = Side(0, filled(range(9))), Side(1, filled(range(20)))

        async def refuses(transport: PairedTransport) -> None:
            await transport.recv()
            await transport.send(m.Refused(Reason.UNSUPPORTED_PROTOCOL, ("2.0",)))

        met = await meet(ours, theirs, instead=refuses)
        assert isinstance(met.ends[0], PeerRefused)
        assert met.ends[0].supported == ("2.0",)
        assert met.ours.in_sync is None

    virtually(main())


# -- contexts that stay unequal --------------------------------------------------------------------------------------


async def with_a_void_key(ours: Side, theirs: Side) -> None:
    """Let `ours` know that the key of the first writer is compromised; `theirs` does not know it."""
    one = universe().writers[0]
    await ours.store.apply(IDENTITIES, [one.states(one.identity.device.public, KeyState.COMPROMISED)])


def test_refused_records_are_remembered_and_not_compared_again_until_something_changes():
    async def main() -> None:
        ours, theirs = Side(0, filled(range(300))), Side(1, filled(range(300)))
        await with_a_void_key(ours, theirs)
        ours.takes = theirs.takes = {MAIN}  # statements do not travel
        met = await meet(ours, theirs, Direction.BOTH)
        assert met.ours.in_sync is False
        assert "refused here" in met.ours.unequal[MAIN]
        assert {event.reason for event in ours.events if isinstance(event, RecordRefused)} == {"key_revoked"}
        talked = len(ours.conversations)
        again = await meet(ours, theirs)
        assert again.said == [m.Close(Reason.FINISHED)]
        assert again.ours.in_sync is False
        assert len(ours.conversations) == talked
        await theirs.store.apply(MAIN, [universe().writers[1].record("new")])
        await meet(ours, theirs)
        assert len(ours.conversations) > talked
        one = universe().writers[0]
        await theirs.store.apply(IDENTITIES, [one.states(one.identity.device.public, KeyState.COMPROMISED)])
        met = await meet(ours, theirs)
        assert all_well(met)

    virtually(main())


def test_a_snapshot_that_is_refused_in_part_is_finished_by_a_walk():
    async def main() -> None:
        ours, theirs = Side(0, filled(())), Side(1, filled(range(300)))
        await with_a_void_key(ours, theirs)
        void = {head.id for head in heads_in(theirs.store) if head.author == universe().writers[0].id}
        assert void
        met = await meet(ours, theirs, Direction.RECEIVE)
        assert met.ends == [None, None]
        assert versions_in(ours.store) == versions_in(theirs.store) - void
        assert "refused here" in met.ours.unequal[MAIN]

    virtually(main())


def test_a_key_learnt_of_during_the_session_is_fetched_and_its_records_taken():
    third = universe().writers[2].identity.device.public
    news = [statement for statement in universe().statements if third in statement.body]

    async def meet_while_one_learns(lacking: int) -> None:
        sides = [Side(number, MemoryStore(universe().store(()).instance)) for number in range(2)]
        for side in sides:
            await side.store.apply(IDENTITIES, [one for one in universe().statements if one not in news])
            await side.store.apply(MAIN, universe().some(range(3)))
        told = False

        async def learn(message: Message) -> None:
            # After statements were compared, the records of a third node reach the side that knows its key.
            nonlocal told
            if isinstance(message, m.LevelWiseInit | m.HashComparisonInit) and not told:
                told = True
                await sides[1 - lacking].store.apply(IDENTITIES, news)
                await sides[1 - lacking].store.apply(MAIN, universe().some(range(300)))

        await sides[0].store.apply(MAIN, universe().some(range(4)))
        met = await meet(sides[0], sides[1], hook=learn)
        assert all_well(met), (met.ours.unequal, met.theirs.unequal)
        assert roots(sides[0]) == roots(sides[1])

    for lacking in (0, 1):
        virtually(meet_while_one_learns(lacking))


def test_a_key_learnt_of_during_a_reconciliation_is_fetched_and_its_records_taken():
    third = universe().writers[2].identity.device.public
    news = [statement for statement in universe().statements if third in statement.body]

    async def meet_while_one_learns(lacking: int) -> None:
        sides = [Side(number, MemoryStore(universe().store(()).instance)) for number in range(2)]
        sides[0].runner.subscriptions.subscribe({MAIN: ("name=*",)}, full_id)
        for side in sides:
            await side.store.apply(IDENTITIES, [one for one in universe().statements if one not in news])
            await side.store.apply(MAIN, universe().some(range(3)))
        told = False

        async def learn(message: Message) -> None:
            nonlocal told
            if isinstance(message, m.ReconcileInit) and not told:
                told = True
                await sides[1 - lacking].store.apply(IDENTITIES, news)
                await sides[1 - lacking].store.apply(MAIN, universe().some(range(300)))

        await sides[0].store.apply(MAIN, universe().some(range(4)))
        met = await meet(sides[0], sides[1], hook=learn)
        assert met.ends == [None, None]
        assert roots(sides[0])[MAIN] == roots(sides[1])[MAIN]
        assert [done.mode for done in sides[0].conversations][-1] == "reconcile"

    for lacking in (0, 1):
        virtually(meet_while_one_learns(lacking))


def test_a_part_that_cannot_be_made_equal_is_not_reconciled_again_until_something_changes():
    async def main() -> None:
        ours, theirs = Side(0, filled(range(50))), Side(1, filled(range(40)))
        ours.runner.subscriptions.subscribe({MAIN: ("name=*",)}, full_id)
        theirs.runner.subscriptions.subscribe({MAIN: ("name=none",)}, full_id)  # its hello does not say so
        met = await meet(ours, theirs)
        assert "refused there" in met.ours.unequal[MAIN]
        before = len(ours.conversations)
        met = await meet(ours, theirs)
        assert len(ours.conversations) == before
        assert "nothing has changed since" in met.ours.unequal[MAIN]
        await ours.store.apply(MAIN, [universe().writers[0].record("one more")])
        await meet(ours, theirs)
        assert len(ours.conversations) > before

    virtually(main())


def test_writes_that_never_stop_are_followed_a_few_times_and_then_left_for_the_next_session():
    async def main() -> None:
        ours, theirs = Side(0, filled(range(50))), Side(1, filled(range(60)))
        number = 0

        async def write(message: Message) -> None:
            nonlocal number
            if isinstance(message, m.Done | m.Nodes | m.Differences):
                number += 1
                await theirs.store.apply(MAIN, [universe().writers[1].record(f"new-{number}")])

        met = await meet(ours, theirs, hook=write)
        assert met.ends == [None, None]
        assert met.ours.unequal == {MAIN: "writes went on during the comparison"}
        assert [done.outcome for done in ours.conversations] == ["moved"] * ROUNDS_MAX
        assert [done.mode for done in ours.conversations][1:] == ["level_wise"] * (ROUNDS_MAX - 1)
        assert all_well(await meet(ours, theirs))

    virtually(main())


def test_unequal_roots_without_a_difference_are_walked_once_more_with_whole_digests():
    async def main() -> None:
        ours, theirs = Side(0, filled(range(50))), Side(1, filled(range(50)))
        widths = []

        async def claims_another_root(transport: PairedTransport) -> None:
            tree = theirs.store.tree(MAIN)
            while True:
                match await transport.recv():
                    case m.LevelWiseInit(width=width, prefixes=prefixes):
                        widths.append(width)
                        nodes = tuple(tree_parts.encode_node(tree, prefix, width) for prefix in prefixes)
                        await transport.send(m.Nodes(b"L" * 32, nodes))
                    case m.Done():
                        await transport.send(m.Done(b"L" * 32, 1, 1, True))

        def lies(session: Session) -> Session:
            contexts = tuple(
                replace(summary, root=b"L" * 32) if summary.context == MAIN else summary
                for summary in session.hello.contexts
            )
            return replace(session, hello=replace(session.hello, contexts=contexts))

        met = await meet(ours, theirs, instead=claims_another_root, before=lies)
        assert met.ends[0] is None
        assert widths == [16, 32]
        assert met.ours.unequal == {MAIN: "the roots differ"}
        met = await meet(ours, theirs, instead=claims_another_root, before=lies)
        assert widths == [16, 32], "known, and not walked again"
        assert met.ours.in_sync is False

    virtually(main())


# -- one peer at a time fills a context ------------------------------------------------------------------------------


def test_while_one_peer_fills_a_context_others_wait_and_small_contexts_do_not():
    many = [universe().writers[0].record(f"bulk-{number}") for number in range(BATCH_RECORDS_MAX + 10)]

    async def main() -> None:
        newcomer, full = Side(0, filled(range(3))), Side(1, filled(range(3)))
        await full.store.apply(MAIN, many)
        second = Side(2, universe().store(range(3)))
        await second.store.apply(MAIN, many)
        await second.store.apply(OTHER, universe().some(range(5), OTHER))
        waited: list[Met] = []

        async def meanwhile(message: Message) -> None:
            if isinstance(message, m.Fetch) and not waited:
                waited.append(await meet(newcomer, second))
                waited.append(await meet(second, newcomer))

        met = await meet(newcomer, full, hook=meanwhile)
        assert all_well(met)
        led, served = waited
        assert led.ends == served.ends == [None, None]
        assert led.ours.unequal == {MAIN: "another peer is filling it right now"}
        assert [message for message in served.said if isinstance(message, m.Refused)] == [m.Refused(Reason.BUSY)]
        assert newcomer.store.tree(OTHER).root == second.store.tree(OTHER).root
        assert not newcomer.runner.bulk_gate.is_busy(MAIN) and not full.runner.bulk_gate.is_busy(MAIN)
        assert all_well(await meet(newcomer, second))

    virtually(main())


@pytest.mark.parametrize(
    ("is_snapshot", "brings", "is_kept"),
    [(False, False, False), (False, True, True), (True, False, False), (True, True, True)],
)
def test_a_context_is_kept_for_who_brings_something_and_not_for_who_only_claims_to(is_snapshot, brings, is_kept):
    async def main() -> None:
        newcomer = Side(0, filled(range(3)))
        filling, liar = newcomer.runner.bulk_gate, IdentityId(bytes(32))
        with filling.by(liar, MAIN, 10**9, lambda: 3, is_snapshot=is_snapshot):
            assert filling.is_busy(MAIN)
            if brings:
                filling.moved_on(MAIN)
            await asyncio.sleep(BULK_START_S)
            assert filling.is_busy(MAIN) == is_kept
            await asyncio.sleep(FRAME_TIMEOUT_S)
            assert not filling.is_busy(MAIN)

    virtually(main())


@pytest.mark.parametrize("cut", [1, 3, 5, 7])
def test_a_context_is_not_kept_for_a_peer_that_broke_off(cut):
    async def main() -> None:
        ours, theirs = Side(0, filled(())), Side(1, filled(range(300)))
        met = await meet(ours, theirs, cut=cut)
        assert not ours.runner.bulk_gate.is_busy(MAIN) and not theirs.runner.bulk_gate.is_busy(MAIN)
        if met.ends[0] is not None:
            assert met.ours.in_sync is None
        assert all_well(await meet(ours, theirs))

    virtually(main())


@pytest.mark.parametrize("meanwhile", ["written here", "written there"])
def test_what_a_cut_snapshot_left_staged_is_merged_when_no_snapshot_will_go_on_with_it(meanwhile):
    async def main() -> None:
        ours, theirs = Side(0, filled(())), Side(1, filled(range(300)))
        staged = sorted(heads_in(theirs.store), key=lambda head: head.key)[:100]
        await ours.store.stage(MAIN, theirs.store.tree(MAIN).root, staged)
        writer = universe().writers[0]
        written = ours if meanwhile == "written here" else theirs
        await written.store.apply(MAIN, [writer.record("meanwhile")])
        assert all_well(await meet(ours, theirs))
        assert ours.store.staged(MAIN) is None
        sent = sum(each.sent for each in theirs.conversations if each.context == MAIN)
        assert sent <= len(heads_in(theirs.store)) - len(staged) + 1, "what was staged did not come again"
        told = [record.id for event in ours.events if isinstance(event, RecordsApplied) for record in event.records]
        if meanwhile == "written here":
            assert set(told) >= {record.id for record in staged}
        else:
            assert [event.context for event in ours.shown] == [MAIN]
        assert versions_in(ours.store) >= {record.id for record in staged}

    virtually(main())


def test_large_sets_that_differ_are_compared_by_sketch():
    async def main() -> None:
        ours, theirs = Side(0, filled(())), Side(1, filled(()))
        writer = universe().writers[0]
        many = [writer.record(f"many-{number}") for number in range(2060)]
        await ours.store.apply(MAIN, many[10:])
        await theirs.store.apply(MAIN, many[:-10])
        assert all_well(await meet(ours, theirs))
        assert [each.mode for each in ours.conversations] == ["sketch"]
        assert ours.conversations[0].round_trips in (2, 3)
        pulling = Side(2, filled(()))
        await pulling.store.apply(MAIN, many[20:])
        await meet(pulling, theirs, Direction.RECEIVE)
        assert not lacks(pulling.store, many)
        assert "sketch" not in {each.mode for each in pulling.conversations}, "one way, it proves nothing"

    virtually(main())


# -- what is told ----------------------------------------------------------------------------------------------------


def test_a_conversations_figures_are_the_same_on_both_sides():
    async def main() -> None:
        ours, theirs = Side(0, filled(range(200))), Side(1, filled(range(100, 300)))
        await meet(ours, theirs)
        (here,), (there,) = ours.conversations, theirs.conversations
        assert (here.session, here.context, here.mode) == (there.session, there.context, there.mode)
        assert here.sent >= there.received > 0
        assert here.bytes_sent >= there.bytes_received > 0  # the responder counts from behind the first message
        assert here.bytes_received == there.bytes_sent > 0
        assert here.received <= there.sent
        assert here.round_trips > 0 == there.round_trips
        assert "subtrees differ" in here.reason and there.reason == "asked for"
        progress = [event for event in ours.events if isinstance(event, SyncProgress)]
        assert progress and progress[-1].received == here.received
        applied = [event for event in ours.events if isinstance(event, RecordsApplied)]
        assert sum(len(event.records) for event in applied) == here.received
        assert {event.source for event in applied} == {theirs.peer.id}

    virtually(main())


def test_the_summary_of_a_context_tells_its_root_count_and_first_level():
    store = filled(range(100))
    summary = summarise(store, MAIN)
    assert (summary.root, summary.count, summary.seq) == (store.tree(MAIN).root, len(store.tree(MAIN)), store.seq(MAIN))
    assert tree_parts.decode(summary.level1, 16) == tree_parts.cut(store.tree(MAIN).children_at(b""), 16)
    assert summarise(store, "nothing").root == Tree().root
