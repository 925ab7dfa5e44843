"""Addresses of records, as people and programs write them. Pure: which identities there are, the caller says.

    NAME              a record of this node; NAME may hold slashes
    me/NAME           the same record: the way to write a NAME that looks like an address
    shared/NAME       a record of the network's common pool
    ID/NAME           a record of the author with this id, 52 characters of base32
    @LABEL/NAME       a record of the node or pool that is called LABEL, or whose id begins with LABEL (4 characters on)

Of several that are called alike each is shown as `LABEL @x53l`, with the beginning of its id, and is found by that.

Without `@` every text but the three forms above is an own NAME. So a new node, a new label or a new pool never takes a
name from this node's records. A label that reads like another address (`me`, `shared`, one with a slash or a leading
`@`) is shown and never found by.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from echonode.errors import LocalError
from echonode.model.identity import IDENTITY_BYTES, IdentityId
from echonode.text import escape, from_base32, to_base32

ME: Final = "me"
SHARED: Final = "shared"
LABEL_MARK: Final = "@"
PREFIX_CHARS_MIN: Final = 4  # a shorter prefix would too often fit another id tomorrow
PREFIX_CHARS_SHOWN: Final = 8
_ID_MARK: Final = f" {LABEL_MARK}"
_MARKED_LABEL: Final = re.compile(rf".*{_ID_MARK}[a-z2-7]{{{PREFIX_CHARS_MIN},}}", re.DOTALL)
_EASY_LABEL: Final = re.compile(r"\w[\w.-]*")  # a shell takes it as it stands


class UnknownLabelError(LocalError):
    """No identity has this label, and no id begins with it."""


@dataclass(frozen=True, slots=True)
class OwnAddress:
    """A record of this node."""

    name: str


@dataclass(frozen=True, slots=True)
class SharedAddress:
    """A record of the common pool."""

    name: str


@dataclass(frozen=True, slots=True)
class IdAddress:
    """A record of the author with this id."""

    author: IdentityId
    name: str


@dataclass(frozen=True, slots=True)
class LabelAddress:
    """A record of the identity with this label or id prefix."""

    label: str
    name: str


Address = OwnAddress | SharedAddress | IdAddress | LabelAddress


def parse_address(text: str) -> Address:
    """Return what `text` addresses. Raises LocalError for a text that begins with @ and is no @LABEL/NAME."""
    author, slash, name = text.partition("/")
    if text.startswith(LABEL_MARK):
        label = author.removeprefix(LABEL_MARK)
        if not (label and slash and name):
            raise LocalError(f"'{escape(text)}' is no address: write @LABEL/NAME, or me/{escape(text)} for an own name")
        return LabelAddress(label, name)
    if not (slash and name):
        return OwnAddress(text)
    if author == ME:
        return OwnAddress(name)
    if author == SHARED:
        return SharedAddress(name)
    whole_id = maybe_id(author)
    return OwnAddress(text) if whole_id is None else IdAddress(whole_id, name)


def maybe_id(text: str) -> IdentityId | None:
    """Return the identity whose whole id `text` is; None when it is no id."""
    try:
        return IdentityId(from_base32(text, IDENTITY_BYTES))
    except ValueError:
        return None


def find_label(text: str, labels: Mapping[IdentityId, str]) -> IdentityId:
    """Return the one identity of `labels` whose label is `text`, or whose id begins with it.

    Raises UnknownLabelError when there is none, and LocalError, with their ids, when there are several.
    """
    found = fitting(text, labels)
    if not found:
        raise UnknownLabelError(f"no node or pool is known as {escape(text)}")
    if len(found) > 1:
        ids = ", ".join(sorted(map(to_base32, found)))
        raise LocalError(f"{escape(text)} could be any of {len(found)} identities: {ids}")
    return found.pop()


def is_findable(label: str) -> bool:
    """Return True unless the label is empty or reads like another kind of address."""
    return label not in ("", ME, SHARED) and "/" not in label and not label.startswith(LABEL_MARK)


def is_easy(label: str) -> bool:
    """Return whether a shell takes the label as it stands."""
    return _EASY_LABEL.fullmatch(label) is not None


def distinct_label(identity: IdentityId, labels: Mapping[IdentityId, str]) -> str:
    """Return how the label of `identity` is shown: alone, or with ` @` and the beginning of its id.

    The id is there when another identity of `labels` has the same label, in as many characters as tell them apart, and
    when the label itself reads as if it had one. `find_label` takes what is returned here.
    """
    label = labels.get(identity, "")
    rivals = [to_base32(other) for other, name in labels.items() if name == label and other != identity]
    if not label or not (rivals or _MARKED_LABEL.fullmatch(label)):
        return label
    whole_id, size = to_base32(identity), PREFIX_CHARS_MIN
    while any(rival.startswith(whole_id[:size]) for rival in rivals):
        size += 1
    return f"{label}{_ID_MARK}{whole_id[:size]}"


def author_text(
    author: IdentityId, own: IdentityId, shared: IdentityId | None, labels: Mapping[IdentityId, str]
) -> str:
    """Return what to write before the slash of an address to mean `author`: the shortest text that is clear.

    That is `me`, `shared`, `@` and the label, `@` and the beginning of the id, or the whole id.
    """
    if author == own:
        return ME
    if author == shared:
        return SHARED
    label, whole_id = labels.get(author, ""), to_base32(author)
    if is_easy(label) and fitting(label, labels) == {author}:
        return f"{LABEL_MARK}{label}"
    prefix = whole_id[:PREFIX_CHARS_SHOWN]
    return f"{LABEL_MARK}{prefix}" if fitting(prefix, labels) == {author} else whole_id


def id_prefixes(text: str) -> set[str]:
    """Return the beginnings of ids that `text` may mean; `fitting` looks for no others."""
    return {prefix for prefix in (text, text.rpartition(_ID_MARK)[2]) if len(prefix) >= PREFIX_CHARS_MIN}


def fitting(text: str, labels: Mapping[IdentityId, str]) -> set[IdentityId]:
    """Return every identity of `labels` that `text` may mean: by its label, the beginning of its id, or both."""
    label, mark, prefix = text.rpartition(_ID_MARK)
    if mark and len(prefix) >= PREFIX_CHARS_MIN:
        marked = {each for each, name in labels.items() if name == label and to_base32(each).startswith(prefix)}
        if marked:
            return marked
    return {
        identity
        for identity, label in labels.items()
        if (label == text and is_findable(label))
        or (len(text) >= PREFIX_CHARS_MIN and to_base32(identity).startswith(text))
    }
