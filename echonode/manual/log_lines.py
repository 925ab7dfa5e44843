"""The lines of a log as people read them: one line an event, aligned, in colour, within the width of the terminal.

    14:02:11  kitchen is here, at 192.168.1.20:22087                        a terminal on which a node runs
    14:02:11  info   peer.connected   kitchen is here, at 192.168.1.20:2…   echonode logs

A line comes in its JSON form, so that any source will do: the running node, a file, the journal.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from string import Formatter
from typing import Any, Final

from echonode.manual.log_events import BY_NAME
from echonode.text import columns_of, escape

_NAME_COLUMNS: Final = 23  # of the longest usual names
_LEVEL_COLUMNS: Final = 7
_WIDE: Final = 100  # columns; in fewer a level is its first letter, for the sentence's sake
_TEXT_CHARS_MAX: Final = 1024
_SHORT_ID: Final = 8
_ID_CHARS: Final = 52
_LABELS_MAX: Final = 1024
_RESET: Final = "\x1b[0m"
_COLOURS: Final = {"error": "\x1b[31m", "warning": "\x1b[33m", "info": "", "debug": "\x1b[2m"}
_DIM: Final = "\x1b[2m"
_USUAL: Final = frozenset({"time", "level", "event"})

Line = Mapping[str, Any]


@dataclass(slots=True)
class LineForm:
    """Makes lines. `width`: columns to keep within, None for no bound; `labels`: names of nodes by their ids.

    Names that come in lines are learnt, so that later lines about a node without a label have its latest name.
    """

    width: int | None = None
    is_coloured: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    _learnt: dict[str, str] = field(default_factory=dict)

    def calm(self, line: Line) -> str | None:
        """Return the line for a terminal on which a node runs; None for one that a person there does not want."""
        self._learn(line)
        known = BY_NAME.get(str(line.get("event")))
        if known is not None and (not known.is_calm or _is_nothing(line)):
            return None
        return self._fitted(_clock(line), "", self.sentence(line), str(line.get("level")))

    def full(self, line: Line, *, with_date: bool = False) -> str:
        """Return the line with its level and its name."""
        self._learn(line)
        level, name = str(line.get("level")), str(line.get("event"))
        is_narrow = self.width is not None and self.width < _WIDE
        shown = escape(level)[:1].upper() if is_narrow else f"{escape(level):<{_LEVEL_COLUMNS}}"
        columns = f"{shown}  {escape(name):<{_NAME_COLUMNS}}"
        return self._fitted(_clock(line, with_date=with_date), f"{columns}  ", self.sentence(line), level)

    def sentence(self, line: Line) -> str:
        """Return what a line says. A line without a sentence in the catalogue shows its fields."""
        known = BY_NAME.get(str(line.get("event")))
        if known is None:
            fields = {key: value for key, value in line.items() if key not in _USUAL and value not in (None, "", [])}
            return " ".join(f"{escape(key)}={self._text(value)}" for key, value in fields.items())
        return _Sentence(self).vformat(known.sentence, (), line).strip()

    def who(self, node: object) -> str:
        """Return the name of the node with that id, or the beginning of the id; "this node" for none."""
        text = escape(str(node or ""))
        return self._name(text) or (text[:_SHORT_ID] if len(text) == _ID_CHARS else text) or "this node"

    def _text(self, value: object) -> str:
        if isinstance(value, list):
            return ", ".join(map(self._text, value)) or "nothing"
        text = escape(str(value), _TEXT_CHARS_MAX)
        return self._name(text) or (f"{text[:_SHORT_ID]}" if len(text) == _ID_CHARS and text.isalnum() else text)

    def _name(self, id_text: str) -> str:
        return self.labels.get(id_text) or self._learnt.get(id_text, "")

    def _learn(self, line: Line) -> None:
        peer, name = line.get("peer"), line.get("peer_name")
        if peer and name and (peer in self._learnt or len(self._learnt) < _LABELS_MAX):
            self._learnt[str(peer)] = escape(str(name))

    def _fitted(self, time: str, columns: str, sentence: str, level: str) -> str:
        rest = None if self.width is None else self.width - len(time) - 2 - columns_of(columns)
        text = sentence if rest is None else _cut(sentence, max(rest, 8))
        if not self.is_coloured:
            return f"{time}  {columns}{text}".rstrip()
        colour = _COLOURS.get(level, "")
        return f"{_DIM}{time}{_RESET}  {colour}{columns}{text}{_RESET if colour else ''}"


class _Sentence(Formatter):
    """Fills a sentence of the catalogue with the fields of a line. A field that is missing is shown as `?`."""

    def __init__(self, form: LineForm) -> None:
        self._form = form

    def get_value(self, key: int | str, args: Any, kwargs: Mapping[str, Any]) -> Any:
        return kwargs.get(str(key), "?")

    def format_field(self, value: Any, format_spec: str) -> str:
        match format_spec:
            case "who":
                return self._form.who(value)
            case "other":
                return self._form.who(value) if value else "a node"
            case "size" if isinstance(value, int):
                return size(value)
            case "span" if isinstance(value, int | float):
                return span(value)
            case _:
                return self._form._text(value)


def size(number: float) -> str:
    """Return a number of bytes in the unit that keeps it short."""
    value = float(number)
    if value < 1000:
        return f"{value:.0f} B"
    for unit, factor in (("kB", 1e3), ("MB", 1e6), ("GB", 1e9)):
        if value < 999.95 * factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value / 1e12:.1f} TB"


def span(value: float) -> str:
    """Return a span of seconds in the unit that keeps it short."""
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 120:
        return f"{value:.1f} s"
    if value < 7200:
        return f"{value / 60:.0f} min"
    return f"{value / 3600:.0f} h" if value < 172_800 else f"{value / 86_400:.0f} days"


def _is_nothing(line: Line) -> bool:
    """Return True for a conversation that moved nothing and found all equal: there are many of these."""
    moved = any(line.get(key) for key in ("sent", "received", "refused"))
    return line.get("event") == "sync.completed" and not moved and bool(line.get("verified"))


def _clock(line: Line, *, with_date: bool = False) -> str:
    """Return the time of a line in the time zone of this machine."""
    try:
        moment = datetime.fromisoformat(str(line.get("time"))).astimezone()
    except (ValueError, OverflowError):
        return "??:??:??"
    return moment.strftime("%Y-%m-%d %H:%M:%S" if with_date else "%H:%M:%S")


def _cut(text: str, columns: int) -> str:
    """Return `text` in at most so many columns, with an ellipsis where something is missing."""
    if columns_of(text) <= columns:
        return text
    while text and columns_of(text) > columns - 1:
        text = text[: -max(1, (columns_of(text) - columns) // 2)]
    return f"{text}…"
