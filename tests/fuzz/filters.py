"""Targets that read wishes: filters, as peers send them and people type them, and range-based reconciliation.

    filter        fields on the wire give a filter or a RemoteError; a glob agrees with a matcher written from its
                  definition; terms that people type give a filter or a LocalError
    negentropy    a message to either side gives an answer or a RemoteError; a side never claims ids that it lacks
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any, Final

from echonode import cbor
from echonode.errors import LocalError, Reason, RemoteError
from echonode.model.fields import AUTHOR, CREATED, MODEL, NAME, TAGS
from echonode.model.filter import Filter
from echonode.model.filter_text import full_id, read_filter
from echonode.model.record import parse
from echonode.text import to_base32
from echonode.wire.negentropy import LIMIT_BYTES_MIN, Negentropy
from echonode.wire.ranges import Items, item
from tests.fuzz import mutate
from tests.fuzz.parsers import vector
from tests.fuzz.target import Reader, Target

# -- filters ---------------------------------------------------------------------------------------------------------


def run_filter(data: bytes) -> None:
    _read_terms(data.decode("utf-8", "replace").split("\n"))
    _read_fields(data)


def _read_fields(data: bytes) -> None:
    """Read an array of a filter's fields and names to match."""
    try:
        value = cbor.decode(data)
        fields, *more = value if type(value) is list and value else [value]
        wanted = Filter.from_fields(fields)
    except RemoteError as error:
        assert error.reason is Reason.PROTOCOL_ERROR
        return
    _check_filter(wanted)
    for name in (each for each in more if type(each) is str and len(each) <= 200):
        version: dict[int, Any] = {AUTHOR: bytes(32), NAME: name, CREATED: 0, MODEL: "note", TAGS: ["a"]}
        is_named = Filter(name=wanted.name).matches_fields(version)
        assert is_named == (not wanted.name or _is_glob_of(wanted.name, name)), "the glob means something else"
        assert is_named or not wanted.matches_fields(version)


def _check_filter(wanted: Filter) -> None:
    written = cbor.encode(wanted.fields())
    again = Filter.from_fields(cbor.decode(written))
    assert again == wanted and again.digest() == wanted.digest() and cbor.encode(again.fields()) == written
    assert wanted.takes_all == (wanted.fields() == {})
    for record in _records():
        if wanted.without_senders.matches(record):
            assert record.author not in wanted.not_authors and (not wanted.models or record.model in wanted.models)


@cache
def _records() -> tuple[Any, ...]:
    return tuple(parse(bytes.fromhex(raw)) for raw in vector("filter")["records"].values())


def _is_glob_of(pattern: str, name: str) -> bool:
    """Return True if `name` fits `pattern`: * is any characters, ? is one.

    Follows the set of places in `pattern` that can be reached.
    """
    reached = {0}
    for char in (*name, None):
        for place in sorted(reached):
            while place < len(pattern) and pattern[place] == "*":
                place += 1
                reached.add(place)
        if char is None:
            break
        reached = {
            place + (pattern[place] != "*")
            for place in reached
            if place < len(pattern) and pattern[place] in ("*", "?", char)
        }
    return len(pattern) in reached


def _read_terms(terms: list[str]) -> None:
    try:
        wanted = read_filter(terms, full_id)
    except LocalError:
        return
    _check_filter(wanted)


def _filter_seeds() -> Iterator[bytes]:
    for entry in vector("filter")["filters"]:
        fields = cbor.decode(bytes.fromhex(entry["bytes"]))
        yield cbor.encode([fields, "name", "a name"])
    for glob in ("*", "a*b?c*", "*a*a*a*a*a*b", "[a]*", "**??"):
        yield cbor.encode([{11: glob}, "a" * 40 + "b", "axbyc", "[a]", "aaaaaaaaab"])
    someone = to_base32(bytes(32))
    yield f"author={someone}\nauthor!={someone}\npool={someone}\nsender={someone}".encode()
    yield b"model=note\ntag=a\ntag=b\ntags=c,d\nname=*x?"
    yield b"since=2026-11-22\nuntil=2026-11-22T12:00:00+01:00"
    yield b"since=1700000000.5\nuntil=9999-12-31T23:59:59.999999-23:59"


# -- negentropy ------------------------------------------------------------------------------------------------------

_VECTORS: Final = Path(__file__).parents[1] / "vectors" / "negentropy_v1.json"


@cache
def _conversations() -> Any:
    return json.loads(_VECTORS.read_text())["vectors"]


@cache
def _items() -> Items:
    """Return the items of a vector in which many ids differ."""
    (scattered,) = [each for each in _conversations() if each["name"] == "scattered"]
    return Items(item(timestamp, bytes.fromhex(id)) for timestamp, id in scattered["initiator_items"])


def run_negentropy(data: bytes) -> None:
    """Run on a byte of options (initiator, limited), then a message of the other side."""
    reader = Reader(data)
    options, message = reader.number(), reader.rest()
    limit = LIMIT_BYTES_MIN if options & 2 else 0
    side = Negentropy(_items(), limit=limit)
    if options & 1:
        assert not limit or len(side.initiate()) <= limit
        side.initiate()
    try:
        answer = side.answer(message)
    except RemoteError as error:
        assert error.reason in (Reason.PROTOCOL_ERROR, Reason.UNSUPPORTED_PROTOCOL)
        return
    ours = set(_items().ids(0, len(_items())))
    assert ours.issuperset(side.have), "claimed an id that it lacks"
    if answer is None:
        return
    assert not limit or len(answer) <= limit
    other = Negentropy(_items(), limit=limit)
    if not options & 1:
        other.initiate()
    other.answer(answer)  # every answer is a valid message
    assert not other.need, "both sides hold the same"


def _negentropy_seeds() -> Iterator[bytes]:
    for conversation in _conversations():
        for message in conversation["messages"]:
            is_initiators = message["from"] == "initiator"
            for limited in (0, 2):
                yield bytes([limited | (not is_initiators)]) + bytes.fromhex(message["hex"])


def _mutate_negentropy(data: bytes, rng: Random) -> bytes:
    """Change the digits of varints more often than the ids between them."""
    if rng.random() < 0.5 or len(data) < 2:
        return mutate.of_bytes(data, rng)
    at = rng.randrange(1, len(data))
    return data[:at] + rng.choice((b"\0", b"\1", b"\2", b"\x7f", b"\x81\0", b"\xff" * 9 + b"\x7f")) + data[at + 1 :]


TARGETS: Final = (
    Target("filter", run_filter, lambda: list(_filter_seeds()), mutate.of_cbor),
    Target("negentropy", run_negentropy, lambda: list(_negentropy_seeds()), _mutate_negentropy, 16_384),
)
