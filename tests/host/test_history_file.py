"""The file of the history of syncs: kept over restarts, bounded, and passed over where it is damaged."""

import stat
from dataclasses import replace
from pathlib import Path

from echonode.host.history_file import HistoryFile
from echonode.limits import SYNC_HISTORY_MAX
from echonode.node.sync_history import HistoryEntry

ENTRY = HistoryEntry(
    timestamp_ms=1,
    peer=bytes(range(32)),
    peer_name="kitchen\n\x1b",
    operation="pull",
    status="success",
    duration_s=0.5,
    details={"sent": 1, "error": ""},
)


def test_what_was_appended_is_read_in_the_next_run(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    entries = [ENTRY, replace(ENTRY, timestamp_ms=2, peer=b"")]
    assert HistoryFile(path).read() == []
    for entry in entries:
        HistoryFile(path).append(entry)
    assert HistoryFile(path).read() == entries
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_lines_that_a_crash_cut_or_nobody_can_read_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    HistoryFile(path).append(ENTRY)
    whole = path.read_bytes()
    path.write_bytes(b"\xff\n" + whole + b'{"at": "x"}\n[1]\n' + b"[" * 5000 + b"\n" + whole + whole[:30])
    file = HistoryFile(path)
    assert file.read() == [ENTRY, ENTRY]
    file.append(ENTRY)
    assert file.read() == [ENTRY, ENTRY, ENTRY]


def test_the_file_keeps_the_latest_and_never_grows_past_twice_as_many(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    file = HistoryFile(path)
    for number in range(2 * SYNC_HISTORY_MAX + 5):
        file.append(replace(ENTRY, timestamp_ms=number))
        if number == 2 * SYNC_HISTORY_MAX - 1:
            assert len(path.read_bytes().splitlines()) == SYNC_HISTORY_MAX
    read = HistoryFile(path).read()
    assert [entry.timestamp_ms for entry in read[-2:]] == [2 * SYNC_HISTORY_MAX + 3, 2 * SYNC_HISTORY_MAX + 4]
    assert len(read) == SYNC_HISTORY_MAX


def test_a_place_that_cannot_be_written_fails_no_sync(tmp_path: Path) -> None:
    file = HistoryFile(tmp_path / "missing" / "history.jsonl")
    assert file.read() == []
    file.append(ENTRY)
