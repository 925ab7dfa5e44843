"""Versions: only what is signed is read."""

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode import cbor
from echonode.clock import TIMESTAMP_MAX, Timestamp
from echonode.digest import VERSION, digest
from echonode.errors import LocalError, Reason, RemoteError
from echonode.limits import (
    BODY_BYTES_MAX,
    CONTEXT_BYTES_MAX,
    NAME_BYTES_MAX,
    RECORD_BYTES_MAX,
    TAG_BYTES_MAX,
    TAGS_MAX,
    TEXT_FIELD_BYTES_MAX,
    VECTOR_ENTRIES_MAX,
)
from echonode.model.identity import IdentityId, SigningKey, Writer, writer_of
from echonode.model.record import (
    IDENTITIES,
    KID_AT,
    MAIN,
    Draft,
    Record,
    SignedRecord,
    VersionId,
    from_store,
    is_version,
    leaf_key,
    parse,
    sign,
    verify,
)
from echonode.text import is_nfc_text
from tests.model.forge import LIFE, NOW, PERSON, PLAIN, WRITER, forged, signed_over, without, written
from tests.store.people import Person

PROPERTIES = [name for name in dir(SignedRecord) if not name.startswith("_") and name not in ("raw", "draft")]

NAMES = st.text(min_size=1, max_size=60).filter(lambda text: is_nfc_text(text, 60))
U64 = st.integers(0, TIMESTAMP_MAX)
DRAFTS = st.builds(
    Draft,
    context=NAMES,
    author=st.binary(min_size=32, max_size=32).map(IdentityId),
    name=NAMES,
    body=st.binary(max_size=300),
    tags=st.lists(NAMES, max_size=5).map(tuple),
    model=NAMES,
    model_version=st.tuples(U64, U64),
    media_type=st.just("") | NAMES,
    created_ms=st.none() | U64,
)
VECTORS = st.dictionaries(st.binary(min_size=16, max_size=16).map(Writer), st.integers(1, TIMESTAMP_MAX), max_size=5)


def everything(version: SignedRecord) -> dict[str, Any]:
    return {name: getattr(version, name) for name in PROPERTIES}


@given(DRAFTS, VECTORS, st.integers(1, TIMESTAMP_MAX), U64.map(Timestamp))
def test_what_was_signed_is_what_is_parsed_verified_and_read_back(
    draft: Draft, vector: dict[Writer, int], counter: int, timestamp: Timestamp
) -> None:
    vector[WRITER] = counter
    record = sign(draft, PERSON.device, instance=LIFE, vector=vector, timestamp=timestamp)
    parsed = parse(record.raw)
    assert not isinstance(parsed, Record)
    verified = verify(parsed)
    assert isinstance(verified, Record)
    assert everything(record) == everything(parsed) == everything(verified) == everything(from_store(record.raw))
    assert verified.raw == record.raw
    assert (record.context, record.author, record.name, record.body) == (
        draft.context,
        draft.author,
        draft.name,
        draft.body,
    )
    assert record.tags == tuple(sorted(set(draft.tags)))
    assert (record.counter, record.vector, record.timestamp) == (counter, vector, timestamp)
    assert record.created_ms == (timestamp >> 16 if draft.created_ms is None else draft.created_ms)
    assert draft.is_same_as(record)


def test_a_version_is_the_cose_sign1_of_rfc_9052_and_its_id_the_hash_of_what_is_signed() -> None:
    record = written()
    payload = cbor.encode({**PLAIN, 9: NOW >> 16, 12: b"body"})
    assert record.raw == signed_over(payload)
    structure = ["Signature1", cbor.encode({1: -8, 4: record.kid}), cbor.encode(["echonode", "record", 1]), payload]
    assert record.id == digest(VERSION, cbor.encode(structure))
    assert record.raw[KID_AT : KID_AT + 32] == record.kid == PERSON.device.public
    assert record.key == leaf_key(PERSON.id, "name")
    assert record.writer == writer_of(record.kid, record.instance) == WRITER


def test_a_statement_is_not_valid_as_a_record_nor_a_record_as_a_statement() -> None:
    payload = cbor.encode({**PLAIN, 1: IDENTITIES})
    assert verify(parse(signed_over(payload, kind="statement"))).context == IDENTITIES
    with pytest.raises(RemoteError, match="signature"):
        verify(parse(signed_over(payload, kind="record")))
    with pytest.raises(RemoteError, match="signature"):
        verify(parse(signed_over(cbor.encode(dict(PLAIN)), kind="statement")))


