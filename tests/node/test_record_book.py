"""The record book: how records are written, addressed and read, with and without a network."""

from collections.abc import Sequence

import pytest

from echonode.clock import to_ms
from echonode.errors import LocalError
from echonode.limits import BATCH_RECORDS_MAX, BODY_BYTES_MAX, CONTEXTS_OWN_MAX, TIMESTAMP_AHEAD_MS_MAX
from echonode.model.heads import winner
from echonode.model.identity import Identity, IdentityId, Instance, shared_pool
from echonode.model.keys import Admission, KeyState, statement_draft
from echonode.model.member_secret import MemberSecret
from echonode.model.record import IDENTITIES, MAIN, Draft, Record, supersedes
from echonode.node.event_bus import EventBus
from echonode.node.events import Event, RecordsApplied, RecordsStaged, TimestampAhead
from echonode.node.record_book import RecordBook
from echonode.sim.event_loop import EPOCH_MS, SimEntropy
from echonode.store.memory import MemoryStore
from echonode.text import to_base32
from tests.store.files import run as at_once

NETWORK = MemberSecret.of_lone_key(bytes(range(32)))


class StoppedClock:
    """A clock that moves only when a test sets it."""

    def __init__(self) -> None:
        self.ms = EPOCH_MS

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000


class Book:
    """A record book with a store of its own, and the events that it published."""

    def __init__(
        self, number: int = 1, secret: MemberSecret | None = NETWORK, store: MemoryStore | None = None
    ) -> None:
        seed = bytes((number,))
        self.clock = StoppedClock()
        self.events: list[Event] = []
        self.store = store or MemoryStore(Instance(seed * 8))
        identity = Identity.from_seeds(b"r" * 31 + seed, b"d" * 31 + seed)
        self.book = RecordBook(self.store, identity, self.clock, SimEntropy(1), EventBus(self.events.append))
        at_once(self.book.introduce(secret))

    def draft(self, name: str, body: bytes = b"", **fields) -> Draft:
        return Draft(**({"context": MAIN, "author": self.book.id, "name": name, "body": body} | fields))

    def put(self, name: str, body: bytes = b"", **fields) -> Record:
        return at_once(self.book.put(self.draft(name, body, **fields)))

    def takes_all_of(self, other: "Book") -> None:
        for context in (IDENTITIES, MAIN):
            heads = [head for found in other.store._heads.get(context, {}).values() for head in found]
            assert not at_once(self.store.apply(context, heads)).refused

    def read(self, **filters) -> list[Record]:
        async def collect() -> list[list[Record]]:
            return [page async for page in self.book.scan(filters.pop("context", MAIN), **filters)]

        return [record for page in at_once(collect()) for record in page]

    def names(self, **filters) -> list[str]:
        return [record.name for record in self.read(**filters)]


def refusal(work) -> str:
    with pytest.raises(LocalError) as refused:
        at_once(work)
    return str(refused.value)


# -- writing ---------------------------------------------------------------------------------------------------------


def test_a_book_states_its_device_key_once_for_itself_and_for_the_pool():
    book = Book()
    own, pool = book.book.own_statements
    assert own.author == book.book.id
    assert pool.author == book.book.shared == shared_pool(NETWORK.pool_seed).id
    for statement in (own, pool):
        admission = book.store.keyring.admission_of(statement.author, book.book.identity.device.public)
        assert admission is Admission.ADMITTED
    at_once(book.book.introduce(NETWORK))
    assert [statement.id for statement in book.book.own_statements] == [own.id, pool.id]
    assert len(book.store.tree(IDENTITIES)) == 2
    assert Book(secret=None).book.shared is None


def test_writing_is_told_and_covers_what_is_known():
    book = Book()
    first = book.put("a", b"1", tags=("x",))
    second = book.put("a", b"2")
    assert supersedes(second, first)
    assert book.events[-1] == RecordsApplied(context=MAIN, source=b"", records=(second,))
    assert at_once(book.book.heads(MAIN, book.book.id, "a")) == [second]
    assert at_once(book.book.heads(MAIN, book.book.id, "b")) == []


