"""The fields of a version's payload: their numbers, types and bounds (PROTOCOL.md §4.2).

Fields 1 to 9 are required. Fields 10 to 13 are present only if they are not empty, so that a version has one encoding.
Higher numbers belong to later minor versions of the protocol and are kept without being read.
"""

from collections.abc import Mapping
from functools import lru_cache
from itertools import pairwise
from typing import Final

from echonode import cbor
from echonode.clock import TIMESTAMP_MAX
from echonode.errors import Reason, RemoteError
from echonode.limits import (
    BODY_BYTES_MAX,
    CBOR_ITEMS_MAX,
    CONTEXT_BYTES_MAX,
    NAME_BYTES_MAX,
    TAG_BYTES_MAX,
    TAGS_MAX,
    TEXT_FIELD_BYTES_MAX,
    VECTOR_ENTRIES_MAX,
)
from echonode.model.identity import IDENTITY_BYTES, INSTANCE_BYTES, WRITER_BYTES
from echonode.text import is_plain_text

CONTEXT, AUTHOR, NAME, TIMESTAMP, INSTANCE, VECTOR, MODEL, MODEL_VERSION, CREATED = range(1, 10)
TAGS, MEDIA_TYPE, BODY, TOMBSTONE = range(10, 14)
LATER: Final = 14  # the first number of later minor versions
_ITEMS_OF_TODAY: Final = 2 * LATER + 2 + 2 * VECTOR_ENTRIES_MAX + TAGS_MAX  # CBOR items
_REQUIRED: Final = frozenset(range(CONTEXT, CREATED + 1))

# Contexts, models, media types and tags repeat in all versions, so their checks are cached; names differ.
_is_frequent_text = lru_cache(maxsize=1024)(is_plain_text)


def bad_record(detail: str) -> RemoteError:
    """Return the error that every check of a version raises."""
    return RemoteError(Reason.BAD_RECORD, detail)


def check_fields(fields: object) -> None:
    """Raise RemoteError (BAD_RECORD) unless every field known here has its type and keeps its bound.

    Types are compared with `is`: for isinstance, True is an int.
    """
    if type(fields) is not dict or not fields.keys() >= _REQUIRED:
        raise bad_record("a field that every version has is missing")
    get = fields.get
    for number, size in ((AUTHOR, IDENTITY_BYTES), (INSTANCE, INSTANCE_BYTES)):
        value = get(number)
        if type(value) is not bytes or len(value) != size:
            raise bad_record(f"field {number} is not {size} bytes")
    name = get(NAME)
    if type(name) is not str or not is_plain_text(name, NAME_BYTES_MAX):
        raise bad_record(_FIELD_TEXT[NAME])
    for number, bound in ((CONTEXT, CONTEXT_BYTES_MAX), (MODEL, TEXT_FIELD_BYTES_MAX)):
        value = get(number)
        if type(value) is not str or not _is_frequent_text(value, bound):
            raise bad_record(_FIELD_TEXT[number])
    for number in (TIMESTAMP, CREATED):
        value = get(number)
        if type(value) is not int or not 0 <= value <= TIMESTAMP_MAX:
            raise bad_record(f"field {number} is not an unsigned 64-bit number")
    _check_vector(get(VECTOR))
    version = get(MODEL_VERSION)
    if type(version) is not list or len(version) != 2:
        raise bad_record("the model version is not [major, minor]")
    for number in version:
        if type(number) is not int or not 0 <= number <= TIMESTAMP_MAX:
            raise bad_record("the model version is not [major, minor]")
    if len(fields) > len(_REQUIRED):
        _check_optional(fields)


_FIELD_TEXT: Final = {
    CONTEXT: f"a context name is 1 to {CONTEXT_BYTES_MAX} bytes of NFC text without control characters",
    NAME: f"a record name is 1 to {NAME_BYTES_MAX} bytes of NFC text without control characters",
    MODEL: f"a model name is 1 to {TEXT_FIELD_BYTES_MAX} bytes of NFC text without control characters",
}


def _check_vector(vector: object) -> None:
    if type(vector) is not dict or not 1 <= len(vector) <= VECTOR_ENTRIES_MAX:
        raise bad_record(f"a vector has 1 to {VECTOR_ENTRIES_MAX} entries")
    for writer, counter in vector.items():
        if type(writer) is not bytes or len(writer) != WRITER_BYTES:
            raise bad_record("a vector's writer is 16 bytes")
        if type(counter) is not int or not 1 <= counter <= TIMESTAMP_MAX:
            raise bad_record("a vector's counter is a positive 64-bit number")


def _check_optional(fields: Mapping[int, object]) -> None:
    """Check fields 10 to 13. An empty one is refused: it would be a second encoding of the same version."""
    for number in fields:
        if type(number) is not int or number < 1:
            raise bad_record("fields are numbered from 1")
    if TAGS in fields:
        _check_tags(fields[TAGS])
    if MEDIA_TYPE in fields:
        media_type = fields[MEDIA_TYPE]
        if type(media_type) is not str or not _is_frequent_text(media_type, TEXT_FIELD_BYTES_MAX):
            raise bad_record(f"a media type is 1 to {TEXT_FIELD_BYTES_MAX} bytes of NFC text")
    if BODY in fields:
        body = fields[BODY]
        if type(body) is not bytes or not 1 <= len(body) <= BODY_BYTES_MAX:
            raise bad_record(f"a body is at most {BODY_BYTES_MAX} bytes")
    if TOMBSTONE in fields and (fields[TOMBSTONE] is not True or BODY in fields):
        raise bad_record("a tombstone has no body")


def _check_tags(tags: object) -> None:
    if type(tags) is not list or not 1 <= len(tags) <= TAGS_MAX:
        raise bad_record(f"there are at most {TAGS_MAX} tags")
    for tag in tags:
        if type(tag) is not str or not _is_frequent_text(tag, TAG_BYTES_MAX):
            raise bad_record(f"a tag is 1 to {TAG_BYTES_MAX} bytes of NFC text")
    for before, tag in pairwise(tags):
        if not before < tag:
            raise bad_record("tags are sorted, each once")


def later_fields(encoded: bytes) -> dict[int, cbor.Value]:
    """Return `SignedRecord.later`, decoded. Raises RemoteError if it is no map of fields from `LATER` on."""
    # They share the payload's budget of CBOR items with the fields known here, which take no more than this.
    fields = cbor.decode(encoded, items_max=CBOR_ITEMS_MAX - _ITEMS_OF_TODAY)
    if type(fields) is not dict or not all(type(number) is int and number >= LATER for number in fields):
        raise bad_record(f"the fields of later versions are numbered from {LATER}")
    return fields  # type: ignore[return-value]
