"""Logs in their three forms: for a program, for a person, for the journal."""

import asyncio
import dataclasses
import io
import json
import logging
import os
import socket
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode.errors import ConfigError
from echonode.host.journal import JournalEntries
from echonode.host.logs import Logs, is_journal, open_logs
from echonode.host.system import SystemClock
from echonode.limits import LOG_LINE_BYTES_MAX, LOG_LINES_PER_S
from echonode.node.events import (
    NodeStopped,
    PeerConnected,
    PeerSighted,
    RecordRefused,
    RecordsApplied,
    SessionFailed,
    SyncCompleted,
)
from echonode.text import to_base32


class SetClock:
    """A clock that stands still until a test sets it."""

    def __init__(self) -> None:
        self.ms = 1_740_821_400_123

    def now_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000


def opened(**options: Any) -> tuple[Logs, io.BytesIO, SetClock]:
    file, clock = io.BytesIO(), SetClock()
    return Logs(file, clock, **options), file, clock


NO_JOURNAL = "/nowhere/socket"


def lines(file: io.BytesIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.getvalue().splitlines()]


COMPLETED = SyncCompleted(
    session=b"s" * 16,
    peer=b"p" * 32,
    context="main",
    mode="level_wise",
    reason="scattered",
    role="initiator",
    outcome="done",
    verified=True,
    sent=1,
    received=2,
    refused=0,
    bytes_sent=3,
    bytes_received=4,
    round_trips=5,
    duration_s=0.123456789,
)


def refused(number: int = 0, *, peer: bytes = b"p" * 32) -> RecordRefused:
    return RecordRefused(session=b"", peer=peer, context="main", reason="bad_record", detail=f"number {number}")


def test_an_event_is_one_json_object_with_time_level_name_and_its_fields() -> None:
    logs, file, _ = opened()
    logs(COMPLETED)
    (line,) = lines(file)
    assert list(line)[:3] == ["time", "level", "event"]
    assert (line["time"], line["level"], line["event"]) == ("2025-03-01T09:30:00.123Z", "info", "sync.completed")
    assert line["session"] == to_base32(b"s" * 16)
    assert line["peer"] == to_base32(b"p" * 32)
    assert (line["verified"], line["received"], line["duration_s"]) == (True, 2, 0.123457)
    assert set(line) == {"time", "level", "event", *(field.name for field in dataclasses.fields(COMPLETED))}
    assert file.getvalue().count(b"\n") == 1


def test_an_event_without_fields_is_a_line_too() -> None:
    logs, file, _ = opened()
    logs(NodeStopped())
    assert lines(file)[0]["event"] == "node.stopped"


def test_applied_records_are_counted_and_their_bodies_never_logged() -> None:
    logs, file, _ = opened(level="debug")
    logs(RecordsApplied(context="main", source=b"", records=(object(), object())))  # type: ignore[arg-type]
    (line,) = lines(file)
    assert (line["records"], line["source"]) == (2, "")


def test_the_level_can_be_changed_while_running() -> None:
    logs, file, _ = opened(level="warning")
    logs(COMPLETED)
    logs.log("home.opened", "info", path="/x")
    assert file.getvalue() == b""
    logs.level = "info"
    assert logs.level == "info"
    logs(COMPLETED)
    assert len(lines(file)) == 1
    with pytest.raises(ConfigError, match="'loud' is no log level"):
        logs.level = "loud"


@given(st.text(max_size=300))
def test_what_a_peer_says_is_escaped_and_bounded(said: str) -> None:
    logs, file, _ = opened()
    logs(PeerConnected(session=b"", peer=b"p" * 32, peer_name=said, address="10.0.0.1:7"))
    (line,) = lines(file)
    assert all(char.isprintable() for char in line["peer_name"])
    assert len(line["peer_name"]) <= 128 * 12
    assert b"\x1b" not in file.getvalue()


def test_a_terminal_escape_reaches_neither_form() -> None:
    for console in (False, True):
        logs, file, _ = opened(console=console)
        logs(PeerConnected(session=b"", peer=b"p" * 32, peer_name="\x1b]0;owned\x07\n{}\u202e", address="10.0.0.1:7"))
        logs.log("host.line", "error", said="\x1b[2J")
        assert b"\x1b" not in file.getvalue()
        assert "\u202e" not in file.getvalue().decode()
        assert file.getvalue().count(b"\n") == 2


