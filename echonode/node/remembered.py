"""Notes about pairs of peer and context, bounded: strangers come and go, and may name any number of contexts."""

from collections import OrderedDict
from typing import TypeVar

from echonode.limits import PAIRS_REMEMBERED

K = TypeVar("K")
V = TypeVar("V")


def remember(notes: "OrderedDict[K, V]", key: K, value: V) -> None:
    """Note `value` for `key` as the latest. Beyond PAIRS_REMEMBERED the oldest notes are dropped."""
    notes[key] = value
    notes.move_to_end(key)
    while len(notes) > PAIRS_REMEMBERED:
        notes.popitem(last=False)
