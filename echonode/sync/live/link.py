"""`follow`: a session that stays open, in which each side tells the other the changes it stores (PROTOCOL.md §8.15).

    initiator                                   responder
      FollowInit(places)              ->
                                      <-          Follow(places)              (or Refused)
    from then on, either way, whenever there is something to send:
      Commits(records, announced)     changes, whole or announced; Missing and Bodies fetch what was announced
      Taken                           frees the sender's window
      Lazy                            asks the peer to announce changes from now on
      Roots                           all changes were told, and these are the roots; also sent from time to time
      Follow(places)                  one context more

A link runs four tasks: it reads, stores, sends, and beats. The reading task never waits for the sending one, so two
ends that send much at once cannot block each other.
"""

import asyncio
from collections.abc import Sequence

from echonode.errors import PeerRefused, Reason
from echonode.limits import ANNOUNCE_DELAY_S, HEARTBEAT_S, ROOTS_DELAY_S, ROOTS_INTERVAL_S
from echonode.sync.live.plumtree import ShortId
from echonode.sync.live.receiver import LinkReceiver
from echonode.sync.live.send_queue import LinkEnvironment, LinkTally, SendQueue
from echonode.sync.live.sender import LinkSender
from echonode.sync.tasks import all_ended, uninterrupted
from echonode.sync.transport import unexpected
from echonode.wire.messages import Bodies, Commits, ContextCursor, Follow, Lazy, Missing, Ping, Roots, Taken


class Link:
    """One link. `ours`: how far this node has followed the peer; `theirs`: how far the peer has followed this node."""

    def __init__(
        self, environment: LinkEnvironment, ours: Sequence[ContextCursor], theirs: Sequence[ContextCursor]
    ) -> None:
        self._environment = environment
        self._queue = SendQueue(environment, on_moved=self._note_moved)
        self._sender = LinkSender(self._queue, tuple(theirs))
        self._receiver = LinkReceiver(self._queue, ours, self, self._sender.has_told_all)
        self._stopped = asyncio.Event()
        self._is_announcement_due = False
        self._announcement_timer: asyncio.TimerHandle | None = None
        self._roots_timer: asyncio.TimerHandle | None = None
        self._next_roots_s = 0.0  # the earliest time for the next roots, where writes come one after another
        self._roots_due: set[str] = {cursor.context for cursor in theirs}

    @property
    def tally(self) -> LinkTally:
        """The link's counters so far."""
        return self._queue.tally

    def behind(self) -> int:
        """Return how many entries of our log the peer was not told of yet, at most."""
        return self._sender.behind()

    def pending(self) -> list[str]:
        """Return what this link has still to do, in words; nothing when it is at rest."""
        left = {
            "words to say": self._queue.outbox,
            "questions to answer": self._sender.has_questions,
            "log entries to tell": self._sender.behind(),
            "an announcement to make": self._announcement_timer,
            "roots to tell": self._roots_timer or self._roots_due,
        }
        return [*(words for words, there in left.items() if there), *self._receiver.pending()]

    def stop(self) -> None:
        """End the link in order, and receive nothing more by it."""
        self._stopped.set()

    async def run(self, age_s: float) -> None:
        """Follow and be followed until either side ends it, or for `age_s` seconds. Raises what ends it early."""
        self._environment.plumtree.links[self._environment.peer] = self
        self._start_roots_timer()
        work = (self._read(), self._receiver.run(), self._send(), self._beat(), self._stopped.wait())
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
        for timer in (self._announcement_timer, self._roots_timer):
            if timer is not None:
                timer.cancel()
        self._receiver.close()
        self._environment.plumtree.remove(self._environment.peer, self)

    # -- as a PlumtreeLink -------------------------------------------------------------------------------------------

    def on_store_changed(self) -> None:
        """Send new changes now, or announce them a little later."""
        if self._stopped.is_set():
            return
        if self._queue.is_eager:
            self._queue.wake.set()
        elif self._announcement_timer is None:
            # The delay is drawn, so both sides seldom announce the same version to each other.
            delay_s = self._environment.entropy.uniform(ANNOUNCE_DELAY_S / 5, ANNOUNCE_DELAY_S)
            self._announcement_timer = asyncio.get_running_loop().call_later(delay_s, self._announce)

    def on_arrived(self, ids: Sequence[ShortId]) -> None:
        """Wait no more for these versions."""
        self._receiver.on_arrived(ids)

    def ask_again(self, ids: Sequence[ShortId]) -> None:
        """Ask for those of these versions that the peer announced."""
        self._receiver.ask_again(ids)

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
                        self._roots_due.add(cursor.context)
                    self._start_roots_timer()
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
            await self._sender.send_queued()
            if self._queue.is_eager or self._is_announcement_due:
                self._is_announcement_due = False
                await self._sender.send_changes()
            elif self._sender.behind():
                self.on_store_changed()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._environment.entropy.uniform(*HEARTBEAT_S))
            self._receiver.check_answers()
            self._queue.send_soon(self._sender.roots() or Ping())

    # -- timers ------------------------------------------------------------------------------------------------------

    def _announce(self) -> None:
        self._announcement_timer = None
        self._is_announcement_due = True
        self._queue.wake.set()

    def _note_moved(self, context: str) -> None:
        """Note that records of `context` were sent or received: its root is due once nothing moves any more."""
        self._receiver.last_moved_s = asyncio.get_running_loop().time()
        if self._sender.covers(context):
            self._roots_due.add(context)
            self._start_roots_timer()

    def _start_roots_timer(self) -> None:
        if self._roots_timer is None:
            loop = asyncio.get_running_loop()
            soon_s = loop.time() + self._environment.entropy.uniform(*ROOTS_DELAY_S)
            self._roots_timer = loop.call_at(max(soon_s, self._next_roots_s), self._send_roots)

    def _send_roots(self) -> None:
        self._roots_timer = None
        is_quiet = asyncio.get_running_loop().time() - self._receiver.last_moved_s >= ROOTS_DELAY_S[0]
        due = sorted(self._roots_due) if is_quiet else []
        told = [context for context in due if self._sender.has_told_all(context)]
        roots = self._sender.roots(told)
        if roots is not None:
            self._queue.send_soon(roots)
            self._next_roots_s = asyncio.get_running_loop().time() + ROOTS_INTERVAL_S
        self._roots_due.difference_update(told)
        if self._roots_due:
            self._start_roots_timer()
