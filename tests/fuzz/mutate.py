"""Changes of inputs: of bytes, of the CBOR in them, and of the scripts that peers follow. A `Random` draws all of them.

A flipped bit of deterministic CBOR mostly breaks its form and gets no further. So most changes are made to the decoded
value (another number, a longer list, a field twice), which is then encoded again; some break the form on purpose.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

from echonode import cbor
from echonode.errors import RemoteError
from tests.wire.payloads import Path, places, replaced

_SCRIPT_HEAD: Final = 1  # the byte of options
_FRAMES_MAX: Final = 64
_HEADS: Final = (0, 1, 0x18, 0x1F, 0x58, 0x7F, 0x80, 0x9F, 0xA0, 0xC2, 0xF9, 0xFF)
_NUMBERS: Final = (
    *(0, 1, 2, 3, 4, 5, 15, 16, 23, 24, 31, 32, 33, 63, 64, 65, 255, 256, 1000, 1001, 1024, 65_535, 65_536),
    *(2**32 - 1, 2**32, 2**48, 2**48 + 1, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1, 2**64),
)
_ODD: Final[tuple[Any, ...]] = (None, True, False, -1, b"", "", [], {}, "main", "few", "books", "e\u0301", "\x00")


def of_bytes(data: bytes, rng: Random) -> bytes:
    """Replace, remove, double or insert a few bytes."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at = rng.randint(0, len(data))
        end = min(len(data), at + rng.choice((0, 1, 1, 2, 4, 16)))
        match rng.randrange(6):
            case 0 if data:
                at = rng.randrange(len(data))
                data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            case 1:
                data = data[:at] + rng.randbytes(rng.choice((1, 1, 2, 4, 32))) + data[end:]
            case 2:
                data = data[:at] + data[end:]
            case 3:
                data = data[:end] + data[at:]
            case 4:
                data = data[:at] + bytes([rng.choice(_HEADS)]) + data[end:]
            case _:
                data = data[:at]
    return data


def of_cbor(data: bytes, rng: Random) -> bytes:
    """Change one or two places of the CBOR value in `data`; change bytes if it holds none, and sometimes anyway."""
    if rng.random() < 0.2:
        return rng.choice((of_bytes, _widened))(data, rng)
    try:
        value = cbor.decode(data)
    except RemoteError:
        return of_bytes(data, rng)
    for _ in range(rng.choice((1, 1, 2))):
        path, there = rng.choice([((), value), *places(value)])
        value = _put(value, path, _another(there, rng))
    return _encoded(value) or of_bytes(data, rng)


def _widened(data: bytes, rng: Random) -> bytes:
    """Write a number or a length in a longer form than it needs."""
    short = [at for at, byte in enumerate(data) if byte & 0x1F < 24]
    if not short:
        return data
    at = rng.choice(short)
    kind, number = data[at] & 0xE0, data[at] & 0x1F
    size = rng.choice((1, 2, 4, 8))
    return data[:at] + bytes([kind + 23 + size.bit_length()]) + number.to_bytes(size, "big") + data[at + 1 :]


def shortened(data: bytes) -> list[bytes]:
    """Return variants of the CBOR in `data`: for each list in it one that is an item shorter, and one longer."""
    value = cbor.decode(data)
    lists = [(path, item) for path, item in places(value) if type(item) is list and item]
    return [_encoded(replaced(value, path, new)) for path, item in lists for new in (item[:-1], [*item, item[-1]])]


def _put(value: Any, path: Path, new: Any) -> Any:
    """Return `value` with `new` at `path`; unchanged if that would make a list the key of a map."""
    try:
        return replaced(value, path, new)
    except TypeError:
        return value


