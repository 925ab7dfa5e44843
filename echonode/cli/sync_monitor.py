"""The live view of `sync --monitor`: this node, its peers, contexts, rates, conflicts, and what moves.

    events    one connection reads the node's events in a thread, and counts
    status    asked for once a second
    drawing   four times a second on a terminal; elsewhere a line whenever something changed, so that a log stays short

Peers may choose names: all text is escaped before it is drawn.
"""

import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, Any, Final

from echonode.cli.columns import table
from echonode.cli.exit_codes import Failure
from echonode.cli.output import ago, count, print_json, print_line, safe, short_id, shown_address, size
from echonode.client.errors import BadAnswer, ClientError

if TYPE_CHECKING:
    from echonode.cli.client import ApiClient
    from echonode.client.connection import Answer

_EVENTS: Final = (
    "records.applied",
    "sync.completed",
    "sync.progress",
    "follow.ended",
    "record.conflict",
    "record.conflict_resolved",
    "peer.connected",
    "peer.absent",
)
_STATUS_S: Final = 1.0
_DRAWN_S: Final = 0.25
_RATE_S: Final = 10.0
_NEWS_SHOWN: Final = 8


@dataclass(slots=True)
class _News:
    """The sum of the events so far. The reader's thread writes it, under `lock`."""

    lock: Lock = field(default_factory=Lock)
    applied: deque[tuple[float, str, int]] = field(default_factory=deque)  # when, from whom, how many
    totals: Counter[str] = field(default_factory=Counter)  # records by source, "" for our own
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_NEWS_SHOWN))
    moving: dict[tuple[str, str], str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)  # of peers, by id
    is_over: bool = False
    error: BadAnswer | None = None

    def peer(self, id_text: str) -> str:
        """Return a peer as the view names it."""
        return safe(self.labels.get(id_text)) or short_id(id_text)


