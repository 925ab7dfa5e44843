"""The sessions of the status page: a link signs a browser in once, and the page then has a token of its own.

    ticket   in the link, behind `#`, so that no server or log sees it; good once, for a minute
    session  what the page gets for it and sends as its bearer token; ends when unused for long, or with the node

The API's own token never enters a browser that was signed in by a link.
"""

import hmac
import secrets
from collections.abc import Callable
from typing import Final

from echonode.limits import PAGE_SESSION_S, PAGE_SESSIONS_MAX, PAGE_TICKET_S

_RANDOM_BYTES: Final = 24


class PageSessions:
    """The tickets and sessions of one process. `monotonic_s` tells the time."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._tickets: dict[str, float] = {}
        self._sessions: dict[str, float] = {}

    def make_ticket(self) -> str:
        """Return a new ticket. Of too many unused ones the oldest is dropped."""
        return _add(self._tickets, self._monotonic_s() + PAGE_TICKET_S)

    def begin(self, ticket: str) -> str | None:
        """Return the token of a new session for `ticket`, None if it is spent, late or invented."""
        self._drop_old()
        found = _find(self._tickets, ticket.encode())
        if found is None:
            return None
        del self._tickets[found]
        return _add(self._sessions, self._monotonic_s() + PAGE_SESSION_S)

    def holds(self, token: bytes) -> bool:
        """Return whether `token` is that of a session, and let that session last."""
        self._drop_old()
        found = _find(self._sessions, token)
        if found is not None:
            self._sessions[found] = self._monotonic_s() + PAGE_SESSION_S
        return found is not None

    def end_all(self) -> None:
        """End every session, and make every ticket useless."""
        self._tickets.clear()
        self._sessions.clear()

    def _drop_old(self) -> None:
        now_s = self._monotonic_s()
        for kept in (self._tickets, self._sessions):
            for text in [text for text, ends_s in kept.items() if ends_s < now_s]:
                del kept[text]


def _add(kept: dict[str, float], ends_s: float) -> str:
    while len(kept) >= PAGE_SESSIONS_MAX:
        del kept[min(kept, key=kept.__getitem__)]
    text = secrets.token_urlsafe(_RANDOM_BYTES)
    kept[text] = ends_s
    return text


def _find(kept: dict[str, float], text: bytes) -> str | None:
    """Return the key that equals `text`. Every key is compared, so that the time tells nothing."""
    found = None
    for key in kept:
        if hmac.compare_digest(key.encode(), text):
            found = key
    return found
