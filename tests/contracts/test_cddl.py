"""proto/echonode.cddl and the implementation agree on real traffic, on any message, and on what is no message.

Two readers check the file: pycddl, and the small strict reader in tests/contracts/cddl.py, which tells their limits.
"""

import json
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pycddl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode import cbor
from echonode.errors import RemoteError
from echonode.model.identity import IdentityId
from echonode.model.merkle import Digest
from echonode.model.record import IDENTITIES, parse
from echonode.wire import messages as m
from echonode.wire.codec import _TABLE, decode, encode
from echonode.wire.record_file import ContextEnd, FileHeader, FileReader
from tests.contracts.cddl import Group, Literal, Schema
from tests.contracts.traffic import payloads
from tests.wire.bounds import BOUNDS, IDS
from tests.wire.make_message_vectors import PATH as MESSAGE_VECTORS
from tests.wire.make_message_vectors import SAMPLES, statements
from tests.wire.payloads import Path as Where
from tests.wire.payloads import accepts, can_be_marked, places, plain, replaced, sample
from tests.wire.strategies import messages

TEXT = (Path(__file__).parents[2] / "proto" / "echonode.cddl").read_text()
STRICT = Schema(TEXT)

# pycddl reads a rule behind `*` or `+` in a map as the value, not the key. For pycddl it is replaced by a type.
FOR_PYCDDL = (
    ("* text-200 =>", "* tstr =>"),
    ("1*1024 writer-id =>", "+ bytes =>"),
    ("* later-field =>", "* uint =>"),
)


@cache
def pycddl_schema(rule: str) -> pycddl.Schema:
    """Return the schema with `rule` as its root. In a choice of 25 arrays pycddl finds none that fits."""
    text = TEXT
    for ours, theirs in FOR_PYCDDL:
        assert ours in text
        text = text.replace(ours, theirs)
    return pycddl.Schema(f"Root = {rule}\n{text}")


def pycddl_fits(rule: str, data: bytes) -> bool:
    try:
        pycddl_schema(rule).validate_cbor(data)
    except pycddl.ValidationError:
        return False
    return True


def assert_lawful(message: m.Message) -> None:
    payload = encode(message)
    rule, value = type(message).__name__, cbor.decode(payload)
    assert STRICT.fits("Message", value), message
    assert STRICT.fits(rule, value), message
    assert STRICT.fits("InitPayload", value) == isinstance(message, m.InitPayload), message
    assert pycddl_fits(rule, payload), message


# -- the file ----------------------------------------------------------------------------------------------------------
def test_the_file_names_every_message_of_the_code_and_no_other() -> None:
    choice = STRICT.rules["Message"]
    named = {option.name for option in choice.options}  # type: ignore[union-attr]
    assert named == {kind.__name__ for kind, _ in _TABLE.values()}
    pycddl_schema("Message")


def test_places_in_arrays_are_called_as_the_fields_they_are() -> None:
    for code, (kind, _) in _TABLE.items():
        group = STRICT.rules[kind.__name__]
        assert isinstance(group, Group)
        first, *others = group.entries
        assert (first.label, first.type) == ("code", Literal(code))
        assert [entry.label.replace("-", "_") for entry in others] == [field.name for field in fields(kind)]


def test_no_place_is_called_as_a_rule() -> None:
    """A validator that confuses a place with a rule recurses until its stack is full."""
    labels = {entry.label for part in STRICT.parts() if isinstance(part, Group) for entry in part.entries}
    assert not labels & STRICT.rules.keys()


# -- real traffic ------------------------------------------------------------------------------------------------------
def test_real_traffic_has_every_message() -> None:
    assert {decode(payload).code for payload in payloads()} == _TABLE.keys()


def test_real_traffic_is_lawful() -> None:
    for payload in payloads():
        assert_lawful(decode(payload))


def raw_records() -> Iterator[bytes]:
    for payload in payloads():
        match decode(payload):
            case m.Page(_, records, _) | m.Records(records, _, _) | m.Put(records):
                yield from records
            case m.Auth(offers):
                yield from (offered.statement for offered in offers)


def test_records_in_real_traffic_are_lawful() -> None:
    contexts = set()
    for number, raw in enumerate(dict.fromkeys(raw_records())):
        value: Any = cbor.decode(raw)
        assert STRICT.fits("record", value)
        record = parse(raw)
        contexts.add(record.context)
        if number % 50 == 0 or record.context == IDENTITIES:
            # pycddl wants every item of an array to be bytes when one has `.cbor`, so it checks the items one by one.
            assert pycddl_fits("protected-header", value[0])
            assert pycddl_fits("payload-fields", value[2])
            assert pycddl_fits("signature-bytes", cbor.encode(value[3]))
        kind = "statement" if record.context == IDENTITIES else "record"
        aad = cbor.encode(["echonode", kind, 1])
        assert pycddl_fits("external-aad", aad)
        assert STRICT.fits("sig-structure", cbor.decode(record._sig_structure))
        assert cbor.decode(record._sig_structure) == ["Signature1", value[0], aad, value[2]]
        if record.context == IDENTITIES:
            assert STRICT.fits("statement-body", cbor.decode(record.body))
            assert pycddl_fits("statement-body", record.body)
    assert contexts == {"identities", "main", "books", "notes"}