class Monitor:
    """The view of one node. `is_chosen` says which peers are shown."""

    def __init__(self, client: "ApiClient", is_chosen: Callable[[dict[str, Any]], bool]) -> None:
        self._client = client
        self._is_chosen = is_chosen
        self._news = _News()
        self._status: dict[str, Any] = {}

    def run(self, is_enough: Callable[[bool], bool], *, as_json: bool) -> None:
        """Show until `is_enough`, which is told whether all chosen peers are equal. Ctrl-C raises KeyboardInterrupt."""
        with self._listening():
            if sys.stdout.isatty() and not as_json:
                self._draw(is_enough)
            else:
                self._print(is_enough, as_json=as_json)

    @property
    def peers(self) -> list[dict[str, Any]]:
        """The chosen peers, as `status` shows them."""
        return [peer for peer in self._status.get("peers", ()) if self._is_chosen(peer)]

    @property
    def is_equal(self) -> bool:
        """True when there are such peers, and each is equal as far as it can be known."""
        reachable = [peer for peer in self.peers if peer["id"] and peer["state"] in ("connected", "reachable")]
        return bool(reachable) and all(
            peer["in_sync"] or (peer.get("in_step") and not peer["lag"]) for peer in reachable
        )

    @contextmanager
    def _listening(self) -> Iterator[None]:
        query = [("types", ",".join(_EVENTS))]
        with self._client.open("GET", "/v1/events", query=query, timeout_s=None) as response:
            reader = Thread(target=self._read, args=(response,), daemon=True)
            reader.start()
            try:
                yield
            finally:
                response.hang_up()
                reader.join()

    def _read(self, response: "Answer") -> None:
        try:
            for name, event in response.events():
                if name == "end":
                    break
                with self._news.lock:
                    _note(self._news, name, event)
        except BadAnswer as error:
            self._news.error = error
        except ClientError:
            pass  # one side hung up
        self._news.is_over = True

    def _look(self) -> None:
        if self._news.error is not None:
            raise self._news.error
        if self._news.is_over:
            raise Failure("the node ended the connection: it stopped, or events came faster than they were read")
        self._status = self._client.call("GET", "/v1/status")
        with self._news.lock:
            self._news.labels = {
                peer["id"]: peer.get("label") or peer["name"] for peer in self._status["peers"] if peer["id"]
            }

    def _draw(self, is_enough: Callable[[bool], bool]) -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        pause = Event()
        with Live(console=Console(), refresh_per_second=1 / _DRAWN_S, screen=False) as live:
            looked_s = 0.0
            while True:
                if time.monotonic() - looked_s >= _STATUS_S:
                    self._look()
                    looked_s = time.monotonic()
                lines = self.lines(live.console.width - 1, live.console.height)
                live.update(Text("\n".join(lines), no_wrap=True, overflow="ellipsis"))
                if is_enough(self.is_equal):
                    return
                pause.wait(_DRAWN_S)

    def _print(self, is_enough: Callable[[bool], bool], *, as_json: bool) -> None:
        said: object = None
        pause = Event()
        while True:
            self._look()
            view = self._view()
            if view != said:
                said = view
                if as_json:
                    print_json(view)
                else:
                    print_line(_line(view))
                sys.stdout.flush()
            if is_enough(self.is_equal):
                return
            pause.wait(_STATUS_S)

    def _view(self) -> dict[str, Any]:
        """Return what changes, for a line of output."""
        with self._news.lock:
            totals = dict(self._news.totals)
        return {
            "peers": [
                {key: peer.get(key) for key in ("id", "name", "state", "in_sync", "in_step", "lag")}
                for peer in self.peers
            ],
            "contexts": [
                {key: each.get(key, 0) for key in ("name", "root", "records", "conflicts")} for each in self._contexts()
            ],
            "received": sum(number for source, number in totals.items() if source),
            "written": totals.get("", 0),
        }

    def _contexts(self) -> list[dict[str, Any]]:
        return [each for each in self._status.get("contexts", ()) if each["name"] != "identities"]

    def lines(self, width: int, height: int) -> list[str]:
        """Return the lines of the view: as many as a terminal of `height` shows, the latest news among them."""
        status, now_s = self._status, time.time()
        conflicts = sum(each.get("conflicts", 0) for each in self._contexts())
        equal = sum(bool(peer["in_sync"] or peer.get("in_step")) for peer in self.peers)
        stand = f"{equal} of {count(len(self.peers), 'peer')} equal, {count(conflicts, 'conflict')}"
        lines = [f"{safe(status['name'])}, network {safe(status['network'])}: {stand}", ""]
        with self._news.lock:
            rates = _rates(self._news)
            totals = dict(self._news.totals)
            news, moving = list(self._news.lines), list(self._news.moving.values())
        rows = [
            (
                safe(peer.get("label") or peer["name"]) or short_id(peer["id"]) or safe(peer["address"]),
                safe(peer["state"]),
                _equality(peer),
                "-" if peer["lag"] is None else str(peer["lag"]),
                f"{totals.get(peer['id'] or '-', 0):,}",
                f"{rates.get(peer['id'] or '-', 0.0):.1f}/s",
                ago(peer["last_sync"], now_s),
            )
            for peer in self.peers
        ]
        header = ("PEER", "STATE", "EQUAL", "BEHIND", "RECEIVED", "RATE", "COMPARED")
        peers = table(header, rows, right=(3, 4, 5), width=width) if rows else ["no peers yet"]
        lines += _shortened(peers, height // 3)
        contexts = [
            (
                safe(one["name"]),
                f"{one['records']:,}",
                size(one["bytes"]),
                short_id(one["root"]),
                str(one.get("conflicts", 0)),
            )
            for one in self._contexts()
        ]
        titles = ("CONTEXT", "RECORDS", "SIZE", "ROOT", "CONFLICTS")
        lines += ["", *_shortened(table(titles, contexts, right=(1, 2, 4), width=width), height // 4)]
        lines += ["", f"written here: {totals.get('', 0):,} ({rates.get('', 0.0):.1f}/s)"]
        lines += _shortened(moving, height // 6)
        end = ["", "Ctrl-C ends the view."]
        room = max(1, height - len(lines) - len(end) - 2)  # a blank line before the news, and one for the cursor
        return [line[:width] for line in [*lines, *(["", *news[-room:]] if news else []), *end]]


def _shortened(lines: Iterable[str], count_max: int) -> list[str]:
    """Return at most `count_max` of `lines`, two if that is less; the last one then says how many are not shown."""
    every = list(lines)
    if len(every) <= count_max:
        return every
    shown = every[: max(1, count_max - 1)]
    return [*shown, f"... and {len(every) - len(shown):,} more"]


def _equality(peer: dict[str, Any]) -> str:
    if peer["in_sync"]:
        return "yes"
    return "nearly" if peer.get("in_step") else "no" if peer["in_sync"] is False else "?"


def _rates(news: _News) -> dict[str, float]:
    """Return records a second by source, over the last seconds."""
    since_s = time.monotonic() - _RATE_S
    while news.applied and news.applied[0][0] < since_s:
        news.applied.popleft()
    rates: Counter[str] = Counter()
    for _, source, number in news.applied:
        rates[source] += number
    return {source: number / _RATE_S for source, number in rates.items()}


def _note(news: _News, name: str, event: dict[str, Any]) -> None:
    at = time.strftime("%H:%M:%S")
    match name:
        case "records.applied":
            records: Sequence[dict[str, Any]] = event["records"]
            news.applied.append((time.monotonic(), event["source"], len(records)))
            news.totals[event["source"]] += len(records)
            origin = f"from {news.peer(event['source'])}" if event["source"] else "here"
            more = f" and {len(records) - 1:,} more" if len(records) > 1 else ""
            if records:
                news.lines.append(f"{at}  {shown_address(records[0])}{more} {origin}")
        case "sync.progress":
            total = f" of {event['total']:,}" if event["total"] else ""
            news.moving[event["session"], event["context"]] = (
                f"moving: {safe(event['context'])}, {event['received'] + event['sent']:,}{total} records by "
                f"{safe(event['mode'])} with {news.peer(event['peer'])}"
            )
        case "sync.completed":
            news.moving.pop((event["session"], event["context"]), None)
            moved = f"{event['sent']:,} sent, {event['received']:,} received"
            compared = f"compared {safe(event['context'])} with {news.peer(event['peer'])}"
            news.lines.append(f"{at}  {compared}: {moved}, {safe(event['outcome'])}")
        case "record.conflict":
            news.lines.append(f"{at}  conflict: {safe(event['record'])} in {safe(event['context'])}")
        case "record.conflict_resolved":
            news.lines.append(f"{at}  resolved: {safe(event['record'])} in {safe(event['context'])}")
        case "peer.connected":
            news.lines.append(f"{at}  {safe(event['peer_name'])} came")
        case "peer.absent":
            news.lines.append(f"{at}  {safe(event['peer_name'])} left: {safe(event['why'])}")


def _line(view: dict[str, Any]) -> str:
    """Return a view in one line of text."""
    peers = ", ".join(
        f"{safe(peer['name'])} {'equal' if peer['in_sync'] or peer['in_step'] else safe(peer['state'])}"
        for peer in view["peers"]
    )
    contexts = ", ".join(
        f"{safe(each['name'])} {each['records']:,} at {short_id(each['root'])}" for each in view["contexts"]
    )
    conflicts = sum(each["conflicts"] for each in view["contexts"])
    moved = f"{view['received']:,} received, {view['written']:,} written"
    now = time.strftime("%H:%M:%S")
    return f"{now}  {peers or 'no peers'}; {contexts or 'no records'}; {moved}; {conflicts} in conflict"
