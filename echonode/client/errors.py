"""Errors of the clients. Each text is one plain sentence; a refusal by the node has its stable code too."""

from typing import Any

from echonode.errors import EchonodeError


class ClientError(EchonodeError):
    """A request to the node failed."""


class NotRunning(ClientError):
    """No node answers where one should. Nothing was sent."""


class NotAllowed(ClientError):
    """This user may not use the node's socket. Nothing was sent."""


class ConnectionLost(ClientError):
    """The node went away in the middle of a request. A write may have been carried out or not."""


class TimedOut(ConnectionLost):
    """The node did not answer in time. A write may have been carried out or not."""


class BadAnswer(ClientError):
    """The answer is not one that the API gives: another program answers there, or another version of echonode."""


class Refused(ClientError):
    """The node does not do what was asked. `code`: its stable word for the reason; `status`: the HTTP status."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class NotFound(Refused):
    """There is no such record, context or peer."""


class Moved(Refused):
    """The record was written since it was read: read it again, then write."""


def refusal(status: int, answer: Any) -> Refused:
    """Return the error that the JSON of a refusal is."""
    error = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(error, dict):
        return Refused(status, "unknown", f"the node answered with status {status}")
    code, message = str(error.get("code", "unknown")), str(error.get("message", ""))
    kind = {"not_found": NotFound, "precondition_failed": Moved}.get(code, Refused)
    return kind(status, code, message or f"the node answered with status {status}")
