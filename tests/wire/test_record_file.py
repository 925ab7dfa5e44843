"""Record files: they are read however they are chopped, and every damage is noticed with all before it read."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode import cbor
from echonode.errors import Reason, RemoteError
from echonode.limits import RECORD_BYTES_MAX
from echonode.model.identity import IdentityId
from echonode.model.merkle import Digest
from echonode.model.record import Draft, parse, verify
from echonode.wire.record_file import ContextEnd, FileHeader, FileItem, FileReader
from tests.model.forge import PERSON, written
from tests.wire import make_file_vectors

HEADER = FileHeader(b"n" * 8, IdentityId(b"i" * 32), "kitchen", ("identities", "main", "books"))
VERSIONS = [written(Draft(context="main", author=PERSON.id, name=f"n{n}", body=b"b" * n)).raw for n in range(6)]
ENDS = (ContextEnd(2, Digest(b"r" * 32), False), ContextEnd(0, None, True), ContextEnd(4, Digest(b"s" * 32), False))
ITEMS: list[FileItem] = [HEADER, *VERSIONS[:2], ENDS[0], ENDS[1], *VERSIONS[2:6], ENDS[2]]
FILE = b"".join(item if isinstance(item, bytes) else item.encode() for item in ITEMS)


def pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    while data:
        size = sizes.pop() if sizes else len(data)
        yield data[:size]
        data = data[size:]


def read(data: bytes, sizes: list[int] | None = None) -> tuple[list[FileItem], RemoteError | None]:
    """Return the items of a file, and the error that ended it."""
    reader, items = FileReader(), list[FileItem]()
    try:
        for piece in pieces(data, sizes or []):
            reader.receive_data(piece)
            while (item := reader.next_item()) is not None:
                items.append(item)
        reader.finish()
    except RemoteError as error:
        return items, error
    return items, None


@given(st.lists(st.integers(1, 400)))
def test_a_file_is_read_however_it_is_chopped(sizes: list[int]) -> None:
    assert read(FILE, sizes) == (ITEMS, None)


def test_a_file_is_a_sequence_of_cbor_items() -> None:
    import io

    import cbor2

    source, found = io.BytesIO(FILE), []
    while source.tell() < len(FILE):
        found.append(cbor2.load(source))
    assert found[0] == ["echonode records", [1, 0], b"n" * 8, b"i" * 32, "kitchen", ["identities", "main", "books"]]
    assert [cbor.encode(each) for each in found[1:3]] == VERSIONS[:2]
    assert found[3:5] == [[2, b"r" * 32, False], [0, None, True]]


def test_the_context_that_is_read_is_known() -> None:
    reader = FileReader()
    seen = [reader.context]
    reader.receive_data(FILE)
    while reader.next_item() is not None:
        seen.append(reader.context)
    assert seen == [None, *["identities"] * 3, "main", *["books"] * 5, None]


def test_a_file_that_is_cut_anywhere_gives_all_that_is_whole_and_an_error() -> None:
    for size in range(len(FILE)):
        items, error = read(FILE[:size])
        assert error is not None and items == ITEMS[: len(items)]
        whole = sum(len(item if isinstance(item, bytes) else item.encode()) for item in ITEMS[: len(items) + 1])
        assert size < whole
        assert error.reason is (Reason.UNSUPPORTED_PROTOCOL if size == 0 else Reason.PROTOCOL_ERROR)


def header(**changes: Any) -> bytes:
    values = {
        "magic": "echonode records",
        "version": [1, 0],
        "network": b"n" * 8,
        "node": b"i" * 32,
        "name": "kitchen",
        "contexts": ["identities", "main"],
    }
    return cbor.encode(list((values | changes).values()))


@pytest.mark.parametrize(
    "changes",
    [
        {"version": [1]},
        {"version": [1, 65_536]},
        {"version": [1, -1]},
        {"version": [True, 0]},
        {"version": "1.0"},
        {"network": b"n" * 7},
        {"network": "n" * 8},
        {"node": b"i" * 31},
        {"name": ""},
        {"name": "x" * 65},
        {"name": "a\nb"},
        {"name": b"kitchen"},
        {"contexts": []},
        {"contexts": "identities"},
        {"contexts": ["main", "identities"]},
        {"contexts": ["identities", "main", "main"]},
        {"contexts": ["identities", 1]},
        {"contexts": ["identities", "x" * 65]},
        {"contexts": ["identities", *(f"c{number}" for number in range(130))]},
    ],
)
def test_a_damaged_header_is_refused(changes: dict[str, Any]) -> None:
    items, error = read(header(**changes))
    assert (items, error and error.reason) == ([], Reason.PROTOCOL_ERROR)


@pytest.mark.parametrize("data", [cbor.encode(["echonode records", 1]), b"\xa1" + header()[1:18] + b"\x01"])
def test_a_header_of_another_shape_is_refused(data: bytes) -> None:
    assert read(data)[1] is not None


def test_a_later_minor_version_may_add_fields_and_a_later_major_is_not_read() -> None:
    later = cbor.encode([*cbor.decode(header(version=[1, 7])), "more"])  # type: ignore[misc]
    end = cbor.encode([0, None, False, "more"])
    items, error = read(later + end + end)
    assert error is None
    assert items[0] == FileHeader(b"n" * 8, IdentityId(b"i" * 32), "kitchen", ("identities", "main"))
    assert items[1:] == [ContextEnd(0, None, False)] * 2

    items, error = read(header(version=[2, 0]))
    assert error is not None and (items, error.reason) == ([], Reason.UNSUPPORTED_PROTOCOL)
    assert "version 2.0" in error.detail


@pytest.mark.parametrize("data", [b'{"name": "x"}\n', b"SQLite format 3", b"\x86\x70echonode recOrds", b"PK", b"\x80"])
def test_what_is_no_record_file_is_said_so(data: bytes) -> None:
    items, error = read(data, [1] * len(data))
    if data == b"\x80":  # too short to tell
        assert error is not None
        return
    assert error is not None and (items, error.reason) == ([], Reason.UNSUPPORTED_PROTOCOL)


@pytest.mark.parametrize(
    "end",
    [
        [3, None, False],
        [1, None, False],
        [2, b"r" * 31, False],
        [2, "r" * 32, False],
        [2, None, 0],
        [2, None],
        [True, None, False],
        "text",
        {},
        2,
    ],
)
def test_a_damaged_end_is_refused_behind_what_is_before_it(end: Any) -> None:
    items, error = read(header() + b"".join(VERSIONS[:2]) + cbor.encode(end))
    assert error is not None and error.reason is Reason.PROTOCOL_ERROR
    assert items[1:] == VERSIONS[:2]


def test_bytes_behind_the_end_are_noticed() -> None:
    items, error = read(FILE + b"\0")
    assert error is not None and "follows" in error.detail
    assert items == ITEMS


def test_an_item_that_is_too_long_is_refused_before_it_is_there() -> None:
    items, error = read(header() + b"\x84\x58\x26" + b"x" * 38 + b"\xa0\x5a" + RECORD_BYTES_MAX.to_bytes(4, "big"))
    assert error is not None and (items[1:], error.reason) == ([], Reason.TOO_LARGE)


@given(st.binary(max_size=200), st.integers(0, len(FILE)))
def test_any_bytes_behind_a_beginning_give_items_or_an_error(data: bytes, at: int) -> None:
    read(FILE[:at] + data)


# -- the frozen bytes --------------------------------------------------------------------------------------------------

FROZEN = json.loads(make_file_vectors.PATH.read_text())


def test_the_frozen_file_comes_out_byte_for_byte() -> None:
    assert make_file_vectors.build() == FROZEN, "the format changed: see tests/wire/make_file_vectors.py"


def test_the_frozen_file_is_read_as_its_items() -> None:
    items, error = read(bytes.fromhex(FROZEN["file"]))
    assert error is None
    encoded = [(item if isinstance(item, bytes) else item.encode()).hex() for item in items]
    assert encoded == [item["bytes"] for item in FROZEN["items"]]
    later, error = read(bytes.fromhex(FROZEN["later_minor"]))
    assert (later, error) == (items, None)
    other, error = read(bytes.fromhex(FROZEN["other_major"]))
    assert error is not None and (other, error.reason) == ([], Reason.UNSUPPORTED_PROTOCOL)


@pytest.mark.parametrize("damaged", FROZEN["damaged"], ids=lambda each: each["what"])
def test_of_a_frozen_damaged_file_so_many_versions_are_good(damaged: dict[str, Any]) -> None:
    items, error = read(bytes.fromhex(damaged["bytes"]))
    good = 0
    for item in items:
        if isinstance(item, bytes):
            try:
                verify(parse(item))
            except RemoteError as fault:
                error = fault
                break
            good += 1
    assert error is not None and good == damaged["versions"]
