"""A client of the running node: HTTP/1.1 over a Unix socket or TCP, with blocking sockets.

    Client(places).call("GET", "/v1/status")                          a JSON answer
    with Client(places).open("POST", path, body=chunks) as response:  a stream each way
        for line in response.lines(): ...

Each request has a connection of its own. The body goes out while the answer is awaited, so that one thread can send an
import and read its progress at the same time. A timeout bounds each wait, not the whole request. Every error is raised
as a Failure with the exit code that fits.
"""

import json
import select
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote, urlencode

import h11

from echonode.cli.exit_codes import ExitCode, Failure, NotRunning
from echonode.limits import KIB

CALL_TIMEOUT_S: Final = 30.0
JSON_TYPE: Final = "application/json"
_READ_BYTES: Final = 64 * KIB
_CONNECT_TIMEOUT_S: Final = 5.0
_ERROR: Final = b'{"error":'  # the beginning of a stream's last line when the node had to stop early

Query = Sequence[tuple[str, str | None]]


class ApiError(Failure):
    """A refusal by the node: `code` is its stable word for the reason, `status` the HTTP status."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message, _exit_code(status, code))
        self.status = status
        self.code = code


def _exit_code(status: int, code: str) -> ExitCode:
    """Return the exit code for an HTTP status and the API's error code."""
    match status:
        case 400:
            return ExitCode.USAGE
        case 401 | 403:
            return ExitCode.NOT_AUTHORISED
        case 504:
            return ExitCode.TIMED_OUT
        case 503 if code == "stopping":
            return ExitCode.NOT_RUNNING
        case _:
            return ExitCode.FAILED


def record_path(context: str, action: str = "") -> str:
    """Return the path of a context's records, or with `action` ("/list") of an action on them."""
    return f"/v1/records/{quote(context, safe='')}{action}"


def conflict_path(context: str, action: str = "") -> str:
    """Return the path of one conflict of a context, or with `action` ("/resolve") of an action on it."""
    return f"/v1/conflicts/{quote(context, safe='')}{action}"


