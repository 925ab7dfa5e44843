"""Payloads as values for tests: read their parts, and exchange one of them."""

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
    """Return the array that `message` is on the wire."""
    value = cbor.decode(encode(message))
    assert isinstance(value, list)
    return value


def sample(kind: type[Any]) -> list[Any]:
    """Return the array of the first frozen message of the type `kind`."""
    return plain(next(message for message in SAMPLES if type(message) is kind))


def accepts(payload: bytes) -> bool:
    """Return True if `payload` is a message."""
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
    """Yield (path, part) below `value`. In a path, list item i is i, map key i is 2i, map value i is 2i + 1."""
    for number, item in enumerate(_flat(value)):
        yield (*path, number), item
        yield from places(item, (*path, number))


def replaced(value: Any, path: Path, new: Any) -> Any:
    """Return `value` with `new` at `path`."""
    if not path:
        return new
    items = list(_flat(value))
    items[path[0]] = replaced(items[path[0]], path[1:], new)
    return items if type(value) is list else dict(zip(items[::2], items[1::2], strict=True))


def can_be_marked(value: Any, path: Path, new: Any = b"") -> bool:
    """Return True if `new` can stand at `path`.

    It cannot be one of several keys of a map, as it may upset their order or kind, nor a key that CBOR has no form for.
    """
    inside = value
    for number in path[:-1]:
        inside = _flat(inside)[number]
    is_key = type(inside) is dict and path[-1] % 2 == 0
    return not is_key or (len(inside) == 1 and isinstance(new, bytes | str | int) and not isinstance(new, bool))


def spliced(value: Any, path: Path, raw: bytes) -> bytes:
    """Return the encoding of `value` with the bytes `raw` at `path`. `raw` need not be CBOR."""
    payload = cbor.encode(replaced(value, path, _MARK))
    assert payload.count(cbor.encode(_MARK)) == 1
    return payload.replace(cbor.encode(_MARK), raw)
