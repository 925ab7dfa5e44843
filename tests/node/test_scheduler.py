"""The scheduler: its decisions case by case, and a machine of random events in random order."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from echonode.limits import (
    BACKOFF_S,
    CANDIDATES_MAX,
    CHANGE_DELAY_S,
    COMPARE_INTERVAL_S,
    COMPARE_INTERVAL_S_MAX,
    CONNECTIONS_MAX,
    DIALS_MAX,
    LINK_RETRY_S,
    LOST_BACKOFF_S,
    MEET_AT_ONCE,
    MEET_INTERVAL_S,
    MISLEADING_ADDRESS_S,
    RELAY_FANOUT,
    WRITE_FANOUT,
)
from echonode.model.identity import IdentityId
from echonode.node.backoff import Backoff
from echonode.node.scheduler import DialNow
from echonode.sim.event_loop import SimEntropy
from tests.node.timetable import NEVER, Drawn, Timetable, peer_id, sight


def timetable(at: float = 0.5) -> Timetable:
    return Timetable(Drawn(at))


def converse(times: Timetable, now_s: float, *numbers: int, in_sync: bool | None = True) -> None:
    """Dial the targets of these numbers, meet the peers behind them, and end the sessions."""
    for number in numbers:
        assert any(dial.target == f"t{number}" for dial in times.due(now_s))
        open_(times, number)
        times.table.closed(now_s, 0, peer_id(number), in_sync=in_sync, reason="")
        times.dial_ended(now_s, f"t{number}", failure=None)


def open_(times: Timetable, number: int, *, target: bool = True) -> bool:
    return times.table.opened(peer_id(number), f"n{number}", "", target=f"t{number}" if target else None)


# -- what is dialled -------------------------------------------------------------------------------------------------


def test_what_is_sighted_is_dialled_at_once_and_only_once():
    times = timetable()
    assert times.next_due_s() == NEVER
    assert times.table.sighted("t1", "mdns", ("a:1", "b:2"))
    assert times.next_due_s() == 0
    assert times.due(5.0) == [DialNow("t1", ("a:1", "b:2"))]
    assert times.due(5.0) == []
    assert times.next_due_s() == NEVER
    assert not times.table.sighted("t1", "mdns", ("a:1", "b:2"))
    assert times.due(6.0) == []


def test_a_peer_in_session_is_not_dialled_whichever_target_leads_to_it():
    times = timetable()
    sight(times, 1)
    times.due(0)
    open_(times, 1)
    times.table.sighted("static:x", "static", ("x:1",))
    times.table.targets["static:x"].peer = peer_id(1)
    assert times.due(1000.0) == []
    times.table.closed(0, 0, peer_id(1), in_sync=True, reason="")
    assert times.due(1e9) == []  # the dial of t1 is not over, and leads to the same peer
    times.dial_ended(0, "t1", failure=None)
    assert len(times.due(1e9)) == 1  # one of its two targets
    times = met(1)
    open_(times, 1, target=False)  # the peer dialled us
    assert times.due(1e9) == []
    assert times.next_due_s() == NEVER


def test_four_dials_at_once_and_a_session_makes_room_for_the_next():
    times = timetable()
    sight(times, *range(1, 10))
    first = times.due(0)
    assert len(first) == DIALS_MAX
    assert times.due(0) == []
    assert times.next_due_s() == NEVER
    open_(times, 1)
    assert len(times.due(0)) == 1
    times.dial_ended(0, "t2", failure="no")
    times.dial_ended(0, "t3", failure=None)
    assert len(times.due(0)) == 2


def test_sessions_that_we_opened_leave_room_for_those_of_others():
    times = timetable()
    many = range(1, CONNECTIONS_MAX)
    for number in many:
        times.table.sighted(f"t{number}", "mdns", ("a:1",))
    begun = 0
    for number in many:
        for dial in times.due(number * max(MEET_INTERVAL_S)):  # long enough to meet one more, among many peers
            begun += 1
            times.table.opened(IdentityId(number.to_bytes(32, "big")), "", "", target=dial.target)
    assert begun == CONNECTIONS_MAX // 2
    assert times.next_due_s() == NEVER


def test_where_a_peer_answered_before_it_is_dialled_first_however_many_other_places_it_is_said_to_be_at():
    times = timetable()
    sight(times, 1)
    converse(times, 0.0, 1)
    for number in range(200):
        times.table.sighted(f"false{number}", "mdns", (f"10.9.0.{number}:1",))
        times.table.targets[f"false{number}"].peer = peer_id(1)
    now_s = times.table.peers[peer_id(1)].compare_at_s
    assert [dial.target for dial in times.due(now_s)] == ["t1"]
    times.dial_ended(now_s, "t1", failure="cut")
    (other,) = times.due(now_s)
    assert other.target != "t1", "it has its back-off, and others their turn"
    times.dial_ended(now_s + 5, other.target, failure="no answer")
    assert [dial.target for dial in times.due(now_s + 5)] == ["t1"]
    times.table.sighted("t1", "mdns", ("10.9.0.1:2",))
    assert not times.table.targets["t1"].has_answered, "another address has proved nothing"


def test_among_many_strangers_are_met_one_after_another():
    times = timetable()
    for number in range(MEET_AT_ONCE):
        sight(times, number)
        converse(times, 0.0, number)
    strangers = range(200, 210)
    sight(times, *strangers)
    (first,) = times.due(1.0)
    times.dial_ended(1.0, first.target, failure="no answer")
    wait_s = sum(MEET_INTERVAL_S) / 2
    assert times.due(1.0 + wait_s / 2) == []
    assert times.next_due_s() == 1.0 + wait_s
    (second,) = times.due(1.0 + wait_s)
    assert {first.target, second.target} <= {f"t{number}" for number in strangers}
    assert first.target != second.target


def test_other_networks_and_ourselves_are_listed_and_never_dialled():
    times = timetable()
    assert times.table.sighted("theirs", "mdns", ("a:1",), is_ours=False, slot="7")
    sight(times, 1)
    times.due(0)
    times.table.misled(0, "t1", "10.0.0.1:1")
    times.table.misled(0, "nobody", "10.0.0.1:1")
    times.dial_ended(0, "t1", failure="self")
    assert times.due(MISLEADING_ADDRESS_S - 1) == []
    assert times.next_due_s() == MISLEADING_ADDRESS_S, "the address may be another's one day"
    assert times.table.targets["theirs"].slot == "7"
    # One joins our network; the address of the other belongs to another node now.
    times.table.sighted("theirs", "mdns", ("a:1",), is_ours=True)
    times.table.sighted("t1", "mdns", ("elsewhere:1",))
    assert {dial.target for dial in times.due(1e9)} == {"theirs", "t1"}


def test_no_more_candidates_than_the_bound_are_kept():
    times = timetable()
    sight(times, *range(CANDIDATES_MAX))
    assert not times.table.sighted("one more", "mdns", ("a:1",))
    assert len(times.table.targets) == CANDIDATES_MAX
    assert not times.table.sighted("t5", "mdns", ("moved:1",)), "those that are known still change"
    assert times.table.targets["t5"].addresses == ("moved:1",)
    times.table.forget("t5")
    assert times.table.sighted("one more", "mdns", ("a:1",))


def test_strangers_make_room_for_whom_one_may_speak_with():
    times = timetable()
    for number in range(CANDIDATES_MAX):
        times.table.sighted(f"s{number}", "mdns", ("a:1",), is_ours=False, slot="7" if number == 0 else None)
    assert not times.table.sighted("another", "mdns", ("a:1",), is_ours=False)
    assert times.table.sighted("ours", "mdns", ("b:1",))
    assert times.table.sighted("inviting", "mdns", ("c:1",), is_ours=False, slot="8")
    assert len(times.table.targets) == CANDIDATES_MAX
    assert {"s0", "ours", "inviting"} <= times.table.targets.keys() and not {"s1", "s2"} & times.table.targets.keys()
    assert [dial.target for dial in times.due(0.0)] == ["ours"]


def test_a_target_that_left_and_came_back_during_its_dial_is_dialled_once():
    times = timetable()
    sight(times, 1)
    assert times.due(0)
    assert not times.table.forget("t1")
    sight(times, 1)
    assert times.due(1e9) == []
    times.dial_ended(0, "t1", failure=None)
    assert times.due(1e9)
    times.table.forget("t1")
    times.dial_ended(0, "t1", failure="no answer")
    assert times.table.targets == {}
    assert not times.dial_ended(0, "t1", failure="again")
    assert not times.table.forget("t1")


# -- when ------------------------------------------------------------------------------------------------------------


def test_failures_back_off_with_full_jitter_up_to_the_cap_and_success_forgets_them():
    entropy = Drawn(at=1.0)
    times = Timetable(entropy)
    sight(times, 1)
    now_s = 0.0
    base_s, cap_s = BACKOFF_S
    for attempt in range(1, 15):
        assert times.due(now_s)
        assert not times.dial_ended(now_s, "t1", failure="no answer")
        bound_s = min(cap_s, base_s * 2**attempt)
        assert entropy.ranges[-1] == (0, bound_s)
        assert times.next_due_s() == now_s + bound_s
        assert times.due(now_s + bound_s - 0.001) == []
        now_s += bound_s
        assert times.table.targets["t1"].reason == "no answer"
    assert bound_s == cap_s
    assert times.due(now_s)
    times.dial_ended(now_s, "t1", failure=None)
    assert times.table.targets["t1"].reason == ""
    assert times.due(now_s)
    times.dial_ended(now_s, "t1", failure="no answer")
    assert entropy.ranges[-1] == (0, base_s * 2)


def test_a_lost_peer_is_dialled_after_a_hundredth_of_its_absence_and_many_lost_ones_take_turns() -> None:
    entropy = Drawn(at=1.0)
    times = Timetable(entropy)
    sight(times, 1)
    assert times.due(0.0)
    times.table.opened(peer_id(1), "one", "10.0.0.1:1", target="t1")
    times.dial_ended(0.0, "t1", failure=None)
    times.table.closed(0.0, 0, peer_id(1), in_sync=True, reason="")
    now_s = times.next_due_s()
    waits_s = {}
    while now_s < 40_000:
        assert times.due(now_s)
        times.dial_ended(now_s, "t1", failure="no answer")
        waits_s[now_s] = times.next_due_s() - now_s
        now_s = times.next_due_s()
    late = {at_s: wait_s for at_s, wait_s in waits_s.items() if at_s > 200}
    bounds_s = {at_s: min(BACKOFF_S[1], max(LOST_BACKOFF_S, 0.01 * at_s)) for at_s in late}
    assert late == pytest.approx(bounds_s)
    assert max(bounds_s.values()) == BACKOFF_S[1]
    backoff = Backoff(entropy)
    assert backoff.redial_lost_s(9, absence_s=600.0, lost=1) == backoff.redial_lost_s(9, absence_s=600.0, lost=4) == 6.0
    assert backoff.redial_lost_s(9, absence_s=600.0, lost=40) == 60.0


@pytest.mark.parametrize(("found_by", "is_answered"), [("mdns", False), ("static", True)])
def test_what_did_not_answer_for_weeks_is_still_dialled(found_by: str, is_answered: bool) -> None:
    times, now_s = timetable(), 0.0
    times.table.sighted("t1", found_by, ("10.0.0.1:1",))
    for _ in range(1_100):  # a float doubles 1,023 times
        assert times.due(now_s)
        times.dial_ended(now_s, "t1", failure="no answer", is_answered=is_answered)
        assert now_s < times.next_due_s() <= now_s + BACKOFF_S[1]
        now_s = times.next_due_s()
    backoff = Backoff(Drawn(1.0))
    assert (backoff.redial_declined_s(5_000), backoff.relink_s(5_000)) == (BACKOFF_S[1], LINK_RETRY_S[1])
    assert backoff.suspect_s(5_000) == COMPARE_INTERVAL_S_MAX


def test_a_new_address_is_tried_at_once_whatever_failed_before():
    times = timetable(at=1.0)
    sight(times, 1)
    times.due(0)
    times.dial_ended(0, "t1", failure="no answer")
    sight(times, 1)
    assert times.due(1) == []
    times.table.sighted("t1", "mdns", ("10.9.9.9:1",))
    assert times.due(1) == [DialNow("t1", ("10.9.9.9:1",))]


@pytest.mark.parametrize("at", [0.0, 0.5, 1.0])
def test_equal_peers_compare_again_after_a_jittered_interval(at):
    times = timetable(at)
    sight(times, 1)
    converse(times, 1000.0, 1)
    low_s, high_s = COMPARE_INTERVAL_S
    assert times.next_due_s() == 1000.0 + low_s + (high_s - low_s) * at
    assert times.due(1000.0 + low_s - 0.001) == []
    assert times.due(1000.0 + high_s)


def test_a_session_that_told_nothing_leaves_what_was_known():
    times = timetable()
    sight(times, 1)
    converse(times, 10.0, 1, in_sync=False)
    entry = times.table.peers[peer_id(1)]
    assert (entry.in_sync, entry.last_sync_ms) == (False, None)
    times.due(1e6)
    open_(times, 1)
    times.table.closed(1e6, 77, peer_id(1), in_sync=True, reason="")
    assert (entry.in_sync, entry.last_sync_ms) == (True, 77)
    compare_at_s = entry.compare_at_s
    open_(times, 1)
    times.table.closed(2e6, 99, peer_id(1), in_sync=None, reason="lost")
    assert (entry.in_sync, entry.last_sync_ms, entry.reason) == (True, 77, "")
    assert entry.compare_at_s == compare_at_s
    open_(times, 1)
    times.table.closed(3e6, 99, peer_id(1), in_sync=False, reason="main: records refused")
    assert (entry.in_sync, entry.last_sync_ms, entry.reason) == (False, 77, "main: records refused")


def test_dials_that_are_not_wanted_are_repeated_less_and_less_and_are_no_failure():
    times = timetable(at=1.0)
    sight(times, 1)
    now_s, bounds = 0.0, []
    for _ in range(20):
        assert times.due(now_s)
        assert not times.dial_ended(now_s, "t1", failure=None, is_declined=True)
        bounds.append(times.next_due_s() - now_s)
        now_s = times.next_due_s()
        assert times.table.targets["t1"].attempt == 0
    assert bounds[0] <= 2 * CHANGE_DELAY_S
    assert bounds[:15] == sorted(bounds[:15])
    assert bounds[-1] == pytest.approx(BACKOFF_S[1])
    times.due(now_s)
    open_(times, 1)
    times.table.closed(now_s, 0, peer_id(1), in_sync=True, reason="")
    times.dial_ended(now_s, "t1", failure=None)
    times.due(now_s + 1e4)
    times.dial_ended(now_s + 1e4, "t1", failure=None, is_declined=True)
    assert times.table.targets["t1"].not_before_s <= now_s + 1e4 + 2 * CHANGE_DELAY_S


# -- changes ---------------------------------------------------------------------------------------------------------


def met(count: int) -> Timetable:
    times = timetable()
    for number in range(1, count + 1):
        sight(times, number)
        open_(times, number)
        times.table.closed(0.0, 0, peer_id(number), in_sync=True, reason="")
    return times


@pytest.mark.parametrize(("source", "fanout"), [(None, WRITE_FANOUT), (1, RELAY_FANOUT)])
def test_a_change_is_told_within_a_hundred_milliseconds_to_some(source, fanout):
    times = met(20)
    times.changed(10.0, None if source is None else peer_id(source))
    due = [entry for entry in times.table.peers.values() if entry.compare_at_s <= 10.0 + 0.1]
    assert len(due) == fanout
    assert all(entry.id != peer_id(1) for entry in due if source)
    assert times.next_due_s() == 10.0 + CHANGE_DELAY_S
    told = set()
    while dials := times.due(10.0 + CHANGE_DELAY_S):
        told |= {dial.target for dial in dials}
        for dial in dials:
            number = int(dial.target[1:])
            open_(times, number)
            times.table.closed(10.1, 0, peer_id(number), in_sync=True, reason="")
            times.dial_ended(10.1, dial.target, failure=None)
    assert len(told) == fanout


def test_with_few_peers_all_are_told_and_never_the_one_it_came_from():
    times = met(2)
    times.changed(10.0, peer_id(1))
    assert [dial.target for dial in times.due(10.0 + CHANGE_DELAY_S)] == ["t2"]


def test_a_change_during_a_session_is_told_right_behind_it():
    times = met(1)
    times.due(100.0)
    open_(times, 1)
    times.changed(100.5, None)
    assert times.due(101.0) == []
    times.table.closed(102.0, 0, peer_id(1), in_sync=True, reason="")
    times.dial_ended(102.0, "t1", failure=None)
    assert times.next_due_s() == 102.0 + CHANGE_DELAY_S
    converse(times, 102.0 + CHANGE_DELAY_S, 1)
    assert times.next_due_s() >= 102.0 + COMPARE_INTERVAL_S[0]


def test_a_change_does_not_put_off_what_is_due_sooner_nor_shorten_a_back_off():
    times = met(2)
    times.table.peers[peer_id(1)].compare_at_s = 3.0
    times.changed(10.0, None)
    assert times.table.peers[peer_id(1)].compare_at_s == 3.0
    assert times.due(10.0)
    times.dial_ended(10.0, "t1", failure="no answer")
    times.changed(10.0, None)
    assert "t1" not in {dial.target for dial in times.due(10.0 + CHANGE_DELAY_S)}


def test_nobody_is_told_who_cannot_be_reached():
    times = met(3)
    times.table.forget("t1")
    times.table.sighted("t2", "mdns", ("10.0.0.2:1",), is_ours=False)
    times.changed(10.0, None)
    assert [entry.id for entry in times.table.peers.values() if entry.compare_at_s <= 11] == [peer_id(3)]


# -- who is there ----------------------------------------------------------------------------------------------------


def test_a_peer_is_absent_once_none_of_its_targets_answers_and_back_with_its_next_session():
    times = met(1)
    times.table.sighted("static:x", "static", ("x:1",))
    times.table.targets["static:x"].peer = peer_id(1)
    times.due(1e4)
    assert not times.dial_ended(1e4, "t1", failure="no answer"), "it may still answer at its other address"
    assert times.table.peers[peer_id(1)].is_reachable
    assert times.due(1e4) == [DialNow("static:x", ("x:1",))]
    assert times.dial_ended(1e4, "static:x", failure="no answer")
    entry = times.table.peers[peer_id(1)]
    assert (entry.is_reachable, entry.in_sync, entry.reason) == (False, None, "no answer")
    assert not times.dial_ended(1e4, "t1", failure="no answer"), "said once"
    assert open_(times, 1, target=False)
    assert not open_(times, 1, target=False)


def test_a_failed_dial_says_nothing_of_a_peer_that_is_in_session():
    times = met(1)
    times.due(1e4)
    assert not open_(times, 1, target=False)
    assert not times.dial_ended(1e4, "t1", failure="settled otherwise")
    assert times.table.peers[peer_id(1)].is_reachable


def test_a_peer_that_took_its_leave_is_absent_unless_there_is_another_way_to_it():
    times = met(2)
    assert times.table.forget("t1")
    assert times.table.peers[peer_id(1)].reason == "it took its leave"
    times.table.sighted("static:x", "static", ("x:1",))
    times.table.targets["static:x"].peer = peer_id(2)
    assert not times.table.forget("t2")
    assert not times.table.forget("static:unknown")
    assert times.table.peers[peer_id(2)].is_reachable
    sight(times, 3)
    assert not times.table.forget("t3"), "nobody was met there"


def test_a_full_table_of_peers_takes_a_new_one_for_the_longest_absent_and_none_for_those_that_are_there():
    times = timetable()
    many = [IdentityId(number.to_bytes(32, "big")) for number in range(CANDIDATES_MAX)]
    for number, peer in enumerate(many):
        times.table.opened(peer, "", "", target=None)
        times.table.closed(float(number), 0, peer, in_sync=True, reason="")
    newcomer = peer_id(250)
    assert times.table.is_full(newcomer)
    assert not times.table.is_full(many[0]), "who is known may always come back"
    for peer in (many[7], many[5]):
        times.table.missed(peer, "no answer")
        assert not times.table.peers[peer].is_reachable
    assert not times.table.is_full(newcomer)
    times.table.opened(newcomer, "", "", target=None)
    assert newcomer in times.table.peers and many[5] not in times.table.peers
    assert len(times.table.peers) == CANDIDATES_MAX
    times.table.missed(newcomer, "a session is up")
    assert times.table.peers[newcomer].is_reachable
    times.table.missed(peer_id(251), "nobody knows it")


def test_a_change_while_a_hello_is_on_its_way_is_told_behind_the_session():
    times = met(1)
    times.due(100.0)
    times.table.hello_begun(peer_id(1))
    times.table.hello_begun(peer_id(9))
    times.changed(100.0, None)
    open_(times, 1)
    times.table.closed(101.0, 0, peer_id(1), in_sync=True, reason="")
    times.dial_ended(101.0, "t1", failure=None)
    assert times.next_due_s() == 101.0 + CHANGE_DELAY_S


def test_a_change_while_a_hello_is_on_its_way_is_told_soon_when_no_session_comes_of_it():
    times = met(1)
    times.due(100.0)
    times.table.hello_begun(peer_id(1))
    times.changed(100.0, None)
    assert times.table.peers[peer_id(1)].changed_meanwhile
    times.table.hello_wasted(150.0, peer_id(1))
    times.table.hello_wasted(150.0, peer_id(9))
    times.dial_ended(150.0, "t1", failure=None)
    assert not times.table.peers[peer_id(1)].changed_meanwhile
    assert times.next_due_s() <= 150.0 + CHANGE_DELAY_S
    times.due(150.0 + CHANGE_DELAY_S)
    open_(times, 1)
    times.table.hello_begun(peer_id(1))
    times.changed(151.0, None)
    times.table.hello_wasted(151.5, peer_id(1))  # another session, which crossed it
    times.table.closed(152.0, 0, peer_id(1), in_sync=True, reason="")
    times.dial_ended(152.0, "t1", failure=None)
    assert times.next_due_s() == 152.0 + CHANGE_DELAY_S


def test_after_a_change_nobody_is_called_equal_before_it_was_compared():
    times = met(2)
    times.changed(10.0, peer_id(2))
    assert [entry.in_sync for entry in times.table.peers.values()] == [None, True]
    times.due(10.0 + CHANGE_DELAY_S)
    open_(times, 1)
    times.table.closed(11.0, 0, peer_id(1), in_sync=True, reason="")
    assert [(entry.in_sync, entry.reason) for entry in times.table.peers.values()] == [(True, ""), (True, "")]


def test_a_peer_that_only_dials_us_is_absent_when_it_has_not_for_long():
    times = met(1)
    times.due(1e4)
    assert times.dial_ended(1e4, "t1", failure="no answer")
    assert times.table.opened(peer_id(1), "", "", target=None, is_initiator=False)
    times.table.closed(1e4 + 10, 0, peer_id(1), in_sync=True, reason="")
    assert times.due(1e4 + 100)
    assert not times.dial_ended(1e4 + 100, "t1", failure="no answer")
    assert times.due(1e4 + 1000)
    assert times.dial_ended(1e4 + 1000, "t1", failure="no answer")


def test_a_peer_that_only_dials_us_and_keeps_us_out_is_refused_at_once():
    times = met(1)
    times.due(1e4)
    assert times.dial_ended(1e4, "t1", failure="no answer")
    times.table.opened(peer_id(1), "", "", target=None, is_initiator=False)
    times.table.closed(1e4 + 10, 0, peer_id(1), in_sync=True, reason="")
    times.due(1e4 + 100)
    lost = times.table.dial_ended(1e4 + 100, "t1", failure="it keeps us out", is_refusal=True)
    assert lost is not None and (lost.is_refused, lost.in_sync, lost.reason) == (True, None, "it keeps us out")


# -- anything that may happen ----------------------------------------------------------------------------------------


class Machine(RuleBasedStateMachine):
    """Targets appear and leave, dials succeed and fail, sessions come from either side; time goes on."""

    keys = st.integers(1, 9)

    def __init__(self) -> None:
        super().__init__()
        self.times = Timetable(SimEntropy("machine"))
        self.now_s = 0.0
        self.dials: dict[str, float] = {}  # begun and not answered
        self.sessions: list[tuple[int, str | None]] = []  # the peer, and the target that was dialled
        self.failures: dict[str, int] = {}

    def peer_of(self, key: str) -> int:
        return (int(key[1:]) + 1) // 2  # two targets lead to each peer

    @rule(number=keys, address=st.integers(1, 3), is_ours=st.sampled_from([True, True, True, False]))
    def sighted(self, number: int, address: int, is_ours: bool) -> None:
        key = f"t{number}"
        before = self.times.table.targets.get(key)
        addresses = (f"10.0.{number}.{address}:1",)
        if before is None or (before.addresses, before.is_ours) != (addresses, is_ours):
            self.failures.pop(key, None)
        assert self.times.table.sighted(key, "mdns", addresses, is_ours=is_ours) == (before is None)

    @rule(number=keys)
    def gone(self, number: int) -> None:
        self.times.table.forget(f"t{number}")
        if f"t{number}" not in self.times.table.targets:
            self.failures.pop(f"t{number}", None)

    @rule(seconds=st.sampled_from([0.01, 0.02, 0.1, 1.0, 30.0, 80.0, 300.0]))
    def time(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def due(self) -> None:
        promised_s = self.times.next_due_s()
        dials = self.times.due(self.now_s)
        assert bool(dials) == (promised_s <= self.now_s)
        in_session = {number for number, _ in self.sessions}
        for dial in dials:
            target = self.times.table.targets[dial.target]
            assert dial.target not in self.dials, "one dial to a target at a time"
            assert target.is_ours and not target.is_misleading
            if target.peer is not None:
                assert self.peer_of(dial.target) not in in_session
                others = [key for key in self.dials if self.times.table.targets[key].peer == target.peer]
                assert not others, "one dial to a peer at a time"
            assert target.attempt == self.failures.get(dial.target, 0)
            self.dials[dial.target] = self.now_s
        reaching = [key for key in self.dials if self.peer_of(key) not in in_session]
        assert len(reaching) <= DIALS_MAX

    @precondition(lambda self: self.dials)
    @rule(data=st.data())
    def fails(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.dials)))
        if any(target == key for _, target in self.sessions):
            return
        del self.dials[key]
        absent = self.times.dial_ended(self.now_s, key, failure="no answer")
        target = self.times.table.targets.get(key)
        if target is not None:
            bound_s = min(BACKOFF_S[1], BACKOFF_S[0] * 2.0**target.attempt)
            assert self.now_s <= target.not_before_s <= self.now_s + bound_s
            self.failures[key] = self.failures.get(key, 0) + 1
            assert target.attempt == self.failures[key]
        if absent:
            assert not self.times.table.peers[peer_id(self.peer_of(key))].sessions

    @precondition(lambda self: self.dials)
    @rule(data=st.data())
    def answers(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.dials)))
        if not any(target == key for _, target in self.sessions):
            number = self.peer_of(key)
            self.times.table.opened(peer_id(number), "", "", target=key)
            self.sessions.append((number, key))

    @rule(number=st.integers(1, 5))
    def is_dialled(self, number: int) -> None:
        self.times.table.opened(peer_id(number), "", "", target=None)
        self.sessions.append((number, None))

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), in_sync=st.sampled_from([True, False, None]))
    def closes(self, data: st.DataObject, in_sync: bool | None) -> None:
        session = data.draw(st.sampled_from(self.sessions))
        self.sessions.remove(session)
        number, key = session
        told_meanwhile = self.times.table.peers[peer_id(number)].changed_meanwhile
        self.times.table.closed(self.now_s, 0, peer_id(number), in_sync=in_sync, reason="")
        if told_meanwhile:
            assert self.times.table.peers[peer_id(number)].compare_at_s == self.now_s + CHANGE_DELAY_S
        if key is not None:
            del self.dials[key]
            self.times.dial_ended(self.now_s, key, failure=None)
            self.failures.pop(key, None)

    @rule(source=st.one_of(st.none(), st.integers(1, 5)))
    def changed(self, source: int | None) -> None:
        waiting = {entry.id for entry in self.times.table.peers.values() if entry.compare_at_s > self.now_s + 0.1}
        self.times.changed(self.now_s, None if source is None else peer_id(source))
        told = {id for id in waiting if self.times.table.peers[id].compare_at_s <= self.now_s + 0.1}
        assert len(told) <= (WRITE_FANOUT if source is None else RELAY_FANOUT)
        assert source is None or peer_id(source) not in told

    @invariant()
    def accounts_agree(self) -> None:
        counted = {entry.id: entry.sessions for entry in self.times.table.peers.values() if entry.sessions}
        held: dict[IdentityId, int] = {}
        for number, _ in self.sessions:
            held[peer_id(number)] = held.get(peer_id(number), 0) + 1
        assert counted == held
        dialling = {key for key, target in self.times.table.targets.items() if target.is_dialling}
        assert dialling == set(self.dials)
        assert all(self.times.table.peers[id].is_reachable for id in held)
        assert not any(target.is_gone and not target.is_dialling for target in self.times.table.targets.values())


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
