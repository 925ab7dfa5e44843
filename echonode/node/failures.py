"""The ends of sessions that failed, in words for logs and people, and as the reason of a Close. Pure."""

import asyncio
from typing import Final

from echonode.errors import EchonodeError, PeerRefused, Reason, RemoteError, StoreError, TransportError
from echonode.node.handshake import HeardOfRotation, KeptOut, PausedHere, SaidNothing
from echonode.text import escape

# Ends that are no failure: the other direction's session goes on, or the peer is only busy.
_NO_FAILURE: Final = (Reason.DUPLICATE_SESSION, Reason.BUSY)
_UNAPPROVED: Final = "a person there has to let this node in: echonode peers --pending"


def gave_way() -> PeerRefused:
    """Return the error of a session that another one with the same peer replaces."""
    return PeerRefused(Reason.DUPLICATE_SESSION, "dropped in favour of another session with the same peer")


def is_no_failure(error: BaseException) -> bool:
    """Return True for an end in which the peer was there and did not want the session, or never began one."""
    is_refused = isinstance(error, PeerRefused) and error.reason in _NO_FAILURE
    return is_refused or isinstance(error, HeardOfRotation | SaidNothing)


def is_self(error: BaseException) -> bool:
    """Return True for a session with this very identity. A copy of this node has an event of its own."""
    return isinstance(error, PeerRefused) and error.reason is Reason.SELF


def has_own_event(error: BaseException) -> bool:
    """Return True for an end that another event tells of once: this very identity, a network rotated without us, or a
    pause or a decision that was made here."""
    is_left_out = isinstance(error, PeerRefused) and error.reason is Reason.LEFT_OUT
    return is_left_out or is_self(error) or isinstance(error, PausedHere | KeptOut)


def reason_of(error: EchonodeError) -> tuple[str, str]:
    """Return the reason and the detail of a session.failed event."""
    match error:
        case RemoteError():
            return error.reason.text, error.detail
        case PeerRefused():
            return error.reason.text, in_words(error)
        case TransportError():
            return "transport", str(error)
        case StoreError():
            return Reason.STORE_FAILED.text, str(error)
        case _:
            return "local", str(error)


def in_words(error: EchonodeError) -> str:
    """Return `error` as a sentence, with what the peer supports instead."""
    if isinstance(error, PeerRefused) and error.reason is Reason.UNAPPROVED and not isinstance(error, KeptOut):
        return _UNAPPROVED
    supported = error.supported if isinstance(error, PeerRefused) else ()
    return str(error) + (f"; what would do: {escape(', '.join(supported))}" if supported else "")


def parting_reason(error: BaseException) -> Reason:
    """Return the reason of the Close that answers `error`."""
    match error:
        case RemoteError():
            return error.reason
        case asyncio.CancelledError():
            return Reason.SHUTTING_DOWN
        case _:
            return Reason.STORE_FAILED
