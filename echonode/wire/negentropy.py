"""Range-based set reconciliation by the Negentropy Protocol V1: messages in, messages out (PROTOCOL.md §8.10).

    initiator                                    responder
      initiate()          -- message -->           answer(message)
      answer(message)     <-- message --
      ..                                            until the initiator's answer is None

The specification is docs/negentropy-protocol-v1.md of github.com/hoytech/negentropy. Messages equal those of its
reference implementation byte for byte, also under a limit (tests/vectors/negentropy_v1.json). A set is split into
ranges. A range with equal fingerprints on both sides is skipped; another is split in 16, or its ids are listed if it
has few items.

A peer's message gives an answer or a RemoteError, at a cost bounded by its own size and that of the answer. Under a
limit the reference can overlook a difference: the fingerprint of the rest leaves out a range that did not fit. This
code does the same, to stay equal to it. A caller that needs certainty compares hashes of both sets at the end.
"""

from typing import Final

from echonode.errors import LocalError, Reason, RemoteError
from echonode.limits import NEGENTROPY_RANGES_MAX
from echonode.wire.ranges import FINGERPRINT_BYTES, ID_BYTES, INFINITY, TIME_BYTES, Items, bound, varint

VERSION: Final = 0x61
LIMIT_BYTES_MIN: Final = 4096

_VERSIONS: Final = range(0x60, 0x70)
_SKIP, _FINGERPRINT, _ID_LIST = range(3)
_BUCKETS: Final = 16
_LISTED_MAX: Final = 2 * _BUCKETS - 1  # items; a range of more is split
_SLACK_BYTES: Final = 200  # kept below the limit for the range that sums up the rest
_U64_MAX: Final = 2**64 - 1
_VARINT_BYTES_MAX: Final = 10
_END: Final = bound(INFINITY)


