"""One HTTP/1.1 request and its answer, without I/O: bytes out, bytes in. The clients' only door to h11.

    outgoing             what to send first
    receive(data)        hand in what came, b"" at the end; then read `head` and `take()`
"""

import h11

from echonode.client.calls import Request
from echonode.client.errors import ConnectionLost

_CUT_SHORT = "the node went away before its answer was complete"


class Exchange:
    """A request under way on a connection of its own."""

    def __init__(self, request: Request, *, host: str, token: str | None) -> None:
        headers = [
            ("host", host),
            ("connection", "close"),
            ("content-length", str(len(request.body))),
            *request.headers,
            *((("authorization", f"Bearer {token}"),) if token else ()),
        ]
        self._h11 = h11.Connection(h11.CLIENT)
        head = h11.Request(method=request.method, target=request.target, headers=headers)
        parts = [head, h11.Data(data=request.body), h11.EndOfMessage()]
        self.outgoing = b"".join(self._h11.send(part) or b"" for part in parts)
        self.status = 0
        self.is_complete = False
        self._data: list[bytes] = []

    def receive(self, data: bytes) -> None:
        """Take bytes of the answer, b"" when the node closed. Raises ConnectionLost when that was too early."""
        try:
            self._h11.receive_data(data)
            while not self.is_complete:
                event = self._h11.next_event()
                match event:
                    case h11.Response():
                        self.status = event.status_code
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
