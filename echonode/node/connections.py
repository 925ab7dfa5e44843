"""Connections: dials what the scheduler decides, accepts what comes, and runs a session over each stream.

Every session ends here, in one of three ways: it is over; it gave way to another session with the same peer; or it
failed. A failure is logged once, answered with a Close where the peer is known, and remembered for back-off.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from echonode.clock import Clock, Entropy
from echonode.errors import EchonodeError, LocalError, PeerRefused, Reason, RemoteError, StoreError, TransportError
from echonode.limits import (
    HANDSHAKES_MAX,
    HANDSHAKES_PER_ADDRESS_MAX,
    HANDSHAKES_RESERVED,
    SCHEDULE_INTERVAL_S,
    SESSION_AGE_S_MAX,
)
from echonode.model.identity import IdentityId
from echonode.node.admission import Admission
from echonode.node.event_bus import EventBus
from echonode.node.events import PeerAbsent, PeerConnected, RecordsApplied, SessionFailed
from echonode.node.handshake import LocalSide, Session, answer, initiate, shake_hands
from echonode.node.happy_eyeballs import reach
from echonode.node.invitations import Invitations
from echonode.node.live_links import LiveLinks
from echonode.node.peer_table import PeerTable
from echonode.node.scheduler import DialNow, Scheduler
from echonode.node.session_registry import SessionRegistry
from echonode.node.session_report import SessionReport
from echonode.sync.live.link import Link
from echonode.sync.streams import ByteStream, Dial
from echonode.sync.tasks import all_ended
from echonode.sync.transport import StreamTransport
from echonode.text import escape
from echonode.wire.channel import Handshake
from echonode.wire.messages import Direction

# Ends that are no failure: the other direction's session goes on, or the peer is only busy.
_NO_FAILURE: Final = (Reason.DUPLICATE_SESSION, Reason.BUSY)
_CLOSE_S: Final = 1.0
_Linked: TypeAlias = tuple[Session, Link]

Work: TypeAlias = Callable[[Session, SessionReport], Coroutine[Any, Any, Link | None]]


class SessionRunner(Protocol):
    """Runs a session, to its end or until it becomes a link (node/conversations.py). Raises what ends it early."""

    async def lead(
        self, session: Session, log: SessionReport, direction: Direction = Direction.BOTH, *, may_link: bool = False
    ) -> Link | None:
        """Run the initiator's side."""
        ...

    async def serve(self, session: Session, log: SessionReport) -> Link | None:
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
    admission: Admission
    invitations: Invitations
    runner: SessionRunner
    links: LiveLinks
    wake: asyncio.Event
    _shaking: Counter[str] = field(default_factory=Counter)  # handshakes under way, by the peer's host
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

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

    def tell_some(self, event: RecordsApplied) -> None:
        """Have some peers compared with soon, of those that no link tells of what was applied."""
        source = IdentityId(event.source) if event.source else None
        self.table.store_changed(source, self.clock.monotonic_s())
        peers = self.scheduler.to_tell(source)
        if peers:
            self.table.compare_soon(self.clock.monotonic_s(), peers)
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
            linked, failure = await self._dial(decision)
        except Exception as error:
            # A fault of ours: the target must not count as being dialled for ever because of it.
            self._dial_ended(decision, LocalError(f"broken off here by {type(error).__name__}"))
            raise
        self._dial_ended(decision, failure)
        if linked is not None:
            await self._keep(*linked)

    def _dial_ended(self, decision: DialNow, failure: EchonodeError | None) -> None:
        is_failure = failure is not None and not _is_no_failure(failure)
        absent = self.table.dial_ended(
            self.clock.monotonic_s(),
            decision.target,
            failure=_in_words(failure) if failure is not None and is_failure else None,
            is_refusal=isinstance(failure, PeerRefused),
            is_declined=failure is not None and not is_failure,
        )
        if absent is not None:
            self.bus.publish(PeerAbsent(peer=absent.id, peer_name=absent.name, why=absent.reason))
        if isinstance(failure, TransportError) and (peer := self.table.casts_doubt(decision.target)):
            self.links.doubt(peer, str(failure))
        self.wake.set()

    async def _dial(self, decision: DialNow) -> tuple[_Linked | None, EchonodeError | None]:
        """Dial a target. Return the link that came of it, and why no session or no good end came of it."""
        try:
            stream = await reach(self.dial, decision.addresses)
            work = partial(self.runner.lead, may_link=True)
            return await self._lead(stream, decision.target, SessionReport(), work), None
        except PeerRefused as refused:
            if refused.reason is Reason.SELF:
                self.table.found_self(decision.target)
            return None, refused
        except EchonodeError as error:
            return None, error

    # -- both roles --------------------------------------------------------------------------------------------------

    async def lead(
        self,
        stream: ByteStream,
        direction: Direction,
        instead: Work | None = None,
        *,
        target: str | None = None,
        is_direct: bool = False,
    ) -> SessionReport:
        """Open a session over `stream` and run it to its end: our turn, or the work `instead` of one.

        `target`: what was dialled, if no peer is known there; `is_direct`: leave nothing to the peer to ask for.
        Raises what ended it early.
        """
        log = SessionReport(is_direct=is_direct)
        work = instead or partial(self.runner.lead, direction=direction)
        await self._lead(stream, target, log, work)
        return log

    async def _lead(self, stream: ByteStream, target: str | None, log: SessionReport, work: Work) -> _Linked | None:
        try:
            session = await initiate(stream, self.invitations.secrets()[0], self.local, self.entropy)
        except BaseException as error:
            if await self._lost(stream, None, error):
                raise _gave_way() from None
            raise
        return await self._hold(session, target, log, lambda: work(session, log))

    async def accept(self, stream: ByteStream) -> None:
        """Serve a stream that was opened to us. Raises nothing but faults of ours and cancellation."""
        host = stream.address.rpartition(":")[0]
        if not self._has_place(host):
            stream.abort()
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
        log = SessionReport()
        try:
            linked = await self._hold(session, None, log, lambda: self.runner.serve(session, log))
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
        """Return the session with the peer at the other end; None when a joiner was there, and was served."""
        own, *others = self.invitations.secrets()
        handshake = Handshake.responder(
            (own, *others), static=self.entropy.random_bytes(32), ephemeral=self.entropy.random_bytes(32)
        )
        transport = StreamTransport(stream, await shake_hands(stream, handshake))
        if transport.channel.secret != own:
            await self.invitations.serve(transport)
            return None
        return await answer(transport, self.local, self.entropy.random_bytes(16))

    async def _hold(
        self,
        session: Session,
        target: str | None,
        log: SessionReport,
        work: Callable[[], Coroutine[Any, Any, Link | None]],
    ) -> _Linked | None:
        """Run an open session to its end, or until it is a link, and keep the peer table told of it."""
        peer, stream = session.peer.id, session.transport.stream
        was_absent = self.table.opened(
            peer,
            session.hello.name,
            session.listens_at,
            target=target,
            is_initiator=session.is_initiator,
            can_follow=self.links.may_link(session.hello),
        )
        self.wake.set()  # this dial no longer keeps another waiting
        if was_absent:
            self.bus.publish(PeerConnected(peer=peer, peer_name=session.hello.name, address=session.listens_at))
        link, error = await self._caught(session, work)
        if link is not None:
            self.registry.becomes_link(peer, stream)
        in_sync = log.in_sync if error is None else None
        reason = "; ".join(f"{context}: {why}" for context, why in log.unequal.items())
        # The table first: closing awaits, and may be cancelled.
        self.table.closed(
            self.clock.monotonic_s(),
            self.clock.now_ms(),
            peer,
            in_sync=in_sync,
            reason=reason,
            is_fruitless=log.moved == 0,
        )
        self.wake.set()
        if link is not None:
            return session, link
        if error is None:
            self.registry.leave(stream)
            await stream.close()
            return None
        if await self._lost(stream, session, error):
            raise _gave_way()
        raise error

    async def _keep(self, session: Session, link: Link) -> None:
        """Run a link to its end."""
        stream = session.transport.stream
        try:
            await self.links.keep(session, link)
        except TransportError:  # no fault of either side, and the end of the link was logged
            self.registry.leave(stream)
            stream.abort()
            return
        except BaseException as error:
            await self._lost(stream, session, error)
            if not isinstance(error, EchonodeError):
                raise
            return
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

    async def _lost(self, stream: ByteStream, session: Session | None, error: BaseException) -> bool:
        """Report a failed session once, tell a known peer why, and drop the connection.

        Return True when it did not fail, but was dropped here in favour of another session with the same peer.
        """
        if session is None and (met := self.registry.peer_at(stream)) is not None:
            self.table.hello_wasted(self.clock.monotonic_s(), met)
        was_replaced = self.registry.leave(stream)
        if isinstance(error, EchonodeError) and not was_replaced and not _is_no_failure(error):
            reason, detail = _reason_of(error)
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
            await session.transport.part(_parting_reason(error))
        elif not was_replaced:
            if isinstance(error, PeerRefused):
                await _close_soon(stream)  # a Close may still be on its way
            stream.abort()
        return was_replaced and isinstance(error, EchonodeError)