def test_no_bit_of_a_version_can_be_changed() -> None:
    raw = written(Draft(context=MAIN, author=PERSON.id, name="n", body=b"b", tags=("t",), media_type="text/plain")).raw
    for place in range(len(raw)):
        for bit in range(8):
            tampered = bytearray(raw)
            tampered[place] ^= 1 << bit
            with pytest.raises(RemoteError) as raised:
                verify(parse(bytes(tampered)))
            assert raised.value.reason in (Reason.BAD_RECORD, Reason.PROTOCOL_ERROR)


def test_another_keys_signature_is_refused() -> None:
    raw = written().raw
    other = SigningKey(b"other".ljust(32))
    with pytest.raises(RemoteError, match="signature"):
        verify(parse(raw[:KID_AT] + other.public + raw[KID_AT + 32 :].replace(WRITER, writer_of(other.public, LIFE))))


@pytest.mark.parametrize("length", [0, 1, 30, 42, 43, 100])
def test_a_version_cut_short_is_refused(length: int) -> None:
    with pytest.raises(RemoteError):
        parse(written().raw[:length])


@given(st.binary(max_size=400))
def test_any_bytes_are_a_version_or_a_remote_error(data: bytes) -> None:
    raw = written().raw
    for candidate in (data, raw[: KID_AT + 33] + data, raw[: len(data)] + data + raw[2 * len(data) :]):
        try:
            assert parse(candidate).raw == candidate
        except RemoteError as error:
            assert error.reason in (Reason.BAD_RECORD, Reason.PROTOCOL_ERROR)


def test_fields_of_later_minor_versions_are_kept_byte_for_byte() -> None:
    raw = forged({**PLAIN, 10: ["tag"], 14: {"later": [1, b"2"]}, 900: "far"})
    record = verify(parse(raw))
    assert record.raw == raw
    assert (record.tags, record.name) == (("tag",), "name")
    assert from_store(raw).id == record.id != verify(parse(forged({**PLAIN, 10: ["tag"]}))).id
    assert record.later == cbor.encode({14: {"later": [1, b"2"]}, 900: "far"})
    assert written().later == b""


def extended(later: bytes) -> Record:
    return written(Draft(context=MAIN, author=PERSON.id, name="name", body=b"body", later=later))


def test_fields_of_later_minor_versions_can_be_written_again_as_they_were() -> None:
    later = cbor.encode({14: {"later": [1, b"2"]}, 2**40: -1})
    record = extended(later)
    assert verify(parse(record.raw)).later == record.later == later
    draft = Draft(context=MAIN, author=PERSON.id, name="name", body=b"body", later=later)
    assert draft.is_same_as(extended(later))
    assert not draft.is_same_as(written()) and not dataclasses.replace(draft, later=b"").is_same_as(record)


@pytest.mark.parametrize(
    "later",
    [
        pytest.param(b"\xff", id="no CBOR"),
        pytest.param(cbor.encode([14]), id="no map"),
        pytest.param(cbor.encode({13: True}), id="a field of today"),
        pytest.param(cbor.encode({"14": True}), id="a field that is no number"),
        pytest.param(cbor.encode({14: b"x" * RECORD_BYTES_MAX}), id="too long"),
        pytest.param(cbor.encode({14: [0] * 65_500}), id="too many items"),
    ],
)
def test_what_are_no_fields_of_a_later_version_is_not_written(later: bytes) -> None:
    with pytest.raises(LocalError):
        extended(later)


