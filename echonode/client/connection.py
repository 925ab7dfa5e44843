"""Requests over blocking sockets: the one way from a program or a command that waits to a node.

    Connector(location).open(request, 30.0)                 an Answer, once it begins well
    Connector(location).open(request, 300.0, body=parts)    the parts go out while the answer is awaited

Each request has a connection of its own. One thread can send an import and read its progress at the same time. A
timeout bounds each wait, not the whole request. Every error is a ClientError.
"""

import select
import socket
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import Any, Final

from echonode.client.answers import EventStream, Lines, refused, value_of
from echonode.client.errors import ClientError, NotAllowed, NotRunning, TimedOut
from echonode.client.exchange import Exchange
from echonode.client.location import Location, Place, TcpPlace
from echonode.client.request import Request

_READ_BYTES: Final = 65_536
_CONNECT_TIMEOUT_S: Final = 5.0


class Connector:
    """Connects to the first place of a location at which a node listens."""

    def __init__(self, location: Location) -> None:
        self._location = location

    def open(self, request: Request, timeout_s: float | None, *, body: Iterator[bytes] | None = None) -> "Answer":
        """Send a request and return when its answer begins. The parts of `body` are sent as they are taken.

        Raises Refused when the node refuses, ClientError for every other error.
        """
        connection, place = self._connect()
        exchange = Exchange(request, host=place.host, token=self._location.token, is_chunked=body is not None)
        answer = Answer(connection, exchange, request, body, timeout_s)
        try:
            answer.begin()
        except BaseException:
            answer.close()
            raise
        return answer

    def is_listening(self) -> bool:
        """Return True if a node listens at one of the places. Raises ClientError when one cannot be tried."""
        try:
            self._connect()[0].close()
        except NotRunning:
            return False
        return True

    def check(self) -> None:
        """Raise NotRunning unless a node listens."""
        self._connect()[0].close()

    def _connect(self) -> tuple[socket.socket, Place]:
        for place in self._location.places:
            try:
                return _connected(place), place
            except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
                continue
            except (OSError, UnicodeError) as error:
                raise cannot_connect(place, error) from error
        raise NotRunning(self._location.absence())


def _connected(place: Place) -> socket.socket:
    if isinstance(place, TcpPlace):
        return socket.create_connection((place.name, place.port), _CONNECT_TIMEOUT_S)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_CONNECT_TIMEOUT_S)
    try:
        connection.connect(str(place.path))
    except BaseException:
        connection.close()
        raise
    return connection


def cannot_connect(place: Place, error: OSError | UnicodeError) -> ClientError:
    """Return the error for a place that exists and cannot be connected to."""
    match error:
        case PermissionError():
            return NotAllowed(f"the node at {place} does not take your commands: use its user")
        case TimeoutError():
            return TimedOut(f"the node at {place} does not answer")
        case OSError():
            return ClientError(f"cannot reach a node at {place}: {error.strerror or error}")
        case _:
            return ClientError(f"cannot reach a node at {place}: that is no host name")


class Answer:
    """An answer that has begun. Use it as a context manager: leaving the block closes the connection."""

    def __init__(
        self,
        connection: socket.socket,
        exchange: Exchange,
        request: Request,
        body: Iterator[bytes] | None,
        timeout_s: float | None,
    ) -> None:
        self._connection = connection
        self._exchange = exchange
        self._request = request
        self._outgoing = exchange.outgoing
        self._body = body
        self._timeout_s = timeout_s

    def __enter__(self) -> "Answer":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, even in the middle of the answer."""
        self._connection.close()

    def hang_up(self) -> None:
        """Shut the connection down, so that a thread that reads from it sees the end."""
        with suppress(OSError):  # it has ended already
            self._connection.shutdown(socket.SHUT_RDWR)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._exchange.status

    def header(self, name: str) -> str | None:
        """Return a header of the answer, None if it has none of that name (in lower case)."""
        return self._exchange.headers.get(name)

    def begin(self) -> None:
        """Wait for the status. `Connector.open` has called this. Raises Refused for a refusal."""
        while not self.status:
            self._move()
        if self.status >= 300:
            raise refused(self.status, self.read())

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it comes. Raises ConnectionLost when it is cut short."""
        while True:
            piece = self._exchange.take()
            if piece:
                yield piece
            elif self._exchange.is_complete:
                return
            else:
                self._move()

    def read(self) -> bytes:
        """Return the whole body."""
        return b"".join(self.pieces())

    def value(self) -> Any:
        """Return the body as the JSON value that the API gives. Raises BadAnswer for any other."""
        return value_of(self._request, self.read())

    def raw(self) -> bytes:
        """Return the body as it came, once it was found to be the JSON that the API gives. Raises BadAnswer."""
        body = self.read()
        value_of(self._request, body)
        return body

    def lines(self) -> Iterator[tuple[bytes, Any]]:
        """Yield each line of the body, with its JSON value. Raises Refused for a line that reports an error, BadAnswer
        for one that the API does not give."""
        lines = Lines(self._request, self.status)
        for piece in self.pieces():
            yield from lines.feed(piece)
        yield from lines.finish()

    def values(self) -> Iterator[Any]:
        """Yield the JSON value of each line."""
        return (value for _, value in self.lines())

    def events(self) -> Iterator[tuple[str, Any]]:
        """Yield name and JSON data of each server-sent event. Raises BadAnswer for one that the API does not give."""
        stream = EventStream()
        for piece in self.pieces():
            for event in stream.feed(piece):
                if event.name:
                    yield event.name, event.data

    def _move(self) -> None:
        """Wait until the socket can be read or written, then receive a piece or send one. Receiving comes first."""
        wanted = select.POLLIN | (select.POLLOUT if self._outgoing or self._body is not None else 0)
        waiting = select.poll()  # select() takes no descriptor from 1,024 on, and a program may have as many
        waiting.register(self._connection, wanted)
        ready = waiting.poll(None if self._timeout_s is None else 1000 * self._timeout_s)
        if ready and ready[0][1] & ~select.POLLOUT:
            received = b""
            with suppress(ConnectionError):  # counts as the end: the exchange knows whether it came too early
                received = self._connection.recv(_READ_BYTES)
            self._exchange.receive(received)
        elif ready:
            self._send_some()
        else:
            raise TimedOut(f"the node did not answer within {self._timeout_s:g} s")

    def _send_some(self) -> None:
        if not self._outgoing and self._body is not None:
            part = next(self._body, None)
            if part is None:
                self._body = None
            self._outgoing = self._exchange.send(part)
        try:
            sent = self._connection.send(self._outgoing, socket.MSG_DONTWAIT)
            self._outgoing = self._outgoing[sent:]
        except BlockingIOError:
            pass
        except OSError:
            # The node may answer and close before it has read everything. That answer can still be received.
            self._outgoing, self._body = b"", None
