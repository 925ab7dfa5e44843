"""A story: dated lines that a person can read, and an account at its end, on lines of 80 columns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from textwrap import wrap
from typing import Final

from echonode.sim.event_loop import EPOCH_MS

COLUMNS: Final = 80
_WHO: Final = 7
_LABEL: Final = 18
_DAY_S: Final = 86_400.0
_STEPS: Final = ((_DAY_S, "day"), (3600.0, "hour"), (60.0, "minute"))


@dataclass(frozen=True, slots=True)
class Story:
    """The story of one world. `failure` is what the judge found, "" when all held."""

    lines: Sequence[str]
    failure: str = ""


@dataclass(slots=True)
class Storyteller:
    """Writes a story down while it happens."""

    title: str
    _lines: list[str] = field(default_factory=list)
    _month: str = ""

    def tell(self, now_s: float, who: str, text: str) -> None:
        """Add what happened to `who` at that virtual time."""
        at = datetime.fromtimestamp(EPOCH_MS / 1000 + now_s, UTC)
        if self._month != (month := f"{at:%B %Y}"):
            self._month = month
            self._lines += ["", month]
        self._lines += _hanging(f"{at.day:3} {at:%H:%M}  {who:<{_WHO}} ", text)

    def conclude(self, heading: str, rows: Sequence[tuple[str, str]]) -> None:
        """Add a part of the account: a heading, and rows of (what, how it is)."""
        self._lines += ["", heading]
        for label, text in rows:
            self._lines += _hanging(f"  {label:<{_LABEL}}", text)

    def story(self, failure: str = "") -> Story:
        """Return the story so far."""
        return Story((self.title, *self._lines), failure)


def span(duration_s: float) -> str:
    """Return a time as a person says it: `40 minutes`, `3 days`, `0.2 s`."""
    for unit_s, unit in _STEPS:
        if duration_s >= unit_s:
            return counted(round(duration_s / unit_s), unit)
    return f"{duration_s:.0f} s" if duration_s >= 10 else f"{max(0.1, duration_s):.1f} s"


def counted(number: int, noun: str) -> str:
    """Return `1 start`, `1,204 starts`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _hanging(head: str, text: str) -> Iterator[str]:
    rest = wrap(text, COLUMNS - len(head), break_on_hyphens=False)
    for number, line in enumerate(rest or [""]):
        yield f"{head if not number else ' ' * len(head)}{line}".rstrip()
