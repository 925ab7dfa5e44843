"""HTTP/1.1 over a Unix socket, with plain blocking sockets: how a command speaks to the running node.

    Client(paths).call("GET", "/v1/status")                          a JSON answer
    with Client(paths).open("POST", path, body=chunks) as response:  a stream each way
        for line in response.lines(): ...

One connection per request. While an answer is awaited the body still goes out, so that an import can be sent and its
progress read at the same time, in one thread. A timeout is for each wait, not for the whole. Whatever goes wrong comes
out as a Failure with the exit code that fits.
"""

import json
import select
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
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
_ERROR: Final = b'{"error":'  # how a line of a stream begins that says why there will be no more

Query = Sequence[tuple[str, str | None]]


class ApiError(Failure):
    """The node answered that it cannot: `code` is its stable word for why."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message, _exit_code(status, code))
        self.status = status
        self.code = code


def _exit_code(status: int, code: str) -> ExitCode:
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


def record_path(context: str, what: str = "") -> str:
    """The path of a context's records, or of `what` can be done with them."""
    return f"/v1/records/{quote(context, safe='')}{what}"


class Client:
    """Requests to whichever of `paths` somebody listens at. `hint` is what a person should do when nobody does."""

    def __init__(self, paths: Sequence[Path], *, hint: str = "type: echonode run") -> None:
        self._paths = tuple(paths)
        self._hint = hint

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        body: object = None,
        timeout_s: float | None = CALL_TIMEOUT_S,
    ) -> Any:
        """The JSON answer to a request with a JSON `body`, or with raw bytes as they are."""
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
        """Send a request, an iterator's parts as they are taken, and return when the answer begins.

        Parts without a `query` value are left out. Raises ApiError when the answer is a refusal.
        """
        asked = urlencode([(key, value) for key, value in query if value is not None])
        fields = [("Host", "localhost"), ("Connection", "close"), *(headers or {}).items()]
        if isinstance(body, bytes):
            fields.append(("Content-Length", str(len(body))))
            body = iter([body])
        elif body is not None:
            fields.append(("Transfer-Encoding", "chunked"))
        request = h11.Request(method=method, target=f"{path}?{asked}" if asked else path, headers=fields)
        response = Response(self._connect(), request, body, timeout_s)
        try:
            response.begin()
        except BaseException:
            response.close()
            raise
        return response

    def _connect(self) -> socket.socket:
        """A connection to the first path that answers."""
        for path in self._paths:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(_CONNECT_TIMEOUT_S)
            try:
                connection.connect(str(path))
            except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
                connection.close()
            except OSError as error:
                connection.close()
                raise _cannot_connect(path, error) from error
            else:
                return connection
        raise NotRunning(f"the node is not running; {self._hint}")


def _cannot_connect(path: Path, error: OSError) -> Failure:
    match error:
        case PermissionError():
            return Failure(f"the node at {path} does not take your commands: use its user", ExitCode.NOT_AUTHORISED)
        case TimeoutError():
            return Failure(f"the node at {path} does not answer", ExitCode.TIMED_OUT)
        case _:
            return Failure(f"cannot reach a node at {path}: {error.strerror or error}")


class Response:
    """An answer that has begun. Use it as a context manager: leaving closes the connection."""

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
        """End the connection, whatever is still under way."""
        self._connection.close()

    def hang_up(self) -> None:
        """Make who reads this in another thread see its end."""
        with suppress(OSError):  # it has ended already
            self._connection.shutdown(socket.SHUT_RDWR)

    def begin(self) -> None:
        """Wait for status and headers. Raises ApiError on a refusal. `Client.open` has called it."""
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
        """The body as it comes."""
        while True:
            match self._next_event():
                case h11.Data() as part:
                    yield bytes(part.data)
                case h11.EndOfMessage():
                    return
                case _:
                    raise Failure("the node's answer was cut short")

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self.chunks())

    def json(self) -> Any:
        """The body, which is one JSON value."""
        return _from_json(self.read())

    def lines(self) -> Iterator[bytes]:
        """The body line by line, without line ends and empty lines. A line that only says what went wrong ends it:
        raises ApiError."""
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
        """The JSON value of each line."""
        return map(_from_json, self.lines())

    def events(self) -> Iterator[tuple[str, Any]]:
        """Name and JSON data of each server-sent event (HTML Living Standard §9.2), `data:` being one line here."""
        name = ""
        for line in self.lines():
            field, _, value = line.partition(b":")
            if field == b"event":
                name = value.decode().strip()
            elif field == b"data":
                yield name, _from_json(value)

    def _refusal(self, said: bytes) -> ApiError:
        try:
            error = json.loads(said)["error"]
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
        """Wait until bytes can be received, or some of ours can be sent, and do that; receiving comes first."""
        to_send = [self._connection] if self._outgoing or self._body is not None else []
        readable, writable, _ = select.select([self._connection], to_send, [], self._timeout_s)
        if readable:
            received = b""
            with suppress(ConnectionError):  # as good as an end: h11 knows whether it came too early
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
            # The node may have answered, and closed, before it had read everything: that answer is still to come.
            self._outgoing, self._body = b"", None


def _from_json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise Failure("the node's answer is not JSON") from error
