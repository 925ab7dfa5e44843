"""TCP: the asyncio side of `ByteStream` and `Dial`, and the listening end.

    TcpDial(address) -> TcpStream          Listener.start(..) -> on_stream(TcpStream) for each connection

The send queue of a stream is bounded: `write` waits while more than SEND_QUEUE_BYTES_MAX are unsent, and gives the peer
FRAME_TIMEOUT_S to take them. The kernel of a stopped peer goes on acknowledging for a while. So this bounds memory and
patience, and is no sign of life; sessions ping for that.

A link-local address needs its interface: [fe80::1%eth0]:22087, by name or number. uvloop drops that scope wherever it
resolves an address, so that such sockets are bound and connected here (MagicStack/uvloop#539).

Foreign exceptions end here: errors of the socket layer become a TransportError, and mistyped settings a ConfigError.
"""

import asyncio
import errno
import ipaddress
import itertools
import os
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from echonode.errors import ConfigError, TransportError
from echonode.limits import CONNECTIONS_MAX, DIAL_TIMEOUT_S, FRAME_TIMEOUT_S, KIB, SEND_QUEUE_BYTES_MAX
from echonode.node.happy_eyeballs import reach
from echonode.sync.streams import ByteStream
from echonode.text import escape

DEFAULT_PORT: Final = 22087  # unassigned at IANA, below the ephemeral range (32768 on Linux)

_READ_BYTES: Final = 256 * KIB
_CLOSE_TIMEOUT_S: Final = 5.0  # the time that the last bytes may take to reach a slow peer
_KEEPALIVE_OPTIONS: Final = (
    ("TCP_KEEPIDLE", 60),  # seconds of silence before the first probe
    ("TCP_KEEPINTVL", 10),  # seconds between probes
    ("TCP_KEEPCNT", 3),  # probes without an answer
    ("TCP_USER_TIMEOUT", int(FRAME_TIMEOUT_S * 1000)),  # milliseconds until sent bytes must be acknowledged
)
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})", re.ASCII)


def parse_address(text: str) -> tuple[str, int]:
    """Return host and port of "HOST:PORT" or "[IPv6%scope]:PORT". Raises ConfigError."""
    host, colon, port_text = text.rpartition(":")
    shown = escape(text)
    if not colon or not port_text.isascii() or not port_text.isdigit() or len(port_text) > 5 or int(port_text) > 65_535:
        raise ConfigError(f"'{shown}' is not an address: HOST:PORT or [IPv6]:PORT is expected, with a port up to 65535")
    if host.startswith("[") and host.endswith("]"):
        try:
            return str(ipaddress.IPv6Address(host[1:-1])), int(port_text)
        except ValueError:
            raise ConfigError(f"'{shown}' is not an address: between the brackets there is no IPv6 address") from None
    if ":" in host:
        raise ConfigError(f"'{shown}' is not an address: an IPv6 address goes in brackets, as in [::1]:{port_text}")
    if not _HOST_NAME.fullmatch(host):
        raise ConfigError(f"'{shown}' is not an address: '{escape(host)}' is no host name")
    return host, int(port_text)


def format_address(host: str, port: int) -> str:
    """Return HOST:PORT, or [HOST]:PORT for IPv6: the form that `parse_address` reads."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def with_interface_name(host: str) -> str:
    """Return `host` with the name of its interface for the number behind the %: numbers change from start to start."""
    ip, percent, scope = host.partition("%")
    if not percent or not scope.isdecimal():
        return host
    try:
        return f"{ip}%{socket.if_indextoname(int(scope))}"
    except (OSError, OverflowError):
        return host  # the interface went away


def _link_local(host: str, port: int) -> tuple[str, int, int, int] | None:
    """Return the socket address of a link-local IPv6 `host`, None for any other. Raises ConfigError without a usable
    interface."""
    ip, percent, scope = host.partition("%")
    try:
        if not ipaddress.IPv6Address(ip).is_link_local:
            return None
    except ValueError:
        return None
    if not percent:
        raise ConfigError(f"the link-local address {host} needs its interface, as in [{host}%eth0]:{port}")
    try:
        index = int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)
        socket.if_indextoname(index)
    except (OSError, OverflowError):
        raise ConfigError(f"there is no interface '{escape(scope)}' here") from None
    return ip, port, 0, index


async def _open_link_local(
    address: tuple[str, int, int, int],
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to `address` as asyncio.open_connection does. Raises OSError."""
    connecting = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        error = connecting.connect_ex(address)
        if error == errno.EINPROGRESS:
            await _until_writable(connecting)
            error = connecting.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, os.strerror(error))
        return await asyncio.open_connection(sock=connecting, limit=_READ_BYTES)
    except BaseException:
        connecting.close()
        raise


