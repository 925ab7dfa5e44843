"""`follow`: a session that stays open, in which each side tells the other the changes it stores (PROTOCOL.md §8.15).

    initiator                                   responder
      FollowInit(places)              ->
                                      <-          Follow(places)              (or Refused)
    from then on, either way, whenever there is something to send:
      Commits(records, announced)     changes, whole or announced; Missing and Bodies fetch what was announced
      Taken                           frees the sender's window
      Lazy                            asks the peer to announce changes from now on
      Roots                           all changes were told, and these are the roots; also sent from time to time
      Ping                            nothing else to say for a while; the transport answers with Pong
      Follow(places)                  one context more

A link runs five tasks: it reads, stores, sends, beats, and watches for signs of life. The reading task never waits for
the sending one, so two ends that send much at once cannot block each other.
"""

import asyncio
from collections.abc import Sequence

from echonode.errors import PeerRefused, Reason, TransportError
from echonode.limits import (
    ANNOUNCE_DELAY_S,
    HEARTBEAT_S,
    LINK_PING_TICKS,
    LINK_PROBE_S,
    LINK_SILENCE_TICKS,
    LINK_TICK_S,
    ROOTS_DELAY_MANY_S,
    ROOTS_DELAY_S,
    ROOTS_INTERVAL_S,
    SUSPECT_S,
)
from echonode.sync.live.plumtree import ShortId
from echonode.sync.live.receiver import LinkReceiver
from echonode.sync.live.send_queue import LinkEnvironment, LinkTally, SendQueue
from echonode.sync.live.sender import LinkSender
from echonode.sync.tasks import all_ended, uninterrupted
from echonode.sync.transport import unexpected
from echonode.wire.messages import Bodies, Commits, ContextCursor, Follow, Lazy, Missing, Ping, Roots, Taken

_PROBE_STEP_S = 0.1
_FEW_LINKS = 3  # with so many, a root for each change costs little


class PeerSilentError(TransportError):
    """Nothing was heard of the peer for too long."""


