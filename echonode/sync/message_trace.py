"""MessageTrace: the last messages of one session, for people: when, which way, type, size and reason, never values."""

from collections import deque
from dataclasses import dataclass
from typing import Final, get_args

from echonode.errors import Reason
from echonode.limits import TRACED_MESSAGES
from echonode.wire.messages import Message

_COUNTED = ("records", "announced", "wanted", "leaves", "prefixes", "ids", "contexts", "places", "roots", "seqs")
# What each type of messages holds of these: to ask every message for all of them takes longer than to encode it.
_COUNTED_IN: Final = {kind: tuple(name for name in _COUNTED if hasattr(kind, name)) for kind in get_args(Message)}
_SINGULAR = {name: name.removesuffix("s") for name in _COUNTED} | {"leaves": "leaf", "prefixes": "prefix"}


@dataclass(frozen=True, slots=True)
class TracedMessage:
    """One message. `at_s`: seconds of the loop; `number` counts the messages of this way in the session, from 1."""

    at_s: float
    is_sent: bool
    number: int
    kind: str
    bytes: int
    note: str


class MessageTrace:
    """The last TRACED_MESSAGES messages of a session."""

    def __init__(self) -> None:
        self.messages: deque[TracedMessage] = deque(maxlen=TRACED_MESSAGES)
        self._counts = [0, 0]

    def add(self, at_s: float, message: Message, size: int, *, is_sent: bool) -> None:
        """Add a message whose payload has `size` bytes."""
        self._counts[is_sent] += 1
        self.messages.append(
            TracedMessage(at_s, is_sent, self._counts[is_sent], type(message).__name__, size, note_of(message))
        )


def note_of(message: Message) -> str:
    """Return what a message is about: its context, how many things it holds, its reason."""
    parts = []
    context = getattr(message, "context", "")
    if context:
        parts.append(context)
    for name in _COUNTED_IN.get(type(message), ()):  # () for a type of a later version
        things = getattr(message, name)
        if isinstance(things, tuple) and things:
            parts.append(f"{len(things)} {_SINGULAR.get(name, name) if len(things) == 1 else name}")
    reason = getattr(message, "reason", None)
    if isinstance(reason, int):
        parts.append(Reason.from_wire(reason).text)
    return ", ".join(parts)
