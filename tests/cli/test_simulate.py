"""simulate: the options that reach the simulator, what people and files get of the worlds, the exit code."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from echonode import __version__
from echonode.cli.commands.simulate import progress_share
from echonode.cli.plot import meeting_plot
from echonode.cli.services import SimulateOptions
from tests.cli.harness import Shell


@dataclass
class World:
    """A simulated world's result."""

    seed: int
    failure: str = ""
    virtual_s: float = 7200.0
    groups: tuple[tuple[float, int], ...] = ((0.0, 3), (1.5, 1))

    def as_dict(self) -> dict[str, object]:
        return {
            "seed": self.seed,
            "failure": self.failure,
            "nodes": 3,
            "versions": 20,
            "met_after_s": 1.5,
            "agreed_after_s": 0.5,
            "bytes_per_node": 1234.5,
            "bytes_of_records": 1000,
            "conversations": {"level_wise": 4},
            "median_lag_s": 0.01,
            "worst_lag_s": 2.5,
            "trace": "abc",
            "idle_bytes_s": 20.0,
            "bytes_per_write": 500.0,
            "bytes_of_write": 400.0,
        }


@dataclass
class FakeSimulator:
    """Returns worlds of which those in `failing` failed, and records the options in `asked`."""

    failing: frozenset[int] = frozenset()
    stopped_at: int | None = None
    asked: list[SimulateOptions] = field(default_factory=list)

    def __call__(self, options: SimulateOptions, on_time: object) -> Iterator[World]:
        self.asked.append(options)
        for seed in reversed(options.seeds):
            if seed == self.stopped_at:
                raise KeyboardInterrupt
            yield World(seed, "Violation: S3: lost\nwhere and why" if seed in self.failing else "")


@pytest.fixture
def simulator(shell: Shell) -> FakeSimulator:
    simulator = FakeSimulator()
    shell.services.simulate = simulator
    return simulator


def test_without_a_seed_a_calm_network_is_planned(shell: Shell, simulator: FakeSimulator) -> None:
    done = shell("simulate", "--nodes", "50", "--records", "1000", "--loss-of-links", "3", "--partition", "20")
    assert done.code == 0
    (asked,) = simulator.asked
    assert asked == SimulateOptions(
        seeds=range(1), is_calm=True, nodes=50, records=1000, losses_per_minute=3.0, partition_s=20.0, jobs=1
    )
    for told in ("3 nodes, 20 versions", "10 ms (median), 2.5 s (worst)", "conversations by level_wise", "1.2 times"):
        assert told in done.text
    assert done.err == ""


def test_a_seed_is_one_world_and_seeds_are_several(shell: Shell, simulator: FakeSimulator) -> None:
    assert shell("simulate", "--seed", "7").code == 0
    assert shell("simulate", "--seeds", "3..6", "--jobs", "2").text.startswith("3 worlds, 6.0 h of virtual time, in ")
    one, several = simulator.asked
    assert (one.seeds, one.is_calm) == (range(7, 8), False)
    assert (several.seeds, several.is_calm, several.jobs) == (range(3, 6), False, 2)


def test_a_world_that_fails_is_shown_with_the_command_that_repeats_it(shell: Shell, simulator: FakeSimulator) -> None:
    simulator.failing = frozenset({4})
    done = shell("simulate", "--seeds", "3..6", "--nodes", "5")
    assert done.code == 1
    assert "failed: 4" in done.text
    assert "S3: lost" in done.err
    assert "echonode simulate --seed 4 --nodes 5 --json F" in done.err
    assert f"this is echonode {__version__}" in done.err
    alone = shell("simulate", "--seed", "4")
    assert (alone.code, alone.text) == (1, "")


def test_a_batch_that_is_stopped_tells_of_the_worlds_that_it_ran(shell: Shell, simulator: FakeSimulator) -> None:
    simulator.stopped_at = 4
    done = shell("simulate", "--seeds", "3..8")
    assert done.code == 130
    assert done.text.startswith("3 worlds, 6.0 h of virtual time, in ")
    assert "stopped after 3 of 5 worlds" in done.err
    simulator.stopped_at = 7
    assert shell("simulate", "--seeds", "3..8").code == 130


