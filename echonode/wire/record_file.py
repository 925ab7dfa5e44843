"""Record files: whole contexts of signed versions in a CBOR sequence (RFC 8742), for a disk that people carry
(PROTOCOL.md §14).

    header           ["echonode records", version, network, node, name, contexts]
    for each of the contexts, `identities` first:
      version *      as it was signed: a COSE_Sign1 (§4.1)
      end            [count, root, is-partial]

What the header and the ends say is a claim that nobody signed; a version speaks for itself. `FileReader` takes bytes as
they come and never holds more than one item and what was received behind it.
"""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from echonode import cbor
from echonode.errors import Reason, RemoteError
from echonode.limits import (
    CONTEXT_BYTES_MAX,
    CONTEXTS_TOLD_MAX,
    NODE_NAME_BYTES_MAX,
    RECORD_BYTES_MAX,
    VERSION_NUMBER_MAX,
)
from echonode.model.identity import IDENTITY_BYTES, IdentityId
from echonode.model.merkle import Digest
from echonode.model.record import IDENTITIES
from echonode.text import is_plain_text

FILE_VERSION: Final = (1, 0)
NETWORK_BYTES: Final = 8  # the first of the netid, which people see as the network's name
_MAGIC: Final = "echonode records"
_MAGIC_BYTES: Final = cbor.encode(_MAGIC)
_HEADER_ITEMS: Final = 6
_END_ITEMS: Final = 3
_ROOT_BYTES: Final = 32
_VERSION_BEGIN: Final = bytes.fromhex("845826")  # an array of 4, and the protected header; an end begins with a number


@dataclass(frozen=True, slots=True)
class FileHeader:
    """The beginning of a record file. `network`: the first NETWORK_BYTES of the netid; `node`, `name`: who wrote it."""

    network: bytes
    node: IdentityId
    name: str
    contexts: tuple[str, ...]

    def encode(self) -> bytes:
        """Return the item."""
        return cbor.encode([_MAGIC, FILE_VERSION, self.network, self.node, self.name, self.contexts])


@dataclass(frozen=True, slots=True)
class ContextEnd:
    """The end of a context in a record file. `root`: of the `count` versions, None where writes moved it meanwhile;
    `is_partial`: the node that wrote it keeps a part of the context."""

    count: int
    root: Digest | None
    is_partial: bool

    def encode(self) -> bytes:
        """Return the item."""
        return cbor.encode([self.count, self.root, self.is_partial])


FileItem: TypeAlias = FileHeader | ContextEnd | bytes  # bytes: a version, neither parsed nor verified


class FileReader:
    """Reads one record file. Call `receive_data`, then `next_item` until it returns None; `finish` after the last."""

    def __init__(self) -> None:
        self.header: FileHeader | None = None
        self.versions = 0  # read so far, of the context that is read
        self._ended = 0  # contexts
        self._data = bytearray()
        self._at = 0

    @property
    def context(self) -> str | None:
        """The context that is read now; None before the header, and after the last context."""
        if self.header is None or self._ended == len(self.header.contexts):
            return None
        return self.header.contexts[self._ended]

    def receive_data(self, data: bytes) -> None:
        """Take the next bytes of the file."""
        del self._data[: self._at]
        self._at = 0
        self._data += data

    def next_item(self) -> FileItem | None:
        """Return the next item, None until more bytes are here. After an error nothing more can be read.

        Raises RemoteError: UNSUPPORTED_PROTOCOL for what is no record file, or one of another major version;
        PROTOCOL_ERROR and TOO_LARGE for one that is damaged.
        """
        if self._at == len(self._data):
            return None
        if self.header is None:
            begin = bytes(self._data[1 : 1 + len(_MAGIC_BYTES)])
            if not _MAGIC_BYTES.startswith(begin):
                raise RemoteError(Reason.UNSUPPORTED_PROTOCOL, "it is no file of signed records")
        elif self.context is None:
            raise _bad("something follows its end")
        size = cbor.item_length(self._data, self._at, bytes_max=RECORD_BYTES_MAX)
        if size is None:
            return None
        item = bytes(self._data[self._at : self._at + size])
        self._at += size
        if self.header is None:
            self.header = _read_header(item)
            return self.header
        if item.startswith(_VERSION_BEGIN):
            self.versions += 1
            return item
        end = _read_end(item)
        if end.count != self.versions:
            raise _bad(f"{end.count} versions were written and {self.versions} are here")
        self._ended += 1
        self.versions = 0
        return end

    def finish(self) -> None:
        """Check that nothing is missing. Raises RemoteError (PROTOCOL_ERROR) for a file that was cut."""
        if self.header is None and not self._data:
            raise RemoteError(Reason.UNSUPPORTED_PROTOCOL, "it is empty")
        if self.header is None or self.context is not None:
            raise _bad("it ends too early")


def _bad(detail: str) -> RemoteError:
    return RemoteError(Reason.PROTOCOL_ERROR, detail)


def _read_header(item: bytes) -> FileHeader:
    """Return the header. A later minor version may add items behind those that are known."""
    values: Any = cbor.decode(item)
    if type(values) is not list or len(values) < _HEADER_ITEMS:
        raise _bad("its header is damaged")
    _, version, network, node, name, contexts = values[:_HEADER_ITEMS]
    if not _is_version(version):
        raise _bad("its header has no version")
    if version[0] != FILE_VERSION[0]:
        shown = ".".join(map(str, version))
        raise RemoteError(Reason.UNSUPPORTED_PROTOCOL, f"it is of version {shown}, and version 1 is read here")
    if not (_is_bytes(network, NETWORK_BYTES) and _is_bytes(node, IDENTITY_BYTES)):
        raise _bad("its header names no network and node")
    if not _is_text(name, NODE_NAME_BYTES_MAX):
        raise _bad("its header names no node that people could read")
    is_list = type(contexts) is list and 1 <= len(contexts) <= CONTEXTS_TOLD_MAX
    if not is_list or not all(_is_text(each, CONTEXT_BYTES_MAX) for each in contexts):
        raise _bad("its header names no contexts")
    if contexts[0] != IDENTITIES or len(set(contexts)) < len(contexts):
        raise _bad("its contexts are not in order")
    return FileHeader(network, IdentityId(node), name, tuple(contexts))


def _read_end(item: bytes) -> ContextEnd:
    """Return the end of a context. A later minor version may add items behind those that are known."""
    values: Any = cbor.decode(item)
    if type(values) is not list or len(values) < _END_ITEMS:
        raise _bad("what is there is no version")
    count, root, is_partial = values[:_END_ITEMS]
    if type(count) is not int or type(is_partial) is not bool or not (root is None or _is_bytes(root, _ROOT_BYTES)):
        raise _bad("the end of a context is damaged")
    return ContextEnd(count, root, is_partial)


def _is_version(value: Any) -> bool:
    return (
        type(value) is list
        and len(value) == 2
        and all(type(each) is int and 0 <= each <= VERSION_NUMBER_MAX for each in value)
    )


def _is_bytes(value: Any, size: int) -> bool:
    return type(value) is bytes and len(value) == size


def _is_text(value: Any, bytes_max: int) -> bool:
    return type(value) is str and is_plain_text(value, bytes_max)
