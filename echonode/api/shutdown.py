"""The server's stop, felt by whatever may wait long: a body that does not come, an event, a sync with a far peer.

    with stop.ends_waiting():
        message = await receive()      # raises Stopping when the server stops first

Only waits are put inside. A write is left to finish: a client is never told that a write did not happen when it did.
"""

import asyncio
from types import TracebackType

from echonode.errors import EchonodeError


class Stopping(EchonodeError):
    """The server is being stopped; what was asked for is not going to happen here."""

    def __init__(self) -> None:
        super().__init__("the node is stopping")


class Stop:
    """Set once, never cleared."""

    def __init__(self) -> None:
        self._is_set = False
        self._waits: set[_Wait] = set()

    @property
    def is_set(self) -> bool:
        """Whether the server is stopping."""
        return self._is_set

    def set(self) -> None:
        """End every wait now and every later one at once."""
        self._is_set = True
        for wait in self._waits:
            wait.end()

    def ends_waiting(self) -> "_Wait":
        """A `with` block of the current task that raises Stopping instead of waiting on."""
        return _Wait(self, self._waits)


class _Wait:
    """Ends its task's wait the way `asyncio.timeout` does: by cancelling, and owning up to it on the way out."""

    __slots__ = ("_has_ended", "_stop", "_task", "_waits")

    def __init__(self, stop: Stop, waits: "set[_Wait]") -> None:
        self._stop = stop
        self._waits = waits
        self._task: asyncio.Task[object] | None = None
        self._has_ended = False

    def end(self) -> None:
        if self._task is not None and not self._has_ended:
            self._has_ended = True
            self._task.cancel()

    def __enter__(self) -> None:
        if self._stop.is_set:
            raise Stopping
        self._task = asyncio.current_task()
        self._waits.add(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._waits.discard(self)
        if not self._has_ended or self._task is None:
            return
        # Somebody else's cancellation may have come too; then it is theirs to see.
        if self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise Stopping from None
