"""Peers that speak the protocol and lie. Every conversation ends soon with a named error, and none is called equal."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from echonode.errors import EchonodeError, PeerRefused, Reason, RemoteError, TransportError
from echonode.limits import BATCH_RECORDS_MAX, PREFIXES_PER_MESSAGE_MAX, ROUNDS_MAX, WINDOW
from echonode.model.identity import Instance
from echonode.model.merkle import ARITY, DEPTH_MAX, EMPTY, Prefix, Tree, leaf_digest
from echonode.model.record import MAIN, Record
from echonode.store.memory import MemoryStore
from echonode.store.port import Cursor
from echonode.sync import tree_parts
from echonode.sync.conversation import Result
from echonode.sync.modes import delta, hash_comparison, level_wise, snapshot
from echonode.wire import messages as m
from echonode.wire.messages import Direction, LeafRequest, Message
from tests.sync.pair import PairedTransport
from tests.sync.talk import Talk, heads_in, initiator_of, lacks, overheard, serve, to_its_end, versions_in, virtually
from tests.sync.universe import root_of, universe

MESSAGES_MAX = 3000  # that a victim may receive from a liar: far more than an honest conversation here takes
Liar = Callable[[PairedTransport, Message], Awaitable[None]]
LIE = bytes(range(32))


class Listened(AssertionError):
    """The victim listened for too long."""


async def lie_to_initiator(store: MemoryStore, opener, liar: Liar, **options) -> Talk:
    """Run `opener` against a responder that answers each message by `liar`."""
    talk = overheard(store, universe().store(()))

    async def answer() -> Result:
        for _ in range(MESSAGES_MAX):
            await liar(talk.theirs.transport, await talk.theirs.transport.recv())
        raise Listened

    talk.our_end, talk.their_end = await asyncio.gather(
        to_its_end(talk.ours, opener(talk.ours, **options)), to_its_end(talk.theirs, answer())
    )
    return talk


async def lie_to_responder(store: MemoryStore, *said: Message) -> Talk:
    """Send all of `said` to a responder, and leave."""
    talk = overheard(universe().store(()), store)

    async def speak() -> Result:
        for message in said:
            await talk.ours.transport.send(message)
        return Result.MOVED

    talk.our_end, talk.their_end = await asyncio.gather(
        to_its_end(talk.ours, speak()), to_its_end(talk.theirs, serve(talk.theirs))
    )
    return talk


def broke_the_protocol(end: Result | EchonodeError) -> bool:
    return isinstance(end, RemoteError) and end.reason is Reason.PROTOCOL_ERROR


class Honest:
    """Answers as an honest responder over `held` does, one message at a time; liars override parts of it."""

    def __init__(self, held: MemoryStore) -> None:
        self.store = held
        self.tree = held.tree(MAIN)

    def nodes(self, prefixes: Sequence[Prefix]) -> m.Nodes:
        return m.Nodes(self.tree.root, tuple(tree_parts.encode_node(self.tree, prefix, 16) for prefix in prefixes))

    def differences(self, prefix: Prefix) -> m.Differences:
        below = [prefix + bytes((nibble,)) for nibble in range(ARITY)]
        return m.Differences(self.tree.root, tuple((at, tree_parts.encode_node(self.tree, at, 16, 64)) for at in below))

    def below(self, wanted: LeafRequest) -> list[Record]:
        keys = {key for key, _ in self.tree.leaves_at(wanted.prefix) if wanted.after is None or key > wanted.after}
        found = [head for head in heads_in(self.store) if head.key in keys]
        return sorted(found, key=lambda head: (head.key, head.id))

    def done(self) -> m.Done:
        return m.Done(self.tree.root, len(self.tree), 1, False)

    async def __call__(self, transport: PairedTransport, message: Message) -> None:
        match message:
            case m.LevelWiseInit(prefixes=prefixes) | m.NodesRequest(prefixes):
                await transport.send(self.nodes(prefixes))
            case m.HashComparisonInit():
                await transport.send(self.differences(b""))
            case m.CompareRequest(prefix):
                await transport.send(self.differences(prefix))
            case m.Fetch(wanted):
                await self.fetched(transport, wanted)
            case m.Put(records):
                await transport.send(m.Stored(0, len(records), ()))
            case m.Done():
                await transport.send(self.done())

    async def fetched(self, transport: PairedTransport, wanted: tuple[LeafRequest, ...]) -> None:
        records = [record.raw for item in wanted for record in self.below(item)]
        await transport.send(m.Records(tuple(records), (), False))


both_walks = pytest.mark.parametrize(
    "walk", [initiator_of(level_wise), initiator_of(hash_comparison)], ids=["level_wise", "hash_comparison"]
)


def theirs() -> MemoryStore:
    return universe().store(range(250))


# -- about roots -----------------------------------------------------------------------------------------------------


@both_walks
@pytest.mark.parametrize("direction", list(Direction))
def test_a_root_that_is_claimed_and_not_held_is_never_called_equal(walk, direction):
    class Claims(Honest):
        def done(self) -> m.Done:
            return m.Done(LIE, 1, 1, False)

    async def main() -> None:
        ours = universe().store(range(200, 300))
        talk = await lie_to_initiator(ours, walk, Claims(theirs()), direction=direction)
        assert talk.our_end in (Result.MOVED, Result.DIFFERENT)
        # A claimed root is not believed either when no record differs.
        talk = await lie_to_initiator(theirs(), walk, Claims(theirs()), direction=direction)
        assert talk.our_end in (Result.MOVED, Result.DIFFERENT)

    virtually(main())


@both_walks
@pytest.mark.parametrize("direction", [Direction.RECEIVE, Direction.SEND])
def test_a_root_that_changes_between_answers_vouches_for_nothing(walk, direction):
    numbers = count()

    class Wavers(Honest):
        def nodes(self, prefixes):
            return m.Nodes(next(numbers).to_bytes(32, "big"), super().nodes(prefixes).parts)

        def differences(self, prefix):
            return m.Differences(next(numbers).to_bytes(32, "big"), super().differences(prefix).parts)

    async def main() -> None:
        talk = await lie_to_initiator(universe().store(range(150, 300)), walk, Wavers(theirs()), direction=direction)
        assert talk.our_end is Result.MOVED

    virtually(main())


# -- about the tree --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [-1, 1])
def test_another_number_of_parts_than_was_asked_for(wrong):
    class Miscounts(Honest):
        def nodes(self, prefixes):
            answer = super().nodes(prefixes)
            return m.Nodes(answer.root, answer.parts[:-1] if wrong < 0 else (*answer.parts, answer.parts[0]))

    async def main() -> None:
        talk = await lie_to_initiator(universe().store(range(9)), initiator_of(level_wise), Miscounts(theirs()))
        assert broke_the_protocol(talk.our_end)

    virtually(main())


def whole(width: int = 16) -> bytes:
    """Return a branch whose 16 children differ from those of every store."""
    return tree_parts.encode_branch([bytes((nibble + 1,)) * 32 for nibble in range(ARITY)], width)


def test_branches_all_the_way_down_end_where_keys_end():
    class Deepens(Honest):
        def nodes(self, prefixes):
            return m.Nodes(LIE, tuple(whole() for _ in prefixes))

        def differences(self, prefix):
            return m.Differences(LIE, tuple((prefix + bytes((nibble,)), whole()) for nibble in range(ARITY)))

    async def main() -> None:
        for walk in (initiator_of(level_wise), initiator_of(hash_comparison)):
            talk = await lie_to_initiator(universe().store(range(3)), walk, Deepens(theirs()))
            assert broke_the_protocol(talk.our_end)
            asked = [said for said in talk.said if isinstance(said, m.NodesRequest | m.CompareRequest)]
            assert len(asked) <= 3 * DEPTH_MAX

    virtually(main())


@pytest.mark.parametrize(
    "described",
    [
        pytest.param([b""], id="what was asked itself"),
        pytest.param([b"\1", b"\1"], id="one subtree twice"),
        pytest.param([b"\1\2"], id="a child without its parent"),
        pytest.param([b"\1\2", b"\1"], id="a child before its parent"),
    ],
)
def test_differences_that_were_not_asked_for(described):
    class Rambles(Honest):
        def differences(self, prefix):
            return m.Differences(LIE, tuple((prefix + at, whole()) for at in described))

    async def main() -> None:
        talk = await lie_to_initiator(theirs(), initiator_of(hash_comparison), Rambles(theirs()))
        assert broke_the_protocol(talk.our_end)

    virtually(main())


def test_differences_below_another_prefix_than_was_asked():
    class Strays(Honest):
        def differences(self, prefix):
            if prefix:
                prefix = prefix[:-1] + bytes((prefix[-1] ^ 1,))
            return m.Differences(LIE, tuple((prefix + bytes((nibble,)), whole()) for nibble in range(ARITY)))

    async def main() -> None:
        talk = await lie_to_initiator(theirs(), initiator_of(hash_comparison), Strays(theirs()))
        assert broke_the_protocol(talk.our_end)

    virtually(main())


def test_differences_that_describe_nothing_say_nothing():
    class Shrugs(Honest):
        def differences(self, prefix):
            return m.Differences(LIE, ())

    async def main() -> None:
        talk = await lie_to_initiator(universe().store(range(9)), initiator_of(hash_comparison), Shrugs(theirs()))
        assert talk.our_end in (Result.MOVED, Result.DIFFERENT)

    virtually(main())


@pytest.mark.parametrize(
    "part",
    [b"\0", b"\0\xff", b"\0\xff\xff" + bytes(16), b"\2", b"\1" + bytes(15), b"\0\0\1" + bytes(17)],
    ids=["no bits", "half the bits", "too few digests", "no such kind", "cut digest", "cut child"],
)
def test_parts_of_no_form(part):
    class Garbles(Honest):
        def nodes(self, prefixes):
            return m.Nodes(LIE, tuple(part for _ in prefixes))

        def differences(self, prefix):
            return m.Differences(LIE, ((prefix + b"\0", part),))

    async def main() -> None:
        for walk in (initiator_of(level_wise), initiator_of(hash_comparison)):
            assert broke_the_protocol((await lie_to_initiator(theirs(), walk, Garbles(theirs()))).our_end)
        init = m.HashComparisonInit((1, 0), MAIN, Direction.BOTH, 16, 2, part)
        assert broke_the_protocol((await lie_to_responder(theirs(), init)).their_end)

    virtually(main())


def test_leaves_that_nobody_has_are_asked_for_a_few_times_and_come_to_nothing():
    class Invents(Honest):
        def nodes(self, prefixes):
            return m.Nodes(LIE, tuple(b"\1" + LIE * 8 for _ in prefixes))

        def differences(self, prefix):
            return m.Differences(LIE, tuple((prefix + bytes((n,)), b"\1" + LIE * 8) for n in range(ARITY)))

        async def fetched(self, transport, wanted):
            await transport.send(m.Records((), (), False))

    async def main() -> None:
        for walk in (initiator_of(level_wise), initiator_of(hash_comparison)):
            talk = await lie_to_initiator(universe().store(range(9)), walk, Invents(theirs()))
            assert talk.our_end in (Result.MOVED, Result.DIFFERENT)
            assert len([said for said in talk.said if isinstance(said, m.Fetch)]) <= ROUNDS_MAX * WINDOW

    virtually(main())


@both_walks
@pytest.mark.parametrize(("reason", "is_understood_as"), [(5, Reason.UNKNOWN_CONTEXT), (200, Reason.PROTOCOL_ERROR)])
def test_a_refusal_ends_the_conversation_by_its_reason_known_here_or_not(walk, reason, is_understood_as):
    async def refuses(transport: PairedTransport, _: Message) -> None:
        await transport.send(m.Refused(reason, ("this", "that")))

    async def main() -> None:
        for opener in (walk, initiator_of(snapshot)):
            talk = await lie_to_initiator(universe().store(()), opener, refuses)
            assert isinstance(talk.our_end, PeerRefused)
            assert (talk.our_end.reason, talk.our_end.supported) == (is_understood_as, ("this", "that"))

    virtually(main())


# -- about records ---------------------------------------------------------------------------------------------------


class Fetched(Honest):
    """Honest about the tree; `lie` gives the messages that answer a Fetch."""

    def __init__(self, lie: Callable[[Honest, tuple[LeafRequest, ...]], Sequence[m.Records]]) -> None:
        super().__init__(theirs())
        self._lie = lie

    async def fetched(self, transport: PairedTransport, wanted: tuple[LeafRequest, ...]) -> None:
        for message in self._lie(self, wanted):
            await transport.send(message)


def raws(honest: Honest, wanted: tuple[LeafRequest, ...]) -> tuple[bytes, ...]:
    return tuple(record.raw for item in wanted for record in honest.below(item))


def elsewhere(honest: Honest, wanted: tuple[LeafRequest, ...]) -> bytes:
    """Return a good record that stands below none of the prefixes asked for."""
    digits = tuple(item.prefix.hex()[1::2] for item in wanted)
    return next(one.raw for one in universe().versions[MAIN] if not one.key.hex().startswith(digits))


def nudged(item: LeafRequest) -> LeafRequest:
    """Return the smallest rest that whole subtrees can leave."""
    after = int.from_bytes(item.after or bytes(32), "big") + 1
    return LeafRequest(item.prefix, item.leaves, after.to_bytes(32, "big"))


LIES: dict[str, Callable[[Honest, tuple[LeafRequest, ...]], Sequence[m.Records]]] = {
    "nothing, and a rest": lambda honest, wanted: [m.Records((), wanted, False)],
    "nothing, and more to come": lambda honest, wanted: [m.Records((), (), True)] * 200,
    "more to come, and a rest": lambda honest, wanted: [m.Records(raws(honest, wanted), wanted, True)],
    "the same for ever": lambda honest, wanted: [m.Records(raws(honest, wanted), (), True)] * 200,
    "a rest of all": lambda honest, wanted: [m.Records(raws(honest, wanted), wanted, False)],
    "a rest of more than was asked": lambda honest, wanted: [
        m.Records(raws(honest, wanted), (LeafRequest(b"", None), *wanted), False)
    ],
    "a rest of something else": lambda honest, wanted: [
        m.Records(raws(honest, wanted), (LeafRequest(b"", None),), False)
    ],
    "a rest that goes back": lambda honest, wanted: [
        m.Records(raws(honest, wanted), (LeafRequest(wanted[-1].prefix, wanted[-1].leaves, None),), False)
    ],
    "a rest that hardly moves": lambda honest, wanted: [
        m.Records(raws(honest, wanted[:1]), (nudged(wanted[0]), *wanted[1:]), False)
    ],
    "records of the rest": lambda honest, wanted: [m.Records(raws(honest, wanted), wanted[1:], False)],
    "out of order": lambda honest, wanted: [m.Records(raws(honest, wanted)[::-1], (), False)],
    "one twice": lambda honest, wanted: [m.Records((raws(honest, wanted)[0],) * 2, (), False)],
    "one that was not asked for": lambda honest, wanted: [m.Records((elsewhere(honest, wanted),), (), False)],
    "no Records at all": lambda honest, wanted: [m.Credit(1)],  # type: ignore[list-item]
}


@both_walks
@pytest.mark.parametrize("lie", LIES.values(), ids=list(LIES))
def test_answers_that_do_not_keep_to_what_was_asked(walk, lie):
    async def main() -> None:
        for ours in (universe().store((250, 260, 270)), universe().store(range(20, 260, 3))):
            talk = await lie_to_initiator(ours, walk, Fetched(lie))
            assert broke_the_protocol(talk.our_end), talk.our_end
            assert len([said for said in talk.said if isinstance(said, m.Fetch)]) <= 2 * WINDOW

    virtually(main())


def test_a_peer_that_has_stored_nothing_is_given_it_once_a_walk():
    async def main() -> None:
        ours = universe().store(range(300))
        for walk in (initiator_of(level_wise), initiator_of(hash_comparison)):
            talk = await lie_to_initiator(ours, walk, Honest(universe().store(())), direction=Direction.SEND)
            assert talk.our_end in (Result.MOVED, Result.DIFFERENT)
            assert sum(talk.moved) <= 3 * len(versions_in(ours))

    virtually(main())


# -- to a responder --------------------------------------------------------------------------------------------------

LEVEL_WISE = {
    direction: m.LevelWiseInit((1, 0), MAIN, direction, 16, (b"",)) for direction in Direction
}
BRANCH = tree_parts.encode_branch(Tree().children_at(b""), 16)
COMPARISON = {
    direction: m.HashComparisonInit((1, 0), MAIN, direction, 16, 2, BRANCH) for direction in Direction
}
DELTA = {direction: m.DeltaInit((1, 0), MAIN, direction, bytes(8), 0) for direction in Direction}
OUT_OF_PLACE: dict[str, list[Message]] = {
    "a put in a pull": [LEVEL_WISE[Direction.RECEIVE], m.Put((b"x",))],
    "a fetch in a push": [LEVEL_WISE[Direction.SEND], m.Fetch((LeafRequest(b"", None),))],
    "a put in a compared pull": [COMPARISON[Direction.RECEIVE], m.Put((b"x",))],
    "a fetch in a compared push": [COMPARISON[Direction.SEND], m.Fetch((LeafRequest(b"", None),))],
    "an answer nobody asked for": [LEVEL_WISE[Direction.BOTH], m.Records((), (), False)],
    "a second conversation": [LEVEL_WISE[Direction.BOTH], LEVEL_WISE[Direction.BOTH]],
    "the other mode's request": [LEVEL_WISE[Direction.BOTH], m.CompareRequest(b"", BRANCH)],
    "a level in a comparison": [COMPARISON[Direction.BOTH], m.NodesRequest((b"",))],
    "a prefix named twice at first": [m.LevelWiseInit((1, 0), MAIN, Direction.BOTH, 16, (b"", b""))],
    "a prefix named twice later": [LEVEL_WISE[Direction.BOTH], m.NodesRequest((b"\1", b"\2", b"\1"))],
    "credit in a walk": [LEVEL_WISE[Direction.BOTH], m.Credit(1)],
    "a turn in a conversation": [COMPARISON[Direction.BOTH], m.Turn(())],
    "a comparison below the leaves": [COMPARISON[Direction.BOTH], m.CompareRequest(bytes(64), BRANCH)],
    "a comparison with a bucket": [COMPARISON[Direction.BOTH], m.CompareRequest(b"", b"\1")],
    "a put in a followed pull": [DELTA[Direction.RECEIVE], m.Put((b"x",))],
    "a fetch behind changes": [DELTA[Direction.BOTH], m.Fetch((LeafRequest(b"", None),))],
    "a done behind changes that is not the last": [DELTA[Direction.BOTH], m.Done(LIE, 0, 0, False)],
    "a fetch behind a snapshot": [m.SnapshotInit((1, 0), MAIN, None), m.Fetch((LeafRequest(b"", None),))],
}


@pytest.mark.parametrize("said", OUT_OF_PLACE.values(), ids=list(OUT_OF_PLACE))
def test_what_has_no_place_in_a_conversation_ends_it(said):
    async def main() -> None:
        store = theirs()
        before = versions_in(store)
        talk = await lie_to_responder(store, *said)
        assert broke_the_protocol(talk.their_end), talk.their_end
        assert versions_in(store) == before

    virtually(main())


def test_requests_for_what_is_not_there_are_answered_with_what_is():
    deep, absent = bytes(64), (15,) * 64
    wanted = (
        LeafRequest(deep, None),
        LeafRequest(bytes(absent), LIE),
        LeafRequest(b"", LIE),
        LeafRequest(b"\3\7\1", LIE * 8),
    )

    async def main() -> None:
        said = [LEVEL_WISE[Direction.BOTH], m.NodesRequest((deep, bytes(absent), b"\3\7\1")), m.Fetch(wanted)]
        talk = await lie_to_responder(theirs(), *said, m.Done(LIE, 0, 0, True))
        assert [one for one in talk.said if isinstance(one, m.Nodes)][1].parts[:2] == (b"\1", b"\1")
        assert m.Records((), (), False) in talk.said
        assert talk.their_end is Result.MOVED

    virtually(main())


def test_leaves_that_are_named_go_on_behind_none():
    async def main() -> None:
        wanted = (LeafRequest(b"", LIE, b"\xff" * 32),)
        talk = await lie_to_responder(theirs(), LEVEL_WISE[Direction.BOTH], m.Fetch(wanted))
        assert isinstance(talk.their_end, RemoteError) and talk.their_end.reason is Reason.PROTOCOL_ERROR

    virtually(main())


# Everything, as often as fits a message; and a small subtree, by a leaf that is not there.
AMPLIFIED = [
    tuple(LeafRequest(b"", None) for _ in range(PREFIXES_PER_MESSAGE_MAX)),
    tuple(LeafRequest(b"\3\7\1", LIE) for _ in range(PREFIXES_PER_MESSAGE_MAX)),
]


def test_the_same_fetched_again_and_again_is_given_only_so_often():
    async def main() -> None:
        store, init = theirs(), m.LevelWiseInit((1, 0), MAIN, Direction.BOTH, 16, (b"",))
        enough = ROUNDS_MAX + BATCH_RECORDS_MAX // len(store.tree(MAIN))
        fetch = m.Fetch((LeafRequest(b"", None),))
        talk = await lie_to_responder(store, init, *[fetch] * enough)
        assert isinstance(talk.their_end, TransportError), "the liar left"
        talk = await lie_to_responder(store, init, *[fetch] * (enough + 1))
        assert broke_the_protocol(talk.their_end)

    virtually(main())


@pytest.mark.parametrize("wanted", AMPLIFIED, ids=["everything", "one bucket"])
def test_a_prefix_is_asked_for_once_in_a_request(wanted):
    async def main() -> None:
        talk = await lie_to_responder(theirs(), LEVEL_WISE[Direction.BOTH], m.Fetch(wanted))
        assert broke_the_protocol(talk.their_end)
        assert not [message for message in talk.said if isinstance(message, m.Records)]

    virtually(main())


# -- in snapshots ----------------------------------------------------------------------------------------------------


def pages(*said: Message) -> Liar:
    async def liar(transport: PairedTransport, message: Message) -> None:
        if isinstance(message, m.SnapshotInit):
            for page in said:
                await transport.send(page)

    return liar


def sorted_raws(store: MemoryStore) -> tuple[bytes, ...]:
    return tuple(head.raw for head in sorted(heads_in(store), key=lambda head: (head.key, head.id)))


def first_page(
    store: MemoryStore, *, root: bytes | None = None, records: tuple[bytes, ...] = (), is_last: bool = False
) -> m.Page:
    return m.Page((root or store.tree(MAIN).root, len(store.tree(MAIN)), 1, bytes(8)), records, is_last)


def bad_snapshots() -> dict[str, tuple[list[Message], Reason]]:
    store = theirs()
    all_raws, root = sorted_raws(store), store.tree(MAIN).root
    protocol = Reason.PROTOCOL_ERROR
    return {
        "another root": ([first_page(store, root=LIE, records=all_raws, is_last=True)], Reason.BAD_RECORD),
        "one record left out": ([first_page(store, records=all_raws[:-1], is_last=True)], Reason.BAD_RECORD),
        "nothing at all": ([first_page(store, is_last=True)], Reason.BAD_RECORD),
        "no state": ([m.Page(None, all_raws, True)], protocol),
        "an empty page in the middle": ([first_page(store), m.Page(None, (), False)], protocol),
        "the same page again": ([first_page(store, records=all_raws), m.Page(None, all_raws, True)], protocol),
        "out of order": ([first_page(store, records=all_raws[::-1], is_last=True)], protocol),
        "something else": ([m.Records((), (), False)], protocol),
        "done at once": ([m.Done(root, 1, 1, True)], protocol),
    }


@pytest.mark.parametrize("lie", list(bad_snapshots()))
def test_a_snapshot_that_is_not_what_it_says_leaves_nothing_visible(lie):
    said, reason = bad_snapshots()[lie]

    async def main() -> None:
        ours = universe().store(())
        talk = await lie_to_initiator(ours, initiator_of(snapshot), pages(*said))
        assert isinstance(talk.our_end, RemoteError) and talk.our_end.reason is reason
        assert not versions_in(ours)
        if reason is Reason.BAD_RECORD:
            assert ours.staged(MAIN) is None
        good = [first_page(theirs(), records=sorted_raws(theirs()), is_last=True)]
        good.append(m.Done(theirs().tree(MAIN).root, 1, 1, True))
        again = await lie_to_initiator(ours, initiator_of(snapshot), pages(*good))
        assert again.our_end is Result.EQUAL
        assert versions_in(ours) == versions_in(theirs())

    virtually(main())


def test_a_snapshot_that_goes_round_in_circles_ends():
    page = sorted_raws(theirs())[:10]

    async def liar(transport: PairedTransport, message: Message) -> None:
        state = (LIE, 1 << 60, 1, bytes(8)) if isinstance(message, m.SnapshotInit) else None
        await transport.send(m.Page(state, page, False))

    async def main() -> None:
        ours = universe().store(())
        talk = await lie_to_initiator(ours, initiator_of(snapshot), liar)
        assert broke_the_protocol(talk.our_end)
        assert len(talk.said) < 20

    virtually(main())


# -- anything at all -------------------------------------------------------------------------------------------------


def a_message() -> st.SearchStrategy[Message]:
    """Draw any message of a conversation, made of values that mean something to its receiver."""
    nibbles = st.binary(max_size=3).map(lambda some: bytes(one & 15 for one in some))
    prefix = st.one_of(st.just(b""), nibbles, st.just(b"\3\7\1"), st.just(bytes(64)))
    tree = theirs().tree(MAIN)
    digests = st.sampled_from([bytes(32), LIE, tree.root, *[leaf_digest(*leaf) for leaf in tree.leaves_at(b"\3\7\1")]])
    bucket = st.lists(digests, max_size=5).map(lambda found: b"\1" + b"".join(one[:16] for one in found))
    children = st.lists(st.one_of(st.just(EMPTY), digests), min_size=ARITY, max_size=ARITY)
    part = st.one_of(
        bucket,
        children.map(lambda found: tree_parts.encode_branch(found, 16)),
        prefix.map(lambda at: tree_parts.encode_node(tree, at, 16)),
        st.binary(min_size=1, max_size=40),
    )
    record = st.sampled_from([one.raw for one in universe().versions[MAIN]])
    leaves = st.lists(digests, min_size=1, max_size=4).map(lambda some: b"".join(one[:16] for one in some))
    wanted = st.builds(LeafRequest, prefix, st.one_of(st.none(), leaves), st.one_of(st.none(), digests))
    rest = st.lists(wanted, max_size=2).map(tuple)
    few = {"max_size": 4}
    return st.one_of(
        st.builds(m.Nodes, digests, st.lists(part, **few).map(tuple)),
        st.builds(m.NodesRequest, st.lists(prefix, min_size=1, **few).map(tuple)),
        st.builds(m.CompareRequest, prefix, part),
        st.builds(m.Differences, digests, st.lists(st.tuples(prefix, part), **few).map(tuple)),
        st.builds(m.Fetch, st.lists(wanted, min_size=1, **few).map(tuple)),
        st.builds(m.Records, st.lists(record, **few).map(tuple), rest, st.booleans()),
        st.builds(m.Put, st.lists(record, min_size=1, **few).map(tuple)),
        st.builds(m.Stored, st.integers(0, 9), st.integers(0, 9), st.just(())),
        st.builds(m.Done, digests, st.integers(0, 9), st.integers(0, 9), st.booleans()),
        st.builds(m.Credit, st.integers(1, WINDOW)),
        st.builds(
            m.Page,
            st.one_of(st.none(), st.tuples(digests, st.integers(0, 9), st.integers(0, 9), st.just(bytes(8)))),
            st.lists(record, **few).map(tuple),
            st.booleans(),
        ),
        st.builds(
            m.Changes,
            st.integers(0, 500),
            st.lists(record, **few).map(tuple),
            st.booleans(),
            st.one_of(st.none(), st.integers(0, 500)),
        ),
        st.builds(m.Refused, st.integers(0, 255)),
        st.builds(m.Turn, st.just(())),
    )


INITS: list[Message] = [
    *LEVEL_WISE.values(),
    *COMPARISON.values(),
    m.SnapshotInit((1, 0), MAIN, None),
    m.SnapshotInit((1, 0), MAIN, (LIE, LIE)),
    *[m.DeltaInit((1, 0), MAIN, direction, bytes(8), since) for direction in Direction for since in (0, 100)],
]


@given(
    opener=st.sampled_from(
        [
            initiator_of(level_wise),
            initiator_of(hash_comparison),
            initiator_of(snapshot),
            initiator_of(delta, cursor=Cursor(universe().pool, Instance(bytes(8)), MAIN, 3)),
        ]
    ),
    said=st.lists(st.deferred(a_message), max_size=6),
    held=st.sampled_from([(), (1, 2, 3, 100), tuple(range(0, 250, 2))]),
)
@settings(max_examples=80)
def test_whatever_a_responder_says_an_initiator_ends_by_name_and_loses_nothing(opener, said, held):
    async def main() -> None:
        ours = universe().store(held)
        before = heads_in(ours)
        talk = overheard(ours, universe().store(()))

        async def liar() -> Result:
            for message in said:
                await talk.theirs.transport.send(message)
            return Result.MOVED

        talk.our_end, _ = await asyncio.gather(
            to_its_end(talk.ours, opener(talk.ours)), to_its_end(talk.theirs, liar())
        )
        assert isinstance(talk.our_end, Result | EchonodeError)
        if talk.our_end is Result.EQUAL:
            assert any(isinstance(one, m.Done) and one.root == ours.tree(MAIN).root for one in said)
        holds_all(ours, before)

    virtually(main())


@given(init=st.sampled_from(INITS), said=st.lists(st.deferred(a_message), max_size=6))
@settings(max_examples=80)
def test_whatever_an_initiator_says_a_responder_ends_by_name_and_loses_nothing(init, said):
    async def main() -> None:
        store = universe().store(range(250))
        before = heads_in(store)
        talk = overheard(universe().store(()), store)

        async def liar() -> Result:
            for message in (init, *said):
                await talk.ours.transport.send(message)
            return Result.MOVED

        talk.our_end, talk.their_end = await asyncio.gather(
            to_its_end(talk.ours, liar()), to_its_end(talk.theirs, serve(talk.theirs))
        )
        assert isinstance(talk.their_end, Result | EchonodeError)
        holds_all(store, before)

    virtually(main())


def holds_all(store: MemoryStore, before: list[Record]) -> None:
    assert root_of(heads_in(store)) == store.tree(MAIN).root
    assert not lacks(store, before)


def test_a_stream_that_ends_in_the_middle_is_a_failed_conversation():
    async def main() -> None:
        for said in (LEVEL_WISE, COMPARISON):
            talk = await lie_to_responder(theirs(), said[Direction.BOTH])
            assert isinstance(talk.their_end, TransportError)

    virtually(main())
