"""Addresses: what a text means on a node, by the authors in its store and the names of the peers it has met."""

from functools import cache

import pytest

from echonode.errors import LocalError
from echonode.model.identity import Identity, Instance
from echonode.model.record import IDENTITIES
from echonode.node.addresses import Addresses
from echonode.node.event_bus import EventBus
from echonode.node.peer_table import PeerTable
from echonode.node.pools import Pools
from echonode.node.record_book import RecordBook
from echonode.sim.event_loop import SimEntropy
from echonode.store.memory import MemoryStore
from echonode.text import to_base32
from tests.node.test_record_book import Book, StoppedClock, refusal_of
from tests.node.timetable import Drawn, peer_id
from tests.store.files import run as at_once


def addresses(book: Book, peers: PeerTable | None = None) -> Addresses:
    return Addresses(book.book, peers or PeerTable(Drawn()), Pools(book.book, (), Drawn(), lambda pools: None), "home")


@cache
def alike() -> tuple[Identity, Identity]:
    """Return two identities whose ids begin with the same four characters."""
    seen: dict[str, Identity] = {}
    for number in range(100_000):
        identity = Identity.from_seeds(number.to_bytes(32, "big"), b"d" * 32)
        other = seen.setdefault(to_base32(identity.id)[:4], identity)
        if other is not identity:
            return other, identity
    raise AssertionError


def test_names_are_addressed_by_author_and_a_bare_name_is_ours():
    book, other = Book(1), Book(2)
    other.put("x")
    book.takes_all_of(other)
    theirs = to_base32(other.book.id)
    ours, pool = book.book.id, book.book.shared
    for text, meant in {
        "todo": (ours, "todo"),
        "me/todo": (ours, "todo"),
        "shared/todo": (pool, "todo"),
        f"{theirs}/a": (other.book.id, "a"),
        f"@{theirs[:4]}/a/b": (other.book.id, "a/b"),
        f"{theirs[:12]}/a": (ours, f"{theirs[:12]}/a"),  # only @ makes a label or a prefix of it
        "unknown/a": (ours, "unknown/a"),
        "me/": (ours, "me/"),
        "/a": (ours, "/a"),
        "shared": (ours, "shared"),
        "a/b/c": (ours, "a/b/c"),
        f"@{to_base32(ours)[:6]}/a": (ours, "a"),
    }.items():
        assert addresses(book).resolve(text) == meant, text
    assert addresses(book).resolve_author("me") == ours
    assert addresses(book).resolve_author(theirs[:10]) == other.book.id
    assert addresses(book).resolve_author(f"@{theirs[:10]}") == other.book.id
    assert addresses(book).resolve_author(to_base32(bytes(32))) == bytes(32)
    for unknown in ("nobody", "@nobody", theirs[:3], ""):
        assert "no node or pool" in refusal_of(lambda text=unknown: addresses(book).resolve_author(text))
    assert "no node or pool" in refusal_of(lambda: addresses(book).resolve("@nobody/a"))


def test_a_prefix_of_two_authors_is_refused_rather_than_guessed():
    store = MemoryStore(Instance(bytes(8)))
    book = Book(store=store)
    for number, identity in enumerate(alike()):
        held = MemoryStore(Instance(bytes((number,)) * 8))
        other = RecordBook(held, identity, StoppedClock(), SimEntropy(2), EventBus(lambda _: None))
        at_once(other.introduce(None))
        at_once(store.apply(IDENTITIES, other.own_statements))
    one, two = (to_base32(identity.id) for identity in alike())
    assert "2 identities" in refusal_of(lambda: addresses(book).resolve(f"@{one[:4]}/a"))
    assert "2 identities" in refusal_of(lambda: addresses(book).resolve_author(one[:4]))
    longer = next(length for length in range(5, 53) if one[:length] != two[:length])
    assert addresses(book).resolve(f"@{one[:longer]}/a") == (alike()[0].id, "a")


def test_the_open_network_has_nothing_shared():
    book = Book(secret=None)
    assert "no `shared`" in refusal_of(lambda: addresses(book).resolve("shared/todo"))
    assert "no `shared`" in refusal_of(lambda: addresses(book).resolve_author("shared"))


def test_a_label_is_the_name_of_this_node_or_of_a_peer_that_was_met():
    book, peers = Book(), PeerTable(Drawn())
    peers.opened(peer_id(7), "laptop", "", target=None)
    known = addresses(book, peers)
    assert known.resolve("@laptop/a") == (peer_id(7), "a")
    assert known.resolve("@home/a") == (book.book.id, "a")
    assert known.resolve("laptop/a") == (book.book.id, "laptop/a"), "only @ makes a label"
    assert known.author_text(peer_id(7)) == "@laptop"
    assert known.labels()[peer_id(7)] == "laptop"
    with pytest.raises(LocalError):
        known.resolve("@another/a")


def test_a_filter_names_whole_ids_and_no_labels():
    book, peers = Book(), PeerTable(Drawn())
    peers.opened(peer_id(7), "laptop", "", target=None)
    known = addresses(book, peers)
    assert known.resolve_in_filter("me") == book.book.id
    assert known.resolve_in_filter("shared") == book.book.shared
    assert known.resolve_in_filter(to_base32(peer_id(7))) == peer_id(7)
    with pytest.raises(LocalError):
        known.resolve_in_filter("laptop")
