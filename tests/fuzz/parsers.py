"""Targets that are functions of bytes: CBOR, a record, a message, and an mDNS answer.

cbor           accepts exactly the canonical encodings of the allowed values; cbor2 is the reference, both ways
record         parse and verify; also the same bytes as a payload with an honest signature, through store and keys;
               the quick reader of payloads reads what the strict one reads, or nothing
message        decodes to a value that encodes to the same bytes
record_file    items that were read are the beginning of the file, however it is chopped
announcement   TXT records and addresses give None, or a sighting that can be dialled
"""

import json
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from random import Random
from typing import Any, Final

import cbor2

from echonode import cbor
from echonode.errors import Reason, RemoteError
from echonode.host.announcement import (
    ADDRESSES_MAX,
    Announcement,
    instance_name,
    parse_txt,
    read_sighting,
    to_txt,
)
from echonode.host.system import local_address
from echonode.host.tcp import parse_address
from echonode.limits import CBOR_DEPTH_MAX, CBOR_ITEMS_MAX
from echonode.model.common_layout import read_heading
from echonode.model.fields import check_fields
from echonode.model.heads import select, winner
from echonode.model.key_claims import Admission, KeyClaims, Listing
from echonode.model.keys import read_statement
from echonode.model.merkle import Digest
from echonode.model.record import IDENTITIES, MAIN, SignedRecord, from_store, parse, supersedes, verify
from echonode.wire.codec import decode, encode
from echonode.wire.record_file import ContextEnd, FileHeader, FileItem, FileReader
from tests.fuzz import mutate
from tests.fuzz.target import Reader, Target, chopped
from tests.model.forge import PERSON, PLAIN, forged, signed_over, without, written

_VECTORS: Final = Path(__file__).parents[2] / "proto" / "vectors"


@cache
def vector(name: str) -> Any:
    """Return a file of proto/vectors."""
    return json.loads((_VECTORS / f"{name}.json").read_text())


# -- cbor ------------------------------------------------------------------------------------------------------------


def run_cbor(data: bytes) -> None:
    try:
        value = cbor.decode(data)
    except RemoteError as error:
        assert error.reason is Reason.PROTOCOL_ERROR
        assert not _is_canonical(data), "refused the canonical encoding of a value"
        return
    assert cbor2.dumps(value, canonical=True) == data, "accepted an encoding that is not canonical"
    assert cbor.encode(value) == cbor.encode(cbor.decode_trusted(data)) == data


def _is_canonical(data: bytes) -> bool:
    """Return True if cbor2 finds that these bytes are the canonical encoding of an allowed value."""
    try:
        value = cbor2.loads(data)
        return _is_allowed(value, CBOR_DEPTH_MAX, [CBOR_ITEMS_MAX - 1]) and cbor2.dumps(value, canonical=True) == data
    except Exception:  # any exception of cbor2 means: not accepted
        return False


def _is_allowed(value: Any, depth: int, budget: list[int]) -> bool:
    if type(value) is int:
        return -(2**64) <= value < 2**64
    if type(value) in (bytes, str, bool) or value is None:
        return True
    if type(value) not in (list, dict) or depth == 0:
        return False
    inside = value if type(value) is list else [each for pair in value.items() for each in pair]
    budget[0] -= len(inside)
    if budget[0] < 0:
        return False
    if type(value) is dict and (
        any(type(key) not in (int, bytes, str) for key in value) or len({cbor2.dumps(key)[0] >> 5 for key in value}) > 1
    ):
        return False
    return all(_is_allowed(item, depth - 1, budget) for item in inside)


# -- record ----------------------------------------------------------------------------------------------------------


def run_record(data: bytes) -> None:
    heading = read_heading(data)
    if heading is not None:
        strict: Any = cbor.decode(data)
        check_fields(strict)
        expected = (*[strict[number] for number in (1, 2, 3, 4, 5, 6, 9)], 13 in strict)
        assert repr(heading) == repr(expected), "the quick reader reads something else"
        assert repr(cbor.decode_trusted(data)) == repr(strict), "the fields read later are something else"
    for raw in (data, signed_over(data), signed_over(data, PERSON.root, "statement")):
        try:
            signed = parse(raw)
        except RemoteError:
            continue
        _check_record(signed, raw)


_HELD: Final = written()


