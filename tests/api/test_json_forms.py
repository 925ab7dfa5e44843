"""Export lines that import reads as the same record; times and models as people write them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode.api import bulk_import, json_forms
from echonode.api.problems import RequestError
from echonode.clock import Timestamp
from echonode.model.identity import Identity, Instance, writer_of
from echonode.model.record import Draft, Record, sign
from echonode.text import to_base32

IDENTITY = Identity.from_seeds(b"r" * 32, b"d" * 32)
INSTANCE = Instance(b"instance")
TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20).map(json_forms.nfc)
TYPES = st.sampled_from(["", "text/plain", "application/json", "a/b+json; c=d", "image/png"]) | TEXT
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
BODIES = (
    st.binary(max_size=40)
    | st.text().map(lambda text: text.encode("utf-8", "replace"))
    | JSON.map(lambda value: json.dumps(value).encode())
    | JSON.map(lambda value: json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace"))
)


def record(**fields: object) -> Record:
    draft = Draft(context="main", author=IDENTITY.id, **{"name": "a", **fields})
    vector = {writer_of(IDENTITY.device.public, INSTANCE): 1}
    return sign(draft, IDENTITY.device, instance=INSTANCE, vector=vector, timestamp=Timestamp(1_700_000_000_000 << 16))


@given(
    body=BODIES,
    media_type=TYPES,
    model=TEXT | st.just("m@1.2"),
    model_version=st.tuples(st.integers(0, 999), st.integers(0, 999)),
    tags=st.lists(TEXT.filter(lambda tag: len(tag.encode()) <= 64), max_size=3).map(tuple),
    created_ms=st.integers(0, 253_402_300_799_999),
)
def test_an_exported_line_imports_as_the_same_record(**fields: object) -> None:
    exported = record(**fields)
    line = json_forms.encode(json_forms.export_line(exported, to_base32))
    assert b"\n" not in line
    read = bulk_import._decode(line)
    draft = bulk_import._draft("main", (IDENTITY.id, read.name), read)
    assert draft.is_same_as(exported), line


@given(body=BODIES, media_type=TYPES)
def test_every_body_has_exactly_one_form_and_is_json(body: bytes, media_type: str) -> None:
    written = record(body=body, media_type=media_type)
    shown = json.loads(json_forms.encode(json_forms.record_form(written, to_base32, body="1")))
    assert ("body" in shown) != ("body_base64" in shown)
    hidden = json.loads(json_forms.encode(json_forms.record_form(written, to_base32)))
    assert "body" not in hidden and "body_base64" not in hidden


def test_a_tombstone_has_no_body() -> None:
    deleted = record(is_tombstone=True)
    shown = json.loads(json_forms.encode(json_forms.record_form(deleted, to_base32, heads=[deleted], body="1")))
    assert shown["deleted"] is True and "body" not in shown


@given(st.integers(0, 253_402_300_799_999))
def test_a_time_is_read_as_it_was_written(ms: int) -> None:
    assert json_forms.read_time(json_forms.rfc3339(ms)) == ms


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-22T12:00:00Z", 1_795_348_800_000),
        ("2026-11-22 12:00:00.5+01:00", 1_795_345_200_500),
        ("2026-11-22t12:00:00.123456789z", 1_795_348_800_123),
        ("2026-11-22", 1_795_305_600_000),
        ("1795348800", 1_795_348_800_000),
        ("0.25", 250),
        (1_795_348_800, 1_795_348_800_000),
        (0.001, 1),
        (0, 0),
    ],
)
def test_times_may_be_written_in_several_ways(text: str | float, ms: int) -> None:
    assert json_forms.read_time(text) == ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2h",
        "2026-13-01",
        "1969-12-31T23:59:59Z",
        "-1",
        -1,
        1e300,
        "9" * 20,
        "9" * 12,
        "20261122T10",
    ],
)
def test_what_is_no_time_between_1970_and_9999_is_refused(text: str | float) -> None:
    with pytest.raises(RequestError, match="is no time"):
        json_forms.read_time(text)


def test_a_time_beyond_what_rfc_3339_can_write_is_shown_as_its_last() -> None:
    assert json_forms.rfc3339(2**64 - 1) == "9999-12-31T23:59:59.999Z"
    assert json_forms.maybe_rfc3339(None) is None


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("note", ("note", (1, 0))),
        ("note@2.10", ("note", (2, 10))),
        ("a@b", ("a@b", (1, 0))),
        ("a@1", ("a@1", (1, 0))),
        ("a@1.2@3.4", ("a@1.2", (3, 4))),
        ("@1.2", ("@1.2", (1, 0))),
        ("u\u0308ber@1.2", ("\u00fcber", (1, 2))),
    ],
)
def test_a_model_is_a_name_and_maybe_a_version(text: str, model: tuple[str, tuple[int, int]]) -> None:
    assert json_forms.read_model(text) == model