def test_what_auth_signs_is_lawful() -> None:
    frozen = json.loads(MESSAGE_VECTORS.read_text())["auth"]
    for end in ("initiator", "responder"):
        for rule, name in (("auth-signed", "signed_bytes"), ("offer-list", "offer_list")):
            data = bytes.fromhex(frozen[end][name])
            assert STRICT.fits(rule, cbor.decode(data))
            assert pycddl_fits(rule, data)


# -- any message -------------------------------------------------------------------------------------------------------
@given(messages)
def test_any_message_is_lawful(message: m.Message) -> None:
    assert_lawful(message)


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_frozen_messages_are_lawful(message: m.Message) -> None:
    assert_lawful(message)


# -- what is no message ------------------------------------------------------------------------------------------------
OTHERS = (None, True, 0, 5, 2**63, -1, b"", bytes(16), bytes(48), "", "x", [], {}, [0], {0: 0}, [[]])


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_the_file_and_the_codec_take_the_same_values_at_every_place(message: m.Message) -> None:
    value = plain(message)
    for path, _ in places(value):
        for other in OTHERS:
            if can_be_marked(value, path, other):
                changed = replaced(value, path, other)
                is_lawful = STRICT.fits("Message", changed)
                assert accepts(cbor.encode(changed)) == is_lawful, (path, other)


@given(messages, st.data())
def test_the_file_and_the_codec_take_the_same_of_any_message_altered_anywhere(
    message: m.Message, data: st.DataObject
) -> None:
    value = plain(message)
    found = [path for path, _ in places(value)]
    path = data.draw(st.sampled_from(found))
    other = data.draw(
        st.sampled_from(OTHERS)
        | st.integers(-2, 70_000)
        | st.integers(0, 300).map(lambda size: bytes(16 * size))
        | st.integers(0, 220).map(lambda size: "x" * size)
        | st.lists(st.binary(max_size=2), max_size=4)
    )
    if can_be_marked(value, path, other):
        changed = replaced(value, path, other)
        if not beyond_cddl(changed):
            assert accepts(cbor.encode(changed)) == STRICT.fits("Message", changed)


def beyond_cddl(value: Any, size: int = 8) -> bool:
    """Return True if `value` has bytes of 1 to `size` that are no nibbles.

    The file says only in words that the bytes of a prefix are nibbles.
    """
    return any(type(item) is bytes and 0 < len(item) <= size and max(item) > 15 for _, item in places(value))


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
def test_pycddl_too_refuses_another_type_at_every_place(message: m.Message) -> None:
    """pycddl must refuse at least one other type in each place. It overlooks some; the strict reader overlooks none.

    Each list has one array here: of several, pycddl is content when one fits.
    """
    value = with_single_parts(plain(message))
    rule = type(message).__name__
    for path, _ in places(value):
        payloads = [cbor.encode(replaced(value, path, other)) for other in OTHERS if can_be_marked(value, path, other)]
        wrong = [payload for payload in payloads if not accepts(payload)]
        assert not wrong or any(not pycddl_fits(rule, payload) for payload in wrong), path


@pytest.mark.parametrize(("kind", "path", "edge", "over"), BOUNDS, ids=IDS)
def test_the_file_gives_every_field_the_bounds_the_codec_keeps(
    kind: type[Any], path: Where, edge: list[Any], over: list[Any]
) -> None:
    value = sample(kind)
    for good in edge:
        assert STRICT.fits("Message", replaced(value, path, good)), good
    for bad in over:
        assert not STRICT.fits("Message", replaced(value, path, bad)) or is_said_in_words(bad), bad


def is_said_in_words(bad: Any) -> bool:
    """Return True if `bad` breaks only a rule that the file states in comments.

    These are the form of text, nibbles, counts of map entries, and whole digests.
    """
    match bad:
        case str():
            return not bad.isprintable()
        case bytes():
            return max(bad, default=0) > 15 or (len(bad) > 16 and len(bad) % 16 > 0)
        case dict():
            return len(bad) > 16
        case list():
            return any(map(is_said_in_words, bad))
        case _:
            return False


def with_single_parts(value: list[Any]) -> list[Any]:
    return [item[:1] if type(item) is list and item and type(item[0]) is list else item for item in value]


def test_a_code_is_no_other_messages() -> None:
    for message in SAMPLES:
        value = plain(message)
        for code in _TABLE:
            changed = [code, *value[1:]]
            if not beyond_cddl(changed, size=64):
                assert accepts(cbor.encode(changed)) == STRICT.fits("Message", changed)