async def _close_soon(stream: ByteStream) -> None:
    try:
        async with asyncio.timeout(_CLOSE_S):
            await stream.close()
    except TimeoutError:
        pass


def _gave_way() -> PeerRefused:
    return PeerRefused(Reason.DUPLICATE_SESSION, "dropped in favour of another session with the same peer")


def _is_no_failure(error: BaseException) -> bool:
    return isinstance(error, PeerRefused) and error.reason in _NO_FAILURE


def _reason_of(error: EchonodeError) -> tuple[str, str]:
    match error:
        case RemoteError():
            return error.reason.text, error.detail
        case PeerRefused():
            return error.reason.text, _in_words(error)
        case TransportError():
            return "transport", str(error)
        case StoreError():
            return Reason.STORE_FAILED.text, str(error)
        case _:
            return "local", str(error)


def _in_words(error: EchonodeError) -> str:
    """Return `error` as a sentence, with what the peer supports instead."""
    supported = error.supported if isinstance(error, PeerRefused) else ()
    return str(error) + (f"; what would do: {escape(', '.join(supported))}" if supported else "")


def _parting_reason(error: BaseException) -> Reason:
    match error:
        case RemoteError():
            return error.reason
        case asyncio.CancelledError():
            return Reason.SHUTTING_DOWN
        case _:
            return Reason.STORE_FAILED
