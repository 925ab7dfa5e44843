"""Conversations: what happens in a session behind the hellos: turns, and the conversations in them (PROTOCOL.md §8).

The session's initiator has the first turn. The side that has the turn opens one conversation after another,
`identities` first, because keys travel before what they sign. It leaves contexts that are empty at the peer to it: a
Turn hands over, the peer opens snapshots, and hands back. The side that does not have the turn serves.

    initiator   identities, main, ..  ── Turn ──>  responder   snapshots
                                      <── Turn ──
                                      ── FollowInit, or Close
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar

from echonode.clock import Clock
from echonode.errors import PeerRefused, Reason, RemoteError
from echonode.model.identity import IdentityId
from echonode.model.record import IDENTITIES, Record
from echonode.node.bulk_gate import BulkGate
from echonode.node.escalation import Attempt, End, next_attempt
from echonode.node.event_bus import EventBus
from echonode.node.handshake import Session
from echonode.node.hello import NAMES
from echonode.node.intake import Intake
from echonode.node.live_links import LiveLinks
from echonode.node.log_cursor import LogCursor
from echonode.node.mode_table import in_common, spec_of
from echonode.node.other_lives import OtherLives
from echonode.node.refusals import DECLINED, refusal_of
from echonode.node.remembered import remember
from echonode.node.session_report import ConversationReport, SessionReport
from echonode.node.subscriptions import Subscriptions
from echonode.node.summaries import empty, state_of
from echonode.node.work_budgets import WorkBudgets
from echonode.store.port import Store
from echonode.sync.conversation import Conversation, Result, Tally
from echonode.sync.executor import InitiatorOptions
from echonode.sync.live.link import Link
from echonode.sync.modes import snapshot
from echonode.sync.select import Mode, Selection, select
from echonode.sync.sketch_cache import SketchCache
from echonode.wire.codec import UnknownMessage
from echonode.wire.messages import Close, Direction, FollowInit, InitPayload, Refused, Summary, Turn

T = TypeVar("T")


@dataclass(slots=True)
class Conversations:
    """Runs the sessions of one store."""

    store: Store
    clock: Clock
    bus: EventBus
    subscriptions: Subscriptions
    links: LiveLinks
    intake: Intake
    budgets: WorkBudgets
    lives: OtherLives
    sketches: SketchCache = field(default_factory=SketchCache)
    bulk_gate: BulkGate = field(init=False)
    # (peer, context) -> both roots, and those of `identities`, when records were refused: not compared again until one
    # of them changes.
    _stuck: "OrderedDict[tuple[IdentityId, str], tuple[bytes, ...]]" = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.bulk_gate = BulkGate(self.clock)

    async def lead(
        self, session: Session, report: SessionReport, direction: Direction = Direction.BOTH, *, may_link: bool = False
    ) -> Link | None:
        """Run the initiator's side, to the end or until the session becomes a link. Raises what ends it early."""
        theirs = {summary.context: summary for summary in session.hello.contexts}
        if self.lives.takes_first(session.peer.id) and direction is Direction.BOTH:
            await self._turn(session, report, Direction.RECEIVE, theirs)
        report.is_one_way = direction is not Direction.BOTH
        left_to_peer = await self._turn(session, report, direction, theirs)
        if left_to_peer:
            await session.transport.send(Turn(left_to_peer))
            await self.serve(session, report)
        link = await self.links.open(session) if may_link else None
        if link is None:
            await session.transport.send(Close(Reason.FINISHED))
        return link

    async def ask(
        self,
        session: Session,
        report: SessionReport,
        context: str,
        mode: Mode,
        work: Callable[[Conversation], Awaitable[T]],
    ) -> T:
        """Run the initiator's side of a session about one thing: `identities` first, as always, then `work` in `mode`.

        Return what `work` returns. Raises PeerRefused when the peer declines, and what else ends the session early.
        """
        theirs = {summary.context: summary for summary in session.hello.contexts if summary.context == IDENTITIES}
        await self._turn(session, report, Direction.BOTH, theirs, only=(IDENTITIES,))
        conversation, finish = self._begin(session, report, context, mode, "asked for", "initiator")
        if mode is Mode.GET:
            conversation = replace(conversation, wants=None, judge=lambda _: ())  # a person asked for them: keep all
        try:
            if mode.value not in session.hello.modes:
                raise PeerRefused(Reason.UNSUPPORTED_MODE, supported=session.hello.modes)
            result = await work(conversation)
        except PeerRefused as refused:
            if refused.reason in DECLINED:
                finish(Result.REFUSED)
                await session.transport.send(Close(Reason.FINISHED))
            raise
        finish(Result.ANSWERED)
        await session.transport.send(Close(Reason.FINISHED))
        return result

    async def serve(self, session: Session, report: SessionReport) -> Link | None:
        """Serve the peer's conversations until it closes, hands over its turn, or makes the session a link."""
        is_last = False  # True once both turns are over: only the end of the session may follow
        while True:
            try:
                message = await session.transport.recv()
            except UnknownMessage:
                await session.transport.send(Refused(Reason.UNSUPPORTED_MODE, NAMES))
                continue
            except PeerRefused as close:
                if close.reason is Reason.FINISHED:
                    report.compare_rest(session, self.subscriptions)
                    return None
                raise
            match message:
                case opening if isinstance(opening, InitPayload) and not is_last:
                    await self._answer(session, report, opening)
                case Turn(contexts) if not session.is_initiator and not is_last:
                    # The hello is older than the peer's turn: its contexts are those that were empty here then.
                    theirs = {s.context: s for s in session.hello.contexts if s.context in contexts}
                    await self._turn(session, report, Direction.RECEIVE, theirs)
                    await session.transport.send(Turn(()))
                    is_last = True
                case Turn() if session.is_initiator:
                    report.compare_rest(session, self.subscriptions)
                    return None
                case FollowInit() if not session.is_initiator:
                    report.compare_rest(session, self.subscriptions)
                    link = await self.links.answer(session, message)
                    if link is not None:
                        return link
                case _:
                    raise RemoteError(Reason.PROTOCOL_ERROR, f"unexpected {type(message).__name__}")

    # -- the turn ----------------------------------------------------------------------------------------------------

    async def _turn(
        self,
        session: Session,
        report: SessionReport,
        direction: Direction,
        theirs: dict[str, Summary],
        only: tuple[str, ...] | None = None,
    ) -> tuple[str, ...]:
        """Have a turn: converse about every context, or `only` these. Return those that are left to the peer."""
        left_to_peer: list[str] = []
        cursor = LogCursor.of(self.store, session)
        common = in_common(session.hello.modes, direction)
        names = (IDENTITIES, *self.store.contexts(), *theirs) if session.is_initiator else tuple(theirs)
        for context in dict.fromkeys(names if only is None else only):
            if not self.subscriptions.takes(context):  # asked one by one: each new context leaves room for one less
                continue
            summary = theirs.get(context, empty(context))
            if direction is Direction.SEND and not len(self.store.tree(context)):
                continue
            modes = common
            if report.is_direct and not summary.count and len(self.store.tree(context)):
                modes = [mode for mode in common if mode is not Mode.SNAPSHOT]  # the peer did not ask for it
            choose = partial(self._select, cursor, summary, modes)
            async with self.bulk_gate.after_others(context, choose) as selection:
                if selection.is_theirs and session.is_initiator and direction is not Direction.RECEIVE:
                    left_to_peer.append(context)
                elif selection.mode is Mode.RECONCILE or (selection.is_theirs and summary.is_partial):
                    if summary.is_partial and session.is_initiator and direction is Direction.BOTH:
                        left_to_peer.append(context)  # each side receives its own part in its own turn
                    way = self._way(session, summary, direction)
                    if way is not None:
                        first = Attempt(Mode.RECONCILE, selection.reason)
                        await self._make_equal(session, report, summary, way, first)
                elif selection.mode is not None and self.bulk_gate.is_busy(context):
                    report.add_filling(context)
                elif selection.mode is not None:
                    first = Attempt(selection.mode, selection.reason, expected=selection.expected)
                    await self._make_equal(session, report, summary, direction, first)
                elif selection.reason == "roots are equal":
                    cursor.reached(context, summary.seq)
                elif not selection.is_theirs:
                    report.unequal[context] = selection.reason
        report.is_compared = only is None
        return tuple(left_to_peer)

    def _select(self, cursor: LogCursor, summary: Summary, common: Collection[Mode]) -> Selection:
        is_partial = self.subscriptions.of(summary.context) is not None
        return select(cursor.our_state(summary.context, is_partial), state_of(summary), common)

    async def _make_equal(
        self, session: Session, report: SessionReport, summary: Summary, direction: Direction, first: Attempt
    ) -> None:
        """Converse about one context until it is equal, or there is a reason why it cannot be (node/escalation.py)."""
        context, pair = summary.context, (session.peer.id, summary.context)
        if self._stuck.get(pair) == self._roots(session, context, summary):
            report.unequal[context] = _STUCK
            return
        attempt: Attempt | End = first
        while isinstance(attempt, Attempt):
            if attempt.is_keys_first:
                await self._converse(session, report, IDENTITIES, Attempt(Mode.LEVEL_WISE, "a key was unknown"))
            before = self.store.tree(context).root
            result, tally = await self._converse(session, report, context, attempt, direction)
            attempt = next_attempt(
                attempt,
                result,
                tally,
                context,
                has_cursor=LogCursor.of(self.store, session).can_follow(context, session.hello.modes),
                has_moved=self.store.tree(context).root != before,
            )
        if attempt is End.STUCK:
            remember(self._stuck, pair, self._roots(session, context, summary))
        elif attempt is End.EQUAL:
            self._stuck.pop(pair, None)
            if first.mode is Mode.RECONCILE:
                self.subscriptions.note_equal(*pair, self._roots(session, context, summary))

    def _way(self, session: Session, summary: Summary, direction: Direction) -> Direction | None:
        """Return which way the records of a wanted part go; None for no way, or when they are known to be equal."""
        if not session.is_initiator:
            direction = Direction.BOTH  # the turn was given for this, not only to receive what is empty here
        context, peer = summary.context, session.peer.id
        if self.subscriptions.is_equal(peer, context, self._roots(session, context, summary)):
            return None
        return self.subscriptions.way(context, peer, direction, is_theirs_partial=summary.is_partial)

    def _roots(self, session: Session, context: str, summary: Summary) -> tuple[bytes, ...]:
        their_keys = [each.root for each in session.hello.contexts if each.context == IDENTITIES]
        return self.store.tree(context).root, summary.root, self.store.tree(IDENTITIES).root, *their_keys

    async def _converse(
        self,
        session: Session,
        report: SessionReport,
        context: str,
        attempt: Attempt,
        direction: Direction = Direction.BOTH,
    ) -> tuple[Result, Tally]:
        """Hold the conversation `attempt`; a peer that declines it makes its result REFUSED."""
        conversation, finish = self._begin(session, report, context, attempt.mode, attempt.reason, "initiator")
        declined: Reason | None = None
        if attempt.mode is not Mode.SNAPSHOT and not self.bulk_gate.is_going_on(context):
            await snapshot.merge_left_over(conversation)
        try:
            with self._filled_by(session, context, attempt.mode):
                result = await self._initiate(conversation, attempt, direction)
        except PeerRefused as refused:
            if refused.reason not in DECLINED:
                raise
            result, declined = Result.REFUSED, refused.reason
        finish(result)
        if declined is not None:
            report.add_declined(context, declined)
        return result, conversation.tally

    async def _initiate(self, conversation: Conversation, attempt: Attempt, direction: Direction) -> Result:
        """Run the initiator of the attempt's mode (node/mode_table.py)."""
        wanted = self.subscriptions.of(conversation.context)
        options = InitiatorOptions(
            direction, attempt.width, attempt.expected, wanted=wanted, follows_all=wanted is not None
        )
        result: Result = await spec_of(attempt.mode).executor.run_initiator(conversation, options)
        return result

    # -- serving -----------------------------------------------------------------------------------------------------

    async def _answer(self, session: Session, report: SessionReport, init: InitPayload) -> None:
        """Serve the conversation that `init` opens, or decline it."""
        refusal = refusal_of(init, self.store, self.subscriptions.takes, self.bulk_gate, self.subscriptions)
        spec = spec_of(init)
        if refusal is not None:
            if spec.mode is Mode.RECONCILE:
                self.subscriptions.note(session.peer.id, init.context, is_done=False)
            await session.transport.send(refusal)
            return
        conversation, finish = self._begin(session, report, init.context, spec.mode, "asked for", "responder")
        with self._filled_by(session, init.context, Mode.LEVEL_WISE if spec.mode is Mode.SNAPSHOT else spec.mode):
            result: Result = await spec.executor.run_responder(conversation, init)
        finish(result)

    # -- shared ------------------------------------------------------------------------------------------------------

    def _filled_by(self, session: Session, context: str, mode: Mode) -> AbstractContextManager[None]:
        """Return what bounds a conversation of that mode while it runs: one peer at a time fills a context."""
        if spec_of(mode).serves_part:  # it brings a part, and is not to be measured by the whole
            return self.subscriptions.reconciling() if spec_of(mode).is_limited else nullcontext()
        claimed = next((each.count for each in session.hello.contexts if each.context == context), 0)
        return self.bulk_gate.by(
            session.peer.id, context, claimed, lambda: len(self.store.tree(context)), is_snapshot=mode is Mode.SNAPSHOT
        )

    def _begin(
        self, session: Session, report: SessionReport, context: str, mode: Mode, reason: str, role: str
    ) -> tuple[Conversation, Callable[[Result], None]]:
        """Return a conversation, and the function to call with its result."""
        figures = ConversationReport(self.clock, self.bus, session, context, mode, reason, role)
        received = 0

        def progress(tally: Tally) -> None:
            nonlocal received
            if tally.received > received:  # records that were here already bring nothing new
                received = tally.received
                self.bulk_gate.moved_on(context)
            figures.progress(tally)

        their_root = next((each.root for each in session.hello.contexts if each.context == context), b"")

        def applied(records: Sequence[Record]) -> None:
            self.links.plumtree.note_held([record.id for record in records], their_root)
            figures.applied(records)

        conversation = Conversation(
            session.transport,
            self.store,
            context,
            on_applied=applied,
            on_staged=figures.staged,
            on_shown=figures.shown,
            is_listened=figures.is_listened,
            on_strangers=figures.strangers,
            on_outranked=figures.outranked,
            on_voided=figures.voided,
            on_refused=partial(self.links.refusals.note, session.peer.id, context),
            on_progress=progress,
            judge=partial(self.intake.judge, context, session.peer.id),
            pace=partial(self.budgets.receive, session.peer.id),
            charge=partial(self.budgets.charge, session.peer.id),
            wants=self.subscriptions.wants(context, session.peer.id),
            cursor=LogCursor.of(self.store, session).cursor(context),
            sketches=self.sketches,
            filtered_sets=self.subscriptions.filtered_sets,
            session=session.id,
        )

        def finish(result: Result) -> None:
            if conversation.tally.followed is not None:
                LogCursor.of(self.store, session).reached(context, conversation.tally.followed)
            if mode is Mode.RECONCILE:
                self.subscriptions.note(session.peer.id, context, is_done=result in (Result.EQUAL, Result.ONE_WAY))
            report.add(figures.completed(result, conversation.tally), conversation.tally)

        return conversation, finish


_STUCK: Final = "records were refused, and nothing has changed since"
