"""The common layout of a payload: nearly every version has it, and it is read in one pass without the CBOR decoder.

    a9..ad                             9 to 13 fields
    01 61..77 <context>                at most 23 bytes of text, as in all texts below without another bound
    02 58 20 <author>
    03 61..77 <name>                   or 03 78 <length> <name>
    04 1b <timestamp>  05 48 <instance>  06 a1 50 <writer> <counter>
    07 61..77 <model>  08 82 <major> <minor>  09 1b <created>       versions below 24
    0a 81..97 <tags>  0b 61..77 <media type>  0c <body below 64 KiB>  0d f5        those that there are

`read_heading` returns the heading of such a payload: what every version is handled by. Its fields are then those that
`cbor.decode` returns and `check_fields` accepts; `cbor.decode_trusted` reads them when they are asked for. For every
other payload it returns None: the strict pair then reads or refuses it. It accepts nothing that the strict pair
refuses: every length is in its shortest form, the fields come in order, and nothing follows the last.

`write_payload` goes the other way: it returns the payload of such fields, the same that `cbor.encode_ordered` returns
for fields that `check_fields` accepts, or None. Its texts are ASCII, which is in NFC.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from struct import Struct
from struct import error as StructError
from typing import Final, TypeAlias

from echonode.clock import TIMESTAMP_MAX, Timestamp
from echonode.limits import NAME_BYTES_MAX
from echonode.model.fields import (
    AUTHOR,
    BODY,
    CONTEXT,
    CREATED,
    INSTANCE,
    MEDIA_TYPE,
    MODEL,
    MODEL_VERSION,
    NAME,
    TAGS,
    TIMESTAMP,
    TOMBSTONE,
    VECTOR,
)
from echonode.model.identity import IDENTITY_BYTES, INSTANCE_BYTES, WRITER_BYTES, IdentityId, Instance, Writer
from echonode.text import is_plain_text

_REQUIRED: Final = 9
_TEXT: Final = 0x60  # the initial byte of a text of length 0
_LONG_TEXT: Final = 0x78  # the initial byte of a text with its length in the next byte
_SHORT_MAX: Final = 23  # bytes of a text or byte string that has its length in its initial byte
_MIDDLE: Final = Struct(">HQH8s3s16sB")  # timestamp, instance, writer, the initial byte of the counter
_MIDDLE_BYTES: Final = _MIDDLE.size
_MODEL_VERSION: Final = Struct(">BBBBH")  # the model's version, and the head of the time of creation
_TIMESTAMP_HEAD: Final = TIMESTAMP << 8 | 0x1B
_INSTANCE_HEAD: Final = INSTANCE << 8 | 0x48
_VECTOR_HEAD: Final = bytes((VECTOR, 0xA1, 0x50))
_CREATED_HEAD: Final = CREATED << 8 | 0x1B
_AUTHOR_HEAD: Final = bytes((AUTHOR, 0x58, 0x20))
_EIGHT_BYTES: Final = 1 << 32  # a smaller number has a shorter form
_ADDRESS_BYTES: Final = 2 + len(_AUTHOR_HEAD) + IDENTITY_BYTES + 1  # and the text of the context
_MODEL_BYTES: Final = 2 + _MODEL_VERSION.size  # and the text of the model

# Context, author, name, timestamp, instance, vector, time of creation, and True for a tombstone.
Heading: TypeAlias = tuple[str, IdentityId, str, Timestamp, Instance, Mapping[Writer, int], int, bool]


def read_heading(payload: bytes) -> Heading | None:
    """Return the heading of `payload`, None when it is not of the common layout."""
    try:
        return _read(payload)
    except (IndexError, StructError, UnicodeDecodeError):
        return None  # it ends too early, or a text is no text: the strict reader says why


# Contexts and authors, models, media types and sets of tags repeat in all versions, so what was read of them is kept.
# A length that is none leads to a piece of another length than it says, and each piece is checked against its own.


@lru_cache(maxsize=1024)
def _short_text(encoded: bytes) -> str:
    """Return the text in `encoded`, "" when it is not plain."""
    text = encoded.decode()
    return text if is_plain_text(text, _SHORT_MAX) else ""


@lru_cache(maxsize=1024)
def _read_address(encoded: bytes) -> tuple[str, IdentityId] | None:
    """Return context and author of the piece up to the number of the name; None when it is not of the layout."""
    size = len(encoded) - _ADDRESS_BYTES
    at = 2 + size
    if not 0 < size <= _SHORT_MAX or encoded[0] != CONTEXT or encoded[1] != _TEXT + size or encoded[-1] != NAME:
        return None
    context = _short_text(encoded[2:at])
    return (context, IdentityId(encoded[at + 3 : -1])) if context and encoded[at : at + 3] == _AUTHOR_HEAD else None


@lru_cache(maxsize=1024)
def _is_model(encoded: bytes) -> bool:
    """Return True if the piece from the model to the head of the time of creation is of the layout."""
    size = len(encoded) - _MODEL_BYTES
    if not 0 < size <= _SHORT_MAX or encoded[0] != MODEL or encoded[1] != _TEXT + size:
        return False
    versioned, pair, major, minor, created = _MODEL_VERSION.unpack_from(encoded, 2 + size)
    is_versioned = versioned == MODEL_VERSION and pair == 0x82 and major <= _SHORT_MAX and minor <= _SHORT_MAX
    return is_versioned and created == _CREATED_HEAD and bool(_short_text(encoded[2 : 2 + size]))


@lru_cache(maxsize=1024)
def _are_tags(encoded: bytes) -> bool:
    """Return True if the array `encoded` has 1 to 23 short texts, sorted, each once."""
    count, at, before = encoded[0] - 0x80, 1, ""
    for _ in range(count):
        size = encoded[at] - _TEXT
        at += 1
        tag = _short_text(encoded[at : at + size]) if 0 < size <= _SHORT_MAX else ""
        if not tag > before:
            return False
        before = tag
        at += size
    return 0 < count <= _SHORT_MAX and at == len(encoded)


def _read(payload: bytes) -> Heading | None:
    count = payload[0] - 0xA0
    at = 1 + payload[2] - _TEXT + _ADDRESS_BYTES
    address = _read_address(payload[1:at])
    if address is None:
        return None
    context, author = address
    size = payload[at] - _TEXT
    at += 1
    if not 0 < size <= _SHORT_MAX:
        size = payload[at]
        if payload[at - 1] != _LONG_TEXT or not _SHORT_MAX < size <= NAME_BYTES_MAX:
            return None
        at += 1
    name = payload[at : at + size].decode()
    at += size
    if not (name.isprintable() if name.isascii() else is_plain_text(name, NAME_BYTES_MAX)):
        return None
    stamped, timestamp, lived, instance, vector, writer, counter = _MIDDLE.unpack_from(payload, at)
    if stamped != _TIMESTAMP_HEAD or lived != _INSTANCE_HEAD or vector != _VECTOR_HEAD or timestamp < _EIGHT_BYTES:
        return None
    at += _MIDDLE_BYTES
    if not 0 < counter <= _SHORT_MAX:
        width, least = _WIDTHS.get(counter, (0, 1))
        counter = int.from_bytes(payload[at : at + width], "big")
        if counter < least:
            return None
        at += width
    end = at + payload[at + 1] - _TEXT + _MODEL_BYTES
    if not _is_model(payload[at:end]):
        return None
    at, is_tombstone = end + 8, False
    created_ms = int.from_bytes(payload[end:at], "big")
    if created_ms < _EIGHT_BYTES:
        return None
    if count > _REQUIRED:
        at, is_tombstone = _read_optional(payload, at, count - _REQUIRED)
    if count < _REQUIRED or at != len(payload):
        return None
    return context, author, name, timestamp, instance, {writer: counter}, created_ms, is_tombstone


# The counter's initial byte: the bytes that follow it, and the least number of that form.
_WIDTHS: Final = {0x18: (1, 24), 0x19: (2, 1 << 8), 0x1A: (4, 1 << 16), 0x1B: (8, 1 << 32)}


def _read_optional(payload: bytes, at: int, count: int) -> tuple[int, bool]:
    """Return where the `count` fields from TAGS on end, and True if the last is TOMBSTONE; (0, False) when they are not
    of the common layout."""
    is_tombstone = False
    if payload[at] == TAGS:
        end = at + 2
        for _ in range(payload[at + 1] - 0x80):
            end += payload[end] - _TEXT + 1
        if not _are_tags(payload[at + 1 : end]):
            return 0, False
        at, count = end, count - 1
    if count and payload[at] == MEDIA_TYPE:
        size = payload[at + 1] - _TEXT
        at += 2
        if not 0 < size <= _SHORT_MAX or not _short_text(payload[at : at + size]):
            return 0, False
        at, count = at + size, count - 1
    if count and payload[at] == BODY:
        initial = payload[at + 1]
        at += 2
        if 0x40 < initial <= 0x57:
            size = initial - 0x40
        elif initial == 0x58 and payload[at] > _SHORT_MAX:
            size = payload[at]
            at += 1
        elif initial == 0x59 and payload[at]:
            size = payload[at] << 8 | payload[at + 1]
            at += 2
        else:
            return 0, False
        at, count = at + size, count - 1
    elif count and payload[at] == TOMBSTONE and payload[at + 1] == 0xF5:
        at, count, is_tombstone = at + 2, count - 1, True
    return (0, False) if count else (at, is_tombstone)


# -- writing ---------------------------------------------------------------------------------------------------------


def write_payload(
    heading: Heading, model: str, model_version: tuple[int, int], tags: Iterable[str], media_type: str, body: bytes
) -> bytes | None:
    """Return the payload of these fields, empty ones left out; None when it is not of the common layout: then the
    fields are to be checked."""
    context, author, name, timestamp, instance, vector, created_ms, is_tombstone = heading
    if not _is_ascii(name, NAME_BYTES_MAX) or not _is_long_number(timestamp) or not _is_long_number(created_ms):
        return None
    if len(vector) != 1 or not _is_bytes(instance, INSTANCE_BYTES) or len(model_version) != 2:
        return None
    ((writer, counter),) = vector.items()
    more: list[bytes] = []
    if tags:
        more.append(_write_tags(*tags))
    if media_type:
        more.append(_write_media_type(media_type))
    if body:
        more.append(b"" if is_tombstone else _write_body(body))
    if is_tombstone:
        more.append(bytes((TOMBSTONE, 0xF5)))
    head, tail, counted = _head(context, author), _tail(model, *model_version), _write_number(counter)
    if not head or not tail or not counted or not all(more) or not _is_bytes(writer, WRITER_BYTES):
        return None
    size = len(name)
    named = bytes((_TEXT + size,)) if size <= _SHORT_MAX else bytes((_LONG_TEXT, size))
    middle = _MIDDLE.pack(_TIMESTAMP_HEAD, timestamp, _INSTANCE_HEAD, instance, _VECTOR_HEAD, writer, counted[0])
    parts = (bytes((0xA0 + _REQUIRED + len(more),)), head, named, name.encode(), middle, counted[1:], tail)
    return b"".join((*parts, created_ms.to_bytes(8, "big"), *more))


def _is_ascii(text: object, bytes_max: int = _SHORT_MAX) -> bool:
    return type(text) is str and 0 < len(text) <= bytes_max and text.isascii() and text.isprintable()


def _is_bytes(value: object, size: int) -> bool:
    return type(value) is bytes and len(value) == size


def _is_long_number(number: object) -> bool:
    return type(number) is int and _EIGHT_BYTES <= number <= TIMESTAMP_MAX


def _write_text(text: str) -> bytes:
    return bytes((_TEXT + len(text),)) + text.encode()


@lru_cache(maxsize=64)
def _head(context: str, author: bytes) -> bytes:
    """Return the fields before the name's text, b"" when they are not of the common layout."""
    if not _is_ascii(context) or not _is_bytes(author, IDENTITY_BYTES):
        return b""
    return bytes((CONTEXT,)) + _write_text(context) + _AUTHOR_HEAD + author + bytes((NAME,))


