"""Payloads as values: what they are made of, and how to exchange a part of one. For tests."""

from collections.abc import Iterator
from typing import Any

from echonode import cbor
from echonode.errors import RemoteError
from echonode.wire import messages as m
from echonode.wire.codec import decode, encode
from tests.wire.make_message_vectors import SAMPLES

Path = tuple[int, ...]

_MARK = b"\xf0place to be taken\xf1"


def plain(message: m.Message) -> list[Any]:
    """The array that `message` is on the wire."""
    value = cbor.decode(encode(message))
    assert isinstance(value, list)
    return value


def sample(kind: type[Any]) -> list[Any]:
    """The array of the first frozen message of that type."""
    return plain(next(message for message in SAMPLES if type(message) is kind))


def accepts(payload: bytes) -> bool:
    """Whether `payload` is a message."""
    try:
        decode(payload)
    except RemoteError:
        return False
    return True


def _flat(value: Any) -> list[Any]:
    if type(value) is dict:
        return [item for pair in value.items() for item in pair]
    return value if type(value) is list else []


def places(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every place below `value`: list items by number, map keys by twice theirs, map values by one more."""
    for number, item in enumerate(_flat(value)):
        yield (*path, number), item
        yield from places(item, (*path, number))


def replaced(value: Any, path: Path, new: Any) -> Any:
    """`value` with `new` at `path`."""
    if not path:
        return new
    items = list(_flat(value))
    items[path[0]] = replaced(items[path[0]], path[1:], new)
    return items if type(value) is list else dict(zip(items[::2], items[1::2], strict=True))


def can_be_marked(value: Any, path: Path, new: Any = b"") -> bool:
    """Whether `new` can stand at `path`: not as one of several keys of a map, whose order or kind it would upset, nor
    as a key when it cannot be one."""
    inside = value
    for number in path[:-1]:
        inside = _flat(inside)[number]
    is_key = type(inside) is dict and path[-1] % 2 == 0
    return not is_key or (len(inside) == 1 and isinstance(new, bytes | str | int) and not isinstance(new, bool))


def spliced(value: Any, path: Path, raw: bytes) -> bytes:
    """The encoding of `value` with the bytes `raw` at `path`, whether they are CBOR or not."""
    payload = cbor.encode(replaced(value, path, _MARK))
    assert payload.count(cbor.encode(_MARK)) == 1
    return payload.replace(cbor.encode(_MARK), raw)
