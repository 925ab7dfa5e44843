"""LogFilter: which lines of a log a person wants to see. Pure: it judges lines in their JSON form, from any source."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from echonode.node.run_log import LEVELS


@dataclass(frozen=True, slots=True)
class LogFilter:
    """Conditions, of which a line must fulfil every one that is given.

    `peer` is an id or its beginning; `session` the beginning of a session's id; `event` a pattern such as `peer.*`.
    """

    level: str = "debug"
    event: str = ""
    peer: str = ""
    session: str = ""
    since_ms: int = 0

    def takes(self, line: Mapping[str, Any]) -> bool:
        """Return True for a line that is wanted."""
        if LEVELS.get(str(line.get("level")), LEVELS["error"]) < LEVELS[self.level]:
            return False
        if self.event and not fnmatchcase(str(line.get("event", "")), self.event):
            return False
        if self.session and not str(line.get("session") or "").startswith(self.session):
            return False
        if self.peer and not any(str(line.get(key) or "").startswith(self.peer) for key in ("peer", "source", "about")):
            return False
        return not self.since_ms or _ms(line.get("time")) >= self.since_ms


def _ms(time: object) -> int:
    """Return an RFC 3339 time in ms since 1970, 0 for a text that is none."""
    try:
        return int(datetime.fromisoformat(str(time)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return 0
