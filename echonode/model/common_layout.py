"""The common layout of a payload: nearly every version has it, and it is read in one pass without the CBOR decoder.

    a9..ad                             9 to 13 fields
    01 61..77 <context>                at most 23 bytes of text, as in all texts below without another bound
    02 58 20 <author>
    03 61..77 <name>                   or 03 78 <length> <name>
    04 1b <timestamp>  05 48 <instance>  06 a1 50 <writer> <counter>
    07 61..77 <model>  08 82 <major> <minor>  09 1b <created>       versions below 24
    0a 81..97 <tags>  0b 61..77 <media type>  0c <body below 64 KiB>  0d f5        those that there are

`read_fields` returns the fields of such a payload, the same that `cbor.decode` returns and `check_fields` accepts. For
every other payload it returns None: the strict pair then reads or refuses it. It accepts nothing that the strict pair
refuses: every length is in its shortest form, the fields come in order, and nothing follows the last.

`write_fields` goes the other way: it returns the payload of such fields, the same that `cbor.encode_ordered` returns
for fields that `check_fields` accepts, or None. Its texts are ASCII, which is in NFC.
"""

from collections.abc import Mapping
from functools import lru_cache
from struct import Struct
from struct import error as StructError
from typing import Any, Final

from echonode.cbor import Value
from echonode.clock import TIMESTAMP_MAX
from echonode.limits import NAME_BYTES_MAX
from echonode.model.fields import (
    AUTHOR,
    BODY,
    CONTEXT,
    CREATED,
    INSTANCE,
    LATER,
    MEDIA_TYPE,
    MODEL,
    MODEL_VERSION,
    NAME,
    TAGS,
    TIMESTAMP,
    TOMBSTONE,
    VECTOR,
)
from echonode.model.identity import IDENTITY_BYTES, INSTANCE_BYTES, WRITER_BYTES
from echonode.text import is_plain_text

_REQUIRED: Final = 9
_TEXT: Final = 0x60  # the initial byte of a text of length 0
_LONG_TEXT: Final = 0x78  # the initial byte of a text with its length in the next byte
_SHORT_MAX: Final = 23  # bytes of a text or byte string that has its length in its initial byte
_MIDDLE: Final = Struct(">HQH8s3s16sB")  # timestamp, instance, writer, the initial byte of the counter
_CREATED: Final = Struct(">BBBBHQ")
_TIMESTAMP_HEAD: Final = TIMESTAMP << 8 | 0x1B
_INSTANCE_HEAD: Final = INSTANCE << 8 | 0x48
_VECTOR_HEAD: Final = bytes((VECTOR, 0xA1, 0x50))
_CREATED_HEAD: Final = CREATED << 8 | 0x1B
_AUTHOR_HEAD: Final = bytes((AUTHOR, 0x58, 0x20))
_EIGHT_BYTES: Final = 1 << 32  # a smaller number has a shorter form


def read_fields(payload: bytes) -> dict[int, Value] | None:
    """Return the fields of `payload`, None when it is not of the common layout."""
    try:
        return _read(payload)
    except (IndexError, StructError, UnicodeDecodeError):
        return None  # it ends too early, or a text is no text: the strict reader says why


@lru_cache(maxsize=1024)  # contexts, models, media types and tags repeat in all versions
def _short_text(encoded: bytes) -> str:
    """Return the text in `encoded`, "" when it is not plain."""
    text = encoded.decode()
    return text if is_plain_text(text, _SHORT_MAX) else ""


def _read(payload: bytes) -> dict[int, Value] | None:
    count = payload[0] - 0xA0
    size = payload[2] - _TEXT
    if payload[1] != CONTEXT or not 0 < size <= _SHORT_MAX:
        return None
    at = 3 + size
    context = _short_text(payload[3:at])
    author = payload[at + 3 : at + 35]
    if not context or payload[at : at + 3] != _AUTHOR_HEAD or payload[at + 35] != NAME:
        return None
    at += 37
    size = payload[at - 1] - _TEXT
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
    at += _MIDDLE.size
    if not 0 < counter <= _SHORT_MAX:
        width, least = _WIDTHS.get(counter, (0, 1))
        counter = int.from_bytes(payload[at : at + width], "big")
        if counter < least:
            return None
        at += width
    size = payload[at + 1] - _TEXT
    if payload[at] != MODEL or not 0 < size <= _SHORT_MAX:
        return None
    model = _short_text(payload[at + 2 : at + 2 + size])
    at += 2 + size
    versioned, pair, major, minor, created, created_ms = _CREATED.unpack_from(payload, at)
    at += _CREATED.size
    if (
        not model
        or versioned != MODEL_VERSION
        or pair != 0x82
        or major > _SHORT_MAX
        or minor > _SHORT_MAX
        or created != _CREATED_HEAD
        or created_ms < _EIGHT_BYTES
    ):
        return None
    fields: dict[int, Value] = {
        CONTEXT: context,
        AUTHOR: author,
        NAME: name,
        TIMESTAMP: timestamp,
        INSTANCE: instance,
        VECTOR: {writer: counter},
        MODEL: model,
        MODEL_VERSION: [major, minor],
        CREATED: created_ms,
    }
    if count > _REQUIRED:
        at = _read_optional(payload, at, fields)
    return fields if at == len(payload) and len(fields) == count else None


# The counter's initial byte: the bytes that follow it, and the least number of that form.
_WIDTHS: Final = {0x18: (1, 24), 0x19: (2, 1 << 8), 0x1A: (4, 1 << 16), 0x1B: (8, 1 << 32)}


