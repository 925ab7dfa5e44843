"""Adversaries: honest nodes meet forgeries of every kind, and none of them stays in a store."""

import asyncio
from collections import Counter
from dataclasses import replace

from echonode.errors import Reason
from echonode.model.record import MAIN
from echonode.node.events import RecordForked, SessionFailed, TimestampAhead
from echonode.sim.adversary import Adversary
from echonode.sim.clients import Habits
from echonode.sim.event_loop import SimLoop
from echonode.sim.invariants.checks import Invariants
from echonode.sim.invariants.expected_heads import all_heads
from echonode.sim.options import Options, draw_options
from echonode.sim.scenario import Scenario
from echonode.wire.codec import decode, encode
from echonode.wire.messages import Done, Records

HOSTILE = Options(
    nodes=3,
    records=12,
    habits=Habits(writes_per_s=1.0),
    faults_s=60.0,
    adversaries=2,
    adversaries_stay=True,
    quiescence_s=10.0,
)


def failures(seeds: range, *, until: set[str]) -> tuple[Counter[str], set[type]]:
    """Run worlds until all of `until` are among the reasons for which sessions failed at honest nodes.

    Return these reasons and the types of all events at honest nodes.
    """
    reasons: Counter[str] = Counter()
    kinds: set[type] = set()
    for seed in seeds:
        loop = SimLoop(seed=seed)
        scenario = Scenario(loop, seed, HOSTILE)
        loop.complete(scenario.run())
        for member in scenario.honest:
            reasons.update(event.reason for event in member.events if isinstance(event, SessionFailed))
            kinds |= {type(event) for event in member.events}
        if until <= set(reasons):
            break
    return reasons, kinds


def test_honest_nodes_meet_many_kinds_of_forgeries_and_agree_nevertheless() -> None:
    expected = {Reason.PROTOCOL_ERROR.text, Reason.BAD_RECORD.text, Reason.FOREIGN_CONTEXT.text, "transport"}
    reasons, kinds = failures(range(60), until=expected)  # foreign_context turns up in one world of six
    assert expected <= set(reasons)
    assert TimestampAhead in kinds


def test_two_versions_under_one_dot_are_known_to_every_node_in_the_end() -> None:
    found = 0
    for seed in range(4):
        loop = SimLoop(seed=seed)
        scenario = Scenario(loop, seed, replace(HOSTILE, adversaries=1))
        loop.complete(scenario.run())
        heads = asyncio.run(all_heads(scenario.honest[0].node.store, MAIN))
        dots = Counter((head.writer, head.counter) for head in heads)
        twice = sum(number > 1 for number in dots.values())
        found += twice
        for member in scenario.honest:
            reported = {event.record for event in member.events if isinstance(event, RecordForked)}
            assert bool(reported) or not twice
    assert found > 0


def test_a_forged_message_differs_and_may_be_one_that_no_codec_takes() -> None:
    scenario = Scenario(SimLoop(seed=1), 1, draw_options(1))
    adversary = Adversary(scenario.world.make_member("adversary"), 1)
    message = Done(bytes(32), 5, 7, False)
    forged = {repr(adversary.forge(message)) for _ in range(200)}
    assert len(forged) > 20
    assert repr(message) not in forged or len(forged) > 1
    replacements = [adversary.replace_message(message) for _ in range(200)]
    assert None in replacements
    assert [] in replacements
    assert [message, message] in replacements
    assert any(each and len(each) > 100 for each in replacements)
    assert any(each and isinstance(each[0], bytes) for each in replacements)
    scenario.world.loop.close()


def test_a_message_without_twins_is_sent_as_it_is() -> None:
    scenario = Scenario(SimLoop(seed=1), 1, draw_options(1))
    adversary = Adversary(scenario.world.make_member("adversary"), 1)
    message = Records((), (), False)
    assert adversary.equivocate(message, bytes(32)) is message
    assert decode(encode(message)) == message
    assert isinstance(scenario.invariants, Invariants)
    scenario.world.loop.close()
