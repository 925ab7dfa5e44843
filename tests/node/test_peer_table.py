"""The peer table: sightings, tags and addresses; and no other module writes its fields."""

import ast
from dataclasses import fields

import pytest

from echonode.limits import CANDIDATES_MAX, MEET_AT_ONCE
from echonode.model.identity import IdentityId
from echonode.node.peer_table import PeerEntry, PeerTable, Target
from echonode.store.port import KnownPeer
from echonode.text import to_base32
from tests import tidy
from tests.node.timetable import Drawn, peer_id

ONE, TWO = peer_id(1), peer_id(2)
HERE = ("10.0.0.1:1",)


def told_by(peer: IdentityId) -> str:
    return f"peer:{to_base32(peer)}"


def table_with(*peers: IdentityId) -> PeerTable:
    """Return a table on which these peers were met; the tag of each is its first eight bytes."""
    table = PeerTable(Drawn())
    for peer in peers:
        meet(table, peer)
        table.closed(0.0, 0, peer, in_sync=True, reason="")
    return table


def meet(table: PeerTable, peer: IdentityId, *, tag: bytes | None = None, listens_at: str | None = None) -> None:
    table.opened(peer, "name", "", target=None)
    table.met(peer, tag=peer[:8] if tag is None else tag, models={"chat": (1, 0)}, listens_at=listens_at)


def test_a_sighting_is_the_peers_whose_hello_named_its_tag_whichever_came_first():
    table = table_with(ONE)
    table.sighted("before", "mdns", HERE, tag=TWO[:8])
    table.sighted("behind", "mdns", HERE, tag=ONE[:8])
    assert (table.targets["before"].peer, table.targets["behind"].peer) == (None, ONE)
    meet(table, TWO)
    assert table.targets["before"].peer == TWO
    assert [target.key for target in table.targets_of(ONE)] == ["behind"]


@pytest.mark.parametrize("at", ["10.0.0.1:1", ""])
def test_a_dial_that_was_declined_for_another_session_was_of_the_peer_of_that(at: str) -> None:
    table = PeerTable(Drawn())
    table.sighted("seen", "static", HERE)
    table.opened(ONE, "name", "10.0.0.9:9", target=None)
    table.opened(TWO, "name", HERE[0], target=None)
    table.dial_ended(0.0, "seen", failure=None, is_declined=True, at=at)
    assert table.targets["seen"].peer == TWO


def test_a_tag_of_an_earlier_start_means_nothing_any_more():
    table = table_with(ONE)
    meet(table, ONE, tag=b"restart!")
    table.sighted("old", "mdns", HERE, tag=ONE[:8])
    table.sighted("new", "mdns", HERE, tag=b"restart!")
    assert (table.targets["old"].peer, table.targets["new"].peer) == (None, ONE)


def test_where_a_peer_listens_is_kept_until_it_is_sighted():
    table = PeerTable(Drawn())
    meet(table, ONE, listens_at="10.0.0.1:7")
    assert table.targets[told_by(ONE)].addresses == ("10.0.0.1:7",)
    assert table.targets[told_by(ONE)].peer == ONE
    table.sighted("t1", "mdns", ("10.0.0.1:7",), tag=ONE[:8])
    assert list(table.targets) == ["t1"]
    meet(table, ONE, listens_at="10.0.0.1:7")
    assert list(table.targets) == ["t1"], "that address is known already"


def test_the_address_of_a_sighting_that_was_withdrawn_is_kept_if_its_peer_was_met():
    table = table_with(ONE)
    table.sighted("t1", "mdns", HERE, tag=ONE[:8])
    table.sighted("t2", "mdns", HERE)
    table.peers[ONE].compare_at_s = 50.0
    assert table.withdrawn("t1") is None, "it may still answer"
    assert table.withdrawn("t2") is None
    assert table.withdrawn("never sighted") is None
    (kept,) = table.targets.values()
    assert (kept.key, kept.addresses, kept.peer) == (told_by(ONE), HERE, ONE)
    assert table.peers[ONE].compare_at_s == 0.0, "dialling will tell"


def test_a_peer_without_another_target_is_absent_once_its_only_one_is_forgotten():
    table = table_with(ONE)
    table.sighted("t1", "mdns", HERE, tag=ONE[:8])
    absent = table.forget("t1")
    assert absent is not None
    assert (absent.id, absent.reason, absent.is_reachable) == (ONE, "it took its leave", False)


def test_a_peer_that_refuses_at_one_address_is_not_shown_as_equal_while_another_was_not_tried():
    table = table_with(ONE)
    for key in ("static", "announced"):
        table.sighted(key, "mdns", HERE, tag=ONE[:8])
    for failure, is_refusal, shown in (("timed out", False, (True, "")), ("paused", True, (None, "paused"))):
        table.dial_begun("static")
        assert table.dial_ended(1.0, "static", failure=failure, is_refusal=is_refusal) is None
        assert table.peers[ONE].is_reachable
        assert (table.peers[ONE].in_sync, table.peers[ONE].reason) == shown


def test_no_address_is_kept_where_there_is_no_room():
    table = table_with(ONE)
    table.sighted("t1", "mdns", HERE, tag=ONE[:8])
    for number in range(CANDIDATES_MAX - 1):
        table.sighted(f"other-{number}", "mdns", HERE)
    table.peers[ONE].compare_at_s = 50.0
    table.withdrawn("t1")
    assert told_by(ONE) not in table.targets
    assert table.peers[ONE].compare_at_s == 50.0


