"""What one Fetch asks for, and whether the answer keeps to it.

A peer sends what it has, in key order within each subtree asked for (heads in id order within a leaf), and may say what
is left to ask for. It may not send something else, or the same again, nor promise more without bringing anything: every
answer that leaves a rest leaves less than was asked, so that no peer keeps a conversation going for nothing.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

from echonode.errors import Reason, RemoteError
from echonode.model.merkle import Digest, leaf_digest, state_of
from echonode.model.record import LeafKey, Record, VersionId
from echonode.wire.messages import LeafRequest, Records

Place: TypeAlias = tuple[bytes, bytes]  # a version's key and id: where it stands in an answer

START: Final[Place] = (b"", b"")
_BEHIND_ALL_IDS: Final = b"\xff" * 33


class AnswerCheck:
    """The requester's account of one Fetch. `width`: bytes of the digests by which leaves are named."""

    def __init__(self, wanted: tuple[LeafRequest, ...], width: int) -> None:
        self.wanted = wanted
        self._width = width
        # Prefixes as hexadecimal text, one digit a nibble, in the order asked.
        self._items = {item.prefix.hex()[1::2]: item for item in wanted}
        self._lengths = {len(prefix) for prefix in self._items}
        self._last = {prefix: _start_of(item) for prefix, item in self._items.items()}
        self._heads: dict[LeafKey, list[VersionId]] = {}

    def look(self, answer: Records) -> None:
        """Check the form of an answer, as soon as it is here. Raises RemoteError."""
        if (answer.more or answer.rest) and not answer.records:
            raise _bad("an answer that brings nothing and promises more")
        if answer.more and answer.rest:
            raise _bad("an answer that says what is left before it is over")
        if answer.rest and not self._is_left(answer.rest):
            raise _bad("what is said to be left is no less than was asked for")

    def take(self, records: Sequence[Record], rest: tuple[LeafRequest, ...]) -> None:
        """Check the verified records of an answer; answers in the order they came. Raises RemoteError."""
        for record in records:
            prefix = self._prefix_of(record.key)
            if (record.key, record.id) <= self._last[prefix]:
                raise _bad("records out of order, or not for the first time")
            self._last[prefix] = (record.key, record.id)
            if self._items[prefix].leaves is not None:
                self._heads.setdefault(record.key, []).append(record.id)
        if rest:
            first, *later = list(self._items)[-len(rest) :]
            is_early = rest[0].leaves is None and self._last[first][0] > (rest[0].after or b"")
            if is_early or any(self._last[prefix] != _start_of(self._items[prefix]) for prefix in later):
                raise _bad("records of what is said to be left")

    def came(self) -> set[Digest]:
        """Of the leaves that were named, those that came whole and as they were named, by the same digests."""
        return {Digest(leaf_digest(key, state_of(ids))[: self._width]) for key, ids in self._heads.items()}

    def _prefix_of(self, key: LeafKey) -> str:
        digits = key.hex()
        for length in self._lengths:
            if digits[:length] in self._items:
                return digits[:length]
        raise _bad("a record that was not asked for")

    def _is_left(self, rest: tuple[LeafRequest, ...]) -> bool:
        """Whether `rest` is the end of what was asked for, and less than all of it."""
        if len(rest) > len(self.wanted) or rest[1:] != self.wanted[len(self.wanted) - len(rest) + 1 :]:
            return False
        first, asked = rest[0], self.wanted[-len(rest)]
        if first == asked:
            return len(rest) < len(self.wanted)
        if first.prefix != asked.prefix or (first.leaves is None) != (asked.leaves is None):
            return False
        if first.leaves is None or asked.leaves is None:
            return (first.after or b"") > (asked.after or b"")
        return first.after == asked.after and asked.leaves.endswith(first.leaves)


def in_order(records: Sequence[Record], last: Place) -> Place:
    """The place of the last of `records`, which must stand behind `last` and one behind the other."""
    for record in records:
        if (record.key, record.id) <= last:
            raise _bad("records out of order, or not for the first time")
        last = (record.key, record.id)
    return last


def _start_of(item: LeafRequest) -> Place:
    return START if item.after is None else (item.after, _BEHIND_ALL_IDS)


def _bad(detail: str) -> RemoteError:
    return RemoteError(Reason.PROTOCOL_ERROR, detail)
