"""The JSON forms of records, times and events. Pure: values in, values out.

    id         author/name; the author is `shared` or 52 characters of base32
    version    52 characters of base32
    time       RFC 3339, UTC, milliseconds: 2026-11-22T12:00:00.000Z
    body       one of   body          the JSON value as it is stored, when the media type says JSON and it parses; one
                                      with line ends is written anew. Else the text, when it is UTF-8 without control
                                      characters other than \\n \\r \\t
                        body_base64   anything else (RFC 4648 §4, padded)

A line of an export holds the least from which `import` makes the same record again.
"""

import json
import re
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from echonode.api.problems import RequestError
from echonode.clock import to_ms
from echonode.digest import ID_LIST, digest16
from echonode.errors import LocalError
from echonode.model.address import ME, SHARED
from echonode.model.identity import IdentityId
from echonode.model.record import Record
from echonode.model.time_text import MS_MAX, read_time_ms
from echonode.node.events import Event
from echonode.text import nfc as nfc
from echonode.text import to_base32
from echonode.wire.messages import version_text

JSON_TYPE: Final = "application/json"
TEXT_TYPE: Final = "text/plain"
MODEL: Final = "note"
MODEL_VERSION: Final = (1, 0)

BODY_FORMS: Final = ("0", "1", "base64")  # no body; as text or JSON where it is; always as base64

Label = Callable[[IdentityId], str]

_MODEL: Final = re.compile(r"(.+)@(\d{1,9})\.(\d{1,9})", re.DOTALL)
_LINE_END: Final = re.compile(rb"[\r\n]")
_CONTROLS: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")

encode: Final = msgspec.json.Encoder().encode


class Body(Struct, kw_only=True):
    """A body in JSON: exactly one of the two fields is set, and neither for a deleted record. Raw is compact JSON."""

    body: str | Raw | UnsetType = UNSET
    body_base64: str | UnsetType = UNSET


class RecordForm(Struct, kw_only=True):
    """A record as it is read: its winning version. `heads` is their number, where they were looked up; two or more are
    a conflict. `etag` names exactly these heads."""

    id: str
    address: str | UnsetType = UNSET
    context: str
    author: str
    name: str
    version: str
    timestamp: str
    created: str
    model: str
    model_version: str
    tags: tuple[str, ...]
    type: str
    deleted: bool
    heads: int | UnsetType = UNSET
    etag: str | UnsetType = UNSET
    body: str | Raw | UnsetType = UNSET
    body_base64: str | UnsetType = UNSET


class HeadForm(Struct, kw_only=True):
    """One version of a record; `key` is the device key that signed it, `by` the node with that key, if it is known."""

    version: str
    key: str
    by: str
    timestamp: str
    created: str
    model: str
    model_version: str
    tags: tuple[str, ...]
    type: str
    deleted: bool
    winner: bool | UnsetType = UNSET
    superseded: str | UnsetType | None = UNSET
    void: bool | UnsetType = UNSET
    body: str | Raw | UnsetType = UNSET
    body_base64: str | UnsetType = UNSET


class ExportLine(Struct, kw_only=True):
    """One line of an export. `timestamp` is the signed `created` time. An empty `type` means that none was given.
    `later` holds the fields of a later minor version that this one does not know, in base64."""

    id: str
    name: str
    tags: tuple[str, ...]
    model: str
    type: str
    timestamp: str
    body: str | Raw | UnsetType = UNSET
    body_base64: str | UnsetType = UNSET
    later: str | UnsetType = UNSET


def record_id(record: Record, label: Label) -> str:
    """Return author/name."""
    return f"{label(record.author)}/{record.name}"