def test_the_form_for_people_has_names_or_short_ids_and_no_braces() -> None:
    logs, file, _ = opened(console=True)
    logs(COMPLETED)
    logs(PeerConnected(session=b"", peer=b"p" * 32, peer_name="kitchen", address="10.0.0.1:7"))
    logs(COMPLETED)
    logs(dataclasses.replace(COMPLETED, sent=0, received=0))
    first, here, second = file.getvalue().decode().splitlines()
    assert to_base32(b"p" * 32)[:8] in first
    assert to_base32(b"p" * 32) not in first
    assert "{" not in first
    assert here.endswith("kitchen is here, at 10.0.0.1:7")
    assert "main with kitchen: 2 received, 1 sent, done" in second


def test_at_debug_a_terminal_shows_every_line_with_its_name() -> None:
    logs, file, _ = opened(console=True, level="debug")
    logs(dataclasses.replace(COMPLETED, sent=0, received=0))
    assert "info     sync.completed" in file.getvalue().decode()


def test_lines_below_the_level_are_kept_in_memory_and_a_peer_may_have_a_level_of_its_own() -> None:
    logs, file, clock = opened(level="error")
    logs(refused())
    logs.log("host.line", "info", token="Bearer s3cr3t")
    assert file.getvalue() == b""
    kept = [line.as_json() for line in logs.run_log.lines()]
    assert [line["event"] for line in kept] == ["record.refused", "host.line"]
    assert kept[1]["token"] == "Bearer (redacted)"
    logs.run_log.set_level("debug", for_s=60, peer=b"p" * 32)
    logs(refused())
    logs(refused(peer=b"q" * 32))
    assert [line["peer"] for line in lines(file)] == [to_base32(b"p" * 32)]
    clock.ms += 60_000
    logs(refused())
    assert len(lines(file)) == 1


def test_lines_beyond_ten_a_second_about_one_peer_are_folded_into_one() -> None:
    logs, file, clock = opened()
    for number in range(LOG_LINES_PER_S + 25):
        logs(refused(number))
    logs(refused(peer=b"q" * 32))
    assert len(lines(file)) == LOG_LINES_PER_S + 1
    clock.ms += 1000
    logs(refused(99))
    folded, after = lines(file)[-2:]
    assert folded == {
        "time": "2025-03-01T09:30:01.123Z",
        "level": "warning",
        "event": "log.folded",
        "folded": "record.refused",
        "about": to_base32(b"p" * 32),
        "count": 25,
    }
    assert after["detail"] == "number 99"
    logs.flush()
    assert lines(file)[-1] == after


def test_a_flood_from_made_up_addresses_is_folded_too() -> None:
    logs, file, clock = opened()
    for number in range(5000):
        logs(PeerSighted(address=f"10.0.{number // 256}.{number % 256}:7", found_by="mdns", same_network=False))
    written = len(lines(file))
    assert written < 300
    clock.ms += 1000
    logs.flush()
    assert sum(line["count"] for line in lines(file)[written:]) == 5000 - written


def test_connections_from_one_host_are_one_flood_whatever_their_ports() -> None:
    logs, file, clock = opened()
    for number in range(500):
        logs(SessionFailed(session=b"", peer=b"", address=f"[fe80::1]:{number}", reason="transport", detail="gone"))
    assert len(lines(file)) == LOG_LINES_PER_S
    clock.ms += 1000
    logs.flush()
    assert (lines(file)[-1]["about"], lines(file)[-1]["count"]) == ("[fe80::1]", 500 - LOG_LINES_PER_S)


def test_what_was_folded_is_said_even_if_nothing_follows() -> None:
    async def test() -> None:
        read, write = os.pipe()
        with os.fdopen(read, "rb") as reader, os.fdopen(write, "wb") as writer:
            logs = Logs(writer, SystemClock())
            for number in range(LOG_LINES_PER_S + 3):
                logs(refused(number))

            def last() -> dict[str, Any]:
                for _ in range(LOG_LINES_PER_S):
                    reader.readline()
                return json.loads(reader.readline())  # type: ignore[no-any-return]

            assert (await asyncio.to_thread(last))["count"] == 3

    asyncio.run(asyncio.wait_for(test(), 20))


def test_a_line_that_would_be_too_long_loses_its_longest_fields_and_says_which() -> None:
    logs, file, _ = opened(journal=JournalEntries(NO_JOURNAL))
    logs.log("host.line", "info", short="kept", listing=["ü" * 1000] * 60, other=["x" * 1000] * 60)
    raw = file.getvalue()
    assert len(raw) <= LOG_LINE_BYTES_MAX
    line = json.loads(raw[3:])
    assert line["short"] == "kept"
    assert sorted(line["cut"]) == ["listing", "other"]


