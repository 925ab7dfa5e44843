"""Drawings as SVG, written by hand: these few lines need no library."""

from collections.abc import Sequence
from typing import Final

_WIDTH: Final = 720
_HEIGHT: Final = 360
_LEFT, _TOP, _RIGHT, _BOTTOM = 56, 32, 16, 44
_COLOURS: Final = ("#1b6ca8", "#c2410c", "#15803d", "#7e22ce", "#b91c1c", "#0f766e", "#a16207", "#475569")
_TICKS: Final = 5
_LEGEND_MAX: Final = 8

Steps = Sequence[tuple[float, int]]


def meeting_plot(worlds: Sequence[tuple[int, Steps]]) -> str:
    """Draw the number of different roots over virtual time as SVG, one stepped line for each (seed, groups). One root
    means that all nodes are equal."""
    end_s = max((groups[-1][0] for _, groups in worlds), default=0.0) * 1.05 or 1.0
    most = max((number for _, groups in worlds for _, number in groups), default=1)

    def x(at_s: float) -> float:
        return round(_LEFT + (_WIDTH - _LEFT - _RIGHT) * at_s / end_s, 1)

    def y(groups: float) -> float:
        return round(_HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * groups / most, 1)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-size="14">How the roots met</text>',
        f'<path d="M{_LEFT} {_TOP}V{_HEIGHT - _BOTTOM}H{_WIDTH - _RIGHT}" fill="none" stroke="#333"/>',
        f'<text x="{_WIDTH // 2}" y="{_HEIGHT - 8}" text-anchor="middle">virtual seconds</text>',
        f'<text x="14" y="{_HEIGHT // 2}" text-anchor="middle" transform="rotate(-90 14 {_HEIGHT // 2})">'
        "different states</text>",
    ]
    for tick in range(_TICKS + 1):
        at_s = end_s * tick / _TICKS
        lines.append(f'<text x="{x(at_s)}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="middle">{at_s:.3g}</text>')
    for groups in sorted({1, most, max(1, most // 2)}):
        lines.append(f'<text x="{_LEFT - 8}" y="{y(groups) + 4}" text-anchor="end">{groups}</text>')
        lines.append(f'<path d="M{_LEFT} {y(groups)}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
    for number, (seed, steps) in enumerate(worlds):
        colour = _COLOURS[number % len(_COLOURS)]
        path = f"M{x(steps[0][0])} {y(steps[0][1])}"
        path += "".join(f"H{x(at_s)}V{y(groups)}" for at_s, groups in steps[1:]) + f"H{x(end_s)}"
        lines.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        if number < _LEGEND_MAX:
            at = _TOP + 14 * number
            lines.append(f'<text x="{_WIDTH - _RIGHT}" y="{at}" text-anchor="end" fill="{colour}">seed {seed}</text>')
    return "\n".join([*lines, "</svg>", ""])
