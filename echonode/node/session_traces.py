"""SessionTraces: the messages of the last sessions, by peer, as `echonode trace` shows them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from echonode.clock import Clock
from echonode.limits import TRACED_SESSIONS_MAX
from echonode.model.identity import IdentityId
from echonode.node.handshake import Session
from echonode.sync.message_trace import MessageTrace


@dataclass(slots=True)
class SessionTrace:
    """One session. `why`: how it ended, "" while it goes on."""

    session: bytes
    peer: IdentityId
    address: str
    is_initiator: bool
    began_s: float
    messages: MessageTrace
    why: str = ""


@dataclass(slots=True)
class SessionTraces:
    """The last sessions, the oldest first; at most TRACED_SESSIONS_MAX."""

    clock: Clock
    _sessions: list[SessionTrace] = field(default_factory=list)

    def begun(self, session: Session) -> None:
        """Note a session that is up. Of those over the bound the oldest goes."""
        self._sessions.append(
            SessionTrace(
                session.id,
                session.peer.id,
                session.address,
                session.is_initiator,
                self.clock.monotonic_s(),
                session.transport.trace,
            )
        )
        del self._sessions[:-TRACED_SESSIONS_MAX]

    def ended(self, session: Session, why: str) -> None:
        """Note how a session ended."""
        for trace in reversed(self._sessions):
            if trace.session == session.id:
                trace.why = why
                return

    def of(self, peer: IdentityId) -> Sequence[SessionTrace]:
        """Return the sessions with `peer` that are kept, the oldest first."""
        return [trace for trace in self._sessions if trace.peer == peer]

    def wall_ms(self, at_s: float) -> int:
        """Return the time of the wall clock, in ms since 1970, at a moment of the monotonic clock."""
        return self.clock.now_ms() - round((self.clock.monotonic_s() - at_s) * 1000)