@dataclass(frozen=True, slots=True)
class TcpPlace:
    """A node's API over TCP, and the token that it asks for."""

    host: str
    port: int
    token: str = field(repr=False)

    @property
    def host_field(self) -> str:
        """The Host header of a request."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Client:
    """Sends requests to the first of `places` at which a node listens: the path of its socket, or a TcpPlace.

    `absence` gives the sentence for when none does.
    """

    def __init__(
        self, places: Sequence[Path | TcpPlace], *, absence: Callable[[], str] = lambda: "the node is not running"
    ) -> None:
        self._places = tuple(places)
        self._absence = absence

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: object = None,
        timeout_s: float | None = CALL_TIMEOUT_S,
    ) -> Any:
        """Send a request and return its JSON answer. A `body` of bytes is sent as it is, any other as JSON. Raises
        Failure."""
        headers: dict[str, str] = {}
        if body is not None and not isinstance(body, bytes):
            headers["Content-Type"] = JSON_TYPE
            body = json.dumps(body).encode()
        with self.open(method, path, query=query, headers=headers, body=body, timeout_s=timeout_s) as response:
            return response.json()

    def open(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | Iterator[bytes] | None = None,
        timeout_s: float | None = CALL_TIMEOUT_S,
    ) -> "Response":
        """Send a request and return when its answer begins. The parts of an iterator are sent as they are taken.

        A `query` pair whose value is None is left out. Raises ApiError when the node refuses, Failure for every other
        error.
        """
        query_text = urlencode([(key, value) for key, value in query if value is not None])
        connection, place = self._connect()
        fields = [*_place_fields(place), ("Connection", "close"), *(headers or {}).items()]
        if isinstance(body, bytes):
            fields.append(("Content-Length", str(len(body))))
            body = iter([body])
        elif body is not None:
            fields.append(("Transfer-Encoding", "chunked"))
        target = f"{path}?{query_text}" if query_text else path
        request = h11.Request(method=method, target=target, headers=fields)
        response = Response(connection, request, body, timeout_s)
        try:
            response.begin()
        except BaseException:
            response.close()
            raise
        return response

    def is_listening(self) -> bool:
        """Return True if a node listens at one of the places. Raises Failure when one cannot be tried."""
        try:
            self._connect()[0].close()
        except NotRunning:
            return False
        return True

    def place(self) -> Path | TcpPlace:
        """Return the place at which a node listens. Raises NotRunning when none does."""
        connection, place = self._connect()
        connection.close()
        return place

    def _connect(self) -> tuple[socket.socket, Path | TcpPlace]:
        """Connect to the first place that answers. Raises NotRunning when none does."""
        for place in self._places:
            try:
                if isinstance(place, TcpPlace):
                    return socket.create_connection((place.host, place.port), _CONNECT_TIMEOUT_S), place
                return _connect_unix(place), place
            except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
                continue
            except (OSError, UnicodeError) as error:
                raise _cannot_connect(place, error) from error
        raise NotRunning(self._absence())


def _connect_unix(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_CONNECT_TIMEOUT_S)
    try:
        connection.connect(str(path))
    except BaseException:
        connection.close()
        raise
    return connection


def _place_fields(place: Path | TcpPlace) -> list[tuple[str, str]]:
    if isinstance(place, TcpPlace):
        return [("Host", place.host_field), ("Authorization", f"Bearer {place.token}")]
    return [("Host", "localhost")]


def _cannot_connect(place: Path | TcpPlace, error: OSError | UnicodeError) -> Failure:
    where = f"http://{place.host_field}" if isinstance(place, TcpPlace) else str(place)
    match error:
        case PermissionError():
            return Failure(f"the node at {where} does not take your commands: use its user", ExitCode.NOT_AUTHORISED)
        case TimeoutError():
            return Failure(f"the node at {where} does not answer", ExitCode.TIMED_OUT)
        case OSError():
            return Failure(f"cannot reach a node at {where}: {error.strerror or error}")
        case _:
            return Failure(f"cannot reach a node at {where}: that is no host name")


class Response:
    """An answer that has begun. Use it as a context manager: leaving the block closes the connection."""

    def __init__(
        self, connection: socket.socket, request: h11.Request, body: Iterator[bytes] | None, timeout_s: float | None
    ) -> None:
        self._connection = connection
        self._protocol = h11.Connection(h11.CLIENT)
        self._outgoing = self._protocol.send(request) or b""
        self._body: Iterator[bytes] | None = iter(()) if body is None else body
        self._timeout_s = timeout_s
        self.status = 0
        self.headers: dict[str, str] = {}

    def __enter__(self) -> "Response":
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

    def begin(self) -> None:
        """Wait for the status and the headers. `Client.open` has called this. Raises ApiError on a refusal."""
        event = self._next_event()
        while isinstance(event, h11.InformationalResponse):
            event = self._next_event()
        if not isinstance(event, h11.Response):
            raise Failure("the node ended the connection without an answer")
        self.status = event.status_code
        self.headers = {key.decode("ascii"): value.decode("latin-1") for key, value in event.headers}
        if self.status >= 300:
            raise self._refusal(self.read())

    def chunks(self) -> Iterator[bytes]:
        """Yield the body in pieces, as it comes. Raises Failure when it is cut short."""
        while True:
            match self._next_event():
                case h11.Data() as part:
                    yield bytes(part.data)
                case h11.EndOfMessage():
                    return
                case _:
                    raise Failure("the node's answer was cut short")

    def read(self) -> bytes:
        """Return the whole body."""
        return b"".join(self.chunks())

    def json(self) -> Any:
        """Return the body as one JSON value."""
        return _from_json(self.read())

    def lines(self) -> Iterator[bytes]:
        """Yield the body's lines as they come, without line ends and without empty lines. Raises ApiError when a line
        holds an error and nothing else: it is the last one."""
        rest = b""
        for chunk in self.chunks():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                if line.startswith(_ERROR):
                    raise self._refusal(line)
                if line:
                    yield line
        if rest:
            yield rest

    def values(self) -> Iterator[Any]:
        """Yield the JSON value of each line."""
        return map(_from_json, self.lines())

    def events(self) -> Iterator[tuple[str, Any]]:
        """Yield name and JSON data of each server-sent event (HTML Living Standard §9.2). The API writes one `data:`
        line each."""
        name = ""
        for line in self.lines():
            field, _, value = line.partition(b":")
            if field == b"event":
                name = value.decode().strip()
            elif field == b"data":
                yield name, _from_json(value)

    def _refusal(self, answer: bytes) -> ApiError:
        try:
            error = json.loads(answer)["error"]
            return ApiError(self.status, str(error["code"]), str(error["message"]))
        except (ValueError, KeyError, TypeError):
            return ApiError(self.status, "unknown", f"the node answered with status {self.status}")

    def _next_event(self) -> object:
        while True:
            try:
                event = self._protocol.next_event()
            except h11.RemoteProtocolError as error:
                raise Failure("the node's answer was cut short") from error
            if event is not h11.NEED_DATA:
                return event
            self._exchange()

    def _exchange(self) -> None:
        """Wait until the socket can be read or written, then receive a piece or send one. Receiving comes first."""
        to_send = [self._connection] if self._outgoing or self._body is not None else []
        readable, writable, _ = select.select([self._connection], to_send, [], self._timeout_s)
        if readable:
            received = b""
            with suppress(ConnectionError):  # counts as the end: h11 knows whether it came too early
                received = self._connection.recv(_READ_BYTES)
            self._protocol.receive_data(received)
        elif writable:
            self._send_some()
        else:
            raise Failure(f"the node did not answer within {self._timeout_s:g} s", ExitCode.TIMED_OUT)

    def _send_some(self) -> None:
        if not self._outgoing and self._body is not None:
            part = next(self._body, None)
            if part is None:
                self._body = None
            self._outgoing = self._protocol.send(h11.EndOfMessage() if part is None else h11.Data(data=part)) or b""
        try:
            sent = self._connection.send(self._outgoing, socket.MSG_DONTWAIT)
            self._outgoing = self._outgoing[sent:]
        except BlockingIOError:
            pass
        except OSError:
            # The node may answer and close before it has read everything. That answer can still be received.
            self._outgoing, self._body = b"", None


def _from_json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise Failure("the node's answer is not JSON") from error
