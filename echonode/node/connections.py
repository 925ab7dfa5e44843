"""Connections: dials what the scheduler decides, accepts what comes, and runs a session over each stream.

Every session ends here, in one of three ways: it is over; it gave way to another session with the same peer; or it
failed. A failure is logged once, answered with a Close where the peer is known, and remembered for back-off.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from echonode.clock import Clock, Entropy
from echonode.errors import EchonodeError, LocalError, PeerRefused, Reason, RemoteError, TransportError
from echonode.limits import (
    HANDSHAKES_MAX,
    HANDSHAKES_PER_ADDRESS_MAX,
    HANDSHAKES_RESERVED,
    SCHEDULE_INTERVAL_S,
    SESSION_AGE_S_MAX,
)
from echonode.model.identity import IdentityId
from echonode.node.admission import PeerAdmission
from echonode.node.dropped_handshakes import DroppedHandshakes
from echonode.node.event_bus import EventBus
from echonode.node.events import (
    ContextShown,
    PeerAbsent,
    PeerConnected,
    PeerUnreachable,
    RecordsApplied,
    SessionFailed,
)
from echonode.node.failures import gave_way, in_words, is_no_failure, parting_reason, reason_of
from echonode.node.handshake import FoundSelf, LocalSide, Session, answer, initiate, shake_hands
from echonode.node.happy_eyeballs import reach
from echonode.node.invitations import Invitations
from echonode.node.live_links import LiveLinks
from echonode.node.peer_table import PeerTable
from echonode.node.rotations import Rotations
from echonode.node.scheduler import DialNow, Scheduler
from echonode.node.session_registry import SessionRegistry
from echonode.node.session_report import SessionReport
from echonode.node.session_traces import SessionTraces
from echonode.sync.live.link import Link
from echonode.sync.streams import ByteStream, Dial
from echonode.sync.tasks import all_ended
from echonode.sync.transport import StreamTransport
from echonode.text import escape
from echonode.wire.channel import Handshake
from echonode.wire.messages import Direction

_CLOSE_S: Final = 1.0
_Linked: TypeAlias = tuple[Session, Link]

Work: TypeAlias = Callable[[Session, SessionReport], Coroutine[Any, Any, Link | None]]


class SessionRunner(Protocol):
    """Runs a session, to its end or until it becomes a link (node/conversations.py). Raises what ends it early."""

    async def lead(
        self, session: Session, report: SessionReport, direction: Direction = Direction.BOTH, *, may_link: bool = False
    ) -> Link | None:
        """Run the initiator's side."""
        ...

    async def serve(self, session: Session, report: SessionReport) -> Link | None:
        """Run the responder's side."""
        ...