def _check_record(signed: SignedRecord, raw: bytes) -> None:
    assert signed.raw == raw
    assert 1 <= signed.counter < 2**64 and signed.tags == tuple(sorted(set(signed.tags)))
    assert (len(signed.body) == 0) or not signed.is_tombstone
    assert signed.model_version >= (0, 0) and signed.created_ms >= 0 and signed.timestamp >= 0 and signed.model
    assert isinstance(signed.media_type, str)
    try:
        record = verify(signed)
    except RemoteError as error:
        assert error.reason is Reason.BAD_RECORD
        return
    kept = from_store(raw)
    assert (kept.id, kept.key, kept.writer, kept.vector) == (record.id, record.key, record.writer, record.vector)
    heads = select([_HELD, record]).heads
    assert winner(heads) in (_HELD, record)
    assert not (supersedes(record, _HELD) and supersedes(_HELD, record))
    assert select([*heads, record]).heads == select([record, _HELD]).heads == heads
    claims = KeyClaims()
    if record.context == IDENTITIES:
        try:
            statement = read_statement(record)
        except RemoteError:
            return
        assert claims.add(statement) and not claims.add(statement)
        author = statement.pool if isinstance(statement, Listing) else statement.identity
        assert author == record.author
    assert claims.standing(record.author).admission in Admission


def _record_seeds() -> Iterator[bytes]:
    for group in vector("record").values():
        yield from (bytes.fromhex(text) for text in _hex_in(group) if len(text) > 200)
    yield forged(PLAIN)
    for fields in (PLAIN, without(9), {**PLAIN, 10: ["a", "b"], 11: "text/plain", 12: b"body"}, {**PLAIN, 13: True}):
        yield cbor.encode(dict(fields))
    yield cbor.encode({**PLAIN, 1: IDENTITIES})
    common = {**PLAIN, 9: 1 << 41, 10: ["a", "b"], 11: "text/plain"}  # the layout of model/common_layout.py
    yield cbor.encode({**common, 12: b"body"})
    yield cbor.encode({**common, 13: True})


def _hex_in(value: Any) -> Iterator[str]:
    """Yield every string of hexadecimal digits in a vector."""
    match value:
        case str() if len(value) % 2 == 0 and value and not value.strip("0123456789abcdef"):
            yield value
        case list():
            for item in value:
                yield from _hex_in(item)
        case dict():
            for item in value.values():
                yield from _hex_in(item)


def _mutate_record(data: bytes, rng: Random) -> bytes:
    """Change the fields of a record, as a payload to be signed or under the old signature."""
    try:
        payload = parse(data)
    except RemoteError:
        return mutate.of_cbor(data, rng)
    if rng.random() < 0.3:
        return mutate.of_bytes(data, rng)
    fields = cbor.encode(dict(payload._fields))
    return mutate.of_cbor(fields if rng.random() < 0.5 else data, rng)


# -- message ---------------------------------------------------------------------------------------------------------


def run_message(data: bytes) -> None:
    try:
        message = decode(data)
    except RemoteError as error:
        assert error.reason in (Reason.PROTOCOL_ERROR, Reason.UNSUPPORTED_MODE)
        return
    # The lists of a filter may come in any order; decoding sorts them (PROTOCOL.md §4.8).
    if not hasattr(message, "filter"):
        assert encode(message) == data
    assert decode(encode(message)) == message


@cache
def message_seeds() -> tuple[bytes, ...]:
    """Return every message of the vectors: one of each kind, and a whole conversation of each mode."""
    one = [bytes.fromhex(entry["bytes"]) for entry in vector("message")["messages"]]
    several = [bytes.fromhex(entry["payload"]) for log in vector("conversation")["messages"].values() for entry in log]
    return tuple(one + several)


def _mutate_message(data: bytes, rng: Random) -> bytes:
    return mutate.with_samples(data, rng, message_seeds)


# -- record file -----------------------------------------------------------------------------------------------------


def run_record_file(data: bytes) -> None:
    """Run on two bytes of lengths of pieces, and a file."""
    found = {}
    for sizes in (b"", data[:2]):
        reader, items, fault = FileReader(), list[FileItem](), None
        try:
            for piece in chopped(data[2:], sizes):
                reader.receive_data(piece)
                while (item := reader.next_item()) is not None:
                    items.append(item)
            reader.finish()
        except RemoteError as error:
            fault = error.reason
            assert fault in (Reason.PROTOCOL_ERROR, Reason.UNSUPPORTED_PROTOCOL, Reason.TOO_LARGE)
        found[sizes] = (items, fault is None)
        for version in items:
            assert not isinstance(version, bytes) or version in data
    assert len({repr(each) for each in found.values()}) == 1, "chopped otherwise it is another file"


