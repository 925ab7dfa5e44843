"""The answer to a request that failed: an HTTP status, a stable code and one plain sentence.

    {"error": {"code": "not_found", "message": "there is no record me/nothing in main"}}

    400 bad_request    401 unauthorised     403 forbidden            404 not_found
    405 method_not_allowed                  409 conflict | unsupported_model
    412 precondition_failed                 413 too_large            422 unusable      500 internal
    502 peer_refused | peer_failed | unreachable                     503 store_failed | stopping

The text of an unforeseen exception never leaves the process: it goes to the log, and the client gets `internal`.
"""

import logging
from dataclasses import dataclass
from typing import Final

from echonode.api.shutdown import Stopping
from echonode.errors import ConfigError, LocalError, PeerRefused, RemoteError, StoreError, TransportError
from echonode.store.port import HeadsMovedError

_log: Final = logging.getLogger("echonode.api")


@dataclass(frozen=True, slots=True)
class Problem:
    """One answer that reports a failure."""

    status: int
    code: str
    message: str

    def as_json(self, **more: object) -> dict[str, object]:
        """Return the JSON form; the fields of `more` stand beside code and message."""
        return {"error": {"code": self.code, "message": self.message, **more}}


class RequestError(LocalError):
    """A request that this API does not accept. The text is for the person who wrote it."""

    def __init__(self, message: str, *, status: int = 400, code: str = "bad_request") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def not_found(message: str) -> RequestError:
    """Return the error of a request for something that is not here."""
    return RequestError(message, status=404, code="not_found")


def too_large(message: str) -> RequestError:
    """Return the error of a request that exceeds a limit."""
    return RequestError(message, status=413, code="too_large")


def problem_of(error: Exception) -> Problem:
    """Return the problem that `error` is. Log an unforeseen one with its traceback."""
    match error:
        case RequestError():
            return Problem(error.status, error.code, str(error))
        case HeadsMovedError():
            return Problem(412, "precondition_failed", str(error))
        case Stopping():
            return Problem(503, "stopping", str(error))
        case StoreError():
            return Problem(503, "store_failed", str(error))
        case LocalError() | ConfigError():
            return Problem(422, "unusable", str(error))
        case PeerRefused():
            return Problem(502, "peer_refused", str(error))
        case RemoteError():
            return Problem(502, "peer_failed", str(error))
        case TransportError():
            return Problem(502, "unreachable", str(error))
        case _:
            _log.error("a request failed unexpectedly", exc_info=error)
            return Problem(500, "internal", "something went wrong inside the node; its log says what")