@dataclass(slots=True)
class Connections:
    """All streams of a node. `wake` is set when the scheduler may decide anew."""

    dial: Dial
    clock: Clock
    entropy: Entropy
    bus: EventBus
    table: PeerTable
    scheduler: Scheduler
    registry: SessionRegistry
    local: LocalSide
    admission: PeerAdmission
    invitations: Invitations
    rotations: Rotations
    runner: SessionRunner
    links: LiveLinks
    wake: asyncio.Event
    dropped: DroppedHandshakes = field(init=False)
    traces: SessionTraces = field(init=False)
    _shaking: Counter[str] = field(default_factory=Counter)  # handshakes under way, by the peer's host
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.dropped = DroppedHandshakes(self.bus, self.spawn)
        self.traces = SessionTraces(self.clock)

    # -- the scheduler's loop ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Dial what is due, for ever."""
        while True:
            self.wake.clear()
            now_s = self.clock.monotonic_s()
            for decision in self._due(now_s):
                self.spawn(self._carry_out(decision))
            wait_s = self.scheduler.next_due_s() - now_s
            with suppress(TimeoutError):
                async with asyncio.timeout(None if wait_s == float("inf") else max(wait_s, 0.0)):
                    await self.wake.wait()
            # Much happens at once when many nodes come up: look at it together.
            await asyncio.sleep(max(0.0, now_s + SCHEDULE_INTERVAL_S - self.clock.monotonic_s()))

    def _due(self, now_s: float) -> list[DialNow]:
        """Return the dials that are due, begun in the peer table."""
        peer = self.scheduler.links.to_rank_anew(now_s)
        if peer is not None:
            self.table.rank_anew(peer)
        dials = self.scheduler.due(now_s)
        for dial in dials:
            self.table.dial_begun(dial.target)
        return dials

    def tell_some(self, event: RecordsApplied | ContextShown) -> None:
        """Have some peers compared with soon, of those that no link tells of what was applied."""
        source = IdentityId(event.source) if event.source else None
        self.table.store_changed(source, self.clock.monotonic_s())
        peers = self.scheduler.to_tell(source)
        if peers:
            self.table.compare_soon(self.clock.monotonic_s(), peers)
            self.wake.set()

    def compare_with_all(self) -> None:
        """Have every peer compared with soon."""
        self.table.compare_soon(self.clock.monotonic_s(), self.table.peers)
        self.wake.set()

    async def close(self) -> None:
        """Drop every connection, and wait until what was being stored is stored."""
        for task in self._tasks:
            task.cancel()
        await all_ended(tuple(self._tasks))
        await self.registry.parted()

    @property
    def handshakes(self) -> int:
        """The number of accepted streams whose peer is not known yet."""
        return self._shaking.total()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` as a task; `close` waits for its end."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, decision: DialNow) -> None:
        try:
            linked = await self._dial(decision)
        except Exception as error:
            # A fault of ours: the target must not count as being dialled for ever because of it.
            self._dial_ended(decision, LocalError(f"broken off here by {type(error).__name__}"), "?")
            raise
        if linked is not None:
            await self._keep(*linked)

    def _dial_ended(self, decision: DialNow, failure: EchonodeError | None, at: str = "") -> None:
        """Note the end of a dial; `at` is where a machine answered, "" for nowhere."""
        now_s = self.clock.monotonic_s()
        is_failure = failure is not None and not is_no_failure(failure)
        absent = self.table.dial_ended(
            now_s,
            decision.target,
            failure=in_words(failure) if failure is not None and is_failure else None,
            is_refusal=isinstance(failure, PeerRefused),
            is_declined=failure is not None and not is_failure,
            is_answered=bool(at),
            at=at,
        )
        if absent is not None:
            self.bus.publish(PeerAbsent(peer=absent.id, peer_name=absent.name, why=absent.reason))
        attempts = self.table.to_report(now_s, decision.target)
        if attempts:
            target = self.table.targets[decision.target]
            address = ", ".join(target.addresses)
            self.bus.publish(
                PeerUnreachable(address=address, found_by=target.found_by, attempts=attempts, why=target.reason)
            )
        if isinstance(failure, TransportError) and (peer := self.table.casts_doubt(decision.target)):
            self.links.doubt(peer, str(failure))
        self.wake.set()

    async def _dial(self, decision: DialNow) -> _Linked | None:
        """Dial a target, run the session to its end, and note that end. Return the link that came of it.

        An address may lead to this very node, or to a machine that speaks another protocol. Then the next is tried.
        """
        waiting, at = list(decision.addresses), ""
        failure: EchonodeError | None = None
        while waiting or failure is None:
            try:
                address, stream = await reach(self.dial, waiting)
            except TransportError as error:
                failure = failure or error
                break
            waiting.remove(address)
            at = stream.address
            try:
                session = await self._open(stream, is_quiet=self._is_repeated(decision))
            except FoundSelf as found:
                self._found_self(decision, address, found)
                failure = found
            except (TransportError, RemoteError) as error:
                failure = await self.rotations.tell_at(self.dial, address, error)
            except EchonodeError as error:
                failure = error  # the peer is there, and a session is not wanted or not possible
                if isinstance(error, PeerRefused) and error.reason is Reason.KEY_REVOKED:
                    self.admission.note_revoked(address)
                break
            else:
                return await self._run(session, decision, address)
        self._dial_ended(decision, failure, at)
        return None

    async def _run(self, session: Session, decision: DialNow, address: str) -> _Linked | None:
        log, linked, failure = SessionReport(), None, None
        is_meant = self._is_meant(decision, session)
        if not is_meant:
            self.table.misled(self.clock.monotonic_s(), decision.target, address)
        target = decision.target if is_meant else None
        try:
            linked = await self._hold(
                session, target, log, lambda: self.runner.lead(session, log, may_link=True), dialled=address
            )
        except EchonodeError as error:
            failure = error
        self._dial_ended(decision, failure, session.address)
        return linked

    def _is_meant(self, decision: DialNow, session: Session) -> bool:
        """Return True unless the session is with another node than the dialled target stands for.

        Addresses of private networks are used over and over, so one address may lead to different machines.
        """
        target = self.table.targets.get(decision.target)
        if target is None or target.is_static:
            return True
        if target.tag:
            return target.tag == session.hello.tag
        return target.peer is None or target.peer == session.peer.id

    def _found_self(self, decision: DialNow, address: str, found: FoundSelf) -> None:
        """Dial that address no more, if this process answered there. Report a copy of this node."""
        if found.is_copy:
            self.admission.note_copy(address)
        else:
            self.table.misled(self.clock.monotonic_s(), decision.target, address)

    def _is_repeated(self, decision: DialNow) -> bool:
        """Return True for a configured address that failed before: its failures are reported together."""
        target = self.table.targets.get(decision.target)
        return target is not None and target.is_static and target.attempt > 0

    # -- both roles --------------------------------------------------------------------------------------------------

    async def lead(
        self,
        addresses: Sequence[str],
        direction: Direction,
        instead: Work | None = None,
        *,
        peer: IdentityId | None,
        target: str | None = None,
        is_direct: bool = False,
    ) -> tuple[Session, SessionReport]:
        """Open a session with `peer` at one of `addresses`, and run it to its end: our turn, or the work `instead`.

        With `peer` None the session is with the node that answers for `target`. `is_direct`: leave nothing to the peer
        to ask for. Raises what ended it early, and TransportError when none of the addresses leads to that peer.
        """
        waiting, log = list(addresses), SessionReport(is_direct=is_direct)
        failure: EchonodeError | None = None
        while True:
            try:
                address, stream = await reach(self.dial, waiting)
            except TransportError as error:
                raise failure or error from None
            waiting.remove(address)
            try:
                session = await self._open(stream)
            except (FoundSelf, TransportError, RemoteError) as error:
                failure = error
                continue
            if peer is not None and session.peer.id != peer:
                failure = TransportError(f"another node answers at {escape(address)}")
                self.registry.leave(stream)
                self.table.hello_wasted(self.clock.monotonic_s(), session.peer.id)
                await session.transport.part(Reason.FINISHED)
                continue
            work = instead or partial(self.runner.lead, direction=direction)
            await self._hold(session, target, log, partial(work, session, log), dialled=address)
            return session, log

    async def _open(self, stream: ByteStream, *, is_quiet: bool = False) -> Session:
        """Open a session over `stream`. `is_quiet`: do not report why that fails."""
        try:
            session = await initiate(stream, self.invitations.secrets()[0], self.local, self.entropy)
            return self.rotations.checked(session)
        except BaseException as error:
            if await self._lost(stream, None, error, is_quiet=is_quiet or self.rotations.may_tell(error)):
                raise gave_way() from None
            raise

    async def accept(self, stream: ByteStream) -> None:
        """Serve a stream that was opened to us. Raises nothing but faults of ours and cancellation."""
        host = stream.address.rpartition(":")[0]
        if not self._has_place(host):
            stream.abort()
            self.dropped.count(host)
            return
        self._shaking[host] += 1
        try:
            session = await self._welcome(stream)
        except EchonodeError as error:
            await self._lost(stream, None, error)
            return
        except BaseException as error:
            await self._lost(stream, None, error)
            raise
        finally:
            self._shaking[host] -= 1
            self._shaking += Counter()  # drops the zeros
        if session is None:
            await stream.close()
            return
        report = SessionReport()
        try:
            linked = await self._hold(session, None, report, lambda: self.runner.serve(session, report))
            if linked is not None:
                await self._keep(*linked)
        except EchonodeError:
            pass  # reported where it was met

    def _has_place(self, host: str) -> bool:
        """Return whether one more handshake may begin. Strangers cannot take all places from peers that were met."""
        begun = self._shaking.total()
        if self._shaking[host] >= HANDSHAKES_PER_ADDRESS_MAX or begun >= HANDSHAKES_MAX + HANDSHAKES_RESERVED:
            return False
        return begun < HANDSHAKES_MAX or any(
            entry.address.rpartition(":")[0] == host for entry in self.table.peers.values()
        )

    async def _welcome(self, stream: ByteStream) -> Session | None:
        """Return the session with the peer at the other end; None for one with another secret, which was served."""
        (own, *others), past = self.invitations.secrets(), self.rotations.secrets()
        handshake = Handshake.responder(
            (own, *past, *others), static=self.entropy.random_bytes(32), ephemeral=self.entropy.random_bytes(32)
        )
        transport = StreamTransport(stream, await shake_hands(stream, handshake))
        if transport.channel.secret != own:
            await (self.rotations if transport.channel.secret in past else self.invitations).serve(transport)
            return None
        return self.rotations.checked(await answer(transport, self.local, self.entropy.random_bytes(16)))

    async def _hold(
        self,
        session: Session,
        target: str | None,
        report: SessionReport,
        work: Callable[[], Coroutine[Any, Any, Link | None]],
        *,
        dialled: str = "",
    ) -> _Linked | None:
        """Run an open session to its end, or until it is a link, and enter both in the peer table."""
        peer, stream = session.peer.id, session.transport.stream
        was_absent = self.table.opened(
            peer,
            session.hello.name,
            session.listens_at,
            target=target,
            is_initiator=session.is_initiator,
            can_follow=self.links.may_link(session.hello),
            now_ms=self.clock.now_ms(),
            dialled=dialled,
        )
        self.traces.begun(session)
        self.wake.set()  # this dial no longer keeps another waiting
        if was_absent:
            self.bus.publish(
                PeerConnected(
                    session=session.id, peer=peer, peer_name=session.hello.name, address=session.listens_at
                )
            )
        link, error = await self._caught(session, work)
        if link is not None and not self.registry.becomes_link(peer, stream):
            link, error = None, gave_way()
        in_sync = report.in_sync if error is None else None
        reason = "; ".join(f"{context}: {why}" for context, why in report.unequal.items())
        # The table first: closing awaits, and may be cancelled.
        self.table.closed(
            self.clock.monotonic_s(),
            self.clock.now_ms(),
            peer,
            in_sync=in_sync,
            reason=reason,
            is_fruitless=report.moved == 0,
        )
        self.wake.set()
        if link is not None:
            return session, link
        self.traces.ended(session, _ending(error))
        if error is None:
            self.registry.leave(stream)
            await stream.close()
            return None
        if await self._lost(stream, session, error):
            raise gave_way()
        raise error

    async def _keep(self, session: Session, link: Link) -> None:
        """Run a link to its end."""
        stream = session.transport.stream
        try:
            await self.links.keep(session, link)
        except TransportError as error:  # no fault of either side, and the end of the link was logged
            self.traces.ended(session, _ending(error))
            self.registry.leave(stream)
            stream.abort()
            return
        except BaseException as error:
            self.traces.ended(session, _ending(error))
            await self._lost(stream, session, error)
            if not isinstance(error, EchonodeError):
                raise
            return
        self.traces.ended(session, _ending(None))
        if not self.registry.leave(stream):
            await session.transport.part(Reason.FINISHED)

    async def _caught(
        self, session: Session, work: Callable[[], Coroutine[Any, Any, Link | None]]
    ) -> tuple[Link | None, BaseException | None]:
        """Run a session. Return the link that it became, and the error that ended it early; None for neither."""
        try:
            # Jittered, so that nodes started together do not all shake hands anew together (SECURITY.md H9).
            async with asyncio.timeout(SESSION_AGE_S_MAX * self.entropy.uniform(0.8, 1.0)):
                await self.admission.learn(session)
                return await work(), None
        except TimeoutError:
            return None, TransportError("the session reached its greatest age")
        except BaseException as error:
            return None, error

    async def _lost(
        self, stream: ByteStream, session: Session | None, error: BaseException, *, is_quiet: bool = False
    ) -> bool:
        """Report a failed session once unless `is_quiet`, tell a known peer why, and drop the connection.

        Return True when it did not fail, but was dropped here in favour of another session with the same peer.
        """
        if session is None and (met := self.registry.peer_at(stream)) is not None:
            self.table.hello_wasted(self.clock.monotonic_s(), met)
        was_replaced = self.registry.leave(stream)
        is_reported = not (is_quiet or was_replaced or is_no_failure(error) or self.admission.is_told(error, stream))
        if isinstance(error, EchonodeError) and is_reported:
            reason, detail = reason_of(error)
            self.bus.publish(
                SessionFailed(
                    session=session.id if session else b"",
                    peer=session.peer.id if session else b"",
                    address=stream.address,
                    reason=reason,
                    detail=detail,
                )
            )
        if session is not None and not was_replaced and not isinstance(error, PeerRefused | TransportError):
            await session.transport.part(parting_reason(error))
        elif not was_replaced:
            if isinstance(error, PeerRefused):
                await _close_soon(stream)  # a Close may still be on its way
            stream.abort()
        return was_replaced and isinstance(error, EchonodeError)


def _ending(error: BaseException | None) -> str:
    """Return how a session ended, in words."""
    if error is None:
        return "in order"
    return in_words(error) if isinstance(error, EchonodeError) else "broken off here"


async def _close_soon(stream: ByteStream) -> None:
    try:
        async with asyncio.timeout(_CLOSE_S):
            await stream.close()
    except TimeoutError:
        pass
