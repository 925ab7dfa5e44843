"""Filters: the records that are wanted, and the peers to take them from (PROTOCOL.md §4.8).

    fields on the wire -> Filter.from_fields        lists in any order
    text of a person   -> model/filter_text.py
    Filter.fields -> canonical bytes -> digest      one form for one meaning

Every part that is given must hold. A list holds when one of its entries does; `tags_all` holds when all do. An empty
filter takes everything. `senders` and `not_senders` name peers; they do not travel and mean nothing to another node.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import translate
from functools import lru_cache
from typing import Any, Final

from echonode import cbor
from echonode.clock import TIMESTAMP_MAX
from echonode.digest import FILTER, digest
from echonode.errors import Reason, RemoteError
from echonode.limits import FILTER_ENTRIES_MAX, NAME_BYTES_MAX, TAG_BYTES_MAX, TEXT_FIELD_BYTES_MAX
from echonode.model.fields import AUTHOR, CREATED, MODEL, NAME, TAGS
from echonode.model.identity import IDENTITY_BYTES, IdentityId
from echonode.model.record import SignedRecord
from echonode.text import is_plain_text

_AUTHORS, _NOT_AUTHORS, _SENDERS, _NOT_SENDERS, _POOLS, _MODELS, _TAGS_ANY, _TAGS_ALL, _SINCE, _UNTIL, _GLOB = range(
    1, 12
)


@dataclass(frozen=True, slots=True)
class Filter:
    """The wanted records. `since_ms` (inclusive) and `until_ms` (exclusive) bound `created`, in milliseconds.

    A record passes `authors` and `pools` when its author is in either, or both are empty. `name` is a glob over the
    whole name: * stands for any characters, ? for one, everything else for itself.
    """

    authors: frozenset[IdentityId] = frozenset()
    not_authors: frozenset[IdentityId] = frozenset()
    senders: frozenset[IdentityId] = frozenset()
    not_senders: frozenset[IdentityId] = frozenset()
    pools: frozenset[IdentityId] = frozenset()
    models: frozenset[str] = frozenset()
    tags_any: frozenset[str] = frozenset()
    tags_all: frozenset[str] = frozenset()
    since_ms: int | None = None
    until_ms: int | None = None
    name: str = ""

    @classmethod
    def from_fields(cls, fields: object) -> "Filter":
        """Return the filter that a peer sent.

        Raises RemoteError (PROTOCOL_ERROR) for a malformed one, and for one with an unknown field: it asks for
        something that this version cannot do.
        """
        if type(fields) is not dict or not fields.keys() <= _SHAPES.keys():
            raise _bad("not a filter of this version")
        return cls(**{name: shape(fields[number]) for number, (name, shape) in _SHAPES.items() if number in fields})

    def fields(self) -> dict[int, Any]:
        """Return the canonical form: the fields that are not empty, by number, their lists sorted."""
        fields: dict[int, Any] = {}
        for number, (name, _) in _SHAPES.items():
            value = getattr(self, name)
            if value or value == 0:
                fields[number] = sorted(value) if isinstance(value, frozenset) else value
        return fields

    def digest(self) -> bytes:
        """Return the 32 bytes that name this filter."""
        return digest(FILTER, cbor.encode(self.fields()))

    @property
    def without_senders(self) -> "Filter":
        """The filter without its senders: the part that a peer can apply."""
        return replace(self, senders=frozenset(), not_senders=frozenset())

    @property
    def takes_all(self) -> bool:
        """True for a filter that keeps nothing out."""
        return self == _EVERYTHING

    def accepts_sender(self, sender: IdentityId) -> bool:
        """Return True if records of `sender` are taken at all."""
        return sender not in self.not_senders and (not self.senders or sender in self.senders)

    def matches(self, record: SignedRecord) -> bool:
        """Return True if `record` is wanted, from any sender."""
        return self._takes(record.author, record.name, record.created_ms, record.model, record.tags)

    def matches_fields(self, fields: Mapping[int, Any]) -> bool:
        """Return True if a version with these decoded fields is wanted, from any sender."""
        return self._takes(fields[AUTHOR], fields[NAME], fields[CREATED], fields[MODEL], fields.get(TAGS, ()))

    def _takes(self, author: IdentityId, name: str, created_ms: int, model: str, tags: Iterable[str]) -> bool:
        if author in self.not_authors:
            return False
        if (self.authors or self.pools) and author not in self.authors and author not in self.pools:
            return False
        if self.models and model not in self.models:
            return False
        if self.since_ms is not None and created_ms < self.since_ms:
            return False
        if self.until_ms is not None and created_ms >= self.until_ms:
            return False
        if self.tags_any and self.tags_any.isdisjoint(tags):
            return False
        if self.tags_all and not self.tags_all.issubset(tags):
            return False
        return not self.name or self.glob.match(name) is not None

    @property
    def glob(self) -> re.Pattern[str]:
        """The glob of names as a pattern, to match from a name's beginning. There must be one."""
        return _glob(self.name)


@lru_cache(maxsize=64)
def _glob(pattern: str) -> re.Pattern[str]:
    # translate() makes stars that never backtrack: a peer's pattern costs at most its length for each name.
    return re.compile(translate(pattern.replace("[", "[[]")))


# -- shapes ------------------------------------------------------------------------------------------------------------


def _identities(value: object) -> frozenset[IdentityId]:
    items = _list(value)
    if any(type(each) is not bytes or len(each) != IDENTITY_BYTES for each in items):
        raise _bad("not a list of identities")
    return frozenset(items)


def _words(bytes_max: int) -> Any:
    def shape(value: object) -> frozenset[str]:
        items = _list(value)
        if any(type(each) is not str or not is_plain_text(each, bytes_max) for each in items):
            raise _bad(f"not a list of texts of up to {bytes_max} bytes")
        return frozenset(items)

    return shape


def _moment(value: object) -> int:
    if type(value) is not int or not 0 <= value <= TIMESTAMP_MAX:
        raise _bad("not a time")
    return value


def _name(value: object) -> str:
    if type(value) is not str or not is_plain_text(value, NAME_BYTES_MAX):
        raise _bad("not a glob of names")
    return value


def _list(value: object) -> list[Any]:
    if type(value) is not list or not 1 <= len(value) <= FILTER_ENTRIES_MAX:
        raise _bad(f"not a list of 1 to {FILTER_ENTRIES_MAX}")
    return value


def _bad(detail: str) -> RemoteError:
    return RemoteError(Reason.PROTOCOL_ERROR, f"filter: {detail}")


_SHAPES: Final[dict[int, tuple[str, Any]]] = {
    _AUTHORS: ("authors", _identities),
    _NOT_AUTHORS: ("not_authors", _identities),
    _SENDERS: ("senders", _identities),
    _NOT_SENDERS: ("not_senders", _identities),
    _POOLS: ("pools", _identities),
    _MODELS: ("models", _words(TEXT_FIELD_BYTES_MAX)),
    _TAGS_ANY: ("tags_any", _words(TAG_BYTES_MAX)),
    _TAGS_ALL: ("tags_all", _words(TAG_BYTES_MAX)),
    _SINCE: ("since_ms", _moment),
    _UNTIL: ("until_ms", _moment),
    _GLOB: ("name", _name),
}
_EVERYTHING: Final = Filter()
