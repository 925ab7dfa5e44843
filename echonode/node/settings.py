"""What a node is given, and what it makes known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from echonode.digest import GROUP_TAG, keyed

_OPEN_GROUP_KEY = b"echonode open network"  # group tags of the public network hide nothing


@dataclass(frozen=True, slots=True)
class Presence:
    """What discovery makes known: a tag of this start, which network (to members), and an open invitation's slot."""

    tag: bytes
    group: bytes
    slot: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a person decides about a node. `network_key` None: the open network; `contexts` None: all on offer;
    `subscriptions`: by context, the terms of the filter (model/filter_text.py) that says which part is wanted;
    `models`: versions of the record models that whoever reads here knows.

    `is_provisional`: the key is a placeholder that nobody else has, until an invitation brings the real one.
    """

    name: str
    network_key: bytes | None
    is_provisional: bool = False
    contexts: frozenset[str] | None = None
    subscriptions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    models: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def group_tag(network_key: bytes | None, tag: bytes) -> bytes:
    """8 bytes by which members know that the node announcing `tag` is of their network (SECURITY.md H5)."""
    return keyed(GROUP_TAG, _OPEN_GROUP_KEY if network_key is None else network_key, tag, 8)