def record_form(
    record: Record,
    label: Label,
    *,
    address_label: Label | None = None,
    heads: Sequence[Record] = (),
    body: str = "0",
) -> RecordForm:
    """Return the form of the record whose winning version is `record`, one of `heads` where these are known.

    `address_label` gives the author as people write it on this node (model/address.py); `body` is one of BODY_FORMS.
    """
    shown = Body() if body == "0" else body_of(record, is_base64=body == "base64")
    author, version = label(record.author), to_base32(record.id)
    etag = version if len(heads) < 2 else etag_of(heads)
    return RecordForm(
        id=f"{author}/{record.name}",
        address=UNSET if address_label is None else record_id(record, address_label),
        context=record.context,
        author=author,
        name=record.name,
        version=version,
        timestamp=rfc3339(to_ms(record.timestamp)),
        created=rfc3339(record.created_ms),
        model=record.model,
        model_version=version_text(record.model_version),
        tags=record.tags,
        type=record.media_type,
        deleted=record.is_tombstone,
        heads=len(heads) or UNSET,
        etag=etag if heads else UNSET,
        body=shown.body,
        body_base64=shown.body_base64,
    )


def etag_of(heads: Sequence[Record]) -> str:
    """Return the text that names exactly these heads of a record: an entity tag without its quotes (RFC 9110 §8.8.3).

    The id of the version, where it is one.
    """
    if len(heads) == 1:
        return to_base32(heads[0].id)
    return to_base32(digest16(ID_LIST, b"".join(sorted(head.id for head in heads))))


def head_form(
    record: Record,
    writer: Callable[[Record], str],
    *,
    is_winner: bool | UnsetType = UNSET,
    superseded_ms: int | UnsetType | None = UNSET,
    is_void: bool = False,
) -> HeadForm:
    """Return the form of one version: a head with `is_winner`, an earlier version with `superseded_ms`.

    `is_void`: the key of an earlier version was stated compromised."""
    body = body_of(record)
    return HeadForm(
        version=to_base32(record.id),
        key=to_base32(record.kid),
        by=writer(record),
        timestamp=rfc3339(to_ms(record.timestamp)),
        created=rfc3339(record.created_ms),
        model=record.model,
        model_version=version_text(record.model_version),
        tags=record.tags,
        type=record.media_type,
        deleted=record.is_tombstone,
        winner=is_winner,
        superseded=rfc3339(superseded_ms) if isinstance(superseded_ms, int) else superseded_ms,
        void=True if is_void else UNSET,
        body=body.body,
        body_base64=body.body_base64,
    )


def export_line(record: Record, label: Label) -> ExportLine:
    """Return the export line of `record`, which is no tombstone. Importing the line gives the same body, byte for byte.

    The name is an address: `shared/NAME`, else `me/NAME`. So an own name that looks like an address stays a name.
    """
    body = body_of(record)
    if body.body_base64 is UNSET and is_json(record.media_type) and not _is_verbatim(body, record):
        body = Body(body_base64=b64encode(record.body).decode("ascii"))
    return ExportLine(
        id=record_id(record, label),
        name=f"{SHARED if label(record.author) == SHARED else ME}/{record.name}",
        tags=record.tags,
        model=_model_text(record.model, record.model_version),
        type=record.media_type,
        timestamp=rfc3339(record.created_ms),
        body=body.body,
        body_base64=body.body_base64,
        later=b64encode(record.later).decode("ascii") if record.later else UNSET,
    )


def _is_verbatim(body: Body, record: Record) -> bool:
    """Return True if the JSON value shown is, byte for byte, what import would write."""
    if not isinstance(body.body, Raw) or bytes(body.body) != record.body or record.body.strip() != record.body:
        return False
    try:
        check_json(record.body)
    except (ValueError, RecursionError):
        return False
    return True


def check_json(data: bytes) -> None:
    """Raise ValueError unless `data` is one JSON value (RFC 8259) in which no object has a key twice.

    Numbers are not read: they may have any size and any number of digits. Raises RecursionError for deep nesting.
    """
    _STRICT_JSON.decode(data.decode())


