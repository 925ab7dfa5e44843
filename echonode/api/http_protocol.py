"""The HTTP protocol of the TCP listener: uvicorn's, with two bounds that any process of this machine is held to.

Over TCP every user of the machine can connect, before any token is asked for. So connections are bounded in number, and
each has to bring the head of a request within API_HEAD_TIMEOUT_S. uvicorn itself waits for ever.
"""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from echonode.limits import API_CONNECTIONS_MAX, API_HEAD_TIMEOUT_S


class BoundedProtocol(H11Protocol):
    """One connection."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Serve the connection, or drop it when there are too many."""
        super().connection_made(transport)
        if len(self.connections) > API_CONNECTIONS_MAX:
            transport.abort()
            return
        self._await_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes of a request. uvicorn stops its own timer between two requests with the first byte of a head."""
        super().data_received(data)
        if self._is_between_requests and self._head_timer is None:
            self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end of the connection."""
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    @property
    def _is_between_requests(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(API_HEAD_TIMEOUT_S, self._look_for_head)

    def _look_for_head(self) -> None:
        self._head_timer = None
        if self._is_between_requests:
            self.transport.abort()
