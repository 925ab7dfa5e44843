"""The liars of a world do lie: what honest nodes meet is of every kind, and none of it stays with them."""

import asyncio
from collections import Counter
from dataclasses import replace

from echonode.errors import Reason
from echonode.model.record import MAIN
from echonode.node.events import RecordForked, SessionFailed, TimestampAhead
from echonode.sim.adversary import Adversary
from echonode.sim.clients import Habits
from echonode.sim.event_loop import SimLoop
from echonode.sim.expected_heads import all_heads
from echonode.sim.invariants import Invariants
from echonode.sim.options import Options, draw_options
from echonode.sim.scenario import Scenario
from echonode.wire.codec import decode, encode
from echonode.wire.messages import Done, Records

LYING = Options(
    nodes=3, records=12, habits=Habits(writes_per_s=1.0), faults_s=60.0, liars=2, liars_stay=True, rest_s=10.0
)


def lied_to(seeds: range, *, until: set[str]) -> tuple[Counter[str], set[type]]:
    """Why sessions failed at honest nodes, and which events they saw, world by world until all of `until` was met."""
    reasons: Counter[str] = Counter()
    kinds: set[type] = set()
    for seed in seeds:
        loop = SimLoop(seed=seed)
        swarm = Scenario(loop, seed, LYING)
        loop.complete(swarm.run())
        for member in swarm.honest:
            reasons.update(event.reason for event in member.events if isinstance(event, SessionFailed))
            kinds |= {type(event) for event in member.events}
        if until <= set(reasons):
            break
    return reasons, kinds


def test_honest_nodes_meet_lies_of_many_kinds_and_agree_all_the_same() -> None:
    each = {Reason.PROTOCOL_ERROR.text, Reason.BAD_RECORD.text, Reason.FOREIGN_CONTEXT.text, "transport"}
    reasons, kinds = lied_to(range(60), until=each)  # a record of another context gets as far in one world of six
    assert each <= set(reasons)
    assert TimestampAhead in kinds


def test_two_versions_under_one_dot_are_both_known_to_everybody_in_the_end() -> None:
    found = 0
    for seed in range(4):
        loop = SimLoop(seed=seed)
        swarm = Scenario(loop, seed, replace(LYING, liars=1))
        loop.complete(swarm.run())
        heads = asyncio.run(all_heads(swarm.honest[0].node.store, MAIN))
        dots = Counter((head.writer, head.counter) for head in heads)
        twice = sum(number > 1 for number in dots.values())
        found += twice
        for member in swarm.honest:
            told = {event.record for event in member.events if isinstance(event, RecordForked)}
            assert bool(told) or not twice
    assert found > 0


def test_a_bent_message_is_another_and_may_be_one_no_codec_takes() -> None:
    swarm = Scenario(SimLoop(seed=1), 1, draw_options(1))
    liar = Adversary(swarm.world.make_member("liar"), 1)
    message = Done(bytes(32), 5, 7, False)
    bent = {repr(liar.forge(message)) for _ in range(200)}
    assert len(bent) > 20
    assert repr(message) not in bent or len(bent) > 1
    said = [liar.bend(message) for _ in range(200)]
    assert None in said
    assert [] in said
    assert [message, message] in said
    assert any(each and len(each) > 100 for each in said)
    assert any(each and isinstance(each[0], bytes) for each in said)
    swarm.world.loop.close()


def test_an_honest_message_is_untouched_by_the_other_story_when_there_is_none() -> None:
    swarm = Scenario(SimLoop(seed=1), 1, draw_options(1))
    liar = Adversary(swarm.world.make_member("liar"), 1)
    message = Records((), (), False)
    assert liar.twins(message, bytes(32)) is message
    assert decode(encode(message)) == message
    assert isinstance(swarm.judge, Invariants)
    swarm.world.loop.close()
