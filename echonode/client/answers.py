"""Answers of a node, from bytes to values. The one door: what comes through fits the shape that answer_shapes.py gives.

    value_of(request, body)    the JSON value of a whole answer
    refused(status, body)      the error that a refusal is
    Lines, EventStream         the same for answers that come in pieces: one JSON value a line, and server-sent events

Commands and clients read no JSON of a node elsewhere. What does not fit is a BadAnswer: one sentence that names the
field. So the code behind this door needs no checks of its own.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from echonode.client.answer_shapes import EVENTS, shape_of
from echonode.client.errors import BadAnswer, Refused, refusal
from echonode.client.request import Request
from echonode.client.shape import ANY, Shape, checker, mismatch
from echonode.text import escape

_SHOWN_CHARS_MAX: Final = 100


def value_of(request: Request, body: bytes) -> Any:
    """Return the JSON value of a whole answer. Raises BadAnswer."""
    return _checked(body, shape_of(request))


def refused(status: int, body: bytes) -> Refused:
    """Return the error that an answer with this status is. Any body will do: another program may have sent it."""
    try:
        return refusal(status, _from_json(body))
    except BadAnswer:
        return refusal(status, None)


class Lines:
    """Takes the pieces of an answer to `request` and gives its lines, each with its JSON value.

    Raises Refused for a line that holds an error and nothing else: it is the last one.
    """

    def __init__(self, request: Request, status: int) -> None:
        self._status = status
        self._shape = shape_of(request)
        self._fits = checker(self._shape)
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, Any]]:
        """Yield the lines that are complete with `data`, without line ends and without empty ones."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line:
                yield line, self._value(line)

    def finish(self) -> Iterator[tuple[bytes, Any]]:
        """Yield the last line, where it has no end."""
        if self._rest:
            yield self._rest, self._value(self._rest)

    def _value(self, line: bytes) -> Any:
        value = _from_json(line)
        if isinstance(value, dict) and value.keys() == {"error"}:
            raise refusal(self._status, value)
        if not self._fits(value):
            raise _misfit(value, self._shape)
        return value


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """A server-sent event (HTML Living Standard §9.2). One without a name carries its `id` or nothing."""

    name: str
    data: Any
    id: str | None


class EventStream:
    """Takes the pieces of a stream of server-sent events. The API writes one `data:` line for each."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[ServerEvent]:
        """Yield the events that are complete with `data`."""
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            yield _event(event)


def _event(text: bytes) -> ServerEvent:
    fields: dict[bytes, bytes] = {}
    for line in text.split(b"\n"):
        key, _, value = line.partition(b":")
        fields[key] = value.removeprefix(b" ")
    name = fields.get(b"event", b"").decode("utf-8", "replace") if b"data" in fields else ""
    data = _checked(fields[b"data"], EVENTS.get(name, ANY)) if name else None
    id = fields[b"id"].decode("utf-8", "replace") if b"id" in fields else None
    return ServerEvent(name, data, id)


def _checked(data: bytes, shape: Shape) -> Any:
    value = _from_json(data)
    if not checker(shape)(value):
        raise _misfit(value, shape)
    return value


def _misfit(value: object, shape: Shape) -> BadAnswer:
    said = f"the answer does not fit: {escape(mismatch(value, shape), _SHOWN_CHARS_MAX)}"
    return BadAnswer(f"{said}; another program answers there, or another version of echonode")


def _from_json(data: bytes) -> Any:
    try:
        return json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise BadAnswer("the node's answer is not JSON") from None


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")