def test_figures_and_drawing_go_into_files_in_the_order_of_seeds(
    shell: Shell, simulator: FakeSimulator, tmp_path: Path
) -> None:
    figures, drawing = tmp_path / "f.json", tmp_path / "f.svg"
    done = shell("simulate", "--seeds", "0..3", "--json", str(figures), "--plot", str(drawing))
    assert done.code == 0
    assert [world["seed"] for world in json.loads(figures.read_text())] == [0, 1, 2]
    assert ElementTree.parse(drawing).getroot().tag.endswith("svg")


def test_what_makes_no_sense_is_a_usage_error_in_one_sentence(shell: Shell, simulator: FakeSimulator) -> None:
    for wrong in (
        ["--seed", "1", "--seeds", "0..2"],
        ["--seeds", "5..5"],
        ["--seeds", "7"],
        ["--nodes", "1"],
        ["--nodes", "1001"],
        ["--jobs", "0"],
        ["--loss-of-links", "-1"],
        ["--partition", "nan"],
    ):
        done = shell("simulate", *wrong)
        assert done.code == 2, wrong
        assert done.err.count("\n") == 1, done.err
    assert simulator.asked == []


def test_the_bar_of_one_world_moves_in_its_first_seconds_too() -> None:
    shares = [progress_share(now_s, 600.0) for now_s in (0.0, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0, 900.0)]
    assert shares == sorted(shares)
    assert shares[0] == 0.0 and shares[-2:] == [1.0, 1.0]
    assert all(after - before > 0.05 for before, after in pairwise(shares[:-1]))


def test_a_file_that_cannot_be_written_is_named(shell: Shell, simulator: FakeSimulator, tmp_path: Path) -> None:
    done = shell("simulate", "--json", str(tmp_path / "no" / "f.json"))
    assert done.code != 0
    assert "f.json" in done.err
    assert simulator.asked == [], "that is known before anything is simulated"


def test_a_drawing_has_a_line_for_each_world_and_stays_inside_its_frame() -> None:
    drawing = ElementTree.fromstring(meeting_plot([(1, ((0.0, 5), (2.0, 2), (3.0, 1))), (2, ((0.0, 1),))]))
    space = "{http://www.w3.org/2000/svg}"
    lines = [path for path in drawing.iter(f"{space}path") if path.get("stroke-width")]
    assert len(lines) == 2
    texts = [text.text or "" for text in drawing.iter(f"{space}text")]
    assert {"seed 1", "seed 2", "virtual seconds", "different states", "5"} <= set(texts)
    assert ElementTree.fromstring(meeting_plot([])) is not None


@dataclass(frozen=True)
class Told:
    """A story, and why it ends early."""

    lines: tuple[str, ...] = ("7 days", "", "lost  none")
    failure: str = ""


def test_a_story_is_told_of_a_year_unless_days_are_given(shell: Shell) -> None:
    asked: list[tuple[int, int]] = []

    def tell(seed: int, days: int, on_time: object) -> Told:
        asked.append((seed, days))
        return Told()

    shell.services.simulate_story = tell
    assert shell("simulate", "--story").code == 0
    done = shell("simulate", "--story", "--seed", "4", "--days", "7")
    assert (done.code, done.text, done.err) == (0, "7 days\n\nlost  none\n", "")
    assert asked == [(0, 365), (4, 7)]


def test_a_story_that_ends_early_says_why_and_how_to_see_it_again(shell: Shell) -> None:
    shell.services.simulate_story = lambda seed, days, on_time: Told(failure="Violation: S3: lost\nwhere")
    done = shell("simulate", "--story", "--seed", "4", "--days", "9")
    assert done.code == 1
    assert done.text.startswith("7 days")
    assert "the story ends early: Violation: S3: lost\n" in done.err
    assert "echonode simulate --story --seed 4 --days 9" in done.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--story", "--nodes", "3"), "a story has a household of its own: leave --nodes out"),
        (("--story", "--seeds", "0..3"), "leave --seeds out"),
        (("--days", "9"), "--days is the length of a story: add --story"),
    ],
)
def test_options_that_do_not_fit_a_story_are_refused(shell: Shell, options: tuple[str, ...], said: str) -> None:
    done = shell("simulate", *options)
    assert done.code == 2
    assert said in done.err
