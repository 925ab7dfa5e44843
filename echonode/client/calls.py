"""The operations of the clients, each once: a request, and a way to read its answer. Pure.

    put(..)      -> Call[Written]      one JSON answer
    records(..)  -> Stream[Record]     one item a line, as it comes
    changes(..)  -> Follow             server-sent events, from a cursor on

The clients send requests and hand the answers' bytes to these; nothing here knows a socket.
"""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, Literal, TypeVar

from echonode.client.answers import EventStream
from echonode.client.request import JSON_TYPE, Request, conflict_path, record_path, target
from echonode.client.values import Change, Conflict, PeerSync, Record, SyncResult, Version, Written

T = TypeVar("T")
Body = bytes | str | dict[str, Any] | list[Any] | int | float | bool | None
Action = Literal["both", "pull", "push"]
Strategy = Literal["merge", "prefer_local", "prefer_remote"]

_WHOLE: Final = ("whole", "1"), ("body", "base64")
_SYNC_MARGIN_S: Final = 15.0  # the node answers by itself when its own time is up


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request whose answer is one JSON value, which `read` makes a T. It gets values of the right shape only."""

    request: Request
    read: Callable[[Any], T]


@dataclass(frozen=True, slots=True)
class Stream(Generic[T]):
    """A request whose answer is one JSON object a line, each of which `read` makes a T."""

    request: Request
    read: Callable[[Any], T]


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """The records that are wanted. Every part that is given must hold; `terms` are more, as in `echonode list`."""

    author: str | None = None
    tag: str | None = None
    name: str | None = None
    model: str | None = None
    terms: tuple[str, ...] = ()

    def query(self) -> list[tuple[str, str]]:
        """Return the parameters that carry the filter."""
        parts = {"author": self.author, "tag": self.tag, "name": self.name, "model": self.model}
        given = [f"{key}={value}" for key, value in parts.items() if value is not None]
        return [("filter", term) for term in (*given, *self.terms)]


def encoded(body: Body) -> tuple[bytes, str]:
    """Return the bytes of a body and its media type, "" for bytes: text is UTF-8, every other value JSON."""
    match body:
        case bytes():
            return body, ""
        case str():
            return body.encode(), "text/plain"
        case _:
            return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(), JSON_TYPE


def put(
    id: str,
    body: Body,
    *,
    context: str,
    tags: Sequence[str],
    type: str | None,
    model: str | None,
    over: Record | Written | str | None,
    new: bool,
) -> Call[Written]:
    """Write a record; `over`: only while that is what stands; `new`: only where nothing is."""
    data, guessed = encoded(body)
    query = [("id", id), ("model", model), ("type", type or guessed or None), *(("tag", tag) for tag in tags)]
    request = Request(
        method="PUT",
        target=target(record_path(context), query),
        body=data,
        headers=_condition(over, new=new),
        is_safe=over is None and not new,
    )
    return Call(request, _written)


def put_all(bodies: Mapping[str, Body], *, context: str, tags: Sequence[str], model: str | None) -> Call[str]:
    """Write many records, all or none."""
    lines = []
    for id, body in bodies.items():
        data, media_type = encoded(body)
        line: dict[str, Any] = {"name": id, "body_base64": b64encode(data).decode("ascii"), "type": media_type}
        lines.append({**line, "tags": list(tags), **({} if model is None else {"model": model})})
    request = _post(record_path(context, "/put"), {"records": lines}, is_safe=True)
    return Call(request, lambda answer: str(answer["cursor"]))


def delete(id: str, *, context: str, over: Record | Written | str | None) -> Call[Written]:
    """Delete a record."""
    headers = _condition(over, new=False)
    return Call(Request(method="DELETE", target=target(record_path(context), [("id", id)]), headers=headers), _written)


def get(id: str, *, context: str, version: str | None) -> Call[Record]:
    """Read a record, or one version of it."""
    query = [("id", id), ("version", version), *_WHOLE, ("any_model", "1")]
    return Call(_get(target(record_path(context), query)), Record.read)


def records(*, context: str, wanted: Filter, since: str | None, limit: int | None) -> Stream[Record]:
    """List records, in the order in which they came."""
    count = None if limit is None else str(limit)
    query = [*wanted.query(), ("since", since), ("limit", count), ("body", "base64")]
    return Stream(_get(target(record_path(context, "/list"), query)), Record.read)


def cursor(*, context: str) -> Call[str]:
    """Return the cursor behind all that is held now."""
    request = _get(target("/v1/changes", [("context", context), ("since", "now")]))
    return Call(request, lambda answer: str(answer["cursor"]))


def history(id: str, *, context: str, limit: int) -> Call[tuple[Version, ...]]:
    """Return the versions of a record that are held, the one that readers get first."""
    request = _get(target(record_path(context, "/history"), [("id", id), ("limit", str(limit))]))
    return Call(request, lambda answer: tuple(map(Version.read, answer["versions"])))


def conflicts(*, context: str | None) -> Call[tuple[Conflict, ...]]:
    """Return every record with several versions."""

    def read(answer: Any) -> tuple[Conflict, ...]:
        return tuple(
            Conflict(
                id=each["id"],
                address=each["address"],
                context=each["context"],
                versions=tuple(map(Version.read, each["heads"])),
            )
            for each in answer["conflicts"]
        )

    return Call(_get(target("/v1/conflicts", [("context", context)])), read)


def resolve(id: str, *, context: str, keep: str | None, strategy: Strategy | None) -> Call[str]:
    """End a conflict; return the version that stands then."""
    path = target(conflict_path(context, "/resolve"), [("id", id)])
    request = _post(path, {"keep": keep} if keep is not None else {"strategy": strategy})
    return Call(request, lambda answer: str(answer["version"]))


def sync(*, peers: Sequence[str] | None, action: Action, timeout_s: float) -> Call[SyncResult]:
    """Sync now."""

    def read(answer: Any) -> SyncResult:
        fields = ("id", "name", "status", "sent", "received", "error")
        reports = tuple(PeerSync(**{name: each[name] for name in fields}) for each in answer["peers"])
        return SyncResult(status=answer["status"], peers=reports, conflicts=answer["conflicts"])

    wish = {"peers": None if peers is None else list(peers), "action": action, "timeout": timeout_s}
    return Call(_post("/v1/sync", wish, is_safe=True, timeout_s=timeout_s + _SYNC_MARGIN_S), read)


def status() -> Call[dict[str, Any]]:
    """Return this node, its contexts and its peers, as `echonode status --json` does."""
    return Call(_get("/v1/status"), dict)


# -- changes -----------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Follow:
    """The changes of a context over any number of connections: each begins where the last one ended.

    `request` is the next one to send. `feed` takes the bytes of its answer and returns changes; True in `is_over` says
    that the node ends, and that the next connection is to come later.
    """

    context: str
    wanted: Filter
    since: str | None
    is_over: bool = False
    _events: EventStream = field(default_factory=EventStream)
    _gap: str = ""

    def request(self) -> Request:
        """Return the request that goes on from here."""
        self._events, self.is_over = EventStream(), False
        query = [("context", self.context), ("since", self.since), ("body", "base64"), *self.wanted.query()]
        return Request(
            method="GET",
            target=target("/v1/changes", query),
            headers=(("accept", "text/event-stream"),),
            is_safe=True,
        )

    def feed(self, data: bytes) -> Iterator[Change]:
        """Yield the changes that are complete with `data`. Raises BadAnswer."""
        for event in self._events.feed(data):
            match event.name:
                case "change":
                    cursor = event.data["cursor"]
                    yield Change(record=Record.read(event.data["record"]), cursor=cursor, gap=self._gap)
                    self.since, self._gap = cursor, ""
                case "gap":
                    self._gap = event.data["reason"]
                case "end":
                    self.is_over = True
                case "":
                    self.since = event.id or self.since
                case _:
                    pass  # of a later version


def _written(answer: Any) -> Written:
    return Written(id=answer["id"], version=answer["version"], context=answer["context"], cursor=answer["cursor"])


def _condition(over: Record | Written | str | None, *, new: bool) -> tuple[tuple[str, str], ...]:
    if new and over is not None:
        raise ValueError("either new, or over what stands")
    if new:
        return (("if-none-match", "*"),)
    if over is None:
        return ()
    return (("if-match", f'"{over if isinstance(over, str) else over.etag}"'),)


def _get(where: str) -> Request:
    return Request(method="GET", target=where, is_safe=True)


def _post(where: str, value: object, *, is_safe: bool = False, timeout_s: float | None = None) -> Request:
    return Request(
        method="POST",
        target=where,
        body=json.dumps(value).encode(),
        headers=(("content-type", JSON_TYPE),),
        is_safe=is_safe,
        timeout_s=timeout_s,
    )
