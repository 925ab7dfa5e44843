"""simulate: worlds of real nodes in virtual time, to find bugs and to plan deployments.

    echonode simulate --nodes 50 --records 1000       the cost of a network of that size, on a day without trouble
    echonode simulate --seed 7                        the world that is drawn from seed 7, with faults and liars
    echonode simulate --seeds 0..300 --jobs 2         three hundred such worlds, and which of them failed
    echonode simulate --story                         a year of one household's five nodes, told as a story

Exits 0 when every invariant held, else 1.
"""

import json
import math
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import click

from echonode import __version__
from echonode.cli.exit_codes import ExitCode, Failure
from echonode.cli.help_text import examples
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import count, print_line, print_note, safe, seconds, size
from echonode.cli.plot import meeting_plot
from echonode.cli.services import SimulatedWorld, SimulateOptions

_SEEDS: Final = re.compile(r"(\d{1,12})\.\.(\d{1,12})")
_NODES_MAX: Final = 1000
_DAYS: Final = (7, 365)
_BAR_UNIT_S: Final = 0.05  # the virtual time in which the bar moves fastest


class _Seeds(click.ParamType[range]):
    """A range of seeds, FIRST..END, without END."""

    name = "A..B"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> range:
        found = _SEEDS.fullmatch(value)
        if found is None or int(found[1]) >= int(found[2]):
            self.fail("seeds are given as FIRST..END, as 0..300; the end is not included", param, ctx)
        return range(int(found[1]), int(found[2]))


class _Number(click.FloatRange):
    """A number in a range. NaN is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value} is not a number", param, ctx)
        return number


@examples("simulate --nodes 50 --records 1000", "simulate --seeds 0..300 --jobs 2", "simulate --story --days 7")
@click.command("simulate")
@click.option("--seed", type=click.IntRange(0), help="The world that this number stands for, with its faults.")
@click.option("--seeds", type=_Seeds(), help="As many worlds, the end not included.")
@click.option("--nodes", type=click.IntRange(2, _NODES_MAX), help="How many nodes there are.")
@click.option("--records", type=click.IntRange(0, 1_000_000), help="How many records they hold before they meet.")
@click.option(
    "--loss-of-links", "losses", type=_Number(0, 6000), help="Connections lost a minute, in all; a seed's faults stay."
)
@click.option(
    "--partition", type=_Number(0, 100_000), help="Seconds for which one half hears nothing of the other."
)
@click.option("--jobs", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes to use.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, writable=True), help="Write all figures here.")
@click.option("--plot", type=click.Path(dir_okay=False, writable=True), help="Draw how the roots met, as SVG.")
@click.option("--story", is_flag=True, help="Tell a year of a household's five nodes; it takes about eight minutes.")
@click.option("--days", type=click.IntRange(*_DAYS), help="Let the story take so many days.  [default: 365]")
@pass_lookup
def simulate(
    lookup: NodeLookup,
    seed: int | None,
    seeds: range | None,
    nodes: int | None,
    records: int | None,
    losses: float | None,
    partition: float | None,
    jobs: int,
    json_file: str | None,
    plot: str | None,
    story: bool,
    days: int | None,
) -> ExitCode:
    """Run networks of real nodes in virtual time, with simulated links, disks and clocks."""
    given = {"--nodes": nodes, "--records": records, "--loss-of-links": losses, "--partition": partition}
    if story:
        others = {**given, "--seeds": seeds, "--json": json_file, "--plot": plot}
        if unfit := [option for option, value in others.items() if value is not None]:
            raise click.UsageError(f"a story has a household of its own: leave {unfit[0]} out")
        return _tell_story(lookup, seed or 0, days or _DAYS[1])
    if days is not None:
        raise click.UsageError("--days is the length of a story: add --story")
    if seed is not None and seeds is not None:
        raise click.UsageError("--seed names one world and --seeds several: use one of them")
    chosen = seeds if seeds is not None else range(seed or 0, (seed or 0) + 1)
    options = SimulateOptions(
        seeds=chosen,
        is_calm=seed is None and seeds is None,
        nodes=nodes,
        records=records,
        losses_per_minute=losses,
        partition_s=partition,
        jobs=jobs,
    )
    for path in (json_file, plot):
        if path is not None:
            _write(path, "", mode="a")  # a file that cannot be written is an error now, not at the end
    rerun_options = "".join(f" {option} {value}" for option, value in given.items() if value is not None)
    began_s = time.monotonic()
    worlds: list[SimulatedWorld] = []
    is_stopped = False
    try:
        with _bar(len(chosen)) as (advance, on_time):
            for world in lookup.services.simulate(options, on_time):
                worlds.append(world)
                advance()
                if world.failure:
                    _report_failure(world, rerun_options if options.is_calm else f" --seed {world.seed}{rerun_options}")
    except KeyboardInterrupt:
        if not worlds:
            raise
        is_stopped = True
        print_note(f"stopped after {len(worlds)} of {len(chosen)} worlds")
    worlds.sort(key=lambda world: world.seed)
    if json_file is not None:
        _write(json_file, json.dumps([world.as_dict() for world in worlds], indent=1) + "\n")
    if plot is not None:
        _write(plot, meeting_plot([(world.seed, world.groups) for world in worlds if world.groups]))
    for line in _report(worlds) if len(worlds) == 1 else _summary(worlds, time.monotonic() - began_s):
        print_line(line)
    if is_stopped:
        raise KeyboardInterrupt
    return ExitCode.FAILED if any(world.failure for world in worlds) else ExitCode.DONE


def _tell_story(lookup: NodeLookup, seed: int, days: int) -> ExitCode:
    """Print the story, and where it ends early the reason."""
    with _bar(1) as (_, on_time):
        story = lookup.services.simulate_story(seed, days, on_time)
    for line in story.lines:
        print_line(line)
    if story.failure:
        print_note(f"the story ends early: {safe(story.failure.partition(chr(10))[0])}")
        print_note(f"  to see it again: echonode simulate --story --seed {seed} --days {days}")
    return ExitCode.FAILED if story.failure else ExitCode.DONE


def _report_failure(world: SimulatedWorld, rerun_options: str) -> None:
    """Print the first line of a world's failure; --json holds the rest."""
    print_note(f"seed {world.seed}: {safe(world.failure.partition(chr(10))[0])}")
    print_note(f"  to see it again, with every figure in F: echonode simulate{rerun_options} --json F")
    print_note(f"  this is echonode {_version()}: another version draws other worlds")


