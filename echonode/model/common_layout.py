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
"""

from functools import lru_cache
from struct import Struct
from struct import error as StructError
from typing import Final

from echonode.cbor import Value
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
