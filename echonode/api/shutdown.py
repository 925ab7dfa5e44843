"""The server's stop, and the waits that it ends: for a body that does not come, for an event, for a sync with a far
peer.

    with stop.ends_waiting():
        message = await receive()      # raises Stopping when the server stops first

Only waits are put into the block. A write is left to finish: a client is never told that a write failed when it did
not.
"""

import asyncio
from types import TracebackType

from echonode.errors import EchonodeError


class Stopping(EchonodeError):
    """The server is stopping: the request is not carried out."""

    def __init__(self) -> None:
        super().__init__("the node is stopping")


class Stop:
    """A flag that is set once and never cleared."""

    def __init__(self) -> None:
        self._is_set = False
        self._waits: set[_Wait] = set()

    @property
    def is_set(self) -> bool:
        """True while the server is stopping."""
        return self._is_set

    def set(self) -> None:
        """End every wait under way, and every later one at once."""
        self._is_set = True
        for wait in self._waits:
            wait.end()

    def ends_waiting(self) -> "_Wait":
        """Return a `with` block for the current task that raises Stopping when the server stops."""
        return _Wait(self, self._waits)


class _Wait:
    """Ends its task's wait as `asyncio.timeout` does: it cancels the task, and takes the cancellation back on leaving.
    """

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
        # If another cancellation came too, it must go on to its own caller.
        if self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise Stopping from None