def _version() -> str:
    """Return the version of what is simulated; in a git checkout with its commit."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        tracked = subprocess.run([*git, "ls-files", "--error-unmatch", __file__], capture_output=True, check=False)
        commit = subprocess.run([*git, "describe", "--always", "--dirty"], capture_output=True, check=False, text=True)
    except OSError:
        return __version__
    is_checkout = tracked.returncode == 0 == commit.returncode
    return f"{__version__} at {commit.stdout.strip()}" if is_checkout else __version__


def _report(worlds: list[SimulatedWorld]) -> Iterator[str]:
    (world,) = worlds
    if world.failure:
        return
    figures = world.as_dict()
    yield f"{figures['nodes']} nodes, {figures['versions']} versions, {seconds(world.virtual_s)} of virtual time"
    if figures["met_after_s"] is not None:
        yield f"equal for the first time after   {seconds(_number(figures['met_after_s']))}"
    yield f"equal after all trouble          {seconds(_number(figures['agreed_after_s']))}"
    median, worst = seconds(_number(figures["median_lag_s"])), seconds(_number(figures["worst_lag_s"]))
    yield f"a write is everywhere after      {median} (median), {worst} (worst)"
    yield f"bytes sent per node              {size(round(_number(figures['bytes_per_node'])))}"
    if figures["versions"]:
        share = _number(figures["bytes_per_node"]) / max(1.0, _number(figures["bytes_of_records"]))
        yield f"  of the records' own bytes      {share:.1f} times"
    if figures["bytes_per_write"] is not None:
        bytes_per_write = _number(figures["bytes_per_write"])
        share = bytes_per_write / _number(figures["bytes_of_write"])
        yield f"  for each write                 {size(round(bytes_per_write))}, {share:.1f} times the record"
        yield f"  while nobody writes            {size(round(_number(figures['idle_bytes_s'])))}/s"
    conversations = figures["conversations"]
    assert isinstance(conversations, dict)
    for mode, number in conversations.items():
        yield f"conversations by {mode:<16}{number:,}"
    yield f"trace                            {figures['trace']}"


def _number(value: object) -> float:
    assert isinstance(value, int | float)
    return value


def _summary(worlds: list[SimulatedWorld], took_s: float) -> Iterator[str]:
    bad = [world.seed for world in worlds if world.failure]
    virtual_h = sum(world.virtual_s for world in worlds) / 3600
    yield f"{count(len(worlds), 'world')}, {virtual_h:.1f} h of virtual time, in {seconds(took_s)}: {len(bad)} failed"
    if bad:
        yield f"failed: {', '.join(map(str, bad))}"


def _write(path: str, text: str, *, mode: Literal["a", "w"] = "w") -> None:
    try:
        with Path(path).open(mode, encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}") from error


@contextmanager
def _bar(worlds: int) -> Iterator[tuple[Callable[[], None], Callable[[float, float], None]]]:
    """Yield two functions: one to call when a world has ended, one to call with a world's virtual time.

    On a terminal they move a bar: of worlds when there are several, else of virtual time.
    """
    if not sys.stderr.isatty():
        yield lambda: None, lambda _now_s, _lasts_s: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    share = (TaskProgressColumn(),) if worlds > 1 else ()
    columns = (TextColumn("{task.description}"), BarColumn(), *share, TimeElapsedColumn())
    # A simulation lets no other thread start, so the bar of one world is drawn when its time is reported.
    with Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=worlds > 1) as progress:
        task = progress.add_task("worlds" if worlds > 1 else "virtual time", total=worlds if worlds > 1 else None)

        def on_time(now_s: float, lasts_s: float) -> None:
            if worlds == 1:
                text = f"{seconds(now_s)} of about {seconds(lasts_s)} virtual"
                done = progress_share(now_s, lasts_s)
                progress.update(task, description=text, completed=done, total=1.0, refresh=True)

        yield lambda: progress.advance(task), on_time


def progress_share(now_s: float, lasts_s: float) -> float:
    """Return the share of the bar for a virtual time, from 0 to 1.

    The scale is logarithmic: most of the work lies in the first virtual seconds, in which the nodes become equal.
    """
    return min(1.0, math.log1p(now_s / _BAR_UNIT_S) / math.log1p(max(now_s, lasts_s) / _BAR_UNIT_S))
