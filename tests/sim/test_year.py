"""The year of a household: it ends well, its story can be read, and the judge finds a write that was lost."""

import asyncio
import os

import pytest

from echonode.model.record import MAIN, Draft
from echonode.sim.event_loop import SimLoop
from echonode.sim.invariants.checks import Violation
from echonode.sim.story import COLUMNS, Story
from echonode.sim.year import DAYS_MIN, YEAR_DAYS, Year, run_year

HAPPENINGS = (
    *("makes the network", "joins by a code", "loses power", "rotates the network secret", "have the new secret"),
    *("dies", "is replaced", "is stolen", "rotates the network without it", "No node lets it in", "to the sea"),
    *("are home again", "is upgraded", "makes a backup", "loses its disk", "has a full card", "has room again"),
    "are switched on, and equal",
)


def check(story: Story) -> None:
    assert story.failure == ""
    assert max(map(len, story.lines)) <= COLUMNS
    text = " ".join(" ".join(story.lines).split())
    assert [each for each in HAPPENINGS if each not in text] == []
    assert "lost none checked by the judge" in text
    assert "0 are open" in text


def test_a_week_of_a_household_loses_nothing_and_can_be_read() -> None:
    check(run_year(1, DAYS_MIN))


@pytest.mark.slow
@pytest.mark.skipif("ECHO_TEST_SLOW" not in os.environ, reason="eight minutes of real work: ECHO_TEST_SLOW=1")
def test_a_year_of_a_household_loses_nothing_and_can_be_read() -> None:
    check(run_year(1, YEAR_DAYS))


def test_the_judge_finds_a_write_that_no_node_holds() -> None:
    loop = SimLoop(seed=1)
    year = Year(loop, 1, DAYS_MIN)

    async def main() -> None:
        await year._begin()
        for life in year._lives.values():
            life.cancel()
        anna = year.household.devices["anna"]
        other = await year.world.add_node("of nobody", secret=None)
        record = await other.node.records.put(Draft(context=MAIN, author=other.node.id, name="a"))
        await asyncio.sleep(1.0)
        year.ledger.entries.append((anna, record))
        with pytest.raises(Violation, match=r"S3: 1 acknowledged writes are on no node, as a"):
            await year._end()
        await year.world.stop()

    loop.complete(main())
