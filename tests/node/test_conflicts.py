"""Conflicts between two record books that wrote apart: what is shown, what each choice writes, which events say so."""

import json

import pytest

from echonode.clock import to_ms
from echonode.errors import LocalError
from echonode.model.record import IDENTITIES, MAIN, Record
from echonode.node.conflicts import Conflicts, Resolution, Strategy
from echonode.node.event_bus import EventBus
from echonode.node.events import ContextShown, Event, RecordConflict, RecordConflictResolved, RecordsApplied
from tests.node.test_record_book import Book
from tests.store.files import run as at_once


class Sides:
    """Two books that both wrote `shared/todo`, from a version that both had, while apart; `ours` then took `theirs`."""

    def __init__(self, base: bytes | None, ours: bytes | None, theirs: bytes | None) -> None:
        self.ours, self.theirs = Book(1), Book(2)
        self.events: list[Event] = []
        bus = EventBus(self.events.append)
        self.conflicts = Conflicts(self.ours.book, bus)
        bus.on(RecordsApplied, self.conflicts.note_applied)
        self.bus = bus
        if base is not None:
            self.write(self.ours, base)
            self.theirs.takes_all_of(self.ours)
        self.ours_written = self.write(self.ours, ours)
        self.theirs.clock.ms += 1000  # so that theirs is the newer one
        self.theirs_written = self.write(self.theirs, theirs)
        heads = [head for found in self.theirs.store._heads[IDENTITIES].values() for head in found]
        at_once(self.ours.store.apply(IDENTITIES, heads))
        self.take([self.theirs_written])

    def write(self, book: Book, body: bytes | None) -> Record:
        if body is None:
            return book.put("todo", author=book.book.shared, is_tombstone=True)
        return book.put("todo", body, author=book.book.shared)

    def take(self, records: list[Record]) -> None:
        applied = at_once(self.ours.store.apply(MAIN, records))
        self.bus.publish(RecordsApplied(context=MAIN, source=self.theirs.book.id, records=tuple(applied.records)))

    def resolve(self, choice: bytes | Strategy) -> Resolution:
        return at_once(self.conflicts.resolve(MAIN, self.ours.book.shared, "todo", choice))


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "strategy", "expected"),
    [
        (b'{"a":1,"b":1}', b'{"a":2,"b":1}', b'{"a":1,"b":2}', Strategy.MERGE, b'{"a":2,"b":2}'),
        (None, b'{"a":2}', b'{"b":2}', Strategy.MERGE, b'{"b":2,"a":2}'),
        (None, b'{"a":1}', b'{"a":2}', Strategy.MERGE, b'{"a":{"$conflict":[2,1]}}'),
        (None, b"milk", b"bread", Strategy.MERGE, b"bread"),
        (b"old", b"milk", None, Strategy.MERGE, b"milk"),
        (b"old", None, b"bread", Strategy.MERGE, b"bread"),
        (b"old", b"milk", b"bread", Strategy.PREFER_LOCAL, b"milk"),
        (b"old", b"milk", b"bread", Strategy.PREFER_REMOTE, b"bread"),
        (b"old", None, b"bread", Strategy.PREFER_LOCAL, None),
        (b"old", b"milk", None, Strategy.PREFER_REMOTE, None),
        (b"old", None, None, Strategy.MERGE, None),
    ],
)
def test_a_strategy_writes_one_version_that_covers_both_sides(
    base: bytes | None, ours: bytes | None, theirs: bytes | None, strategy: Strategy, expected: bytes | None
) -> None:
    sides = Sides(base, ours, theirs)
    assert sides.conflicts.count() == sides.conflicts.count(MAIN) == 1
    resolution = sides.resolve(strategy)
    record = resolution.record
    assert (None if record.is_tombstone else record.body) == expected
    assert {head.id for head in resolution.covered} == {sides.ours_written.id, sides.theirs_written.id}
    assert at_once(sides.ours.book.heads(MAIN, sides.ours.book.shared, "todo")) == [record]
    assert sides.conflicts.count() == 0
    assert record.timestamp > max(sides.ours_written.timestamp, sides.theirs_written.timestamp)


def test_a_chosen_head_is_kept_byte_for_byte_whoever_wrote_it() -> None:
    for side in ("ours_written", "theirs_written"):
        sides = Sides(None, b'{"a": 1.0}', b"\xff\x00")
        chosen = getattr(sides, side)
        assert sides.resolve(chosen.id).record.body == chosen.body


