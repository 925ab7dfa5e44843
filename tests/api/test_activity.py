"""The activity of a node: what is counted where, and how much is kept."""

from datetime import datetime
from pathlib import Path

from echonode.api.activity import Activity, Series
from echonode.limits import ACTIVITY_DAY_SLOT_S, ACTIVITY_DAY_SLOTS_MAX, ACTIVITY_SLOT_S, ACTIVITY_SLOTS_MAX
from tests.api.serving import run, serving
from tests.api.test_echo_sync import meet
from tests.api.test_metrics import conversation


def test_slots_that_passed_are_empty_and_hold_what_was_held_before() -> None:
    series = Series(10.0, 5, 100.0, records=7)
    assert len(series.slots) == 1
    series.at(109.9).written = 3
    series.at(110.0).records = 8
    series.at(139.0).written = 1
    assert [slot.written for slot in series.slots] == [3, 0, 0, 1]
    assert [slot.records for slot in series.slots] == [7, 8, 8, 8]
    assert series.age_s(139.0) == 39.0


def test_a_long_quiet_time_costs_no_more_than_what_is_kept() -> None:
    series = Series(10.0, 5, 0.0, records=7)
    series.at(5.0).written = 3
    series.at(1e9)
    assert [(slot.written, slot.records) for slot in series.slots] == [(0, 7)] * 5
    assert 40.0 <= series.age_s(1e9) < 50.0


def test_writes_receipts_and_conversations_are_counted_in_both_series(tmp_path: Path) -> None:
    async def test() -> None:
        now = [1000.0]
        async with serving(tmp_path) as one, serving(tmp_path, name="two") as two:
            await one.put("before")
            activity = Activity(one.node, lambda: now[0])
            held = activity.hour.slots[-1].records
            await one.put("a")
            await one.put("a", b"again")
            now[0] += 25
            await two.put("b")
            await two.put("c")
            await meet(one, two)
            assert (await one.ask("POST", "/v1/sync", {})).json()["status"] == "verified"
            one.node.bus.publish(conversation())
            activity.look()
            for series, places in ((activity.hour, (0, 2)), (activity.day, (0, 0))):
                first, last = (series.slots[place] for place in places)
                assert first.written == 2 and last.received >= 2 and last.conversations >= 1
            assert (activity.hour.slots[1].records, len(activity.hour.slots)) == (held + 1, 3)
            in_status = sum(context["records"] for context in (await one.ask("GET", "/v1/status")).json()["contexts"])
            assert activity.hour.slots[-1].records == in_status >= held + 3

    run(test)


def test_the_answer_has_both_series_and_the_time_at_which_they_begin(tmp_path: Path) -> None:
    async def test() -> None:
        async with serving(tmp_path) as one:
            await one.put("a")
            answer = (await one.ask("GET", "/v1/activity")).json()
            for name, slot_s, slots_max in (
                ("hour", ACTIVITY_SLOT_S, ACTIVITY_SLOTS_MAX),
                ("day", ACTIVITY_DAY_SLOT_S, ACTIVITY_DAY_SLOTS_MAX),
            ):
                series = answer[name]
                assert series["slot_s"] == slot_s
                assert 1 <= len(series["records"]) == len(series["written"]) <= slots_max
                assert sum(series["written"]) >= 1
                age_s = datetime.now().timestamp() - datetime.fromisoformat(series["began"]).timestamp()
                assert 0 <= age_s < 60

    run(test)
