"""The account of a conversation and of a session: what is told to the observer, and what the scheduler learns."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from echonode.clock import Clock
from echonode.model.record import Record
from echonode.node.events import Observer, RecordRefused, RecordsApplied, SyncCompleted, SyncProgress
from echonode.node.handshake import Session
from echonode.sync.conversation import Result, Tally
from echonode.sync.select import Mode


@dataclass(slots=True)
class SessionReport:
    """What a session did, conversation by conversation, and which contexts ended unequal and why."""

    conversations: list[SyncCompleted] = field(default_factory=list)
    unequal: dict[str, str] = field(default_factory=dict)
    is_compared: bool = False  # every context was looked at
    is_one_way: bool = False  # nothing was learnt of what the other side lacks

    def add(self, completed: SyncCompleted, tally: Tally) -> None:
        """One more conversation is over."""
        self.conversations.append(completed)
        if completed.outcome == Result.ANSWERED.value:
            return  # what else differs was not asked
        self.is_one_way |= completed.outcome == Result.ONE_WAY.value
        if completed.outcome in (Result.EQUAL.value, Result.ONE_WAY.value):
            self.unequal.pop(completed.context, None)
        else:
            self.unequal[completed.context] = _why(Result(completed.outcome), tally)

    @property
    def in_sync(self) -> bool | None:
        """Whether both sides are equal in every context; None when the session did not get to tell."""
        return not self.unequal if self.is_compared and not self.is_one_way else None


class ConversationReport:
    """One conversation's figures, from its first message on."""

    def __init__(
        self, clock: Clock, observe: Observer, session: Session, context: str, mode: Mode, reason: str, role: str
    ) -> None:
        self._clock = clock
        self._observe = observe
        self._session = session
        self._context = context
        self._mode = mode
        self._reason = reason
        self._role = role
        self._began_s = clock.monotonic_s()
        self._sent = session.transport.bytes_sent
        self._received = session.transport.bytes_received

    def progress(self, tally: Tally) -> None:
        """Records moved."""
        self._observe(
            SyncProgress(
                session=self._session.id,
                peer=self._session.peer.id,
                context=self._context,
                mode=self._mode.value,
                received=tally.received,
                sent=tally.sent,
                total=tally.total,
            )
        )

    def applied(self, records: Sequence[Record]) -> None:
        """Records of the peer became heads here."""
        self._observe(RecordsApplied(context=self._context, source=self._session.peer.id, records=tuple(records)))

    def completed(self, result: Result, tally: Tally) -> SyncCompleted:
        """The conversation's one outcome, observed and returned."""
        for refused in tally.refused[:1]:
            self._observe(
                RecordRefused(
                    peer=self._session.peer.id,
                    context=self._context,
                    reason=refused.reason.text,
                    detail=refused.detail,
                )
            )
        transport = self._session.transport
        completed = SyncCompleted(
            session=self._session.id,
            peer=self._session.peer.id,
            context=self._context,
            mode=self._mode.value,
            reason="; ".join(filter(None, (self._reason, tally.note))),
            role=self._role,
            outcome=result.value,
            verified=result is Result.EQUAL,
            sent=tally.sent,
            received=tally.received,
            refused=tally.refused_here + tally.refused_there,
            bytes_sent=transport.bytes_sent - self._sent,
            bytes_received=transport.bytes_received - self._received,
            round_trips=tally.round_trips,
            duration_s=round(self._clock.monotonic_s() - self._began_s, 6),
        )
        self._observe(completed)
        return completed


def _why(result: Result, tally: Tally) -> str:
    if tally.refused:
        return f"{tally.refused_here} records refused here: {tally.refused[0].detail}"
    if tally.refused_there:
        return f"{tally.refused_there} records refused there"
    return {
        Result.MOVED: "writes went on during the comparison",
        Result.REFUSED: "the peer does not take this context, or is being filled by another",
    }.get(result, "the roots differ")