def _another(value: Any, rng: Random) -> Any:
    """Return another value in place of `value`, mostly of the same type."""
    if rng.random() < 0.15:
        return rng.choice((*_ODD, rng.choice(_NUMBERS)))
    match value:
        case bool() | None:
            return rng.choice((None, True, False, 0, [bytes(32), bytes(32)]))
        case int():
            return rng.choice((value + 1, value - 1, rng.choice(_NUMBERS), rng.getrandbits(rng.choice((8, 64)))))
        case bytes():
            return rng.choice((value[:-1], value + value[-1:], value * 2, of_bytes(value, rng), _overwrite(value, rng)))
        case str():
            return rng.choice((value * 2, value[1:], value + "\u202e", value + chr(rng.randrange(0xD800)), "x" * 64))
        case list() if value:
            at = rng.randrange(len(value))
            return rng.choice(
                (
                    value[:at] + value[at + 1 :],
                    value[: at + 1] + value[at:],
                    [*value[:at], value[-1], *value[at + 1 :]],
                    value[::-1],
                    value * rng.choice((2, 20)),
                )
            )
        case dict() if value:
            key = rng.choice(list(value))
            more = rng.choice((0, 1, b"\xff" * 16, "more", -1))
            return rng.choice(({key: value[key]}, {**value, more: 1}, {k: v for k, v in value.items() if k != key}))
        case _:
            return rng.choice((*_ODD, [[]], {0: 0}))


def _overwrite(value: bytes, rng: Random) -> bytes:
    """Replace some bytes and keep the length, so that fixed sizes stay."""
    at = rng.randrange(len(value) + 1)
    size = min(len(value) - at, rng.choice((1, 2, 32)))
    return value[:at] + rng.randbytes(size) + value[at + size :]


def _encoded(value: Any) -> bytes:
    """Return the encoding of `value`; b"" if it has none, as a map with a list as a key."""
    try:
        return cbor.encode(value)
    except Exception:  # the encoder is not under test here
        return b""


# -- scripts: a byte of options, then frames, each behind two bytes of length ------------------------------------------


def script(options: int, frames: Sequence[bytes]) -> bytes:
    """Return the script with these options and these frames in turn."""
    return bytes([options]) + b"".join(len(frame).to_bytes(2, "big") + frame for frame in frames if len(frame) < 65_536)


def frames_of(data: bytes) -> list[bytes]:
    """Return the frames of a script, at most `_FRAMES_MAX`; the last may be shorter than its length says."""
    frames, at = [], _SCRIPT_HEAD
    while at < len(data):
        size = int.from_bytes(data[at : at + 2], "big")
        frames.append(data[at + 2 : at + 2 + size])
        at += 2 + size
    return frames[:_FRAMES_MAX]


def of_script(data: bytes, rng: Random, samples: Callable[[], Sequence[bytes]], options: Sequence[int]) -> bytes:
    """Insert, remove, repeat or change frames of a script, or put samples in their place."""
    chosen, frames = data[0] if data else rng.choice(options), frames_of(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(frames) + 1)
        match rng.randrange(8):
            case 0:
                chosen = rng.choice(options)
            case 1:
                frames.insert(at, rng.choice(samples()))
            case 2 if frames:
                frames.insert(at, rng.choice(frames))
            case 3:
                del frames[at : at + 1]
            case 4 if at < len(frames):
                frames[at] = rng.choice(samples())
            case _ if frames:
                at = rng.randrange(len(frames))
                frames[at] = with_samples(frames[at], rng, samples)
            case _:
                frames.append(rng.choice(samples()))
    return script(chosen, frames)


def with_samples(frame: bytes, rng: Random, samples: Callable[[], Sequence[bytes]]) -> bytes:
    """Change a frame by `of_cbor`; now and then put in a part of a sample that has the same type."""
    if rng.random() < 0.25:
        try:
            value, other = cbor.decode(frame), cbor.decode(rng.choice(samples()))
        except RemoteError:
            return of_cbor(frame, rng)
        path, there = rng.choice([((), value), *places(value)])
        grafts = [item for _, item in places(other) if type(item) is type(there)]
        if grafts and path:
            return _encoded(_put(value, path, rng.choice(grafts))) or frame
    return of_cbor(frame, rng)