# -- records -----------------------------------------------------------------------------------------------------------
def altered(number: int, other: Any) -> tuple[bytes, bool]:
    """Return a version with another value in the field `number`, and True if the file accepts it."""
    raw = statements()[0].raw
    protected, unprotected, payload, signature = cbor.decode(raw)  # type: ignore[misc]
    fields: Any = cbor.decode(payload)  # type: ignore[arg-type]
    fields[number] = other
    payload = cbor.encode(fields)
    return cbor.encode([protected, unprotected, payload, signature]), STRICT.fits("payload-fields", fields)


def is_parsed(raw: bytes) -> bool:
    try:
        parse(raw)
    except RemoteError:
        return False
    return True


@pytest.mark.parametrize("number", range(1, 16))
def test_the_file_and_the_parser_take_the_same_values_in_every_field_of_a_record(number: int) -> None:
    texts = ["x" * size for size in (64, 65, 200, 201)]
    others = [*OTHERS, *texts, bytes(8), bytes(32), [1, 0], [1, 2**64 - 1], [1], [1, -1], ["x", "y"], [""], ["x" * 65]]
    for other in others:
        raw, is_lawful = altered(number, other)
        if number == 13 and other is True:
            assert is_lawful and not is_parsed(raw)  # beside a body: the file says this in words only
        elif number == 5 and is_lawful:
            assert not is_parsed(raw)  # another instance means another writer, and the vector lacks its dot
        else:
            assert is_parsed(raw) == is_lawful, other


def test_the_file_and_the_parser_bound_vectors_tags_and_bodies_alike() -> None:
    own = statements()[0].vector
    (writer,) = own
    other = bytes(16)
    for number, value, is_taken in (
        (6, {writer: 0}, False),
        (6, {writer: 2**64 - 1}, True),
        (6, {writer: 1, other: 0}, False),
        (6, {writer: 1, other: 2**64 - 1}, True),
        (6, {writer: 1, bytes(15): 1}, False),
        (6, {writer: 1, other: True}, False),
        (6, {**{bytes(14) + bytes(divmod(n, 256)): 1 for n in range(1023)}, writer: 1}, True),
        (6, {**{bytes(14) + bytes(divmod(n, 256)): 1 for n in range(1024)}, writer: 1}, False),
        (10, [f"{tag:02}" for tag in range(64)], True),
        (10, [f"{tag:02}" for tag in range(65)], False),
        (12, bytes(196_608), True),
        (12, bytes(196_609), False),
        (14, {"any": [None, -1]}, True),
        (0, 1, False),
    ):
        raw, is_lawful = altered(number, value)
        assert (is_lawful, is_parsed(raw)) == (is_taken, is_taken), (number, value)


@pytest.mark.parametrize("number", range(1, 10))
def test_pycddl_too_refuses_another_type_in_every_field_of_a_record(number: int) -> None:
    raw, _ = altered(number, None)
    value: Any = cbor.decode(raw)
    assert not pycddl_fits("payload-fields", value[2])


def test_the_file_and_the_parser_agree_on_the_frame_of_a_record() -> None:
    value: Any = cbor.decode(statements()[0].raw)
    for place, others in enumerate(
        [
            (cbor.encode({1: -7, 4: bytes(32)}), cbor.encode({1: -8}), cbor.encode({1: -8, 4: bytes(31)}), b"", {}),
            ({1: 1}, None, []),
            (cbor.encode({}), cbor.encode([]), b"\xff" * 30, "", None),
            (bytes(63), bytes(65), "x" * 64, None),
        ]
    ):
        for other in others:
            changed = replaced(value, (place,), other)
            assert not STRICT.fits("record", changed)
            assert not is_parsed(cbor.encode(changed)), other
    assert not STRICT.fits("record", value[:3]) and not is_parsed(cbor.encode(value[:3]))


# -- record files ------------------------------------------------------------------------------------------------------
def is_read(data: bytes) -> bool:
    """Return True if a reader of record files takes `data`, the header or what follows one, for an item."""
    reader = FileReader()
    try:
        for each in (data,) if data[1:2] == b"\x70" else (FILE_HEADER.encode(), data):
            reader.receive_data(each)
            assert reader.next_item() is not None
    except RemoteError:
        return False
    return True


FILE_HEADER = FileHeader(bytes(8), IdentityId(bytes(32)), "kitchen", ("identities", "main"))


@pytest.mark.parametrize("rule", ["file-header", "context-end"])
def test_the_file_and_the_reader_of_record_files_take_the_same_values(rule: str) -> None:
    item = FILE_HEADER if rule == "file-header" else ContextEnd(0, Digest(bytes(32)), False)
    value: Any = cbor.decode(item.encode())
    assert STRICT.fits(rule, value) and pycddl_fits(rule, item.encode())
    assert is_read(item.encode())
    others = [*OTHERS, bytes(8), bytes(31), "x" * 65, [1], [1, 65_536], ["identities"], ["identities", "x" * 65], []]
    for place in range(len(value)):
        for other in others:
            changed = replaced(value, (place,), other)
            if not (place == 0 and (rule == "file-header" or type(other) is int)):  # the magic; a count that is wrong
                assert STRICT.fits(rule, changed) == is_read(cbor.encode(changed)), changed