def test_a_version_that_is_no_head_and_a_record_without_a_conflict_are_refused() -> None:
    sides = Sides(b"old", b"milk", b"bread")
    with pytest.raises(LocalError, match="is no head"):
        sides.resolve(bytes(32))
    sides.resolve(Strategy.MERGE)
    with pytest.raises(LocalError, match="in no conflict"):
        sides.resolve(Strategy.MERGE)
    with pytest.raises(LocalError, match="no record"):
        at_once(sides.conflicts.of(MAIN, sides.ours.book.shared, "unknown"))


def test_both_sides_are_shown_the_newer_first_with_the_version_from_which_they_came() -> None:
    sides = Sides(b"old", b"milk", b"bread")
    conflict = at_once(sides.conflicts.of(MAIN, sides.ours.book.shared, "todo"))
    assert [head.body for head in conflict.heads] == [b"bread", b"milk"]
    assert conflict.base is not None and conflict.base.body == b"old"
    apart = Sides(None, b"milk", b"bread")
    assert at_once(apart.conflicts.of(MAIN, apart.ours.book.shared, "todo")).base is None


def test_one_event_says_that_a_conflict_arose_and_one_that_it_is_over() -> None:
    sides = Sides(b"old", b"milk", b"bread")
    arisen = [event for event in sides.events if isinstance(event, RecordConflict)]
    assert [(event.context, event.record) for event in arisen] == [(MAIN, "todo")]
    sides.take([sides.theirs_written])
    assert len([event for event in sides.events if isinstance(event, RecordConflict)]) == 1
    covering = sides.resolve(Strategy.MERGE).record
    sides.bus.publish(RecordsApplied(context=MAIN, source=b"", records=(covering,)))
    assert len([event for event in sides.events if isinstance(event, RecordConflictResolved)]) == 1


def test_a_snapshot_with_conflicts_says_so_of_each_of_them_once() -> None:
    sides = Sides(b"old", b"milk", b"bread")
    told: list[Event] = []
    late = Book(3)
    conflicts = Conflicts(late.book, EventBus(told.append))
    heads = at_once(sides.ours.store.heads(MAIN, sides.ours.book.shared, "todo"))
    for context in (IDENTITIES, MAIN):
        known = [head for found in sides.ours.store._heads[context].values() for head in found]
        at_once(late.store.apply(context, known))
    for _ in range(2):
        at_once(conflicts.note_shown(ContextShown(context=MAIN, source=sides.ours.book.id, latest=(), count=1)))
    assert len(heads) == 2
    assert told == [RecordConflict(context=MAIN, author=heads[0].author, record="todo")]


def test_conflicts_that_were_there_at_the_start_are_not_told_again() -> None:
    sides = Sides(b"old", b"milk", b"bread")
    later: list[Event] = []
    bus = EventBus(later.append)
    conflicts = Conflicts(sides.ours.book, bus)
    conflicts.note_applied(RecordsApplied(context=MAIN, source=b"", records=(sides.theirs_written,)))
    assert later == []


def test_history_has_what_was_covered_the_last_one_first() -> None:
    sides = Sides(b"old", b"milk", b"bread")
    sides.resolve(Strategy.MERGE)
    earlier = at_once(sides.ours.store.earlier(MAIN, sides.ours.book.shared, "todo", limit=10))
    assert {each.record.body for each in earlier} == {b"old", b"milk", b"bread"}
    assert earlier[-1].record.body == b"old"
    assert len(at_once(sides.ours.store.earlier(MAIN, sides.ours.book.shared, "todo", limit=1))) == 1


def test_a_clock_that_was_ahead_does_not_stick_and_an_edit_is_later_than_what_it_covers() -> None:
    book = Book(1)
    year_ms = 365 * 86_400_000
    book.clock.ms += year_ms
    ahead = book.put("x", b"1")
    book.clock.ms -= year_ms
    other, edit = book.put("y", b"2"), book.put("x", b"3")
    assert other.timestamp >> 16 == other.created_ms == edit.created_ms == book.clock.ms
    assert edit.timestamp > ahead.timestamp
    book.clock.ms += 60_000
    book.put("z", b"4")
    book.clock.ms -= 60_000
    written = book.put("y", b"5")
    assert to_ms(written.timestamp) > written.created_ms == book.clock.ms
    assert json.loads(edit.body) == 3
