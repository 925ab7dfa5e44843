"""Many versions of one record, with honest and lying vectors and clocks ahead, for the tests of full leaves."""

from collections.abc import Iterable, Sequence
from random import Random

from echonode.clock import Timestamp
from echonode.model.heads import LeafBounds
from echonode.model.identity import Identity, IdentityId, Instance, SigningKey, Writer, writer_of
from echonode.model.keys import KeyState, statement_draft
from echonode.model.record import MAIN, Draft, Record, sign

_AHEAD = 10**9  # further than any clock of these tests comes

# A version of a crowd has up to 6 entries and 900 bytes: each fits by itself.
SMALL_BOUNDS = (
    LeafBounds(heads=1),
    LeafBounds(heads=2),
    LeafBounds(heads=3, heads_per_key=2),
    LeafBounds(heads_per_key=1),
    LeafBounds(heads=4, entries=8),
    LeafBounds(heads=5, size_bytes=1500),
    LeafBounds(heads=4, heads_per_key=2, entries=12, size_bytes=2000),
)


class Crowd:
    """One record, the keys that may write it, and versions of it. The same `draw` gives the same crowd."""

    def __init__(self, draw: Random, *, count: int | None = None) -> None:
        self.draw = draw
        self.identity = Identity.from_seeds(draw.randbytes(32), draw.randbytes(32))
        self.keys = [SigningKey(draw.randbytes(32)) for _ in range(draw.randint(2, 3))]
        self._lives = [Instance(bytes([life]) * 8) for life in (1, 2)]
        self.versions = self._draw_versions(count or draw.randint(3, 14))

    @property
    def author(self) -> IdentityId:
        return self.identity.id

    def statement(self, key: SigningKey, state: KeyState = KeyState.ACTIVE) -> Record:
        """Return the statement of the author's root about one of the keys."""
        root = self.identity.root
        draft = statement_draft(self.author, key.public, state)
        vector = {writer_of(root.public, self._lives[0]): 1}
        return sign(draft, root, instance=self._lives[0], vector=vector, timestamp=Timestamp(1))

    def statements(self) -> list[Record]:
        """Return the statements that all keys are active."""
        return [self.statement(key) for key in self.keys]

    def _draw_versions(self, count: int) -> list[Record]:
        draw, versions = self.draw, list[Record]()
        lying, honest_clock = draw.choice([0.0, 0.3, 1.0]), draw.choice([0.0, 0.7, 1.0])
        writers = [(key, life) for key in self.keys for life in self._lives]
        counters = dict.fromkeys(range(len(writers)), 0)
        for number in range(count):
            place = draw.randrange(len(writers))
            key, life = writers[place]
            own = writer_of(key.public, life)
            timestamp = draw.choice([draw.randrange(12), _AHEAD])
            if draw.random() < lying:
                vector = {writer_of(*_public(each)): draw.randint(0, 3) for each in writers}
                vector[own] = max(1, vector[own])
            else:
                seen = [version for version in versions if draw.random() < 0.35]
                vector = _union(seen)
                counters[place] = vector[own] = max(counters[place], vector.get(own, 0)) + 1
                if draw.random() < honest_clock:
                    timestamp = max([version.timestamp for version in seen], default=0) + 1 + draw.randrange(3)
            vector = {writer: counter for writer, counter in vector.items() if counter}
            body = bytes([number]) * draw.randint(1, 400)
            draft = Draft(context=MAIN, author=self.author, name="crowded", body=body)
            versions.append(sign(draft, key, instance=life, vector=vector, timestamp=Timestamp(timestamp)))
        return versions

    def batches(self, versions: Sequence[Record], draw: Random) -> list[list[Record]]:
        """Return `versions` in any order, some of them twice, in batches of any size."""
        arriving = [*versions, *draw.choices(versions, k=draw.randrange(4))]
        draw.shuffle(arriving)
        batches: list[list[Record]] = []
        while arriving:
            size = draw.randint(1, 4)
            batches.append(arriving[:size])
            arriving = arriving[size:]
        return batches


def _public(writer: tuple[SigningKey, Instance]) -> tuple[bytes, Instance]:
    return writer[0].public, writer[1]


def _union(versions: Iterable[Record]) -> dict[Writer, int]:
    vector: dict[Writer, int] = {}
    for version in versions:
        for writer, counter in version.vector.items():
            vector[writer] = max(counter, vector.get(writer, 0))
    return vector