class Negentropy:
    """One side of one reconciliation of `items`. `limit` is the most bytes of a message, 0 for no limit.

    The initiator's `have` and `need` grow with every answer: ids that only it holds, ids that only the peer holds.
    Under a limit the rest that did not fit is compared again, and an id may come twice, as with the reference.
    """

    def __init__(self, items: Items, *, limit: int = 0) -> None:
        if limit and limit < LIMIT_BYTES_MIN:
            raise LocalError(f"a limit is at least {LIMIT_BYTES_MIN} bytes")
        self._items = items
        self._limit = limit
        self.is_initiator = False
        self.have: list[bytes] = []
        self.need: list[bytes] = []

    def initiate(self) -> bytes:
        """Return the first message. This side becomes the initiator."""
        self.is_initiator = True
        return bytes((VERSION,)) + self._split(0, len(self._items), _END, _Writer())

    def answer(self, message: bytes) -> bytes | None:
        """Return the answer to `message`, None when the initiator knows every difference. Raises RemoteError."""
        reader = _Reader(message)
        version = reader.byte()
        if version not in _VERSIONS:
            raise _bad("not a version of the protocol")
        if version != VERSION:
            if self.is_initiator:
                raise RemoteError(Reason.UNSUPPORTED_PROTOCOL, f"negentropy version {version:#x}")
            return bytes((VERSION,))
        answer = self._ranges(reader)
        return None if self.is_initiator and len(answer) == 1 else answer

    def _ranges(self, reader: "_Reader") -> bytes:
        items, writer = self._items, _Writer()
        output = bytearray((VERSION,))
        skipped: bytes | None = None  # the end of the ranges that need no answer
        lower, last = 0, _padded(b"")
        ranges = 0
        while reader:
            ranges += 1
            if ranges > NEGENTROPY_RANGES_MAX:
                raise _bad("too many ranges")
            end = reader.bound()
            padded = _padded(end)
            if padded < last:
                raise _bad("a range that ends before it begins")
            mode = reader.varint()
            upper = items.find(end, lower)
            part = b""
            if mode == _SKIP:
                skipped = end
            elif mode == _FINGERPRINT:
                if reader.take(FINGERPRINT_BYTES) == items.fingerprint(lower, upper):
                    skipped = end
                else:
                    part = writer.skip(skipped) + self._split(lower, upper, end, writer)
                    skipped = None
            elif mode == _ID_LIST:
                theirs = reader.ids()
                if self.is_initiator:
                    self._compare(lower, upper, theirs)
                    skipped = end
                else:
                    output += writer.skip(skipped)
                    skipped = None
                    upper = self._list(output, lower, upper, end, writer)
            else:
                raise _bad(f"a range of mode {mode}")
            if self._is_full(len(output) + len(part)):
                # One fingerprint stands for all items behind this range.
                output += writer.bound(_END) + varint(_FINGERPRINT) + items.fingerprint(upper, len(items))
                break
            output += part
            lower, last = upper, padded
        return bytes(output)

    def _compare(self, lower: int, upper: int, theirs: list[bytes]) -> None:
        ours = self._items.ids(lower, upper)
        known, listed = set(ours), set(theirs)
        self.have += [id for id in ours if id not in listed]
        self.need += [id for id in dict.fromkeys(theirs) if id not in known]

    def _list(self, output: bytearray, lower: int, upper: int, end: bytes, writer: "_Writer") -> int:
        """Append the ids of a range to `output`, as many as fit. Return the index behind the last."""
        room = upper - lower
        if self._limit:
            # The reference counts the bytes before this range, without the pending skip, and the ids.
            room_bytes = self._limit - _SLACK_BYTES - (len(output) - writer.skip_bytes)
            room = max(0, room_bytes // ID_BYTES + 1)
        if room < upper - lower:
            upper = lower + room
            end = self._items.at(upper)
        output += writer.bound(end) + varint(_ID_LIST) + varint(upper - lower) + b"".join(self._items.ids(lower, upper))
        return upper

    def _split(self, lower: int, upper: int, end: bytes, writer: "_Writer") -> bytes:
        """Return a differing range as ids if it has few items, else as 16 smaller ranges with fingerprints."""
        count = upper - lower
        if count <= _LISTED_MAX:
            ids = b"".join(self._items.ids(lower, upper))
            return writer.bound(end) + varint(_ID_LIST) + varint(count) + ids
        output = bytearray()
        size, larger = divmod(count, _BUCKETS)
        for bucket in range(_BUCKETS):
            stop = lower + size + (bucket < larger)
            fingerprint = self._items.fingerprint(lower, stop)
            output += writer.bound(end) if stop == upper else writer.between(self._items, stop)
            output += varint(_FINGERPRINT) + fingerprint
            lower = stop
        return bytes(output)

    def _is_full(self, size: int) -> bool:
        return self._limit > 0 and size > self._limit - _SLACK_BYTES


class _Writer:
    """The encoder of one message's bounds. Timestamps travel as differences from the one before."""

    def __init__(self) -> None:
        self._timestamp = 0
        self.skip_bytes = 0  # bytes of the last skip written

    def skip(self, end: bytes | None) -> bytes:
        """Return a range up to `end` that needs no answer, b"" for None."""
        output = b"" if end is None else self.bound(end) + varint(_SKIP)
        self.skip_bytes = len(output)
        return output

    def bound(self, end: bytes) -> bytes:
        """Return the encoding of `end`: its timestamp, and the prefix behind it."""
        timestamp = int.from_bytes(end[:TIME_BYTES], "big")
        output = b"\0" if timestamp == INFINITY else varint(timestamp - self._timestamp + 1)
        self._timestamp = timestamp
        return output + varint(len(end) - TIME_BYTES) + end[TIME_BYTES:]

    def between(self, items: Items, index: int) -> bytes:
        """Return the encoding of the shortest bound between the item at `index` and the one before it."""
        before, behind = items.at(index - 1), items.at(index)
        size = TIME_BYTES
        if before[:TIME_BYTES] == behind[:TIME_BYTES]:
            while before[size] == behind[size]:
                size += 1
            size += 1
        return self.bound(behind[:size])


class _Reader:
    """The decoder of a message from the peer. It is false at the end."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._at = 0
        self._timestamp = 0

    def __bool__(self) -> bool:
        return self._at < len(self._message)

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes. Raises RemoteError when there are fewer."""
        end = self._at + size
        if end > len(self._message):
            raise _bad("a message that ends early")
        taken = self._message[self._at : end]
        self._at = end
        return taken

    def byte(self) -> int:
        if self._at == len(self._message):
            raise _bad("a message that ends early")
        self._at += 1
        return self._message[self._at - 1]

    def varint(self) -> int:
        value = 0
        for place in range(_VARINT_BYTES_MAX):
            digit = self.byte()
            if digit < 0x80:
                value = value << 7 | digit
                if value > _U64_MAX:
                    break
                return value
            if place == 0 and digit == 0x80:
                break
            value = value << 7 | digit & 0x7F
        raise _bad("a number that is too long")

    def bound(self) -> bytes:
        step = self.varint()
        # The reference cuts a sum past the last timestamp to the last one.
        self._timestamp = min(INFINITY, self._timestamp + step - 1) if step else INFINITY
        size = self.varint()
        if size > ID_BYTES:
            raise _bad("a bound longer than an id")
        return bound(self._timestamp, self.take(size))

    def ids(self) -> list[bytes]:
        count = self.varint()
        ids = self.take(count * ID_BYTES)
        return [ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES)]


def _padded(end: bytes) -> bytes:
    return end.ljust(TIME_BYTES + ID_BYTES, b"\0")


def _bad(detail: str) -> RemoteError:
    return RemoteError(Reason.PROTOCOL_ERROR, f"negentropy: {detail}")
