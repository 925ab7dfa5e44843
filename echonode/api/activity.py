"""The recent past of a node in numbers: how much was written, received and compared, and how many records it held.

    event ──> the running slot of each series ──> GET /v1/activity
              10 s, the last hour; 10 min, the last day

Nothing is stored: the numbers begin with the node, and cost the same however long it runs and however busy it is.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echonode.api.json_forms import rfc3339
from echonode.api.requests import Query, now_ms
from echonode.api.responses import reply, route
from echonode.limits import ACTIVITY_DAY_SLOT_S, ACTIVITY_DAY_SLOTS_MAX, ACTIVITY_SLOT_S, ACTIVITY_SLOTS_MAX
from echonode.node.events import ContextShown, RecordsApplied, SyncCompleted
from echonode.node.node import Node


@dataclass(slots=True)
class Slot:
    """The counts of one span of time. `records`: those that were held at its end."""

    records: int
    written: int = 0
    received: int = 0
    conversations: int = 0


class Series:
    """The last `slots_max` slots of `slot_s` seconds each, the running one at the end. Times are in seconds, and never
    go back."""

    def __init__(self, slot_s: float, slots_max: int, now_s: float, records: int) -> None:
        self.slot_s = slot_s
        self.slots = deque([Slot(records)], maxlen=slots_max)
        self._began_s = now_s  # of the running slot

    def at(self, now_s: float) -> Slot:
        """Return the slot that runs at `now_s`. Those that passed since the last call hold what was held then."""
        passed = int((now_s - self._began_s) // self.slot_s)
        records = self.slots[-1].records
        self.slots.extend(Slot(records) for _ in range(min(passed, self.slots.maxlen or passed)))
        self._began_s += passed * self.slot_s
        return self.slots[-1]

    def age_s(self, now_s: float) -> float:
        """Return for how long the first slot that is kept is past its beginning."""
        return now_s - self._began_s + (len(self.slots) - 1) * self.slot_s


class Activity:
    """The activity of `node`, from this moment on. `monotonic_s` tells the time."""

    def __init__(self, node: Node, monotonic_s: Callable[[], float]) -> None:
        self._node = node
        self._monotonic_s = monotonic_s
        self._held = {context: len(node.store.tree(context)) for context in node.store.contexts()}
        self._records = sum(self._held.values())
        now_s = monotonic_s()
        self.hour = Series(ACTIVITY_SLOT_S, ACTIVITY_SLOTS_MAX, now_s, self._records)
        self.day = Series(ACTIVITY_DAY_SLOT_S, ACTIVITY_DAY_SLOTS_MAX, now_s, self._records)
        node.bus.on(RecordsApplied, self._note_records)
        node.bus.on(ContextShown, self._note_snapshot)
        node.bus.on(SyncCompleted, self._note_conversation)

    def look(self) -> None:
        """Bring every series up to now. What was forgotten is no event, so that contexts are counted anew."""
        self._held.clear()
        self._records = 0
        for context in self._node.store.contexts():
            self._count(context)
        self._running()

    def _note_records(self, event: RecordsApplied) -> None:
        self._count(event.context)
        for slot in self._running():
            if event.source:
                slot.received += len(event.records)
            else:
                slot.written += len(event.records)

    def _note_snapshot(self, event: ContextShown) -> None:
        self._count(event.context)
        for slot in self._running():
            slot.received += event.count

    def _note_conversation(self, event: SyncCompleted) -> None:
        for slot in self._running():
            slot.conversations += 1

    def _count(self, context: str) -> None:
        held = len(self._node.store.tree(context))
        self._records += held - self._held.get(context, 0)
        self._held[context] = held

    def _running(self) -> tuple[Slot, Slot]:
        now_s = self._monotonic_s()
        slots = self.hour.at(now_s), self.day.at(now_s)
        for slot in slots:
            slot.records = self._records
        return slots

    def form(self, series: Series) -> dict[str, object]:
        """Return a series as JSON: one list for each number, the oldest slot first."""
        age_ms = round(1000 * series.age_s(self._monotonic_s()))
        lists: dict[str, object] = {
            name: [getattr(slot, name) for slot in series.slots] for name in _NUMBERS
        }
        return {"slot_s": series.slot_s, "began": rfc3339(now_ms() - age_ms), **lists}


_NUMBERS: Final = ("records", "written", "received", "conversations")


class ActivityRoutes:
    """Serves `activity`."""

    def __init__(self, activity: Activity) -> None:
        self._activity = activity

    def routes(self) -> list[Route]:
        """Return the routes, as openapi.yaml describes them."""
        return [route("/v1/activity", GET=self._answer)]

    async def _answer(self, request: Request) -> Response:
        Query(request, ())
        self._activity.look()
        return reply({"hour": self._activity.form(self._activity.hour), "day": self._activity.form(self._activity.day)})