async def _until_writable(connecting: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    is_writable = asyncio.Event()
    loop.add_writer(connecting.fileno(), is_writable.set)
    try:
        await is_writable.wait()
    finally:
        loop.remove_writer(connecting.fileno())


class TcpStream:
    """A connected TCP socket as a ByteStream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._reading = asyncio.Lock()
        self._closing = False
        self._aborted = False
        self.address = _peer_address(writer)
        writer.transport.set_write_buffer_limits(high=SEND_QUEUE_BYTES_MAX, low=SEND_QUEUE_BYTES_MAX // 2)
        connection: socket.socket = writer.get_extra_info("socket")
        with suppress(OSError):  # the peer may be gone already; then the first read fails
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _set_keepalive(connection)

    async def read(self) -> bytes:
        """Return up to 256 KiB of received bytes, b"" once the peer ended its side. Raises TransportError."""
        try:
            async with self._reading:
                data = await self._reader.read(_READ_BYTES)
        except OSError as error:
            raise _connection_lost(error) from error
        if not data and self._aborted:
            raise TransportError("the connection was dropped at this end")
        return data

    async def write(self, data: bytes) -> None:
        """Queue `data`, and wait while the send queue is over its limit. Raises TransportError."""
        if self._closing or self._writer.is_closing():
            raise TransportError("the connection is closed")
        try:
            self._writer.write(data)
            transport = self._writer.transport
            if transport.get_write_buffer_size() <= SEND_QUEUE_BYTES_MAX and not transport.is_closing():
                return  # as nearly always: a timer costs more than the rest of this
            async with asyncio.timeout(FRAME_TIMEOUT_S):
                await self._writer.drain()
            if self._aborted:  # after an abort, drain returns as if everything had been sent
                raise TransportError("the connection was dropped at this end")
        except TimeoutError:
            # The queue may end in half a frame. The peer could not read anything that followed.
            self.abort()
            raise TransportError(f"the peer took nothing for {FRAME_TIMEOUT_S:.0f} s") from None
        except (OSError, RuntimeError) as error:  # uvloop raises RuntimeError on a closed handle
            raise _connection_lost(error) from error

    async def close(self) -> None:
        """Flush what was written, end both sides. Never raises; safe to call twice.

        When a socket with unread bytes is closed, the kernel sends RST. That destroys bytes that the peer has not read
        yet, this end's last message among them. So this end stops sending, reads until the peer ends its side too, then
        closes."""
        if self._closing:
            return
        self._closing = True
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                self._writer.write_eof()
                while await self.read():
                    pass
                self._writer.close()
                await self._writer.wait_closed()
        except (TimeoutError, TransportError, OSError, RuntimeError):
            pass
        finally:
            self.abort()

    def abort(self) -> None:
        """Drop the connection now, unsent bytes with it. Never raises; wakes a waiting read or write."""
        self._closing = self._aborted = True
        self._writer.transport.abort()


class TcpDial:
    """Opens streams to HOST:PORT and [IPv6%scope]:PORT."""

    async def __call__(self, address: str) -> ByteStream:
        """Return a connected stream within DIAL_TIMEOUT_S. Raises TransportError.

        A host name with several addresses is reached by the first that answers.
        """
        try:
            host, port = parse_address(address)
            async with asyncio.timeout(DIAL_TIMEOUT_S):
                if (link_local := _link_local(host, port)) is not None:
                    return TcpStream(*await _open_link_local(link_local))
                _, stream = await reach(self._connect, await _addresses_of(host, port))
                return stream
        except TimeoutError:
            raise TransportError(f"{escape(address)} did not answer within {DIAL_TIMEOUT_S:.0f} s") from None
        except ConfigError as error:
            raise TransportError(str(error)) from error
        except TransportError as error:
            raise TransportError(f"cannot connect to {escape(address)}: {error}") from error
        except (OSError, OverflowError, UnicodeError) as error:
            raise TransportError(f"cannot connect to {escape(address)}: {_reason(error)}") from error

    async def _connect(self, address: str) -> ByteStream:
        """Return a stream to `address`, which holds no name. Raises TransportError with the reason alone."""
        host, port = parse_address(address)
        try:
            if (link_local := _link_local(host, port)) is not None:
                return TcpStream(*await _open_link_local(link_local))
            return TcpStream(*await asyncio.open_connection(host, port, limit=_READ_BYTES))
        except ConfigError as error:
            raise TransportError(str(error)) from error
        except OSError as error:
            raise TransportError(_reason(error)) from error


async def _addresses_of(host: str, port: int) -> list[str]:
    """Return every address of `host`, both families in turn, the preferred one first (RFC 8305 §4). Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    families: dict[int, list[str]] = {}  # in the order of getaddrinfo, which is RFC 6724's
    for family, _, _, _, (ip, _, *more) in found:
        scope = f"%{more[1]}" if more and more[1] else ""  # of a link-local address, as mDNS resolvers give them
        families.setdefault(family, []).append(format_address(f"{ip!s}{scope}", port))
    turns = itertools.zip_longest(*families.values())
    return list(dict.fromkeys(address for turn in turns for address in turn if address is not None))


class Listener:
    """The listening end: hands each connection to `on_stream`, and closes it when that returns."""

    def __init__(self) -> None:
        self._bound: list[socket.socket] = []  # until `serve`
        self._servers: list[asyncio.Server] = []
        self._handlers: dict[asyncio.Task[None], TcpStream] = {}
        self.addresses: tuple[str, ...] = ()

    async def start(
        self,
        host_port: str | None,
        on_stream: Callable[[ByteStream], Awaitable[None]],
        on_refused: Callable[[str], None],
    ) -> bool:
        """Bind, then serve at once. See there."""
        is_moved = await self.bind(host_port)
        await self.serve(on_stream, on_refused)
        return is_moved

    async def bind(self, host_port: str | None) -> bool:
        """Listen on `host_port`, or with None on every address of the machine at DEFAULT_PORT.

        Connections wait in the kernel until `serve`. Returns True when `host_port` is None and DEFAULT_PORT is taken:
        `addresses` then has another port. Raises ConfigError."""
        self._bound, is_moved = _bind_default() if host_port is None else (await _bind_requested(host_port), False)
        self.addresses = tuple(_format_sockaddr(each.getsockname()) for each in self._bound)
        return is_moved

    async def serve(
        self, on_stream: Callable[[ByteStream], Awaitable[None]], on_refused: Callable[[str], None]
    ) -> None:
        """Hand each connection to `on_stream` from now on, and the address of each too many to `on_refused`."""
        while self._bound:
            listening = self._bound.pop(0)
            self._servers.append(
                await asyncio.start_server(
                    lambda reader, writer: self._accept(TcpStream(reader, writer), on_stream, on_refused),
                    sock=listening,
                    backlog=CONNECTIONS_MAX,
                    limit=_READ_BYTES,
                )
            )

    @property
    def is_serving(self) -> bool:
        """True while every listening socket hands on its connections."""
        return bool(self._servers) and all(server.is_serving() for server in self._servers)

    async def close(self) -> None:
        """Stop accepting, then end every handler. Never raises."""
        while self._bound:
            self._bound.pop().close()
        for server in self._servers:
            server.close()
        handlers = list(self._handlers)
        for handler in handlers:
            handler.cancel()
        if handlers:
            await asyncio.wait(handlers)
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()

    def _accept(
        self,
        stream: TcpStream,
        on_stream: Callable[[ByteStream], Awaitable[None]],
        on_refused: Callable[[str], None],
    ) -> None:
        if len(self._handlers) >= CONNECTIONS_MAX:
            stream.abort()
            on_refused(stream.address)
            return
        handler = asyncio.create_task(_handle(stream, on_stream))
        self._handlers[handler] = stream
        handler.add_done_callback(self._on_handler_end)

    def _on_handler_end(self, handler: asyncio.Task[None]) -> None:
        # Here, and not in `_handle`: a task that is cancelled before its first step never enters `_handle`.
        self._handlers.pop(handler).abort()


async def _handle(stream: TcpStream, on_stream: Callable[[ByteStream], Awaitable[None]]) -> None:
    try:
        await on_stream(stream)
    except asyncio.CancelledError:
        pass  # otherwise asyncio logs a traceback for each cancelled handler: thousands of lines at one stop


async def _bind_requested(host_port: str) -> list[socket.socket]:
    """Return sockets on the address of a setting. Raises ConfigError when it cannot be had."""
    host, port = parse_address(host_port)
    try:
        if (link_local := _link_local(host, port)) is not None:
            return _bind([(socket.AF_INET6, link_local)])
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return _bind(sorted({(family, address) for family, _, _, _, address in found}))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            why = "another program has that port; choose another one, or 0 for a free one"
        else:
            why = _reason(error)
        raise ConfigError(f"cannot listen on {host_port}: {why}") from error
    except ConfigError as error:
        raise ConfigError(f"cannot listen on {host_port}: {error}") from None


def _bind_default() -> tuple[list[socket.socket], bool]:
    """Return sockets on every address, at DEFAULT_PORT or where that is taken at a free port, and True when it was
    taken."""
    ports = (DEFAULT_PORT, 0, 0, 0)  # a port that is free for IPv4 may be taken for IPv6: try a few
    for attempt, port in enumerate(ports, start=1):
        try:
            return _bind([(socket.AF_INET, ("0.0.0.0", port)), (socket.AF_INET6, ("::", port))]), attempt > 1
        except OSError as error:
            if error.errno != errno.EADDRINUSE or attempt == len(ports):
                raise ConfigError(f"cannot listen for other nodes: {_reason(error)}") from error
    raise AssertionError("every attempt returned or raised")


def _bind(addresses: Sequence[tuple[int, tuple[Any, ...]]]) -> list[socket.socket]:
    """Return one listening socket for each (family, address), all at the same port. Raises OSError, leaving none
    open."""
    bound: list[socket.socket] = []
    try:
        for family, address in addresses:
            port = bound[0].getsockname()[1] if bound else address[1]
            listening = socket.socket(family, socket.SOCK_STREAM)
            try:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                listening.bind((address[0], port, *address[2:]))
                listening.listen(CONNECTIONS_MAX)
                listening.setblocking(False)
            except OSError:
                listening.close()
                raise
            bound.append(listening)
    except OSError as error:
        if bound and error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            return bound  # IPv6 is bound second, and a machine may do without it
        for listening in bound:
            listening.close()
        raise
    return bound


def _set_keepalive(connection: socket.socket) -> None:
    """Have the kernel give up a peer that is gone: FRAME_TIMEOUT_S after it should have acknowledged bytes (RFC 5482).

    With nothing to acknowledge, it gives up some 70 s after the last byte. Without these options it would wait for a
    quarter of an hour, or for ever; where they are missing (macOS), IDLE_TIMEOUT_S ends sessions."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE_OPTIONS:
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _peer_address(writer: asyncio.StreamWriter) -> str:
    peer = writer.get_extra_info("peername")
    if not peer:  # the peer hung up before it was accepted
        return "unknown:0"
    return _format_sockaddr(peer)


def _format_sockaddr(address: tuple[Any, ...]) -> str:
    host, port = address[:2]
    if len(address) == 4 and address[3] and "%" not in host:
        host = with_interface_name(f"{host}%{address[3]}")
    return format_address(host, port)


def _connection_lost(error: Exception) -> TransportError:
    return TransportError(f"the connection was lost: {_reason(error)}")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno).lower()  # asyncio puts a text of its own into strerror
    return escape(getattr(error, "strerror", None) or str(error))