SHORT, LONG = b"\0" * 31, b"\0" * 33
CROWD = {number.to_bytes(16, "big"): 1 for number in range(VECTOR_ENTRIES_MAX)}
BAD_FIELDS: list[Any] = [
    *[pytest.param(without(number), id=f"without {number}") for number in PLAIN],
    pytest.param({}, id="no fields"),
    pytest.param({**PLAIN, 0: 1}, id="field 0"),
    pytest.param({**PLAIN, 1: ""}, id="empty context"),
    pytest.param({**PLAIN, 1: b"main"}, id="context as bytes"),
    pytest.param({**PLAIN, 1: "c" * (CONTEXT_BYTES_MAX + 1)}, id="long context"),
    pytest.param({**PLAIN, 1: "ma\nin"}, id="control character in a context"),
    pytest.param({**PLAIN, 2: SHORT}, id="short author"),
    pytest.param({**PLAIN, 2: LONG}, id="long author"),
    pytest.param({**PLAIN, 2: "a" * 32}, id="author as text"),
    pytest.param({**PLAIN, 3: ""}, id="empty name"),
    pytest.param({**PLAIN, 3: "n" * (NAME_BYTES_MAX + 1)}, id="long name"),
    pytest.param({**PLAIN, 3: "\u00e9" * (NAME_BYTES_MAX // 2 + 1)}, id="name long in bytes"),
    pytest.param({**PLAIN, 3: "\u0085"}, id="C1 control character in a name"),
    pytest.param({**PLAIN, 4: -1}, id="negative timestamp"),
    pytest.param({**PLAIN, 4: True}, id="timestamp true"),
    pytest.param({**PLAIN, 4: "now"}, id="timestamp as text"),
    pytest.param({**PLAIN, 5: b"1234567"}, id="short instance"),
    pytest.param({**PLAIN, 6: {}}, id="empty vector"),
    pytest.param({**PLAIN, 6: [WRITER, 1]}, id="vector as a list"),
    pytest.param({**PLAIN, 6: {WRITER: 0}}, id="counter 0"),
    pytest.param({**PLAIN, 6: {WRITER: True}}, id="counter true"),
    pytest.param({**PLAIN, 6: {WRITER: 1, b"\xff" * 17: 1}}, id="long writer"),
    pytest.param({**PLAIN, 6: {1: 1}}, id="writer as a number"),
    pytest.param({**PLAIN, 6: {**CROWD, WRITER: 1}}, id="too many writers"),
    pytest.param({**PLAIN, 6: {b"\0" * 16: 1}}, id="own dot missing"),
    pytest.param({**PLAIN, 7: ""}, id="empty model"),
    pytest.param({**PLAIN, 7: "m" * (TEXT_FIELD_BYTES_MAX + 1)}, id="long model"),
    pytest.param({**PLAIN, 8: [1]}, id="model version of one"),
    pytest.param({**PLAIN, 8: [1, -1]}, id="negative model version"),
    pytest.param({**PLAIN, 8: [True, 0]}, id="model version true"),
    pytest.param({**PLAIN, 8: {1: 0}}, id="model version as a map"),
    pytest.param({**PLAIN, 9: -1}, id="negative creation time"),
    pytest.param({**PLAIN, 9: None}, id="no creation time"),
    pytest.param({**PLAIN, 10: []}, id="no tags"),
    pytest.param({**PLAIN, 10: "tag"}, id="tags as text"),
    pytest.param({**PLAIN, 10: ["b", "a"]}, id="tags out of order"),
    pytest.param({**PLAIN, 10: ["a", "a"]}, id="a tag twice"),
    pytest.param({**PLAIN, 10: [""]}, id="an empty tag"),
    pytest.param({**PLAIN, 10: [1]}, id="a tag as a number"),
    pytest.param({**PLAIN, 10: ["t" * (TAG_BYTES_MAX + 1)]}, id="a long tag"),
    pytest.param({**PLAIN, 10: [f"{n:03}" for n in range(TAGS_MAX + 1)]}, id="too many tags"),
    pytest.param({**PLAIN, 11: ""}, id="empty media type"),
    pytest.param({**PLAIN, 11: b"text"}, id="media type as bytes"),
    pytest.param({**PLAIN, 12: b""}, id="empty body"),
    pytest.param({**PLAIN, 12: "text"}, id="body as text"),
    pytest.param({**PLAIN, 12: bytes(BODY_BYTES_MAX + 1)}, id="large body"),
    pytest.param({**PLAIN, 13: False}, id="tombstone false"),
    pytest.param({**PLAIN, 13: 1}, id="tombstone 1"),
    pytest.param({**PLAIN, 12: b"body", 13: True}, id="tombstone with a body"),
]


@pytest.mark.parametrize("fields", BAD_FIELDS)
def test_fields_of_the_wrong_shape_are_refused(fields: dict[Any, Any]) -> None:
    with pytest.raises(RemoteError) as raised:
        parse(forged(fields))
    assert raised.value.reason is Reason.BAD_RECORD


def test_text_that_is_not_nfc_is_taken_from_elsewhere_and_never_written() -> None:
    """NFC grows with each version of Unicode. Membership must not depend on the version that a node has."""
    for number, text in ((1, "e\u0301"), (3, "e\u0301"), (7, "e\u0301"), (11, "e\u0301")):
        assert verify(parse(forged({**PLAIN, number: text})))
    assert verify(parse(forged({**PLAIN, 10: ["e\u0301"]}))).tags == ("e\u0301",)
    for field in ("context", "name", "model", "media_type"):
        plain = Draft(context=MAIN, author=PERSON.id, name="name")
        with pytest.raises(LocalError, match="NFC"):
            written(dataclasses.replace(plain, **{field: "e\u0301"}))  # type: ignore[arg-type]
        assert written(dataclasses.replace(plain, **{field: "\u00e9"}))  # type: ignore[arg-type]
    with pytest.raises(LocalError, match="NFC"):
        written(Draft(context=MAIN, author=PERSON.id, name="name", tags=("e\u0301",)))


def test_every_optional_field_at_its_bound_is_taken() -> None:
    tags = sorted(f"{n:03}".ljust(TAG_BYTES_MAX, "t") for n in range(TAGS_MAX))
    bounds = {3: "\u00e9" * (NAME_BYTES_MAX // 2), 4: TIMESTAMP_MAX, 10: tags, 11: "m" * TEXT_FIELD_BYTES_MAX}
    record = verify(parse(forged({**PLAIN, **bounds, 12: bytes(BODY_BYTES_MAX)})))
    assert (len(record.body), len(record.tags)) == (BODY_BYTES_MAX, TAGS_MAX)
    assert verify(parse(forged({**PLAIN, 13: True}))).is_tombstone


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (cbor.encode([1, 2, 3] * 30), Reason.BAD_RECORD),
        (cbor.encode("text " * 10), Reason.BAD_RECORD),
        (cbor.encode({str(number): 1 for number in range(20)}), Reason.BAD_RECORD),
        (cbor.encode(dict(PLAIN)) + b"\0", Reason.PROTOCOL_ERROR),
        (b"\xbf" + cbor.encode(dict(PLAIN))[1:] + b"\xff", Reason.PROTOCOL_ERROR),
        (cbor.encode(dict(PLAIN))[:-1], Reason.PROTOCOL_ERROR),
    ],
)
def test_a_payload_that_is_no_map_of_fields_is_refused(payload: bytes, reason: Reason) -> None:
    with pytest.raises(RemoteError) as raised:
        parse(signed_over(payload))
    assert raised.value.reason is reason


def _reshaped() -> dict[str, bytes]:
    raw = written().raw
    payload = cbor.encode({**PLAIN, 12: b"x" * 100})
    long = signed_over(payload)
    head = KID_AT + 33
    return {
        "a tag before it": b"\xd2" + raw,
        "five parts": b"\x85" + raw[1:] + b"\0",
        "another algorithm": raw.replace(b"\xa2\x01\x27", b"\xa2\x01\x26", 1),
        "an unprotected header": raw[: KID_AT + 32] + b"\xa1\x01\x27" + raw[KID_AT + 33 :],
        "a signature of 63 bytes": raw[:-66] + b"\x58\x3f" + raw[-63:],
        "something behind it": raw + b"\0",
        "a payload length in two bytes that fits one": long[:head] + b"\x59\0" + long[head + 1 :],
        "a payload length in four bytes": long[:head] + b"\x5a\0\0\0" + long[head + 1 :],
        "a payload of less than it says": long[: head + 1] + bytes([long[head + 1] + 1]) + long[head + 2 :],
        "a short payload": signed_over(bytes(5)),
        "a short payload with a length of its own": raw[:head] + b"\x58\x05" + bytes(5) + raw[-66:],
        "a payload that is text": raw[:head] + b"\x78" + raw[head + 1 :],
        "no payload": raw[:head] + raw[-66:],
        "larger than any record": raw + bytes(RECORD_BYTES_MAX),
    }


@pytest.mark.parametrize("shape", list(_reshaped()))
def test_any_other_shape_than_the_one_in_use_is_refused(shape: str) -> None:
    with pytest.raises(RemoteError) as raised:
        parse(_reshaped()[shape])
    assert raised.value.reason is Reason.BAD_RECORD


@pytest.mark.parametrize("size", [60, 100, 255 - 121, 256, 40_000, 65_400, 65_536, BODY_BYTES_MAX])
def test_payloads_of_every_length_of_length_are_read(size: int) -> None:
    record = written(Draft(context=MAIN, author=PERSON.id, name="n", body=bytes(size)))
    assert verify(parse(record.raw)).body == from_store(record.raw).body == bytes(size)


def test_the_largest_draft_is_within_the_size_of_a_record() -> None:
    draft = Draft(
        context="c" * CONTEXT_BYTES_MAX,
        author=PERSON.id,
        name="n" * NAME_BYTES_MAX,
        body=bytes(BODY_BYTES_MAX),
        tags=tuple(f"{n:03}".ljust(TAG_BYTES_MAX, "t") for n in range(TAGS_MAX)),
        model="m" * TEXT_FIELD_BYTES_MAX,
        model_version=(TIMESTAMP_MAX, TIMESTAMP_MAX),
        media_type="t" * TEXT_FIELD_BYTES_MAX,
        created_ms=TIMESTAMP_MAX,
    )
    others = {Writer(n.to_bytes(16, "big")): TIMESTAMP_MAX for n in range(VECTOR_ENTRIES_MAX - 1)}
    record = written(draft, vector={**others, WRITER: TIMESTAMP_MAX}, at=Timestamp(TIMESTAMP_MAX))
    assert len(record.raw) <= RECORD_BYTES_MAX
    assert verify(parse(record.raw)).id == record.id


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"name": ""}, "a record name is 1 to 200 bytes"),
        ({"name": "a\x1bb"}, "without control characters"),
        ({"context": "c" * 65}, "a context name is 1 to 64 bytes"),
        ({"body": bytes(BODY_BYTES_MAX + 1)}, "a body is at most 196608 bytes"),
        ({"tags": ("t" * 65,)}, "a tag is 1 to 64 bytes"),
        ({"tags": tuple(map(str, range(65)))}, "there are at most 64 tags"),
        ({"model": ""}, "a model name is"),
        ({"media_type": "m" * 201}, "a media type is"),
        ({"created_ms": -1}, "field 9 is not an unsigned 64-bit number"),
        ({"body": b"x", "is_tombstone": True}, "a tombstone has no body"),
        ({"model_version": (1, -1)}, "the model version is not"),
        ({"model_version": (1, 1 << 64)}, "the model version is not"),
    ],
)
def test_a_draft_outside_the_limits_is_our_own_error_in_words(change: dict[str, Any], expected: str) -> None:
    draft = dataclasses.replace(Draft(context=MAIN, author=PERSON.id, name="name"), **change)
    with pytest.raises(LocalError, match=expected):
        written(draft)