def test_in_another_network_every_sighting_is_judged_anew_and_dialled_at_once():
    table = PeerTable(Drawn())
    for key, group in (("of the old one", b"old"), ("of the new one", b"new")):
        table.sighted(key, "mdns", HERE, is_ours=group == b"old", tag=key.encode(), group=group)
        table.dial_begun(key)
        table.dial_ended(0.0, key, failure="no answer")
    table.sighted("configured", "static", HERE)
    table.membership_changed(lambda tag, group: group == b"new")
    assert {key: target.is_ours for key, target in table.targets.items()} == {
        "of the old one": False,
        "of the new one": True,
        "configured": True,
    }
    assert not any(target.attempt or target.not_before_s for target in table.targets.values())


def test_a_peer_that_made_room_for_another_is_not_known_by_its_tag():
    table = PeerTable(Drawn())
    for number in range(CANDIDATES_MAX):
        peer = IdentityId(number.to_bytes(8, "big") * 4)
        meet(table, peer)
        table.closed(float(number), 0, peer, in_sync=True, reason="")
        table.missed(peer, "no answer")
    first = IdentityId(bytes(32))
    meet(table, IdentityId(b"new peer" * 4))
    assert first not in table.peers
    table.sighted("t1", "mdns", HERE, tag=bytes(8))
    assert table.targets["t1"].peer is None


def test_comparisons_in_a_row_that_find_nothing_become_rarer():
    table = table_with(ONE)
    waits = list[float]()
    for number in range(3):
        table.opened(ONE, "name", "", target=None)
        table.closed(100.0 * number, 0, ONE, in_sync=True, reason="", is_fruitless=True)
        waits.append(table.peers[ONE].compare_at_s - 100.0 * number)
    assert waits[0] < waits[1] and waits[0] < waits[2]


def known_peer(number: int) -> KnownPeer:
    return KnownPeer(IdentityId(number.to_bytes(8, "big") * 4), f"n{number}", (f"10.0.0.1:{number + 1}",), 7)


def test_known_peers_are_dialled_the_first_at_once_and_the_rest_bit_by_bit():
    table = PeerTable(Drawn())
    table.loaded(100.0, map(known_peer, range(CANDIDATES_MAX + 1)))
    assert len(table.peers) == CANDIDATES_MAX
    waits = [table.targets[told_by(known_peer(number).id)].not_before_s for number in range(MEET_AT_ONCE + 2)]
    assert not any(waits[:MEET_AT_ONCE])
    assert 100.0 < waits[-2] < waits[-1]


def test_a_known_peer_that_cannot_be_reached_is_shown_with_the_failure_until_it_is_met():
    table = PeerTable(Drawn())
    table.loaded(0.0, [KnownPeer(ONE, "one", ("10.0.0.1:7",), 1)])
    entry = table.peers[ONE]
    assert entry.reason == "not met in this run of the node"
    for failure in ("timed out", "refused"):  # the last one counts
        table.dial_begun(told_by(ONE))
        assert table.dial_ended(1.0, told_by(ONE), failure=failure) is None  # it was absent before
        assert (entry.reason, entry.is_reachable, entry.address) == (failure, False, "10.0.0.1:7")
    meet(table, ONE)
    assert (entry.reason, entry.is_reachable) == ("", True)
    table.closed(2.0, 0, ONE, in_sync=None, reason="")
    assert table.dial_ended(3.0, told_by(ONE), failure="it left") is entry
    assert table.dial_ended(4.0, told_by(ONE), failure="timed out") is None
    assert entry.reason == "it left"  # why it went says more


def test_a_peer_that_was_forgotten_is_not_known_and_its_addresses_are_nobodys():
    table = PeerTable(Drawn())
    table.loaded(0.0, [known_peer(1), known_peer(2)])
    table.saved(known_peer(2))
    table.forget_peer(known_peer(2).id)
    peer = known_peer(1).id
    assert table.targets.keys() == {told_by(peer)}
    meet(table, peer, tag=b"hallo!!!")
    table.sighted("seen", "mdns", HERE, tag=b"hallo!!!")
    assert table.targets["seen"].peer == peer
    table.forget_peer(peer)
    table.forget_peer(peer)  # again: nothing more happens
    table.saved(known_peer(1))  # the store was behind
    assert not table.peers
    assert table.targets.keys() == {"seen"} and table.targets["seen"].peer is None


# -- one owner -------------------------------------------------------------------------------------------------------

OWNED = {each.name for kind in (Target, PeerEntry) for each in fields(kind)}


def written(source: str) -> list[str]:
    """Return every assignment to a name that a Target or PeerEntry has; a class may write its own fields so called."""
    assigned: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(source)):
        assigned += node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    parts = [part for each in assigned for part in (each.elts if isinstance(each, ast.Tuple) else [each])]
    attributes = [part for part in parts if isinstance(part, ast.Attribute) and part.attr in OWNED]
    return [text for text in map(ast.unparse, attributes) if not text.startswith("self.")]


@pytest.mark.parametrize("module", [each for each in tidy.package() if each.room in ("node", "sim", "api")], ids=str)
def test_only_the_peer_table_writes_its_fields(module):
    found = written(module.source)
    assert bool(found) == (module.path == "node/peer_table.py"), found