def _unique(pairs: list[tuple[str, object]]) -> None:
    if len(dict(pairs)) == len(pairs):
        return
    keys = set()
    for key, _ in pairs:
        if key in keys:
            raise ValueError(f"the key {json.dumps(key)} stands twice in one object")
        keys.add(key)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON number")


# Made once: json.loads makes a decoder for each text when it has options.
_STRICT_JSON: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=len, parse_float=len, parse_constant=_no_constant
)


def body_of(record: Record, *, is_base64: bool = False) -> Body:
    """Return the form of the record's body."""
    if record.is_tombstone:
        return Body()
    if is_base64:
        return Body(body_base64=b64encode(record.body).decode("ascii"))
    if is_json(record.media_type):
        try:
            value = msgspec.json.decode(record.body)
            # A line of a stream cannot hold a line end: then the value is written anew, else it stays as it is.
            return Body(body=Raw(encode(value) if _LINE_END.search(record.body) else record.body))
        except (ValueError, RecursionError):
            pass  # the media type says JSON but the body is none: show it as text or base64
    try:
        text = record.body.decode()
    except UnicodeDecodeError:
        text = "\0"
    if _CONTROLS.search(text):
        return Body(body_base64=b64encode(record.body).decode("ascii"))
    return Body(body=text)


def is_json(media_type: str) -> bool:
    """Return True if the media type is application/json or one that ends in +json (RFC 6839 §3.1)."""
    essence = media_type.partition(";")[0].strip().lower()
    return essence == JSON_TYPE or essence.endswith("+json")


def rfc3339(ms: int) -> str:
    """Return a time in ms since 1970 as RFC 3339 with milliseconds, in UTC; at most the last time it can write."""
    return f"{_second(min(ms, MS_MAX) // 1000)}.{min(ms, MS_MAX) % 1000:03d}Z"


@lru_cache(maxsize=256)  # records in a row are often of the same second
def _second(since_1970_s: int) -> str:
    return f"{datetime.fromtimestamp(since_1970_s, UTC):%Y-%m-%dT%H:%M:%S}"


def maybe_rfc3339(ms: int | None) -> str | None:
    """Return the same for a time that may be missing."""
    return None if ms is None else rfc3339(ms)


def read_time(value: str | float, now_ms: int | None = None) -> int:
    """Return the ms since 1970 of a time (model/time_text.py) or a number of seconds. Raises RequestError."""
    if isinstance(value, str):
        try:
            return read_time_ms(value, now_ms)
        except LocalError as error:
            raise RequestError(str(error)) from None
    ms = round(value * 1000) if abs(value) < 1e13 else -1
    if not 0 <= ms <= MS_MAX:
        raise RequestError(f"{value} is no time between 1970 and 9999")
    return ms


def read_model(text: str) -> tuple[str, tuple[int, int]]:
    """Return name, in NFC, and version of NAME or NAME@MAJOR.MINOR."""
    name = nfc(text)
    match = _MODEL.fullmatch(name)
    return (match[1], (int(match[2]), int(match[3]))) if match else (name, MODEL_VERSION)


def _model_text(name: str, version: tuple[int, int]) -> str:
    """Return the text that `read_model` reads as this name and version."""
    is_plain = version == MODEL_VERSION and not _MODEL.fullmatch(name)
    return name if is_plain else f"{name}@{version_text(version)}"


def event_form(event: Event, label: Label, address_label: Label | None = None) -> dict[str, object]:
    """Return an event by the names of its fields: ids in base32, records without their bodies."""
    shown: dict[str, object] = {"event": event.name}
    for field in fields(event):
        shown[field.name] = _event_value(getattr(event, field.name), label, address_label)
    return shown


def _event_value(value: object, label: Label, address_label: Label | None) -> object:
    match value:
        case bytes():
            return to_base32(value)
        case Record():
            return record_form(value, label, address_label=address_label)
        case tuple():
            return [_event_value(part, label, address_label) for part in value]
        case _:
            return value
