"""One HTTP/1.1 request and its answer, without I/O: bytes out, bytes in. The only door to h11.

outgoing             what to send first
send(part)           only where `is_chunked`: what to send for the next part of the body, None for its end
receive(data)        hand in what came, b"" at the end; then read `status`, `headers` and `take()`
"""

import h11

from echonode.client.errors import ConnectionLost
from echonode.client.request import Request

_CUT_SHORT = "the node went away before its answer was complete"


class Exchange:
    """A request under way on a connection of its own. `is_chunked`: its body comes in parts, through `send`."""

    def __init__(self, request: Request, *, host: str, token: str | None, is_chunked: bool = False) -> None:
        size = ("transfer-encoding", "chunked") if is_chunked else ("content-length", str(len(request.body)))
        headers = [
            ("host", host),
            ("connection", "close"),
            size,
            *request.headers,
            *((("authorization", f"Bearer {token}"),) if token else ()),
        ]
        self._h11 = h11.Connection(h11.CLIENT)
        self.outgoing = (
            self._h11.send(h11.Request(method=request.method, target=request.target, headers=headers)) or b""
        )
        if not is_chunked:
            self.outgoing += self.send(request.body) + self.send(None)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.is_complete = False
        self._data: list[bytes] = []

    def send(self, part: bytes | None) -> bytes:
        """Return the bytes that carry the next part of the body; None is its end."""
        return self._h11.send(h11.EndOfMessage() if part is None else h11.Data(data=part)) or b""

    def receive(self, data: bytes) -> None:
        """Take bytes of the answer, b"" when the node closed. Raises ConnectionLost when that was too early."""
        try:
            self._h11.receive_data(data)
            while not self.is_complete:
                event = self._h11.next_event()
                match event:
                    case h11.Response():
                        self.status = event.status_code
                        self.headers = {key.decode("ascii"): value.decode("latin-1") for key, value in event.headers}
                    case h11.Data():
                        self._data.append(bytes(event.data))
                    case h11.EndOfMessage():
                        self.is_complete = True
                    case h11.InformationalResponse():
                        pass
                    case h11.ConnectionClosed():
                        raise ConnectionLost(_CUT_SHORT)
                    case _:
                        return  # it needs more
        except h11.RemoteProtocolError:
            raise ConnectionLost(_CUT_SHORT) from None

    def take(self) -> bytes:
        """Return the bytes of the body that came since the last call."""
        data, self._data = b"".join(self._data), []
        return data
