"""logs, log-level, trace and why, against a real node and against answers that misbehave."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from echonode.text import to_base32
from tests.cli.harness import LiveNode, Shell, http_answer, live_node, scripted_server

LINE = {"time": "2025-03-01T09:30:00.123Z", "level": "info", "event": "peer.connected", "peer": "a" * 52}
CONNECTED = {**LINE, "peer_name": "kitchen", "address": "10.0.0.1:7", "session": "abcdef"}
ABSENT = {**LINE, "event": "peer.absent", "level": "warning", "peer_name": "kitchen", "why": "gone"}


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveNode]:
    with live_node(tmp_path / "home") as live:
        yield live


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "node.log"
    journal = "<6>" + json.dumps(CONNECTED)
    path.write_text(f"{journal}\nSegmentation fault\x1b[2J\n{json.dumps(ABSENT)}\n")
    return str(path)


def test_a_file_is_read_line_by_line_and_foreign_text_is_shown_as_such(shell: Shell, file: str) -> None:
    first, foreign, last = shell("logs", "--file", file).text.splitlines()
    assert first.endswith("info     peer.connected           kitchen is here, at 10.0.0.1:7")
    assert foreign.endswith("text: Segmentation fault\\u001b[2J")
    assert last.endswith("warning  peer.absent              kitchen is away: gone")


@pytest.mark.parametrize(
    ("options", "events"),
    [
        (["--level", "warning"], ["peer.absent"]),
        (["--peer", "kitchen", "--event", "peer.c*"], ["peer.connected"]),
        (["--peer", "aaaa"], ["peer.connected", "peer.absent"]),
        (["--peer", "cellar"], []),
        (["--session", "abc"], ["peer.connected"]),
        (["--since", "2025-03-02"], []),
        (["--since", "2025-02-28"], ["peer.connected", "peer.absent"]),
    ],
)
def test_a_file_is_filtered(shell: Shell, file: str, options: list[str], events: list[str]) -> None:
    assert [line["event"] for line in shell("logs", "--file", file, "--json", *options).json_lines] == events


def test_a_running_node_shows_lines_below_the_level_of_its_log(shell: Shell, live: LiveNode) -> None:
    live.served.run_log.note("records.applied", "debug", {"context": "main", "source": b"", "records": 3})
    assert shell("logs").text == ""
    assert shell("logs", "--level", "debug").text.endswith("3 into main from this node\n")
    assert "no peer stranger" in shell.fails(1, "logs", "--peer", "stranger")


def test_without_a_node_and_a_journal_it_is_said_what_to_do(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "--file" in shell.fails(1, "logs")
    assert shell.fails(1, "logs", "--file", str(tmp_path / "none")) == f"No such file or directory: {tmp_path}/none"
    assert "--since" in shell.fails(2, "logs", "--since", "yesterday-ish")


def test_the_level_of_the_log_is_set_for_a_while_and_set_back(shell: Shell, live: LiveNode) -> None:
    assert shell("log-level").text == "info\n"
    assert shell("log-level", "debug", "--for", "10m").text == "debug for 10 min more\n"
    assert shell("log-level", "--json").json["level"] == "debug"
    assert shell("log-level", "default").text == "info\n"
    assert [event.to for event in live.served.events if event.name == "log.level_set"] == ["debug", "info"]
    shell.fails(1, "log-level", "debug", "--peer", "stranger")
    shell.fails(2, "log-level", "loud")
    assert "LEVEL" in shell.fails(2, "log-level", "--for", "10m")


def test_reasons_are_sentences_with_what_to_do(shell: Shell, live: LiveNode) -> None:
    shell("put", "a", "1")
    assert shell("why", "a").text == "me/a in main\n  here  it is here, in a version by me\n"
    assert "echonode invite" in shell("why", "nothing").text
    assert shell("why", "a", "--json").json["findings"][0]["reason"] == "here"
    assert "cellar" in shell.fails(1, "why", "@cellar/a")
    peer = bytes(range(32))
    live.served.node.peer_table.opened(peer, "a", "127.0.0.1:1", target=None, is_initiator=False)
    assert shell("why", "a").text.startswith("a\n  unequal  ")
    assert shell("why", "a", "--record").text.startswith("me/a in main\n")
    live.served.node.peer_table.opened(bytes(32), "a", "127.0.0.1:2", target=None, is_initiator=False)
    assert "could be 2 nodes" in shell.fails(1, "why", "a")
    assert shell("why", to_base32(peer)[:8]).text.startswith("a @")


@pytest.mark.usefixtures("shell", "live")
def test_what_to_do_can_be_typed_as_it_stands(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shell("put", "a b", "1", "-c", "books")
    shell("delete", "a b", "-c", "books")
    assert "echonode history 'a b' -c books" in shell("why", "a b", "-c", "books").text
    finding = {"reason": "quota", "text": "1 record of it was refused", "what_to_do": "echonode get RECORD --from PEER"}
    with scripted_server(tmp_path / "api.sock", http_answer({"about": "kitchen", "findings": [finding]})):
        monkeypatch.setenv("ECHO_API_URL", f"unix:{tmp_path}/api.sock")
        assert "echonode get RECORD --from kitchen" in shell("why", "kitchen").text


def trace(node: str, peer: str, times: list[str], ways: list[str], **more: object) -> dict[str, object]:
    numbers = {"sent": 0, "received": 0}
    messages = []
    for time, way in zip(times, ways, strict=True):
        numbers[way] += 1
        message = {"time": f"2025-03-01T09:30:{time}Z", "way": way, "number": numbers[way], "type": "Done"}
        messages.append({**message, "bytes": 38, "note": "main"})
    session = {"session": "s" * 26, "address": "10.0.0.1:7", "role": "initiator", "began": messages[0]["time"]}
    sessions = [{**session, "why": "in order", "messages": messages}]
    return {"node": node, "name": node, "peer": peer, "peer_name": peer, "sessions": sessions, **more}


HERE = trace("here", "there", ["00.000", "00.010"], ["sent", "received"])
THERE = trace("there", "here", ["05.004", "05.006"], ["received", "sent"])


def test_a_trace_beside_that_of_the_other_node_has_both_clocks(shell: Shell, tmp_path: Path) -> None:
    with scripted_server(tmp_path / "home" / "api.sock", http_answer(HERE)):
        alone = shell("trace", "there").text.splitlines()
        assert alone[0] == "session ssssssss with 10.0.0.1:7, opened here, ended: in order"
        assert alone[1].split() == ["HERE", "MESSAGE", "BYTES", "ABOUT"]
        assert alone[2].split()[1:] == ["->", "Done", "38", "main"]
        (tmp_path / "other.json").write_text(json.dumps(THERE))
        both = shell("trace", "there", "--other", str(tmp_path / "other.json")).text.splitlines()
        assert both[1].split() == ["HERE", "THERE", "MESSAGE", "BYTES", "ABOUT"]
        assert both[2].split()[0].endswith("00.000")
        assert both[2].split()[1].endswith("05.004")
        assert both[-1] == "The clock of there is 5.0 s ahead of the clock here: set the wrong one."
        for text in ("", "{}", "[1]", json.dumps({**THERE, "node": "third"})):
            (tmp_path / "other.json").write_text(text)
            assert "trace" in shell.fails(1, "trace", "there", "--other", str(tmp_path / "other.json"))


def test_a_peer_without_a_session_has_no_trace(shell: Shell, live: LiveNode) -> None:
    live.served.node.peer_table.opened(bytes(32), "cellar", "127.0.0.1:2", target=None, is_initiator=False)
    result = shell("trace", "cellar")
    assert (result.code, result.text, result.err) == (0, "", "no session with cellar is kept\n")
    assert "no peer" in shell.fails(1, "trace", "stranger")
