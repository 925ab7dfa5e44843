"""The nightly audit: when it is due, and what is kept of it."""

import time
from datetime import datetime
from pathlib import Path

import pytest

from echonode.errors import ConfigError
from echonode.host.audit_schedule import AuditSchedule
from echonode.host.config import load_config
from echonode.host.files import NodeFiles
from echonode.host.home import Home
from echonode.node.audits import AuditReport


async def _none() -> None:
    return None


@pytest.fixture(autouse=True)
def _berlin(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("last", "due"),
    [
        ("2025-11-29T03:00:01", "2025-11-30T03:00:00"),  # as every night
        ("2025-11-30T02:59:59", "2025-11-30T03:00:00"),
        ("2025-11-30T21:00:00", "2025-12-01T03:00:00"),  # it was made late, and the next one is not
    ],
)
def test_an_audit_is_due_at_the_first_such_time_after_the_last_one(last: str, due: str) -> None:
    schedule = AuditSchedule("03:00", datetime.fromisoformat(last).timestamp(), _none)
    assert schedule.due_s() == datetime.fromisoformat(due).timestamp()


@pytest.mark.parametrize(
    ("at", "last", "due"),
    [
        ("03:00", "2025-10-25T03:05:00+02:00", "2025-10-26T03:00:00+01:00"),  # summer time ends: once in that night
        ("02:30", "2025-10-26T02:31:00+02:00", "2025-10-27T02:30:00+01:00"),
        ("02:30", "2025-10-26T02:31:00+01:00", "2025-10-27T02:30:00+01:00"),
        ("03:00", "2026-03-28T03:05:00+01:00", "2026-03-29T03:00:00+02:00"),
        ("02:30", "2026-03-28T02:31:00+01:00", "2026-03-29T03:30:00+02:00"),  # that night has no 02:30
    ],
)
def test_an_audit_is_due_once_a_night_where_summer_time_begins_or_ends(at: str, last: str, due: str) -> None:
    schedule = AuditSchedule(at, datetime.fromisoformat(last).timestamp(), _none)
    assert schedule.due_s() == datetime.fromisoformat(due).timestamp()


@pytest.mark.parametrize("last_s", [4e9, 1e17, -1e13])
def test_an_audit_is_due_within_a_day_after_one_by_a_clock_that_was_wrong(last_s: float) -> None:
    assert AuditSchedule("03:00", last_s, _none).due_s() <= time.time() + 25 * 3600


def test_a_verdict_is_kept_and_a_home_without_one_begins_with_its_keys(tmp_path: Path) -> None:
    files = NodeFiles(Home.find(str(tmp_path / "home"), {}))
    files.home.prepare()
    files.identity(lambda size: bytes(range(size)))
    assert files.read_audit() is None
    assert files.audited_s == files.home.device_key.stat().st_mtime
    report = AuditReport(1_700_000_000_000, 12, 3, 2, "main: log entry 7: its id is not that of its bytes")
    files.write_audit(report)
    assert files.read_audit() == report
    assert files.audited_s == 1_700_000_000
    (files.home.folder / "audited").write_text("damaged")
    assert files.read_audit() is None


def test_a_time_of_day_or_off_is_taken_and_nothing_else(tmp_path: Path) -> None:
    missing = tmp_path / "config.toml"
    assert load_config(missing, {}, {}).audit.at == "03:00"
    assert load_config(missing, {"ECHO_AUDIT_AT": "off"}, {}).audit.at == "off"
    for text in ("24:00", "3:00", "03:60", "night"):
        with pytest.raises(ConfigError, match="ECHO_AUDIT_AT: a time of day like '03:00' is expected, or 'off'"):
            load_config(missing, {"ECHO_AUDIT_AT": text}, {})