@pytest.mark.parametrize(
    "change",
    [
        {"body": b"other"},
        {"tags": ("b",)},
        {"tags": ()},
        {"model": "page"},
        {"model_version": (2, 0)},
        {"media_type": ""},
        {"created_ms": 6},
        {"body": b"", "is_tombstone": True},
    ],
)
def test_a_draft_that_says_anything_else_is_not_written_yet(change: dict[str, Any]) -> None:
    draft = Draft(
        context=MAIN,
        author=PERSON.id,
        name="n",
        body=b"body",
        tags=("b", "a", "b"),
        media_type="text/plain",
        created_ms=5,
    )
    version = written(draft)
    assert draft.is_same_as(version)
    assert dataclasses.replace(draft, created_ms=None).is_same_as(version)
    assert not dataclasses.replace(draft, **change).is_same_as(version)


def test_an_id_is_that_of_the_same_bytes_and_of_no_others() -> None:
    for record in (Person(2).version("n", b"body"), Person(2).statement()):
        assert is_version(record.raw, record.id)
        assert not is_version(record.raw, VersionId(bytes(32)))
        for at in (0, 3, len(record.raw) // 2):
            assert not is_version(record.raw[:at] + bytes((record.raw[at] ^ 1,)) + record.raw[at + 1 :], record.id)
        assert not is_version(b"", record.id)