@lru_cache(maxsize=64, typed=True)  # else True would be answered as 1
def _tail(model: str, major: int, minor: int) -> bytes:
    """Return the fields from the model up to the head of the time of creation, b"" when they are not of the common
    layout."""
    if not _is_ascii(model) or not _is_tiny(major) or not _is_tiny(minor):
        return b""
    return bytes((MODEL,)) + _write_text(model) + bytes((MODEL_VERSION, 0x82, major, minor, CREATED, 0x1B))


def _is_tiny(number: object) -> bool:
    return type(number) is int and 0 <= number <= _SHORT_MAX


def _write_number(number: object) -> bytes:
    """Return a positive number in its shortest form, b"" for what is none."""
    if type(number) is not int or not 0 < number <= TIMESTAMP_MAX:
        return b""
    if number <= _SHORT_MAX:
        return bytes((number,))
    width = 1 << ((number.bit_length() + 7) // 8 - 1).bit_length()  # of 1, 2, 4 or 8 bytes
    return bytes((_SHORT_MAX + width.bit_length(),)) + number.to_bytes(width, "big")


@lru_cache(maxsize=1024)
def _write_tags(*tags: str) -> bytes:
    """Return the field TAGS, b"" when it is not of the common layout."""
    if len(tags) > _SHORT_MAX or not all(map(_is_ascii, tags)):
        return b""
    distinct = sorted(set(tags))
    return bytes((TAGS, 0x80 + len(distinct))) + b"".join(map(_write_text, distinct))


@lru_cache(maxsize=1024)
def _write_media_type(media_type: str) -> bytes:
    """Return the field MEDIA_TYPE, b"" when it is not of the common layout."""
    return bytes((MEDIA_TYPE,)) + _write_text(media_type) if _is_ascii(media_type) else b""


def _write_body(body: bytes) -> bytes:
    """Return the field BODY, b"" when it is not of the common layout."""
    head = _body_head(len(body)) if type(body) is bytes else b""
    return head and head + body


@lru_cache(maxsize=1024)
def _body_head(size: int) -> bytes:
    """Return what comes before a body of `size` bytes, b"" when it is not of the common layout."""
    if size >= 1 << 16:
        return b""
    width = 0 if size <= _SHORT_MAX else 1 if size < 1 << 8 else 2
    return bytes((BODY,)) + (0x40 + size, 0x58 << 8 | size, 0x59 << 16 | size)[width].to_bytes(1 + width, "big")
