"""When a request is tried again. Pure: the caller waits.

    nothing answers (NotRunning)          every request, until `for_s` is over: the node may be starting again
    503 `stopping`                        the same: the request was not carried out
    the connection broke (ConnectionLost) requests that do no harm twice

Waits double from 50 ms to 2 s; each is drawn from between half of that and all of it, so that many programs do not come
back at once.
"""

from random import uniform
from typing import Final

from echonode.client.errors import ClientError, ConnectionLost, NotRunning, Refused
from echonode.client.request import Request

_WAIT_S: Final = 0.05, 2.0
_STOPPING: Final = "stopping"


class Retry:
    """The tries of one request. `for_s`: how long to go on, in seconds of waiting."""

    def __init__(self, for_s: float) -> None:
        self._left_s = for_s
        self._wait_s = _WAIT_S[0]

    def wait_s(self, error: ClientError, request: Request) -> float:
        """Return how long to wait before the next try. Raises `error` when there is none."""
        is_worth_it = (
            isinstance(error, NotRunning)
            or (isinstance(error, Refused) and error.code == _STOPPING)
            or (isinstance(error, ConnectionLost) and request.is_safe)
        )
        if not is_worth_it or self._left_s <= 0:
            raise error
        wait_s = min(uniform(self._wait_s / 2, self._wait_s), self._left_s)
        self._left_s -= wait_s
        self._wait_s = min(2 * self._wait_s, _WAIT_S[1])
        return wait_s
