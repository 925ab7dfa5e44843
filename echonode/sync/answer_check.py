"""The requester's check of answers: a peer may send what was asked for, in order, once (PROTOCOL.md §8.4).

A peer sends what it has, in key order within each subtree asked for (heads in id order within a leaf), and may name the
rest that is to be asked for next. It may not send other records, or the same again, or promise more and bring nothing.
A rest is always less than what was asked for, so no peer keeps a conversation going for nothing.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

from echonode.errors import Reason, RemoteError
from echonode.model.merkle import Digest, leaf_digest, state_of
from echonode.model.record import LeafKey, Record, VersionId
from echonode.wire.messages import LeafRequest, Records

Position: TypeAlias = tuple[bytes, bytes]  # of a version in an answer: its key and its id

START: Final[Position] = (b"", b"")
_BEHIND_ALL_IDS: Final = b"\xff" * 33


class AnswerCheck:
    """The check of the answer to one Fetch. `width`: bytes of the digests by which leaves are named."""

    def __init__(self, wanted: tuple[LeafRequest, ...], width: int) -> None:
        self.wanted = wanted
        self._width = width
        # By prefix as hexadecimal text, one digit a nibble, in the order asked.
        self._items = {item.prefix.hex()[1::2]: item for item in wanted}
        self._lengths = {len(prefix) for prefix in self._items}
        self._last = {prefix: _start_of(item) for prefix, item in self._items.items()}  # version that came
        self._heads: dict[LeafKey, list[VersionId]] = {}

    def check_message(self, answer: Records) -> None:
        """Check the form of one message, before its records are verified. Raises RemoteError."""
        if (answer.more or answer.rest) and not answer.records:
            raise _protocol_error("an answer that brings nothing and promises more")
        if answer.more and answer.rest:
            raise _protocol_error("an answer that says what is left before it is over")
        if answer.rest and not self._is_remainder(answer.rest):
            raise _protocol_error("what is said to be left is no less than was asked for")

    def check_records(self, records: Sequence[Record], rest: tuple[LeafRequest, ...]) -> None:
        """Check the verified records of one message; messages in the order they came. Raises RemoteError."""
        for record in records:
            prefix = self._prefix_of(record.key)
            if (record.key, record.id) <= self._last[prefix]:
                raise _protocol_error("records out of order, or not for the first time")
            self._last[prefix] = (record.key, record.id)
            if self._items[prefix].leaves is not None:
                self._heads.setdefault(record.key, []).append(record.id)
        if rest:
            first, *later = list(self._items)[-len(rest) :]
            is_early = rest[0].leaves is None and self._last[first][0] > (rest[0].after or b"")
            if is_early or any(self._last[prefix] != _start_of(self._items[prefix]) for prefix in later):
                raise _protocol_error("records of what is said to be left")

    def arrived_leaves(self) -> set[Digest]:
        """Return the digest of every leaf that came of those asked for by name, computed from its heads that came. A
        leaf that came whole has the digest it was named by."""
        return {Digest(leaf_digest(key, state_of(ids))[: self._width]) for key, ids in self._heads.items()}

    def _prefix_of(self, key: LeafKey) -> str:
        digits = key.hex()
        for length in self._lengths:
            if digits[:length] in self._items:
                return digits[:length]
        raise _protocol_error("a record that was not asked for")

    def _is_remainder(self, rest: tuple[LeafRequest, ...]) -> bool:
        """Return True when `rest` is the end of what was asked for, and less than all of it."""
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


def check_order(records: Sequence[Record], last: Position) -> Position:
    """Return the position of the last of `records`. Raises RemoteError unless they ascend from behind `last`."""
    key, version = last
    for record in records:
        if record.key <= key and (record.key, record.id) <= (key, version):
            raise _protocol_error("records out of order, or not for the first time")
        key, version = record.key, record.id
    return key, version


def _start_of(item: LeafRequest) -> Position:
    return START if item.after is None else (item.after, _BEHIND_ALL_IDS)


def _protocol_error(detail: str) -> RemoteError:
    return RemoteError(Reason.PROTOCOL_ERROR, detail)
