"""A chart of costs as SVG, written by hand: bytes against differences, a line for each mode, a panel for each size."""

from collections.abc import Sequence
from html import escape
from math import log10
from typing import Protocol

_PANEL_W, _PANEL_H, _MARGIN = 330, 250, 58
_COLOURS = ("#1b6ca8", "#c1440e", "#2e8540", "#7b4fa0", "#8a6d1c", "#444444")


class Point(Protocol):
    """The part of a measurement that the chart draws."""

    @property
    def leaves(self) -> int: ...
    @property
    def differences(self) -> int: ...
    @property
    def kind(self) -> str: ...
    @property
    def mode(self) -> str: ...
    @property
    def bytes(self) -> int: ...
    @property
    def selected(self) -> bool: ...


def chart(costs: Sequence[Point]) -> str:
    """Return the SVG. A ring around a point means that `select` picks that mode there."""
    drawn = [cost for cost in costs if cost.differences and cost.kind == costs[0].kind]
    sizes = sorted({cost.leaves for cost in drawn})
    modes = list(dict.fromkeys(cost.mode for cost in drawn))
    low, high = 2.0, max(log10(cost.bytes) for cost in drawn) + 0.2
    far = max(log10(cost.differences) for cost in drawn)
    columns = min(2, len(sizes))
    rows = -(-len(sizes) // columns)
    width = columns * (_PANEL_W + _MARGIN) + _MARGIN
    height = rows * (_PANEL_H + _MARGIN + 20) + _MARGIN
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for number, size in enumerate(sizes):
        left = _MARGIN + number % columns * (_PANEL_W + _MARGIN)
        top = 40 + number // columns * (_PANEL_H + _MARGIN + 20)

        def x(differences: float, left: float = left) -> float:
            return left + _PANEL_W * log10(differences) / max(far, 1)

        def y(count: float, top: float = top) -> float:
            return top + _PANEL_H * (high - log10(count)) / (high - low)

        out.append(f'<text x="{left}" y="{top - 8}" font-weight="bold">N = {size:,}</text>')
        out.append(f'<rect x="{left}" y="{top}" width="{_PANEL_W}" height="{_PANEL_H}" fill="none" stroke="#888"/>')
        for power in range(int(low), int(high) + 1):
            out.append(_line(left, y(10**power), left + _PANEL_W, y(10**power)))
            out.append(f'<text x="{left - 6}" y="{y(10**power) + 4:.1f}" text-anchor="end">{_bytes(power)}</text>')
        for power in range(int(far) + 1):
            out.append(_line(x(10**power), top, x(10**power), top + _PANEL_H))
            at = top + _PANEL_H + 15
            out.append(f'<text x="{x(10**power):.1f}" y="{at}" text-anchor="middle">{10**power:,}</text>')
        out.append(
            f'<text x="{left + _PANEL_W / 2}" y="{top + _PANEL_H + 30}" text-anchor="middle">differing records</text>'
        )
        for mode, colour in zip(modes, _COLOURS, strict=False):
            points = sorted(
                (cost.differences, cost.bytes, cost.selected)
                for cost in drawn
                if cost.mode == mode and cost.leaves == size
            )
            path = " ".join(f"{x(differences):.1f},{y(count):.1f}" for differences, count, _ in points)
            out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            for differences, count, is_selected in points:
                at = f'cx="{x(differences):.1f}" cy="{y(count):.1f}"'
                out.append(f'<circle {at} r="3" fill="{colour}"/>')
                if is_selected:
                    out.append(f'<circle {at} r="7" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    for number, (mode, colour) in enumerate(zip(modes, _COLOURS, strict=False)):
        left = _MARGIN + number * 150
        out.append(_line(left, height - 18, left + 24, height - 18, colour, 3))
        out.append(f'<text x="{left + 30}" y="{height - 14}">{escape(mode)}</text>')
    out.append(f'<text x="{width - 10}" y="{height - 14}" text-anchor="end">ring: selected</text>')
    return "\n".join([*out, "</svg>", ""])


def _bytes(power: int) -> str:
    return f"{10 ** (power % 3)} {('B', 'kB', 'MB', 'GB')[power // 3]}"


def _line(x1: float, y1: float, x2: float, y2: float, colour: str = "#ddd", width: int = 1) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'
    )
