"""Progress bars on stderr, when that is a terminal: one for each conversation of a sync, one for a file that is read.

The request for a sync has one answer, at its end. Until then the node's events (`sync.progress`, `sync.completed`) say
how far it is. A second connection reads them in a thread. Nothing depends on them: a bar that misses some lags behind.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, Protocol

from echonode.cli.output import safe, short_id
from echonode.errors import EchonodeError

if TYPE_CHECKING:
    from echonode.cli.client import ApiClient
    from echonode.client.connection import Answer

_EVENTS: Final = "sync.progress,sync.completed"


@contextmanager
def sync_progress(client: "ApiClient") -> Iterator[None]:
    """Draw the progress of the node's conversations until the block ends."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        client.open("GET", "/v1/events", query=[("types", _EVENTS)], timeout_s=None) as response,
        Progress(*columns, console=Console(stderr=True), transient=True) as progress,
    ):
        reader = Thread(target=_read, args=(response, progress), daemon=True)
        reader.start()
        try:
            yield
        finally:
            response.hang_up()
            reader.join()


def _read(response: "Answer", progress: Any) -> None:
    with suppress(EchonodeError):  # one side hung up: the answer to the request itself says what that means
        _draw(response.events(), progress)


def _draw(events: Iterable[tuple[str, Any]], progress: Any) -> None:
    """Draw one bar for each conversation in rich's `progress`, from its first progress event to its end."""
    bars: dict[tuple[str, str], int] = {}
    for name, event in events:
        if name == "end":
            return
        if name not in ("sync.progress", "sync.completed"):
            continue  # after a gap a bar may stand still for a moment: the next event sets it right
        conversation = (event["session"], event["context"])
        if name == "sync.completed":
            if conversation in bars:
                progress.remove_task(bars.pop(conversation))
            continue
        done, total = event["received"] + event["sent"], event["total"]
        if conversation not in bars:
            text = f"{safe(event['context'])}: {safe(event['mode'])} with {short_id(event['peer'])}"
            # Without a total the bar shows only that something moves.
            bars[conversation] = progress.add_task(text.replace("[", "\\["), total=total or None)
        progress.update(bars[conversation], completed=done)


class Bar(Protocol):
    """The progress of a transfer."""

    def add_bytes(self, size: int) -> None: ...

    def set_text(self, text: str) -> None: ...


class _NoBar:
    """Draws nothing, for output that no person watches."""

    def add_bytes(self, size: int) -> None:
        pass

    def set_text(self, text: str) -> None:
        pass


@contextmanager
def bytes_bar(total: int | None) -> Iterator[Bar]:
    """Yield a progress bar on stderr when that is a terminal, else one that draws nothing."""
    if not sys.stderr.isatty():
        yield _NoBar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=total)

        class Drawn:
            def add_bytes(self, size: int) -> None:
                progress.advance(task, size)

            def set_text(self, text: str) -> None:
                progress.update(task, description=text)

        yield Drawn()