@cache
def _record_file_parts() -> tuple[bytes, ...]:
    versions = tuple(forged({**PLAIN, 3: name}) for name in "ab")
    header = FileHeader(bytes(8), PERSON.id, "kitchen", (IDENTITIES, MAIN))
    ends = ContextEnd(0, None, False), ContextEnd(2, Digest(bytes(32)), True)
    return header.encode(), ends[0].encode(), *versions, ends[1].encode()


def _record_file_seeds() -> Iterator[bytes]:
    parts = _record_file_parts()
    yield b"\x07\x63" + b"".join(parts)
    yield b"\x01\x01" + parts[0] + parts[1] + parts[1]
    yield b"\x09\x09" + parts[0]


def _mutate_record_file(data: bytes, rng: Random) -> bytes:
    if rng.random() < 0.5:
        return mutate.of_bytes(data, rng)
    chosen = [rng.choice(_record_file_parts()) for _ in range(rng.randrange(8))]
    return data[: rng.randrange(len(data) + 1)] + b"".join(chosen)


# -- announcement ----------------------------------------------------------------------------------------------------

_OWN: Final = (
    (local_address("lo", "127.0.0.1", 8),),
    (local_address("eth0", "192.168.1.7", 24), local_address("eth0", "fe80::1%eth0", 64)),
)


def run_announcement(data: bytes) -> None:
    """Run on a byte of options, the port, a byte for the length of the TXT record, that record, and addresses."""
    reader = Reader(data)
    options, port, size = reader.number(), reader.number(2), reader.number()
    txt, rest = reader.take(size), reader.rest()
    announced = parse_txt(txt)
    if announced is not None:
        assert _is_whole(txt)
        _check_round_trip(announced)
    name = instance_name(announced.tag) if announced and options & 1 else rest[:60].decode("latin-1")
    sighting = read_sighting(name, txt, list(_addresses(rest, options)), port, _OWN[options >> 1 & 1])
    if sighting is None:
        return
    assert announced is not None and name == instance_name(sighting.tag)
    assert 1 <= len(sighting.addresses) <= ADDRESSES_MAX and len(set(sighting.addresses)) == len(sighting.addresses)
    for address in sighting.addresses:
        host, at = parse_address(address)
        assert at == port and not ip_address(host).is_unspecified and not ip_address(host).is_multicast


def _is_whole(txt: bytes) -> bool:
    """Return True if `txt` consists of strings behind their lengths and of nothing else (RFC 6763 §6.1)."""
    while txt:
        size = 1 + txt[0]
        if size > len(txt):
            return False
        txt = txt[size:]
    return True


def _check_round_trip(announced: Announcement) -> None:
    pairs = to_txt(announced)
    strings = [f"{key}={value}".encode() for key, value in pairs.items()]
    assert parse_txt(b"".join(bytes([len(each)]) + each for each in strings)) == announced


def _addresses(data: bytes, options: int) -> Iterator[str]:
    """Yield addresses as the resolver gives them, four or sixteen bytes each, or as any text between line ends."""
    if options & 4:
        yield from data.decode("latin-1").split("\n")
        return
    size = 16 if options & 8 else 4
    for at in range(0, len(data) - size + 1, size):
        yield str(ip_address(data[at : at + size])) + ("%eth0" if options & 16 else "")


def _announcement_seeds() -> Iterator[bytes]:
    for slot, serial in ((None, 0), ("7", 3)):
        pairs = to_txt(Announcement(b"tag tag ", b"group gr", "1.0", slot, serial))
        strings = [*(f"{name}={value}".encode() for name, value in pairs.items()), b"", b"flag", b"x=y=z"]
        txt = b"".join(bytes([len(each)]) + each for each in strings)
        head = (22087).to_bytes(2, "big") + bytes([len(txt)]) + txt
        yield b"\x03" + head + ip_address("192.168.1.9").packed + ip_address("10.1.2.3").packed
        yield b"\x09" + head + ip_address("fe80::2").packed + ip_address("::1").packed
        yield b"\x1b" + head + ip_address("fe80::2").packed
        yield b"\x05" + head + b"127.0.0.1\nfe80::1%eth0\n::ffff:10.0.0.1\nlocalhost"


TARGETS: Final = (
    Target("cbor", run_cbor, message_seeds, mutate.of_cbor, 16_384),
    Target("record", run_record, lambda: list(_record_seeds()), _mutate_record),
    Target("message", run_message, message_seeds, _mutate_message, 16_384),
    Target("record_file", run_record_file, lambda: list(_record_file_seeds()), _mutate_record_file),
    Target("announcement", run_announcement, lambda: list(_announcement_seeds()), mutate.of_bytes, 1024),
)
