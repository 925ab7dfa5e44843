"""Worlds drawn from seeds: safe throughout, and equal soon after the faults end. CI runs 300 of them (`.ci/run`)."""

import os
import select
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from echonode.cli.services import SimulateOptions
from echonode.errors import StoreError
from echonode.node.events import FollowBegan
from echonode.node.hello import FOLLOW, NAMES
from echonode.sim.batch import calm, options_for, run_many
from echonode.sim.clients import Habits
from echonode.sim.event_loop import SimLoop
from echonode.sim.faults import Faults
from echonode.sim.invariants.checks import Invariants
from echonode.sim.options import KINDS_OF_FAULT, Options, draw_options
from echonode.sim.scenario import Scenario, run_seed
from echonode.sim.world import World
from echonode.sync.streams import ByteStream

ROOT = Path(__file__).parents[2]
SEEDS = range(12)
REGRESSIONS = [
    int(line.split()[0])
    for line in (Path(__file__).parent / "regressions.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.parametrize("seed", [*SEEDS, *REGRESSIONS])
def test_nothing_is_lost_under_faults_and_all_become_equal(seed: int) -> None:
    run_seed(seed)


def test_seeds_draw_every_option_and_hardly_two_draw_the_same() -> None:
    drawn = [draw_options(seed) for seed in range(300)]
    assert len(set(map(repr, drawn))) > 290
    assert {kind for options in drawn for kind in options.faults} == set(KINDS_OF_FAULT)
    fields = (
        *("common_records", "adversaries", "adversaries_stay", "partials", "strangers", "newcomers"),
        *("is_compromised", "quiescence_s", "meets_first", "has_equal_names", "has_shared_address", "restarts_unseen"),
        *("key_changes", "rotations"),
    )
    assert len({options.uplink_bytes_s for options in drawn}) == 3
    for field in fields:
        assert {bool(getattr(options, field)) for options in drawn} == {True, False}, field


def test_every_mode_that_is_advertised_runs_in_the_300_worlds_of_every_change() -> None:
    ran: set[str] = set()
    for seed in sorted(range(300), key=lambda seed: not draw_options(seed).common_records):  # the rarest kind first
        loop = SimLoop(seed=seed)
        scenario = Scenario(loop, seed, draw_options(seed))
        loop.complete(scenario.run())
        for member in scenario.honest:
            ran |= {conversation.mode for conversation in member.conversations}
            ran |= {FOLLOW for event in member.events if isinstance(event, FollowBegan)}
        if ran >= set(NAMES):
            break
    assert ran == set(NAMES)


def test_a_world_without_trouble_is_equal_at_once_and_stays_so() -> None:
    figures = run_seed(1, replace(calm(), nodes=4, records=40))
    assert figures.nodes == 4
    assert figures.met_after_s is not None
    assert figures.met_after_s < 10
    assert figures.agreed_after_s < 1
    assert figures.groups[-1][1] == 1
    assert any(at_s < 10 and groups == 1 for at_s, groups in figures.groups), "the meeting is noted when it happens"
    assert figures.worst_lag_s < 5


def test_the_caller_is_told_how_far_a_world_is() -> None:
    reports: list[tuple[float, float]] = []
    options = replace(calm(), nodes=12, records=20)
    (figures,) = run_many(iter([(1, options)]), 1, lambda now_s, expected_s: reports.append((now_s, expected_s)))
    times = [now_s for now_s, _ in reports]
    assert len(times) > 1
    assert times == sorted(times)
    assert times[-1] <= figures.virtual_s
    assert {expected_s for _, expected_s in reports} == {options.expected_duration_s}
    assert figures.virtual_s == pytest.approx(options.expected_duration_s, abs=30)


def test_a_given_option_takes_the_place_of_the_drawn_one() -> None:
    given = SimulateOptions(seeds=range(1), is_calm=False)
    options = options_for(5, replace(given, nodes=4, records=7, losses_per_minute=60.0, partition_s=100.0))
    assert (options.nodes, options.records, options.loss_rate) == (4, 7, 1.0)
    assert options.faults_s >= options.partition_s == 100.0
    drawn = draw_options(5)
    expected = {"nodes": 4, "records": 7, "loss_rate": 1.0, "partition_s": 100.0, "faults_s": options.faults_s}
    assert drawn.faults
    assert options == replace(drawn, **expected), "nothing else changes"
    assert options_for(5, given) == draw_options(5)
    assert options_for(5, replace(given, is_calm=True)) == calm()


SMALL = Options(nodes=2, records=4, habits=Habits(writes_per_s=1.0), faults_s=3.0, faults=("cut", "crash"))


def test_a_fault_of_a_connection_happens_to_one_that_exists() -> None:
    loop = SimLoop(seed=1)

    async def main() -> None:
        world = World(loop, seed=1)
        members = [world.make_member(name) for name in "abcdef"]

        async def read(stream: ByteStream) -> None:
            await stream.read()

        world.network.listen(members[1].address, read)
        await world.network.dial(members[0].host)(members[1].address)
        assert world.network.connected_hosts() == [(members[0].host, members[1].host)]
        await Faults(world, members, Invariants(world), Options(), 1)._cause("half_open")
        assert [connection.is_half_open for connection in world.network.live] == [True]

    loop.complete(main())


def test_connections_are_lost_as_often_as_is_asked_for() -> None:
    given = SimulateOptions(seeds=range(1), is_calm=True, nodes=4)
    ends = {
        losses: run_seed(1, options_for(1, replace(given, losses_per_minute=losses))) for losses in (0.0, 120.0)
    }
    assert ends[0.0].trace != ends[120.0].trace
    assert sum(ends[120.0].conversations.values()) > 2 * sum(ends[0.0].conversations.values())


def test_worlds_in_several_processes_are_the_worlds_of_one() -> None:
    worlds = [(seed, SMALL) for seed in range(6)]
    alone = {figures.seed: figures for figures in run_many(iter(worlds), 1)}
    together = {figures.seed: figures for figures in run_many(iter(worlds), 2)}
    assert alone == together
    assert not any(figures.failure for figures in alone.values())


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_worker_processes_end_with_the_one_that_started_them(how: signal.Signals) -> None:
    script = (
        "import multiprocessing\nfrom echonode.sim.options import Options\nfrom echonode.sim.batch import run_many\n"
        "for _ in run_many(((seed, Options()) for seed in range(10**9)), 2):\n"
        "    print(*[worker.pid for worker in multiprocessing.active_children()], flush=True)\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        workers = [os.pidfd_open(int(pid)) for pid in process.stdout.readline().split()]
        process.send_signal(how)
        try:
            process.communicate(timeout=60.0)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert len(workers) == 2
    for worker in workers:
        assert select.select([worker], [], [], 60.0)[0], "the worker goes on though its parent is gone"
        os.close(worker)


def test_a_world_that_fails_is_told_with_its_seed_and_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise StoreError("planted")

    monkeypatch.setattr("echonode.sim.invariants.checks.Invariants.check_agreement", broken)
    (figures,) = run_many(iter([(3, SMALL)]), 1)
    assert figures.seed == 3
    for words in ("planted", "seed 3", "options: Options(nodes=2"):
        assert words in figures.failure


def test_the_same_seed_gives_the_same_world_in_any_process() -> None:
    script = "from echonode.sim.scenario import run_seed\nprint(*(run_seed(seed).trace for seed in (3, 4)))"

    def traces(**environment: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=300)
        return done.stdout

    first = traces(PYTHONHASHSEED="0")
    assert len(set(first.split())) == 2
    assert traces(PYTHONHASHSEED="random", PYTHONMALLOC="malloc") == first