class Link:
    """One link. `ours`: how far this node has followed the peer; `theirs`: how far the peer has followed this node."""

    def __init__(
        self, environment: LinkEnvironment, ours: Sequence[ContextCursor], theirs: Sequence[ContextCursor]
    ) -> None:
        self._environment = environment
        self._queue = SendQueue(environment, self)
        self._sender = LinkSender(self._queue, tuple(theirs))
        self._receiver = LinkReceiver(self._queue, ours, self, self._sender)
        self._stopped = asyncio.Event()
        self._is_announcement_due = False
        self._announcement_timer: asyncio.TimerHandle | None = None
        self._quiet_timer: asyncio.TimerHandle | None = None
        self._roots_due: dict[str, float] = {}  # by context: when its root is told, unless something moves
        self._next_roots_s = 0.0  # the earliest time for the next roots, among many peers
        self._is_check_due = False  # the store changed: all may be equal now
        self._probe = asyncio.Event()
        self._was_equal = False
        self._is_suspect = False
        self._first_due = [cursor.context for cursor in theirs]

    @property
    def tally(self) -> LinkTally:
        """The link's counters so far."""
        return self._queue.tally

    def behind(self) -> int:
        """Return how many entries of our log the peer has not taken yet, at most; 0 when it is equal."""
        return self._sender.behind()

    @property
    def is_in_step(self) -> bool:
        """True when both sides lack nothing but what is in flight, as far as this one can know."""
        is_followed = self._receiver.is_whole and self._sender.is_from_cursors
        return (self._was_equal or is_followed) and not self._is_suspect and not self._sender.not_asked_for()

    def pending(self) -> list[str]:
        """Return what this link has still to do, in words; nothing when it is at rest."""
        left = {
            "words to say": self._queue.outbox,
            "questions to answer": self._sender.has_questions,
            "log entries to tell": self._sender.has_untold(),
            "an announcement to make": self._announcement_timer,
            "roots to tell": self._quiet_timer or self._roots_due,
        }
        return [*(words for words, there in left.items() if there), *self._receiver.pending()]

    def probe(self) -> None:
        """Find out at once whether the peer is there: end the link when it does not answer within LINK_PROBE_S."""
        self._probe.set()

    def stop(self) -> None:
        """End the link in order, and receive nothing more by it."""
        self._stopped.set()

    async def run(self, age_s: float) -> None:
        """Follow and be followed until either side ends it, or for `age_s` seconds. Raises what ends it early."""
        self._environment.plumtree.links[self._environment.peer] = self
        for context in self._first_due:
            self._tell_root_soon(context)
        work = (
            *(self._read(), self._receiver.run(), self._send(), self._beat(), self._watch()),
            self._stopped.wait(),
        )
        tasks = [asyncio.create_task(each) for each in work]
        try:
            await asyncio.wait(tasks, timeout=age_s, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        except PeerRefused as close:
            if close.reason is not Reason.FINISHED:
                raise
        finally:
            for task in tasks:
                task.cancel()
            try:
                await uninterrupted(all_ended(tasks))  # a node that stops now waits for what is being stored
            finally:
                self._close()

    def _close(self) -> None:
        """Cancel the timers, which the tasks may have set to the last, and leave the node's other links."""
        for timer in (self._announcement_timer, self._quiet_timer):
            if timer is not None:
                timer.cancel()
        self._receiver.close()
        self._environment.plumtree.remove(self._environment.peer, self)

    # -- as a PlumtreeLink -------------------------------------------------------------------------------------------

    def on_store_changed(self) -> None:
        """Send new changes now, or announce them a little later."""
        if self._stopped.is_set():
            return
        self._is_check_due = True
        self._start_quiet_timer()
        if self._queue.is_eager:
            self._queue.wake.set()
        else:
            self._start_announcement_timer()

    def on_arrived(self, ids: Sequence[ShortId]) -> None:
        """Wait no more for these versions."""
        self._receiver.on_arrived(ids)

    def ask_again(self, ids: Sequence[ShortId]) -> None:
        """Ask for those of these versions that the peer announced."""
        self._receiver.ask_again(ids)

    # -- as the LinkProgress of its sender and receiver --------------------------------------------------------------

    def moved(self, context: str) -> None:
        """Tell the root of `context` once nothing of it moves any more."""
        self._receiver.note_moved(context)
        self._tell_root_soon(context)

    def unequal(self, context: str) -> None:
        """Tell our root once more: what was on its way when the peer told its own has arrived by then."""
        self._tell_root_soon(context, SUSPECT_S)

    def compared(self, is_equal: bool) -> None:
        """Pass on to the node whether all is equal."""
        if is_equal:
            self._was_equal, self._is_suspect = True, False
        self._environment.owner.compared(is_equal)

    def suspect(self) -> None:
        """Have the node compare trees: more than what is in flight may differ."""
        self._is_suspect = True
        self._environment.owner.suspect()

    # -- tasks -------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            message = await self._environment.transport.recv()
            if self._stopped.is_set() or not self._environment.owner.wants_all:
                return
            match message:
                case Commits() | Bodies() | Roots():
                    await self._receiver.enqueue(message)
                case Follow(cursors):
                    for cursor in cursors:
                        self._sender.add_context(cursor)
                        self._tell_root_soon(cursor.context)
                case Missing() as request:
                    self._sender.add_request(request)
                case Taken(weight):
                    self._sender.free_window(weight)
                case Lazy():
                    self._queue.is_eager = False
                case other:
                    raise unexpected(other)

    async def _send(self) -> None:
        self._queue.wake.set()
        while True:
            await self._queue.wake.wait()
            self._queue.wake.clear()
            if self._stopped.is_set():
                return
            is_due, self._is_announcement_due = self._is_announcement_due, False
            while await self._sender.send_round(with_changes=self._queue.is_eager or is_due):
                pass
            if self._sender.has_untold() and not self._queue.is_eager:
                self._start_announcement_timer()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._environment.entropy.uniform(*HEARTBEAT_S))
            self._queue.send_soon(self._sender.roots() or Ping())

    async def _watch(self) -> None:
        """Say something every now and then, and raise PeerSilentError when nothing is heard.

        Ticks are counted, not seconds: a node that stood still itself has heard nothing, and that is no sign.
        """
        transport, silent_ticks, idle_ticks = self._environment.transport, 0, 0
        heard, said = transport.bytes_received, transport.bytes_sent
        while True:
            if await self._is_probed_within(self._environment.entropy.uniform(*LINK_TICK_S)):
                await self._await_answer()
            silent_ticks = 0 if transport.bytes_received != heard or self._receiver.is_full else silent_ticks + 1
            idle_ticks = 0 if transport.bytes_sent != said else idle_ticks + 1
            heard, said = transport.bytes_received, transport.bytes_sent
            if silent_ticks >= LINK_SILENCE_TICKS:
                raise PeerSilentError(f"nothing was heard of it for {silent_ticks * LINK_TICK_S[1]:.0f} s")
            self._receiver.check_answers()
            if idle_ticks >= LINK_PING_TICKS:
                self._queue.send_soon(Ping())

    async def _is_probed_within(self, tick_s: float) -> bool:
        """Wait for a tick, or until the link is to be probed; then return True."""
        try:
            async with asyncio.timeout(tick_s):
                await self._probe.wait()
        except TimeoutError:
            return False
        return True

    async def _await_answer(self) -> None:
        """Ping the peer, and wait for any word of it. Raises PeerSilentError."""
        transport = self._environment.transport
        heard = transport.bytes_received
        self._queue.send_soon(Ping())
        for _ in range(round(LINK_PROBE_S / _PROBE_STEP_S)):
            await asyncio.sleep(_PROBE_STEP_S)
            if transport.bytes_received != heard:
                self._probe.clear()
                self._environment.owner.answered()
                self._is_check_due = True
                self._start_quiet_timer()
                return
        raise PeerSilentError(f"it did not answer for {LINK_PROBE_S:.0f} s")

    # -- timers ------------------------------------------------------------------------------------------------------

    def _start_announcement_timer(self) -> None:
        if self._announcement_timer is None:
            # The delay is drawn, so both sides seldom announce the same version to each other.
            delay_s = self._environment.entropy.uniform(ANNOUNCE_DELAY_S / 5, ANNOUNCE_DELAY_S)
            self._announcement_timer = asyncio.get_running_loop().call_later(delay_s, self._announce)

    def _announce(self) -> None:
        self._announcement_timer = None
        self._is_announcement_due = True
        self._queue.wake.set()

    def _tell_root_soon(self, context: str, least_s: float = 0.0) -> None:
        """Have the root of `context` told when it was quiet for a while. An earlier date of its own is put off."""
        if self._sender.covers(context):
            wait_s = max(least_s, self._environment.entropy.uniform(*self._roots_delay_s()))
            self._roots_due[context] = asyncio.get_running_loop().time() + wait_s
            self._start_quiet_timer()

    def _roots_delay_s(self) -> tuple[float, float]:
        """Return how long a context is quiet before its root is told: longer on each of many links, as each costs."""
        if self._environment.owner.has_many_peers:
            return ROOTS_DELAY_MANY_S
        factor = max(1.0, len(self._environment.plumtree.links) / _FEW_LINKS)
        return ROOTS_DELAY_S[0] * factor, ROOTS_DELAY_S[1] * factor

    def _start_quiet_timer(self) -> None:
        if self._quiet_timer is None:
            loop = asyncio.get_running_loop()
            at_s = min(self._roots_due.values(), default=loop.time() + ROOTS_DELAY_S[1])
            self._quiet_timer = loop.call_at(max(at_s, self._next_roots_s), self._on_quiet)

    def _on_quiet(self) -> None:
        """Tell the roots that are due, with all that was taken; find out whether all is equal after a change here."""
        self._quiet_timer = None
        loop = asyncio.get_running_loop()
        due = sorted(context for context, at_s in self._roots_due.items() if at_s <= loop.time())
        told = [context for context in due if self._sender.has_told_all(context)]
        roots = self._sender.roots(told)
        if roots is not None:
            self._receiver.tell_taken()
            self._queue.send_soon(roots)
            self._next_roots_s = loop.time() + ROOTS_INTERVAL_S if self._environment.owner.has_many_peers else 0.0
        for context in due:
            if context in told:
                del self._roots_due[context]
            else:
                self._roots_due[context] = loop.time() + ROOTS_DELAY_S[1]
        if self._is_check_due:
            self._is_check_due = False
            if self._receiver.is_equal():
                self.compared(True)
            elif self._sender.has_untold():
                self._queue.wake.set()
        if self._roots_due:
            self._start_quiet_timer()