def _read_optional(payload: bytes, at: int, fields: dict[int, Value]) -> int:
    """Add the fields from TAGS on to `fields`; return where they end, 0 when they are not of the common layout."""
    end = len(payload)
    if payload[at] == TAGS:
        at = _read_tags(payload, at + 1, fields)
    if 0 < at < end and payload[at] == MEDIA_TYPE:
        size = payload[at + 1] - _TEXT
        at += 2
        media_type = _short_text(payload[at : at + size]) if 0 < size <= _SHORT_MAX else ""
        if not media_type:
            return 0
        fields[MEDIA_TYPE] = media_type
        at += size
    if 0 < at < end and payload[at] == BODY:
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
            return 0
        fields[BODY] = payload[at : at + size]
        at += size
    elif 0 < at < end and payload[at] == TOMBSTONE and payload[at + 1] == 0xF5:
        fields[TOMBSTONE] = True
        at += 2
    return at


def _read_tags(payload: bytes, at: int, fields: dict[int, Value]) -> int:
    count = payload[at] - 0x80
    at += 1
    tags: list[Value] = []
    before = ""
    for _ in range(count if count <= _SHORT_MAX else 0):
        size = payload[at] - _TEXT
        at += 1
        tag = _short_text(payload[at : at + size]) if 0 < size <= _SHORT_MAX else ""
        if not tag > before:  # sorted, each once
            return 0
        tags.append(tag)
        before = tag
        at += size
    if not tags:
        return 0
    fields[TAGS] = tags
    return at


# -- writing ---------------------------------------------------------------------------------------------------------


def write_fields(fields: Mapping[int, Any]) -> bytes | None:
    """Return the payload of `fields`, None when it is not of the common layout: then the fields are to be checked."""
    name, timestamp, created_ms = fields[NAME], fields[TIMESTAMP], fields[CREATED]
    if not _is_ascii(name, NAME_BYTES_MAX) or not _is_long_number(timestamp) or not _is_long_number(created_ms):
        return None
    instance, vector, model_version = fields[INSTANCE], fields[VECTOR], fields[MODEL_VERSION]
    if len(vector) != 1 or not _is_bytes(instance, INSTANCE_BYTES) or len(model_version) != 2:
        return None
    ((writer, counter),) = vector.items()
    major, minor = model_version
    if not _is_bytes(writer, WRITER_BYTES) or type(major) is not int or type(minor) is not int or max(fields) >= LATER:
        return None
    head, tail = _head(fields[CONTEXT], fields[AUTHOR]), _tail(fields[MODEL], major, minor)
    optional = _write_optional(fields) if len(fields) > _REQUIRED else b""
    counted = _write_number(counter)
    if not head or not tail or not counted or optional is None:
        return None
    size = len(name)
    named = bytes((_TEXT + size,)) if size <= _SHORT_MAX else bytes((_LONG_TEXT, size))
    middle = _MIDDLE.pack(_TIMESTAMP_HEAD, timestamp, _INSTANCE_HEAD, instance, _VECTOR_HEAD, writer, counted[0])
    parts = (bytes((0xA0 + len(fields),)), head, named, name.encode(), middle, counted[1:], tail)
    return b"".join((*parts, created_ms.to_bytes(8, "big"), optional))


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


@lru_cache(maxsize=64)
def _tail(model: str, major: int, minor: int) -> bytes:
    """Return the fields from the model up to the head of the time of creation, b"" when they are not of the common
    layout."""
    if not _is_ascii(model) or not 0 <= major <= _SHORT_MAX or not 0 <= minor <= _SHORT_MAX:
        return b""
    return bytes((MODEL,)) + _write_text(model) + bytes((MODEL_VERSION, 0x82, major, minor, CREATED, 0x1B))


def _write_number(number: object) -> bytes:
    """Return a positive number in its shortest form, b"" for what is none."""
    if type(number) is not int or not 0 < number <= TIMESTAMP_MAX:
        return b""
    if number <= _SHORT_MAX:
        return bytes((number,))
    width = 1 << ((number.bit_length() + 7) // 8 - 1).bit_length()  # of 1, 2, 4 or 8 bytes
    return bytes((_SHORT_MAX + width.bit_length(),)) + number.to_bytes(width, "big")


def _write_optional(fields: Mapping[int, Any]) -> bytes | None:
    """Return the fields from TAGS on, None when they are not of the common layout."""
    parts: list[bytes] = []
    if TAGS in fields:
        parts.append(_write_tags(*fields[TAGS]))
    if MEDIA_TYPE in fields:
        media_type = fields[MEDIA_TYPE]
        parts.append(bytes((MEDIA_TYPE,)) + _write_text(media_type) if _is_ascii(media_type) else b"")
    if BODY in fields:
        body = fields[BODY]
        size = len(body) if type(body) is bytes else 0
        if not 0 < size < 1 << 16 or TOMBSTONE in fields:
            return None
        width = 0 if size <= _SHORT_MAX else 1 if size < 1 << 8 else 2
        sized = (0x40 + size, 0x58 << 8 | size, 0x59 << 16 | size)[width].to_bytes(1 + width, "big")
        parts += (bytes((BODY,)) + sized, body)
    if TOMBSTONE in fields:
        parts.append(bytes((TOMBSTONE, 0xF5)) if fields[TOMBSTONE] is True else b"")
    return b"".join(parts) if all(parts) else None


@lru_cache(maxsize=1024)
def _write_tags(*tags: str) -> bytes:
    """Return the field TAGS, b"" when it is not of the common layout."""
    if not 0 < len(tags) <= _SHORT_MAX or not all(map(_is_ascii, tags)) or list(tags) != sorted(set(tags)):
        return b""
    return bytes((TAGS, 0x80 + len(tags))) + b"".join(map(_write_text, tags))
