"""Link selection: the peers that a node follows, and the comparisons beside links, case by case."""

from itertools import count

import pytest

from echonode.limits import (
    COMPARE_INTERVAL_S,
    LINK_RENEWAL_S,
    LINK_RETRY_S,
    LINKS_ALL_MAX,
    LINKS_CHOSEN,
    LINKS_MAX,
    UNEQUAL_COMPARE_INTERVAL_S,
)
from echonode.model.identity import IdentityId
from echonode.node import link_selection
from echonode.sim.event_loop import SimEntropy
from tests.node.timetable import NEVER, Drawn, Timetable, peer_id, sight


@pytest.fixture(autouse=True)
def among_many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a few peers stand for many, but in tests that have `few` in their name."""
    if "few" not in request.node.name:
        monkeypatch.setattr(link_selection, "LINKS_ALL_MAX", 0)


class Ranked(Drawn):
    """Entropy that gives one rank after another, and the middle of every other range."""

    def __init__(self) -> None:
        super().__init__()
        self._ranks = count(1)

    def uniform(self, low: float, high: float) -> float:
        return next(self._ranks) / 1000 if (low, high) == (0, 1) else super().uniform(low, high)


def met(count: int, *, can_follow: bool = True) -> Timetable:
    """Return a timetable on which peers 1 .. count were met, ranked in this order."""
    times = Timetable(Ranked())
    for number in range(1, count + 1):
        sight(times, number)
        times.table.targets[f"t{number}"].peer = peer_id(number)
        times.table.opened(peer_id(number), f"n{number}", "", target=f"t{number}", can_follow=can_follow)
        times.table.closed(0.0, 0, peer_id(number), in_sync=True, reason="")
    return times


def link(times: Timetable, *numbers: int, at_s: float = 0.0, is_leading: bool = True) -> None:
    for number in numbers:
        times.table.linked(at_s, peer_id(number), is_leading=is_leading)


def dialled(times: Timetable, now_s: float) -> set[str]:
    found = set()
    while dials := times.due(now_s):
        found |= {dial.target for dial in dials}
        for dial in dials:
            times.dial_ended(now_s, dial.target, failure=None, is_declined=True)
            times.table.targets[dial.target].not_before_s = NEVER
    return found


def test_the_peers_of_lowest_rank_are_dialled_to_be_followed_and_no_others():
    times = met(8)
    assert times.links.chosen() == {peer_id(number) for number in (1, 2, 3)}
    assert dialled(times, 1.0) == {"t1", "t2", "t3"}


def test_of_few_peers_all_are_followed():
    assert len(met(2).links.chosen()) == 2
    assert met(5, can_follow=False).links.chosen() == set()


@pytest.mark.parametrize("strangers", [0, 1, 5])
def test_few_is_up_to_sixteen_peers_that_are_known_sightings_not_yet_dialled_included(strangers):
    times = met(LINKS_ALL_MAX - strangers)
    for number in range(100, 100 + strangers):
        sight(times, number)
    assert not times.links.has_many()
    assert len(times.links.chosen()) == LINKS_ALL_MAX - strangers
    sight(times, 99)
    assert times.links.has_many()
    assert len(times.links.chosen()) == LINKS_CHOSEN
    times.table.dial_begun("t99")
    times.dial_ended(0.0, "t99", failure="no answer")
    assert not times.links.has_many(), "an address where no peer answers is none"


def test_an_attempt_is_one_of_a_chosen_peer_and_the_next_one_comes_later_and_later():
    times = met(5)
    one, five = peer_id(1), peer_id(5)
    assert not times.wants_link(five, 0.0)
    now_s, waits = 0.0, []
    for _ in range(20):
        assert times.wants_link(one, now_s)
        assert not times.wants_link(one, now_s)
        waits.append(times.table.peers[one].follow_at_s - now_s)
        now_s = times.table.peers[one].follow_at_s
    assert waits[:10] == sorted(waits[:10])
    assert waits[0] <= 2 * LINK_RETRY_S[0] and waits[-1] == pytest.approx(LINK_RETRY_S[1] / 2)
    link(times, 1, at_s=now_s)
    assert not times.wants_link(one, now_s + 1e6)


def test_a_peer_that_declined_gives_its_place_to_the_next():
    times = met(5)
    times.table.link_declined(peer_id(2))
    assert times.links.chosen() == {peer_id(number) for number in (1, 3, 4)}


def test_a_peer_that_is_lost_gives_its_place_to_the_next():
    times = met(5)
    link(times, 1, 2, 3)
    times.table.unlinked(100.0, peer_id(1))
    times.table.forget("t1")
    assert times.links.chosen() == {peer_id(number) for number in (2, 3, 4)}
    assert "t4" in dialled(times, 101.0)


@pytest.mark.parametrize("lasted_s", [1.0, 1000.0])
def test_behind_a_link_that_ended_the_peer_is_looked_for_soon_and_later_when_none_lasts(lasted_s):
    times = met(3)
    entry = times.table.peers[peer_id(1)]
    entry.link_losses = 8
    link(times, 1, at_s=10.0)
    assert entry.compare_at_s == NEVER
    times.table.unlinked(10.0 + lasted_s, peer_id(1))
    assert not entry.is_following
    assert entry.follow_at_s - 10.0 - lasted_s == pytest.approx(0.05 if lasted_s > 60 else 12.8)
    assert entry.compare_at_s - 10.0 - lasted_s == pytest.approx(0.05 if lasted_s > 60 else 5.0)


def test_a_peer_that_is_followed_is_neither_compared_with_nor_told_by_dialling():
    times = met(3)
    link(times, 1, 2, 3)
    assert times.next_due_s() == NEVER
    times.changed(10.0, None)
    assert times.next_due_s() == NEVER
    times.table.opened(peer_id(1), "n1", "", target=None, can_follow=True)  # a person asked for a sync
    times.table.closed(11.0, 0, peer_id(1), in_sync=True, reason="")
    assert times.next_due_s() == NEVER


def test_who_cannot_follow_is_told_by_dialling_even_where_others_follow():
    times = met(3)
    times.table.peers[peer_id(3)].can_follow = False
    link(times, 1)
    times.table.peers[peer_id(2)].follow_at_s = NEVER
    times.changed(10.0, None)
    assert [number for number in (1, 2, 3) if times.table.peers[peer_id(number)].compare_at_s < 11] == [3]


def test_where_links_are_up_others_are_compared_with_one_at_a_time():
    times = met(13)
    link(times, 1, 2, 3)
    now_s = 1000.0
    times.table.opened(peer_id(9), "n9", "", target=None, can_follow=True)
    times.table.closed(now_s, 0, peer_id(9), in_sync=True, reason="")
    assert times.table.peers[peer_id(9)].compare_at_s == now_s + 10 * sum(COMPARE_INTERVAL_S) / 2


def test_a_root_that_stays_another_is_compared_soon_and_not_all_the_time():
    times = met(3)
    link(times, 1)
    entry = times.table.peers[peer_id(1)]
    times.table.suspected(50.0, peer_id(1))
    assert entry.compare_at_s < 50.1
    assert "t1" in dialled(times, 50.1)
    entry.compare_at_s = NEVER
    times.table.suspected(51.0, peer_id(1))
    assert entry.compare_at_s == NEVER
    times.table.opened(peer_id(1), "n1", "", target=None, can_follow=True)
    times.table.suspected(50.0 + UNEQUAL_COMPARE_INTERVAL_S, peer_id(1))
    times.table.closed(90.0, 0, peer_id(1), in_sync=True, reason="")
    assert entry.compare_at_s < 90.1, "what it was suspected of is not what was compared"


def test_a_link_that_says_all_is_equal_is_believed():
    times = met(2)
    link(times, 1)
    times.changed(5.0, None)
    entry = times.table.peers[peer_id(1)]
    assert entry.in_sync is None
    times.table.link_equal(77, peer_id(1))
    assert (entry.in_sync, entry.reason, entry.last_sync_ms) == (True, "", 77)


def test_a_followed_peer_is_there_whatever_dialling_it_says():
    times = met(1)
    link(times, 1, is_leading=False)
    times.table.missed(peer_id(1), "no answer")
    times.due(1e6)
    assert not times.dial_ended(1e6, "t1", failure="no answer")
    assert not times.table.forget("t1")
    assert times.table.peers[peer_id(1)].is_reachable


def test_links_of_ours_to_peers_that_are_not_chosen_are_superfluous_once_those_that_are_are_up():
    times = met(6)
    link(times, 4, 5)
    link(times, 6, is_leading=False)
    link(times, 1, 2)
    assert times.links.superfluous() == []
    link(times, 3)
    assert times.links.superfluous() == [peer_id(4), peer_id(5)]


def test_a_node_takes_a_bounded_number_of_links():
    times = met(1)
    many = [IdentityId(number.to_bytes(32, "big")) for number in range(LINKS_MAX)]
    for number, peer in enumerate(many):
        assert times.links.has_room_for_link(), number
        times.table.opened(peer, "", "", target=None, can_follow=True)
        times.table.linked(0.0, peer, is_leading=False)
    assert not times.links.has_room_for_link()


def test_from_time_to_time_one_of_those_to_follow_is_drawn_anew():
    times = Timetable(SimEntropy("mix"))
    peers = [peer_id(number) for number in range(1, 60)]
    for peer in peers:
        times.table.opened(peer, "", "", target=None, can_follow=True)
    now_s, seen = 0.0, set[IdentityId]()
    for _ in range(200):
        before = times.links.chosen()
        assert len(before) == LINKS_CHOSEN
        times.due(now_s)
        assert len(before & times.links.chosen()) >= LINKS_CHOSEN - 1
        seen |= times.links.chosen()
        now_s += 1.5 * LINK_RENEWAL_S
    assert len(seen) > 40
    few = met(2)
    for number in range(3):
        few.due(number * 2 * LINK_RENEWAL_S)
    assert len(few.links.chosen()) == 2
