"""Scheduled backups: when the next is due, and which of them go. The making of one is tested in e2e/test_backup.py."""

import os
from dataclasses import replace
from pathlib import Path

from echonode.host.backup_schedule import BackupSchedule
from echonode.host.home import Home


def schedule(folder: Path) -> BackupSchedule:
    home = Home.find(str(folder / "home"), {})
    return BackupSchedule(home=home, node="ab23cd45", folder=folder / "backups", every_s=3600, keep=2, environ={})


def backup(folder: Path, name: str, at_s: float, node: str = "ab23cd45") -> Path:
    path = folder / "backups" / f"echonode-{node}-{name}.backup"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    os.utime(path, (at_s, at_s))
    return path


def test_the_next_is_due_a_span_after_the_newest_and_at_once_without_any(tmp_path: Path) -> None:
    assert schedule(tmp_path).due_in_s(5000) < 0
    backup(tmp_path, "a", 1000)
    backup(tmp_path, "b", 4000)
    backup(tmp_path, "later", 9000)  # the clock was wrong then
    backup(tmp_path, "c", 4900, node="zz23cd45")  # of another node that uses the folder
    assert schedule(tmp_path).due_in_s(5000) == 2600


def test_the_oldest_go_and_what_is_no_backup_stays(tmp_path: Path) -> None:
    old, *kept = [backup(tmp_path, name, at_s) for name, at_s in (("z", 1000), ("a", 2000), ("b", 3000))]
    kept.append(backup(tmp_path, "y", 500, node="zz23cd45"))
    kept.append(tmp_path / "backups" / "notes.txt")
    kept[-1].write_text("x")
    assert schedule(tmp_path).prune() == 1
    assert not old.exists() and all(path.exists() for path in kept)


def test_backups_with_names_of_the_first_versions_go_from_the_nodes_own_home_alone(tmp_path: Path) -> None:
    for folder, gone in ((tmp_path / "home", 1), (tmp_path, 0)):
        (folder / "backups").mkdir(parents=True)
        old = folder / "backups" / "echonode-20260101T030000Z.backup"
        old.write_bytes(b"x")
        os.utime(old, (1000, 1000))
        for name, at_s in (("a", 2000), ("b", 3000)):
            backup(folder, name, at_s)
        asked = replace(schedule(tmp_path), folder=folder / "backups")
        assert asked.prune() == gone
        assert old.exists() is not bool(gone)


def test_a_file_that_is_taken_away_meanwhile_stops_nothing(tmp_path: Path) -> None:
    backup(tmp_path, "a", 4000)
    gone = tmp_path / "backups" / "echonode-ab23cd45-gone.backup"
    gone.symlink_to(tmp_path / "nowhere")  # it is listed, and cannot be looked at
    assert schedule(tmp_path).due_in_s(5000) == 2600
    assert schedule(tmp_path).prune() == 0
