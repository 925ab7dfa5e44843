"""Filters as people write them, in the configuration and on the command line: terms of the form KEY=VALUE.

    author=ID  author!=ID     by these authors; by all but these
    sender=ID  sender!=ID     from these peers; from all but these
    pool=ID                   of these pools
    model=NAME                of these models
    tag=TAG    tags=TAG,TAG   with one of these tags; with all of these
    since=TIME until=TIME     created from then on; created before then
    name=GLOB                 with such a name: * is any characters, ? is one

A key may be given several times. A record fits a key when it fits one of its values (of `tags`: all), and it fits the
filter when it fits every key. TIME is written as model/time_text.py reads it. The caller resolves ID.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final
from unicodedata import normalize

from echonode.errors import LocalError, RemoteError
from echonode.limits import FILTER_ENTRIES_MAX
from echonode.model.address import maybe_id
from echonode.model.filter import Filter
from echonode.model.identity import IdentityId
from echonode.model.time_text import read_time_ms
from echonode.text import escape

IdentityResolver = Callable[[str], IdentityId]

_TERM: Final = re.compile(r"([a-z]+)(!?=)(.+)", re.DOTALL)
_IDENTITIES: Final = {
    ("author", "="): "authors",
    ("author", "!="): "not_authors",
    ("sender", "="): "senders",
    ("sender", "!="): "not_senders",
    ("pool", "="): "pools",
}
_WORDS: Final = {"model": "models", "tag": "tags_any", "tags": "tags_all"}
_MOMENTS: Final = {"since": "since_ms", "until": "until_ms"}
_KEYS: Final = "author, author!, sender, sender!, pool, model, tag, tags, since, until and name"


def read_filter(terms: Iterable[str], resolve: IdentityResolver, now_ms: int | None = None) -> Filter:
    """Return the filter of these terms. Raises LocalError, a sentence for a person, and the errors of `resolve`.

    With `now_ms` a time may be a span before now. A filter that is kept, as a subscription is, has no now.
    """
    parts: dict[str, Any] = {}
    for term in terms:
        match = _TERM.fullmatch(term)
        if match is None:
            raise LocalError(f"'{escape(term)}' is no term of a filter: write KEY=VALUE, as in tag=news")
        key, sign, value = match.groups()
        if (key, sign) in _IDENTITIES:
            name = _IDENTITIES[key, sign]
            parts[name] = parts.get(name, frozenset()) | {resolve(value)}
        elif sign == "=" and key in _WORDS:
            words = value.split(",") if key == "tags" else [value]
            name = _WORDS[key]
            parts[name] = parts.get(name, frozenset()) | {normalize("NFC", word.strip()) for word in words}
        elif sign == "=" and key in _MOMENTS:
            parts[_once(_MOMENTS[key], parts, term)] = read_time_ms(value, now_ms)
        elif sign == "=" and key == "name":
            parts[_once("name", parts, term)] = normalize("NFC", value)
        else:
            raise LocalError(f"'{escape(term)}': a filter knows no {escape(key + sign[:-1])}; it knows {_KEYS}")
    wanted = Filter(**parts)
    try:
        return Filter.from_fields(wanted.fields())
    except RemoteError as error:  # its text names the values that are allowed
        raise LocalError(f"{error.detail}; a key takes up to {FILTER_ENTRIES_MAX} values") from None


def full_id(text: str) -> IdentityId:
    """Return the identity with the id `text`, 52 characters of base32. Raises LocalError."""
    identity = maybe_id(text)
    if identity is None:
        raise LocalError(f"'{escape(text)}' is no id: 52 characters of base32 are expected")
    return identity


def _once(name: str, parts: dict[str, Any], term: str) -> str:
    if name in parts:
        raise LocalError(f"'{escape(term)}': this can be said once in a filter")
    return name
