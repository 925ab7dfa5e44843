"""A few hundred versions, and stores that hold some of them, for the properties of the executors to draw from.

Every version is one that an honest node may hold. There are records of three authors and of a pool they all write for;
edits, tombstones, concurrent heads and the versions that resolve them; a crowd of leaves below one prefix of three
nibbles, so that trees are deep where it matters; and two contexts.
"""

from collections.abc import Collection, Iterable, Sequence
from functools import cache
from itertools import count
from random import Random

from hypothesis import strategies as st

from echonode.clock import Timestamp
from echonode.model.identity import Identity, IdentityId, Instance, Writer, writer_of
from echonode.model.keys import KeyState, statement_draft
from echonode.model.merkle import Digest, Tree, state_of
from echonode.model.record import IDENTITIES, MAIN, Draft, LeafKey, Record, leaf_key, sign, supersedes
from echonode.store.memory import MemoryStore

OTHER = "other"
CROWD = (3, 7, 1)  # the prefix below which many leaves stand
CROWD_LEAVES = 70


class Writing:
    """One identity's device, which writes versions that cover exactly the given ones."""

    def __init__(self, number: int) -> None:
        seed = number.to_bytes(4, "big")
        self.identity = Identity.from_seeds(b"ROOT" * 7 + seed, b"DEVI" * 7 + seed)
        self.id = self.identity.id
        self.instance = Instance(seed * 2)
        self.writer = writer_of(self.identity.device.public, self.instance)
        self._counter = count(1)
        self._time = count((1_700_000_000_000 + number) << 16, 1 << 16)

    def version(self, draft: Draft, *covers: Record) -> Record:
        vector: dict[Writer, int] = {}
        for covered in covers:
            for writer, counter in covered.vector.items():
                vector[writer] = max(counter, vector.get(writer, 0))
        vector[self.writer] = next(self._counter)
        timestamp = Timestamp(next(self._time))
        return sign(draft, self.identity.device, instance=self.instance, vector=vector, timestamp=timestamp)

    def record(self, name: str, *covers: Record, body: bytes = b"", context: str = MAIN, author: bytes = b"") -> Record:
        identity = IdentityId(author or self.id)
        return self.version(Draft(context=context, author=identity, name=name, body=body), *covers)

    def tombstone(self, *covers: Record) -> Record:
        gone = covers[0]
        draft = Draft(context=gone.context, author=gone.author, name=gone.name, is_tombstone=True)
        return self.version(draft, *covers)

    def states(self, key: bytes, state: KeyState = KeyState.ACTIVE) -> Record:
        """Return the statement by this identity's root about `key`."""
        draft = statement_draft(self.id, key, state)  # type: ignore[arg-type]
        root, instance = self.identity.root, self.instance
        vector = {writer_of(root.public, instance): int(state)}
        return sign(draft, root, instance=instance, vector=vector, timestamp=Timestamp(1 << 16))


class Universe:
    """All versions, by context, in an order in which neighbours often stand in one subtree."""

    def __init__(self) -> None:
        self.writers = [Writing(number) for number in (1, 2, 3)]
        pool = Writing(9)
        devices = [(writer, writer.identity.device.public) for writer in self.writers]
        self.statements = [writer.states(key) for writer, key in devices] + [pool.states(key) for _, key in devices]
        self.pool = pool.id
        crowd = [self.writers[0].record(name) for name in crowded_names(self.writers[0].id)]
        crowd += [self.writers[0].record(old.name, old, body=b"newer") for old in crowd[::3]]
        scattered = self._scattered(MAIN, 120)
        Random(1).shuffle(scattered)
        self.versions = {MAIN: crowd + scattered, OTHER: self._scattered(OTHER, 20)}

    def _scattered(self, context: str, names: int) -> list[Record]:
        one, two, three = self.writers
        versions: list[Record] = []
        for number in range(names):
            name, kind = f"{context}-{number}", number % 6
            author = self.pool if kind >= 3 else b""
            first = one.record(name, context=context, author=author, body=b"x" * number)
            versions.append(first)
            if kind == 1:
                versions.append(one.tombstone(first))
            elif kind == 2:
                second = one.record(name, first, context=context, body=b"2")
                versions += [second, one.record(name, first, second, context=context, body=b"3")]
            elif kind == 3:
                versions.append(two.record(name, context=context, author=author, body=b"two"))
            elif kind >= 4:
                concurrent = two.record(name, first, context=context, author=author, body=b"two")
                deleted = three.tombstone(first)
                versions += [concurrent, deleted, three.record(name, context=context, author=author, body=b"3")]
                if kind == 5:
                    versions.append(two.record(name, concurrent, deleted, context=context, author=author))
        return versions

    def store(
        self, holds: Collection[int], context: str = MAIN, *, knows: Sequence[Record] | None = None
    ) -> MemoryStore:
        """Return a store that holds these versions, and the key statements it `knows` (all by default)."""
        store = MemoryStore(Instance(bytes(8)))
        pieces = [(IDENTITIES, self.statements if knows is None else knows)]
        pieces.append((context, [self.versions[context][number] for number in sorted(holds)]))
        for name, records in pieces:
            applied = at_once(store.apply(name, records))
            assert not applied.refused, applied.refused
        return store

    def some(self, numbers: Iterable[int], context: str = MAIN) -> list[Record]:
        return [self.versions[context][number] for number in sorted(numbers)]


@cache
def universe() -> Universe:
    return Universe()


@cache
def crowded_names(author: IdentityId) -> tuple[str, ...]:
    """Return names of `author` whose leaves stand below CROWD."""
    high, low = CROWD[0] << 4 | CROWD[1], CROWD[2]
    names: list[str] = []
    for number in count():
        key = leaf_key(author, f"crowd-{number}")
        if key[0] == high and key[1] >> 4 == low:
            names.append(f"crowd-{number}")
            if len(names) == CROWD_LEAVES:
                return tuple(names)
    raise AssertionError


def at_once(work):
    """Return the result of a coroutine that never waits, as those of MemoryStore."""
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waited")


def naive_merge(versions: Iterable[Record]) -> dict[LeafKey, set[bytes]]:
    """Return the heads of every leaf by the definition: the versions that no other one dominates."""
    leaves: dict[LeafKey, dict[bytes, Record]] = {}
    for version in versions:
        leaves.setdefault(version.key, {})[version.id] = version
    return {
        key: {id for id, one in found.items() if not any(supersedes(other, one) for other in found.values())}
        for key, found in leaves.items()
    }


def root_of(versions: Iterable[Record]) -> Digest:
    """Return the root of a store that holds all of `versions`."""
    return Tree((key, state_of(ids)) for key, ids in naive_merge(versions).items()).root  # type: ignore[arg-type]


def _subset(draw: st.DrawFn, size: int) -> frozenset[int]:
    low = draw(st.integers(0, size))
    high = draw(st.integers(low, size))
    return frozenset(range(low, high)) ^ draw(st.frozensets(st.integers(0, size - 1), max_size=8))


@st.composite
def two_holdings(draw: st.DrawFn, context: str = MAIN) -> tuple[frozenset[int], frozenset[int]]:
    """Draw the holdings of two stores: nearly the same, or any."""
    size = len(universe().versions[context])
    ours = _subset(draw, size)
    if draw(st.booleans()):
        return ours, ours ^ draw(st.frozensets(st.integers(0, size - 1), max_size=8))
    return ours, _subset(draw, size)
