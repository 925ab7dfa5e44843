"""A filter held against versions as they are stored: only the fields that it names are read, and none is decoded twice.

    takes = stored_filter(wanted)
    takes(raw)        True if `wanted` takes the version

The result is that of `wanted.matches_fields(fields_of(raw))`. The quick way knows versions of the common layout
(model/common_layout.py), whose fields it finds by their lengths; every other version goes the slow way. The bytes must
be those of a version that was verified before it was stored: nothing is checked here but what tells the layouts apart.
"""

from collections.abc import Callable
from typing import Final

from echonode.model.cose import PAYLOAD_AT
from echonode.model.fields import TAGS
from echonode.model.filter import Filter
from echonode.model.identity import IDENTITY_BYTES
from echonode.model.record import fields_of

_CONTEXT_AT: Final = {0x58: 4, 0x59: 5, 0x5A: 7}  # from the payload's head to the head of the context's name
_COUNTS: Final = range(0xA9, 0xB8)  # initial bytes of maps of 9 to 23 fields
_TEXT: Final = 0x60
_LIST: Final = 0x80
_SHORT_MAX: Final = 23  # of what has its length, or itself, in its initial byte
_LONG_TEXT: Final = 0x18  # beyond _TEXT: the length is in the next byte
_BEHIND_COUNTER: Final = {**dict.fromkeys(range(_SHORT_MAX + 1), 40), 0x18: 41, 0x19: 42, 0x1A: 44, 0x1B: 48}


def stored_filter(wanted: Filter) -> Callable[[bytes], bool]:
    """Return the function that holds `wanted` against the bytes of stored versions. It raises ValueError, IndexError,
    KeyError, TypeError or RemoteError for bytes that are no version."""
    among, not_among = wanted.authors | wanted.pools, wanted.not_authors
    has_authors = bool(among or not_among)
    fits = wanted.glob.match if wanted.name else None
    models = {each.encode() for each in wanted.models}
    tags_any, tags_all = ({each.encode() for each in tags} for tags in (wanted.tags_any, wanted.tags_all))
    has_tags = bool(tags_any or tags_all)
    since_ms = 0 if wanted.since_ms is None else wanted.since_ms
    until_ms = 1 << 64 if wanted.until_ms is None else wanted.until_ms
    has_times = since_ms > 0 or wanted.until_ms is not None
    ends_with_name = not (models or has_tags or has_times)

    def slow(raw: bytes) -> bool:
        return wanted.matches_fields(fields_of(raw))

    def takes(raw: bytes) -> bool:
        at = PAYLOAD_AT + _CONTEXT_AT.get(raw[PAYLOAD_AT], 0)
        size = raw[at] - _TEXT
        if size > _SHORT_MAX or raw[at - 2] not in _COUNTS:
            return slow(raw)
        at += 4 + size  # behind 02 58 20
        if has_authors:
            author = raw[at : at + IDENTITY_BYTES]
            if author in not_among or (among and author not in among):
                return False
        at += IDENTITY_BYTES + 2  # behind 03 and the initial byte of the name
        size = raw[at - 1] - _TEXT
        if size == _LONG_TEXT:
            size = raw[at]
            at += 1
        if fits is not None and not fits(raw[at : at + size].decode()):
            return False
        if ends_with_name:
            return True
        at += size
        # 04 1b and a timestamp of 8 bytes, 05 48 and an instance of 8, 06 a1 50 and a writer of 16, a counter
        if raw[at + 1] != 0x1B or raw[at + 21] != 0xA1:
            return slow(raw)
        at += _BEHIND_COUNTER[raw[at + 39]]
        size = raw[at + 1] - _TEXT
        if size > _SHORT_MAX:
            return slow(raw)
        at += 2
        if models and raw[at : at + size] not in models:
            return False
        at += size
        # 08 82 and two numbers, 09 1b and a time of 8 bytes
        if raw[at + 2] > _SHORT_MAX or raw[at + 3] > _SHORT_MAX or raw[at + 5] != 0x1B:
            return slow(raw)
        at += 14
        if has_times and not since_ms <= int.from_bytes(raw[at - 8 : at], "big") < until_ms:
            return False
        if has_tags:
            tags = _tags(raw, at)
            if tags is None:
                return slow(raw)
            if not tags_all <= tags or (tags_any and tags_any.isdisjoint(tags)):
                return False
        return True

    return takes


def _tags(raw: bytes, at: int) -> set[bytes] | None:
    """Return the tags of the version, whose field would be at `at`; None when they are not of the common layout."""
    tags: set[bytes] = set()
    if raw[at] != TAGS:
        return tags
    left = raw[at + 1] - _LIST
    if left > _SHORT_MAX:
        return None
    at += 2
    for _ in range(left):
        size = raw[at] - _TEXT
        if size > _SHORT_MAX:
            return None
        at += 1 + size
        tags.add(raw[at - size : at])
    return tags
