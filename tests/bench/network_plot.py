"""Charts of what the bench measured, as SVG: a line for each series, axes that grow in powers of ten where asked."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

from tests.bench import costs

_W, _H, _LEFT, _TOP, _BOTTOM = 560, 320, 80, 40, 80
_COLOURS = ("#1b6ca8", "#c1440e", "#2e8540", "#7b4fa0", "#8a6d1c", "#444444")
_STEPS = 5
_PARTS = 24  # of a replication, in its chart
_MODES = ("level_wise", "hash_comparison", "sketch", "delta", "reconcile")

Series = Mapping[str, Sequence[tuple[float, float]]]


def write(folder: Path, figures: Mapping[str, Any]) -> list[Path]:
    """Write a chart for each group of figures that was measured; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    charts = {}
    rates = _rates(figures.get("first_replication_progress") or [(0.0, 0.0)])
    if rates:
        lines = {"first replication": rates}
        charts["replication"] = chart("A first replication", "seconds", "records a second", lines)
    if "grown" in figures:
        rows = figures["grown"]
        for name, key, label in (
            ("import", "import_cpu_us", "us of CPU for an imported record"),
            ("memory", "rss_mib", "MiB of memory in use"),
        ):
            points = [(row["records"], row[key]) for row in rows]
            charts[name] = chart(f"One node, {label}", "records held", label, {"node": points})
    if "modes" in figures:
        charts |= _mode_charts(max(row["records"] for row in figures["modes"]))
    paths = []
    for name, text in charts.items():
        paths.append(folder / f"{name}.svg")
        paths[-1].write_text(text)
    return paths


def _rates(progress: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return (time, records a second) of equal parts of (time, records), from the first record to the
    last."""
    most = progress[-1][1]
    moving = [point for point in progress if 0.01 * most <= point[1] <= 0.99 * most]
    cut = moving[:: max(1, len(moving) // _PARTS)]
    return [((then + now) / 2, (after - before) / (now - then)) for (then, before), (now, after) in pairwise(cut)]


def _mode_charts(size: int) -> dict[str, str]:
    """Measure the modes anew; return charts against the difference, at `size`, and against the size."""
    counts, sizes = [1, 10, 100, 1000], [each for each in (1000, 10_000, 100_000, 1_000_000) if each <= size]
    read = [mode for mode in _MODES if mode not in costs.READING]
    at_size = list(costs.table([size], counts, ["newest"], read))
    at_sizes = [cost for cost in costs.table(sizes, [100], ["newest"], _MODES) if cost.leaves <= 100_000]
    charts = {}
    for name, label, value in (
        ("bytes", "bytes, records left out", lambda cost: float(cost.bytes)),
        ("cpu", "ms of CPU, both ends", lambda cost: max(0.1, cost.cpu_initiator_ms + cost.cpu_responder_ms)),
    ):
        by_count = {mode: [(c.differences, value(c)) for c in at_size if c.mode == mode] for mode in read}
        by_size = {mode: [(c.leaves, value(c)) for c in at_sizes if c.mode == mode] for mode in _MODES}
        title = f"Two sets of {size:,}: {label}"
        charts[f"{name}-against-d"] = chart(title, "differing records", label, by_count, is_log=True)
        title = f"100 differing records: {label}"
        charts[f"{name}-against-n"] = chart(title, "records in each set", label, by_size, is_log=True)
    return charts


def chart(title: str, x_label: str, y_label: str, series: Series, *, is_log: bool = False) -> str:
    """Return the SVG. Linear axes begin at 0; with `is_log` both grow in powers of ten, and no value is below 0.1."""
    points = [point for line in series.values() for point in line]
    assert points, "a chart needs points"
    x_axis, y_axis = (_axis([point[which] for point in points], is_log=is_log) for which in (0, 1))
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _W + 30} {_TOP + _H + _BOTTOM}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{_LEFT + _W + 30}" height="{_TOP + _H + _BOTTOM}" fill="white"/>',
        f'<text x="{_LEFT}" y="24" font-weight="bold">{escape(title)}</text>',
        f'<text x="{_LEFT + _W / 2}" y="{_TOP + _H + 34}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text transform="translate(16 {_TOP + _H / 2}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>',
    ]
    for tick in x_axis:
        at = _LEFT + _W * _share(tick, x_axis, is_log=is_log)
        out.append(f'<line x1="{at:.1f}" y1="{_TOP}" x2="{at:.1f}" y2="{_TOP + _H}" stroke="#ddd"/>')
        out.append(f'<text x="{at:.1f}" y="{_TOP + _H + 16}" text-anchor="middle">{tick:,g}</text>')
    for tick in y_axis:
        at = _TOP + _H * (1 - _share(tick, y_axis, is_log=is_log))
        out.append(f'<line x1="{_LEFT}" y1="{at:.1f}" x2="{_LEFT + _W}" y2="{at:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{tick:,g}</text>')
    for number, (name, line) in enumerate(series.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [
            (_LEFT + _W * _share(x, x_axis, is_log=is_log), _TOP + _H * (1 - _share(y, y_axis, is_log=is_log)))
            for x, y in sorted(line)
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        left = _LEFT + number * 125
        out.append(f'<circle cx="{left}" cy="{_TOP + _H + 56}" r="5" fill="{colour}"/>')
        out.append(f'<text x="{left + 10}" y="{_TOP + _H + 60}">{escape(name)}</text>')
    return "\n".join([*out, "</svg>", ""])


def _axis(values: Sequence[float], *, is_log: bool) -> list[float]:
    """Return the ticks of an axis that holds all of `values`."""
    if is_log:
        low, high = floor(log10(max(0.1, min(values)))), ceil(log10(max(0.1, *values)))
        return [10.0**power for power in range(low, max(high, low + 1) + 1)]
    step = max(*values, 1e-9) / _STEPS
    unit = 10.0 ** floor(log10(step))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= step)
    return [step * number for number in range(_STEPS + 1)]


def _share(value: float, axis: Sequence[float], *, is_log: bool) -> float:
    low, high = axis[0], axis[-1]
    if is_log:
        return (log10(max(0.1, value)) - log10(low)) / (log10(high) - log10(low))
    return (value - low) / (high - low)