def test_a_batch_is_written_whole_or_not_at_all_and_what_is_unchanged_is_left_out():
    book = Book()
    drafts = [book.draft(f"n{number}", b"x") for number in range(5)]
    assert None not in at_once(book.book.put_all(drafts))
    told = len(book.events)
    assert at_once(book.book.put_all(drafts, skip_unchanged=True)) == [None] * 5
    assert len(book.events) == told
    changed = at_once(book.book.put_all([drafts[0], book.draft("n1", b"y")], skip_unchanged=True))
    assert changed[0] is None and changed[1] is not None
    assert refusal(book.book.put_all([book.draft("new"), book.draft("n2", b"x" * (BODY_BYTES_MAX + 1))]))
    assert at_once(book.book.heads(MAIN, book.book.id, "new")) == []
    assert at_once(book.book.put_all([])) == []


def test_only_ones_own_and_shared_records_are_written_and_never_key_statements():
    book, other = Book(1), Book(2)
    book.put("todo", author=book.book.shared)
    assert "only one's own" in refusal(book.book.put(book.draft("x", author=other.book.id)))
    assert IDENTITIES in refusal(book.book.put(book.draft("x", context=IDENTITIES)))
    lone = Book(3, secret=None)
    assert "only one's own" in refusal(lone.book.put(lone.draft("todo", author=book.book.shared)))


def test_a_key_that_was_revoked_writes_nothing_more():
    book = Book()
    root = book.book.identity.root
    draft = statement_draft(book.book.id, book.book.identity.device.public, KeyState.COMPROMISED)
    at_once(book.store.write([draft], root, book.book.tick))
    assert "compromised" in refusal(book.book.put(book.draft("x")))


def test_deleting_takes_something_that_is_there():
    book = Book()
    assert "no record" in refusal(book.book.delete(MAIN, book.book.id, "a"))
    book.put("a", b"1")
    gone = at_once(book.book.delete(MAIN, book.book.id, "a"))
    assert gone.is_tombstone
    assert "no record" in refusal(book.book.delete(MAIN, book.book.id, "a"))
    assert refusal(book.book.delete(MAIN, book.book.id, "\x1b[31m")) and "\x1b" not in refusal(
        book.book.delete(MAIN, book.book.id, "\x1b[31m")
    )


def test_no_more_contexts_are_written_than_peers_are_told_of():
    book = Book()
    for number in range(CONTEXTS_OWN_MAX):
        book.put("a", context=f"c{number}")
    assert str(CONTEXTS_OWN_MAX) in refusal(book.book.put(book.draft("a", context="one more")))
    book.put("a", context=MAIN)
    book.put("b", context="c0")
    assert set(book.store.contexts()) == {IDENTITIES, MAIN, *(f"c{number}" for number in range(CONTEXTS_OWN_MAX))}


# -- timestamps ------------------------------------------------------------------------------------------------------


def note_applied(book: RecordBook, source: IdentityId, records: tuple[Record, ...]) -> None:
    book.note_applied(RecordsApplied(context=MAIN, source=source, records=records))


def note_staged(book: RecordBook, source: IdentityId, records: tuple[Record, ...]) -> None:
    book.note_staged(RecordsStaged(source=source, records=records))


@pytest.mark.parametrize("note", [note_applied, note_staged])
def test_what_is_written_comes_after_what_was_seen_even_by_a_slow_clock(note):
    fast, slow = Book(1), Book(2)
    fast.clock.ms += 60_000
    seen = fast.put("todo", b"1", author=fast.book.shared)
    slow.takes_all_of(fast)
    note(slow.book, fast.book.id, (seen,))
    assert slow.put("x").timestamp > seen.timestamp
    assert not [event for event in slow.events if isinstance(event, TimestampAhead)]


