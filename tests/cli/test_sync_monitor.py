"""The live view of a sync fits its terminal, whatever there is to show, and the latest news are in it."""

from typing import Any

import pytest

from echonode.cli.sync_monitor import Monitor, _note

ID = "a" * 52


def shown(*, peers: int, contexts: int, height: int, news: int) -> list[str]:
    monitor = Monitor(None, lambda peer: True)  # type: ignore[arg-type]  # nothing is asked for
    peer: dict[str, Any] = {"id": ID, "state": "connected", "in_sync": True, "lag": 0, "last_sync": None, "address": ""}
    context = {"records": 3, "bytes": 400, "root": ID, "conflicts": 0}
    monitor._status = {
        "name": "kitchen",
        "network": "open",
        "peers": [{**peer, "name": f"peer-{number}"} for number in range(peers)],
        "contexts": [{**context, "name": f"context-{number}"} for number in range(contexts)],
    }
    for number in range(news):
        record = {"author": ID, "name": f"r{number}", "address": f"shared/r{number}"}
        _note(monitor._news, "records.applied", {"source": "", "records": [record]})
    return monitor.lines(79, height)


@pytest.mark.parametrize("height", [24, 50])
@pytest.mark.parametrize(("peers", "contexts", "news"), [(0, 0, 0), (1, 1, 3), (2, 5, 8), (40, 60, 30)])
def test_the_view_fits_the_terminal_and_ends_with_the_latest_news(
    peers: int, contexts: int, news: int, height: int
) -> None:
    lines = shown(peers=peers, contexts=contexts, height=height, news=news)
    assert len(lines) < height and max(map(len, lines)) <= 79
    assert lines[-1] == "Ctrl-C ends the view."
    if news:
        assert f"r{news - 1}" in lines[-3]
    if peers > 10:
        assert sum(line.startswith("... and ") for line in lines) == 2
    elif height == 50:
        assert not any(line.startswith("... and ") for line in lines)
