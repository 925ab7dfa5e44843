"""The answer to a request that failed: an HTTP status, a stable code, one plain sentence, and what to do next.

    an answer (RFC 9457)         {"type": "urn:echonode:problem:not_found", "title": "Not found", "status": 404,
                                  "detail": "there is no record me/nothing in main", "action": ..,
                                  "error": {"code": "not_found", "message": <the detail>}}
    the last line of a stream    {"error": {"code": .., "message": ..}}

    400 bad_request    401 unauthorised     403 forbidden            404 not_found
    405 method_not_allowed                  409 conflict | unsupported_model
    412 precondition_failed                 413 too_large            422 unusable | damaged   500 internal
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


# Each code with its title and what to do about it.
_MEANINGS: Final = {
    "bad_request": ("Bad request", "Change the request: proto/openapi.yaml says what this path takes."),
    "unauthorised": ("Not signed in", "Send the token of `echonode api token`, as Authorization: Bearer TOKEN."),
    "forbidden": ("Forbidden", "Ask from this machine, at 127.0.0.1, and not from the page of another site."),
    "not_found": ("Not found", "Check the spelling: `echonode list`, `contexts` and `peers` show what is here."),
    "method_not_allowed": ("Method not allowed", "Use one of the methods that Allow names."),
    "conflict": ("Conflict", "Name the one that is meant, by a longer id or its whole address."),
    "unsupported_model": ("Model not read here", "Ask with any_model=1, or change `models` in the configuration."),
    "precondition_failed": ("Written meanwhile", "Read the record again, then write over its new ETag."),
    "too_large": ("Too large", "Send less, or in several requests."),
    "unusable": ("Cannot be done", "Change what the detail names; trying the same again does not help."),
    "damaged": ("Damaged", "Get the file anew from the node that wrote it; what was verified is kept."),
    "internal": ("A bug in the node", "Report it with the lines of the node's log: `echonode logs --level error`."),
    "peer_refused": ("The peer refused", "Ask the person at the other node; `echonode why PEER` says more."),
    "peer_failed": ("The peer failed", "Look at the other node's log, and try again."),
    "unreachable": ("Not reachable", "See whether the other node runs: `echonode peers` says why it does not answer."),
    "store_failed": ("The disk failed", "Look at free space and the health of the disk, then start the node again."),
    "stopping": ("The node is stopping", "Try again when it has started."),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One answer that reports a failure."""

    status: int
    code: str
    message: str

    def as_json(self, **more: object) -> dict[str, object]:
        """Return the form for a stream; the fields of `more` stand beside code and message."""
        return {"error": {"code": self.code, "message": self.message, **more}}


    def as_details(self) -> dict[str, object]:
        """Return the form of RFC 9457, for an answer that is nothing else."""
        title, action = _MEANINGS[self.code]
        return {
            "type": f"urn:echonode:problem:{self.code}",
            "title": title,
            "status": self.status,
            "detail": self.message,
            "action": action,
            **self.as_json(),
        }


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