@pytest.mark.parametrize("note", [note_applied, note_staged])
def test_a_clock_that_is_far_ahead_is_told_and_not_followed(note):
    wrong, right = Book(1), Book(2)
    wrong.clock.ms += TIMESTAMP_AHEAD_MS_MAX + 5_000
    honest = Book(3)
    honest.clock.ms += 1_000
    early = honest.put("early")
    far = wrong.put("far")
    note(right.book, wrong.book.id, (early, far))
    (told,) = [event for event in right.events if isinstance(event, TimestampAhead)]
    assert (told.peer, told.context, told.record) == (wrong.book.id, MAIN, "far")
    assert told.ahead_s == (TIMESTAMP_AHEAD_MS_MAX + 5_000) // 1000
    written = right.put("x")
    assert early.timestamp < written.timestamp < far.timestamp
    assert to_ms(written.timestamp) <= right.clock.ms + 1_000


# -- reading ---------------------------------------------------------------------------------------------------------


def test_a_scan_gives_what_fits_in_the_order_it_came_and_no_tombstones_unless_asked():
    book = Book()
    for number in range(6):
        book.put(f"n{number}", tags=("even",) if number % 2 == 0 else (), created_ms=number * 1000)
    at_once(book.book.delete(MAIN, book.book.id, "n2"))
    book.put("n0", b"again", tags=("even",), created_ms=0)
    assert book.names() == ["n1", "n3", "n4", "n5", "n0"]
    assert book.names(deleted=True) == ["n1", "n3", "n4", "n5", "n2", "n0"]
    assert book.names(tag="even") == ["n4", "n0"]
    assert book.names(since_ms=3000) == ["n3", "n4", "n5"]
    assert book.names(author=Book(2).book.id) == []
    assert book.names(author=book.book.id, tag="even", since_ms=1) == ["n4"]
    assert book.names(context="nothing") == []


def test_a_scan_of_many_comes_in_pages():
    book = Book()
    count = 2 * BATCH_RECORDS_MAX + 1
    at_once(book.book.put_all([book.draft(f"n{number}") for number in range(count)]))

    async def sizes() -> list[int]:
        return [len(page) async for page in book.book.scan(MAIN)]

    assert at_once(sizes()) == [BATCH_RECORDS_MAX, BATCH_RECORDS_MAX, 1]


def contest(*bodies: bytes) -> tuple[Sequence[Book], list[Record]]:
    """Return books that each wrote the same shared record unseen by the others, and then exchanged all versions."""
    books = [Book(number) for number in range(1, len(bodies) + 1)]
    heads = []
    for number, (book, body) in enumerate(zip(books, bodies, strict=True)):
        book.clock.ms += number
        tags = ("late",) if number == len(bodies) - 1 else ("early",)
        heads.append(book.put("todo", body, author=book.book.shared, is_tombstone=not body, tags=tags if body else ()))
    for book in books:
        for other in books:
            book.takes_all_of(other)
    return books, heads


def test_of_a_conflict_every_reader_gets_the_same_winner():
    books, heads = contest(b"1", b"2", b"3")
    for book in books:
        assert [record.id for record in book.read()] == [heads[-1].id]
        assert book.read(tag="early") == []
        (conflict,) = at_once(book.book.conflicts(MAIN))
        assert [record.id for record in conflict] == [head.id for head in reversed(heads)]
        assert winner(conflict).id == conflict[0].id
    resolved = books[0].put("todo", b"all", author=books[0].book.shared)
    assert all(supersedes(resolved, head) for head in heads)
    assert at_once(books[0].book.conflicts(MAIN)) == []


def test_a_winning_tombstone_hides_the_heads_it_won_over():
    (book, other), (kept, gone) = contest(b"kept", b"")
    assert kept.timestamp < gone.timestamp
    for one in (book, other):
        assert one.read() == []
        assert [record.id for record in one.read(deleted=True)] == [gone.id]
        assert "no record" in refusal(one.book.delete(MAIN, one.book.shared, "todo"))
    assert len(at_once(book.book.conflicts(MAIN))) == 1


def test_a_book_verifies_itself():
    book = Book()
    book.put("a")

    async def audit():
        return [found async for found in book.book.audit()][-1]

    assert at_once(audit()).problems == ()


def test_an_author_is_listed_as_shared_or_by_its_id():
    book = Book()
    assert book.book.label(book.book.shared) == "shared"
    assert book.book.label(book.book.id) == to_base32(book.book.id)


def refusal_of(call) -> str:
    with pytest.raises(LocalError) as refused:
        call()
    return str(refused.value)
