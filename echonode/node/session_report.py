"""Reports: what a session did, which contexts it left unequal and why, and one conversation's figures.

The scheduler learns from a SessionReport whether a peer is in sync; a ConversationReport publishes events.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from echonode.clock import Clock
from echonode.errors import Reason
from echonode.model.record import Record, VersionId
from echonode.node.event_bus import EventBus
from echonode.node.events import (
    ContextShown,
    OtherLifeMet,
    RecordOutranked,
    RecordRefused,
    RecordsApplied,
    RecordsStaged,
    RecordVoided,
    SyncCompleted,
    SyncProgress,
)
from echonode.node.handshake import Session
from echonode.node.log_cursor import LogCursor
from echonode.node.subscriptions import Subscriptions
from echonode.node.summaries import empty
from echonode.store.port import Outranked, VoidedVersion
from echonode.sync.conversation import Result, Tally
from echonode.sync.select import Mode

_NOT_ASKED_FOR: Final = "left to the peer, which did not ask for it"
_DECLINED: Final = {
    Reason.BUSY: "another peer is filling it there right now",
    Reason.UNKNOWN_CONTEXT: "the peer does not take this context",
}
_NOT_MADE_EQUAL: Final = "the part that is wanted was not made equal when it was last asked for"


@dataclass(slots=True)
class SessionReport:
    """The conversations of a session.

    `unequal`    contexts that ended unequal, and why
    `passing`    those of them that may soon be equal by another session
    `is_direct`  nothing is left to the peer to ask for
    """

    conversations: list[SyncCompleted] = field(default_factory=list)
    unequal: dict[str, str] = field(default_factory=dict)
    passing: set[str] = field(default_factory=set)
    is_direct: bool = False
    is_compared: bool = False  # every context was looked at
    is_one_way: bool = False  # nothing was learnt of what the other side lacks

    def add(self, completed: SyncCompleted, tally: Tally) -> None:
        """Add a conversation that is over."""
        self.conversations.append(completed)
        if completed.outcome == Result.ANSWERED.value:
            return  # it says nothing of what else differs
        self.is_one_way |= completed.outcome == Result.ONE_WAY.value
        if completed.outcome in (Result.EQUAL.value, Result.ONE_WAY.value):
            self.unequal.pop(completed.context, None)
            self.passing.discard(completed.context)
        else:
            self.unequal[completed.context] = _why(Result(completed.outcome), tally)
            if completed.outcome == Result.MOVED.value:
                self.passing.add(completed.context)

    def add_declined(self, context: str, reason: Reason) -> None:
        """Note why the peer declined the last conversation about `context`."""
        self.unequal[context] = _DECLINED.get(reason, f"the peer declined: {reason.text}")
        if reason is Reason.BUSY:
            self.passing.add(context)

    def add_filling(self, context: str) -> None:
        """Note that another peer is filling `context` here."""
        self.unequal[context] = "another peer is filling it right now"
        self.passing.add(context)

    def compare_rest(self, session: Session, subscriptions: Subscriptions) -> None:
        """At the end of a session that the peer led, compare the contexts about which it held no conversation."""
        self.is_compared = True
        store = subscriptions.store
        theirs = {summary.context: summary for summary in session.hello.contexts}
        answered = Result.ANSWERED.value
        held = {conversation.context for conversation in self.conversations if conversation.outcome != answered}
        for context in dict.fromkeys((*store.contexts(), *theirs)):
            if context in held or not subscriptions.takes(context):
                continue
            summary = theirs.get(context, empty(context))
            if summary.is_partial or subscriptions.of(context) is not None:
                # The side that wants a part asks when there is something to ask for, and says nothing otherwise.
                if subscriptions.is_open(session.peer.id, context):
                    self.unequal.setdefault(context, _NOT_MADE_EQUAL)
                continue
            if summary.root != store.tree(context).root:
                self.unequal.setdefault(context, _NOT_ASKED_FOR)
                if not self.is_direct:
                    self.passing.add(context)
            else:
                LogCursor.of(store, session).reached(context, summary.seq)

    @property
    def moved(self) -> int:
        """The number of records that moved, either way."""
        return sum(conversation.sent + conversation.received for conversation in self.conversations)

    @property
    def in_sync(self) -> bool | None:
        """True when both sides are equal in every context; None when the session ended before that was known."""
        return not self.unequal if self.is_compared and not self.is_one_way else None


class ConversationReport:
    """One conversation's figures, from its first message on."""

    def __init__(
        self, clock: Clock, bus: EventBus, session: Session, context: str, mode: Mode, reason: str, role: str
    ) -> None:
        self._clock = clock
        self._bus = bus
        self._session = session
        self._context = context
        self._mode = mode
        self._reason = reason
        self._role = role
        self._began_s = clock.monotonic_s()
        self._sent = session.transport.bytes_sent
        self._received = session.transport.bytes_received

    def progress(self, tally: Tally) -> None:
        """Publish how many records moved so far."""
        self._bus.publish(
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
        """Publish that records of the peer became heads here."""
        self._bus.publish(
            RecordsApplied(context=self._context, source=self._session.peer.id, records=tuple(records))
        )

    def staged(self, records: Sequence[Record]) -> None:
        """Publish that records of the peer wait for the rest of their snapshot."""
        self._bus.publish(RecordsStaged(source=self._session.peer.id, records=records))

    def shown(self, latest: Sequence[VersionId], count: int) -> None:
        """Publish that a snapshot of the peer is shown here, of `count` heads."""
        peer = self._session.peer.id
        self._bus.publish(ContextShown(context=self._context, source=peer, latest=latest, count=count))

    def is_listened(self) -> bool:
        """Return True while somebody is told of every record."""
        return self._bus.is_read

    def strangers(self, strangers: Sequence[Record]) -> None:
        """Publish that another life of this store signed versions of the peer's."""
        self._bus.publish(OtherLifeMet(strangers=strangers))

    def outranked(self, outranked: Sequence[Outranked]) -> None:
        """Publish which versions do not fit beside the other heads of their records."""
        for of_record in outranked:
            self._bus.publish(RecordOutranked.of(of_record, peer=self._session.peer.id, context=self._context))

    def voided(self, voided: Sequence[VoidedVersion]) -> None:
        """Publish which versions are no heads any more by a statement of the peer's."""
        for version in voided:
            self._bus.publish(RecordVoided.of(version, peer=self._session.peer.id))

    def completed(self, result: Result, tally: Tally) -> SyncCompleted:
        """Publish and return the conversation's one outcome."""
        for refused in tally.refused[:1]:
            self._bus.publish(
                RecordRefused(
                    session=self._session.id,
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
        self._bus.publish(completed)
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