@given(
    st.dictionaries(
        st.text("abcdef", min_size=1, max_size=5), st.lists(st.text(max_size=2000), max_size=80), max_size=8
    )
)
def test_no_line_is_ever_longer_than_the_limit(fields: dict[str, list[str]]) -> None:
    logs, file, _ = opened(journal=JournalEntries(NO_JOURNAL))
    logs.log("host.line", "info", **fields)
    assert len(file.getvalue()) <= LOG_LINE_BYTES_MAX
    assert json.loads(file.getvalue()[3:])["event"] == "host.line"


def test_where_the_journal_takes_no_entry_a_line_begins_with_its_priority() -> None:
    logs, file, _ = opened(level="debug", journal=JournalEntries(NO_JOURNAL))
    for level in ("debug", "info", "warning", "error"):
        logs.log("host.line", level)
    assert [line[:4] for line in file.getvalue().splitlines()] == [b"<7>{", b"<6>{", b"<4>{", b"<3>{"]


def test_the_journal_gets_entries_with_the_fields_that_people_search_by(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "s"))
        logs, file, _ = opened(journal=JournalEntries(str(tmp_path / "s")))
        logs.log("host.line", "warning", peer="ab23", said="two\nlines", context="x\nMESSAGE=forged")
        *fields, end = journal.recv(1 << 16).split(b"\n")
        entry = dict(field.split(b"=", 1) for field in fields)
        assert (len(entry), end) == (len(fields), b"")
        assert json.loads(entry.pop(b"MESSAGE"))["said"] == "two\\u000alines"
        assert entry.pop(b"CONTEXT") == b"x\\u000aMESSAGE=forged"
        assert entry == {
            b"PRIORITY": b"4",
            b"SYSLOG_IDENTIFIER": b"echonode",
            b"EVENT": b"host.line",
            b"PEER": b"ab23",
        }
    logs.log("host.line", "info")  # the journal is gone
    assert file.getvalue().startswith(b"<6>{")


def test_a_journal_that_takes_nothing_stops_nobody(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stuck:
        stuck.bind(str(tmp_path / "s"))
        logs, file, _ = opened(journal=JournalEntries(str(tmp_path / "s")))
        for number in range(2_000):
            logs.log(f"host.line{number}", "info")
    assert file.getvalue().count(b"<6>{") > 1_000


def test_a_log_that_cannot_be_written_stops_nobody() -> None:
    read, write = os.pipe()
    os.close(read)
    with open(write, "wb", buffering=0) as broken:
        Logs(broken, SetClock()).log("host.line", "error")
    Logs(broken, SetClock()).log("host.line", "error")


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def test_lines_of_libraries_join_the_stream_from_warnings_up(root: logging.Logger) -> None:
    logs, file, _ = opened()
    logs.route_libraries()
    logging.getLogger("uvicorn.access").info("not this")
    logging.getLogger("zeroconf").warning("odd packet from %s", "\x1b[31m")
    logging.getLogger("asyncio").critical("down", exc_info=ValueError("why\n"))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    odd, down, old = lines(file)
    assert (odd["event"], odd["level"], odd["logger"]) == ("library.message", "warning", "zeroconf")
    assert odd["message"] == "odd packet from \\u001b[31m"
    assert (down["level"], down["traceback"][-1]) == ("error", "")
    assert "ValueError: why" in down["traceback"]
    assert (old["logger"], old["level"]) == ("py.warnings", "warning")


CHILD = """
import os, sys
from echonode.host.logs import open_logs
from echonode.host.system import SystemClock
environ = dict(os.environ)
if "journal" in sys.argv:
    status = os.fstat(2)
    environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
logs = open_logs("info", "auto", SystemClock(), environ)
logs.log("host.line", "warning", said="hello")
logs.close()
assert "rich" not in sys.modules
"""


def test_the_form_suits_where_stderr_goes() -> None:
    def said(*arguments: str) -> bytes:
        return subprocess.run([sys.executable, "-c", CHILD, *arguments], capture_output=True, check=True).stderr

    assert json.loads(said())["said"] == "hello"
    assert said("journal").startswith(b"<4>{")

    leader, follower = os.openpty()
    try:
        subprocess.run([sys.executable, "-c", CHILD], stderr=follower, check=True)
        assert b"{" not in os.read(leader, 4096).replace(b"\x1b", b"")
    finally:
        os.close(leader)
        os.close(follower)


def test_a_stream_that_is_not_the_journals_is_not_taken_for_it() -> None:
    with open(os.devnull, "wb") as file:
        assert not is_journal(file.fileno(), {})
        assert not is_journal(file.fileno(), {"JOURNAL_STREAM": "8:1"})
    assert not is_journal(1 << 20, {"JOURNAL_STREAM": "8:1"})  # no such descriptor


def test_an_unknown_format_is_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="'xml' is no log format"):
        open_logs("info", "xml", SetClock(), {})
