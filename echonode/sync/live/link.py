"""`follow`: a conversation that stays open, in which each side tells the other what it stores (PROTOCOL.md §8.15).

    initiator                                   responder
      FollowInit(places)              ->
                                      <-          Follow(places)              (or Refused)
    from then on, either way, whenever there is something:
      Commits(records, announced)     whole, or announced; Missing and Bodies fetch what was announced
      Taken                           room in the window
      Lazy                            announce, rather than tell whole
      Roots                           nothing more to tell: where we stand; also when nothing happens, from time to time
      Follow(places)                  a context more

Four tasks a link: reading, storing, telling, and the beat. Reading never waits for telling, so two ends that tell much
at once cannot block each other.
"""

import asyncio
from collections.abc import Sequence

from echonode.errors import PeerRefused, Reason
from echonode.limits import ANNOUNCE_DELAY_S, HEARTBEAT_S, ROOTS_DELAY_S, ROOTS_INTERVAL_S
from echonode.sync.live.plumtree import ShortId
from echonode.sync.live.receiver import LinkReceiver
from echonode.sync.live.send_queue import LinkContext, LinkTally, SendQueue
from echonode.sync.live.sender import LinkSender
from echonode.sync.tasks import all_ended, uninterrupted
from echonode.sync.transport import unexpected
from echonode.wire.messages import Bodies, Commits, ContextCursor, Follow, Lazy, Missing, Ping, Roots, Taken


class Link:
    """One following session. `ours`: how far we have followed the peer; `theirs`: how far it has followed us."""

    def __init__(self, ends: LinkContext, ours: Sequence[ContextCursor], theirs: Sequence[ContextCursor]) -> None:
        self._ends = ends
        self._lane = SendQueue(ends, on_moved=self._moved)
        self._leading = LinkSender(self._lane, tuple(theirs))
        self._following = LinkReceiver(self._lane, ours, self, self._leading.is_told)
        self._stopped = asyncio.Event()
        self._is_due = False  # announcements have waited long enough
        self._announcing: asyncio.TimerHandle | None = None
        self._settling: asyncio.TimerHandle | None = None
        self._next_roots_s = 0.0  # not before, where writes come one after another
        self._unsettled: set[str] = {place.context for place in theirs}

    @property
    def figures(self) -> LinkTally:
        """What was moved so far."""
        return self._lane.figures

    def behind(self) -> int:
        """How many entries of our log the peer was not told of yet, at most."""
        return self._leading.behind()

    def pending(self) -> list[str]:
        """Return what this link has still to do, in words; nothing when it is at rest."""
        left = {
            "words to say": self._lane.outbox,
            "questions to answer": self._leading.has_questions,
            "log entries to tell": self._leading.behind(),
            "an announcement to make": self._announcing,
            "roots to tell": self._settling or self._unsettled,
        }
        return [*(words for words, there in left.items() if there), *self._following.pending()]

    def stop(self) -> None:
        """End it well."""
        self._stopped.set()

    async def run(self, age_s: float) -> None:
        """Follow and be followed until either side ends it, or it is that old. Raises what ends it early."""
        spread = self._ends.spread
        spread.links[self._ends.peer] = self
        self._settle_later()
        work = (self._read(), self._following.run(), self._tell(), self._beat(), self._stopped.wait())
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
                await uninterrupted(all_ended(tasks))  # a node that stops just then waits for what is being stored
            finally:
                self._close()

    def _close(self) -> None:
        """What was being taken may have set timers to the last."""
        for timer in (self._announcing, self._settling):
            if timer is not None:
                timer.cancel()
        self._following.close()
        self._ends.spread.left(self._ends.peer, self)

    # -- what others tell us of --------------------------------------------------------------------------------------

    def changed(self) -> None:
        """The store changed."""
        if self._stopped.is_set():
            return
        if self._lane.is_eager:
            self._lane.wake.set()
        elif self._announcing is None:
            # Drawn, so that seldom both sides announce the same to each other.
            delay_s = self._ends.uniform(ANNOUNCE_DELAY_S / 5, ANNOUNCE_DELAY_S)
            self._announcing = asyncio.get_running_loop().call_later(delay_s, self._announce)

    def arrived(self, ids: Sequence[ShortId]) -> None:
        """These versions are stored."""
        self._following.arrived(ids)

    def ask_again(self, ids: Sequence[ShortId]) -> None:
        """Whoever was asked for these does not have them."""
        self._following.ask_again(ids)

    # -- tasks -------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        while True:
            message = await self._ends.transport.recv()
            if self._stopped.is_set() or not self._ends.is_on():
                return
            match message:
                case Commits() | Bodies() | Roots():
                    await self._following.put(message)
                case Follow(places):
                    for place in places:
                        self._leading.begin(place)
                        self._unsettled.add(place.context)
                    self._settle_later()
                case Missing() as want:
                    self._leading.want(want)
                case Taken(weight):
                    self._leading.taken(weight)
                case Lazy():
                    self._lane.is_eager = False
                case other:
                    raise unexpected(other)

    async def _tell(self) -> None:
        self._lane.wake.set()
        while True:
            await self._lane.wake.wait()
            self._lane.wake.clear()
            if self._stopped.is_set():
                return
            await self._leading.flush()
            if self._lane.is_eager or self._is_due:
                self._is_due = False
                await self._leading.tell()
            elif self._leading.behind():
                self.changed()

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._ends.uniform(*HEARTBEAT_S))
            self._following.check()
            self._lane.say(self._leading.roots() or Ping())

    # -- timers ------------------------------------------------------------------------------------------------------

    def _announce(self) -> None:
        self._announcing = None
        self._is_due = True
        self._lane.wake.set()

    def _moved(self, context: str) -> None:
        """Something of that context was told or taken: once nothing is any more, the roots should be compared."""
        self._following.moved_s = asyncio.get_running_loop().time()
        if self._leading.leads(context):
            self._unsettled.add(context)
            self._settle_later()

    def _settle_later(self) -> None:
        if self._settling is None:
            loop = asyncio.get_running_loop()
            soon_s = loop.time() + self._ends.uniform(*ROOTS_DELAY_S)
            self._settling = loop.call_at(max(soon_s, self._next_roots_s), self._settle)

    def _settle(self) -> None:
        self._settling = None
        is_quiet = asyncio.get_running_loop().time() - self._following.moved_s >= ROOTS_DELAY_S[0]
        told = [context for context in sorted(self._unsettled) if self._leading.is_told(context)] if is_quiet else []
        roots = self._leading.roots(told)
        if roots is not None:
            self._lane.say(roots)
            self._next_roots_s = asyncio.get_running_loop().time() + ROOTS_INTERVAL_S
        self._unsettled.difference_update(told)
        if self._unsettled:
            self._settle_later()
