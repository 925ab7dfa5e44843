"""The lines that a node keeps in memory, and the levels that decide which of them are written."""

import asyncio

import pytest

from echonode.errors import LocalError
from echonode.limits import LOG_PEERS_MAX, LOG_RING_LINES
from echonode.node.log_filter import LogFilter
from echonode.node.run_log import REDACTED, RunLog, json_form

PEER = b"p" * 32


class SetClock:
    """A clock that stands still until a test sets it."""

    s = 1000.0

    def now_ms(self) -> int:
        return int(self.s * 1000)

    def monotonic_s(self) -> float:
        return self.s


def test_debug_lines_do_not_push_out_the_others() -> None:
    log = RunLog(SetClock())
    log.note("node.started", "info", {})
    for number in range(LOG_RING_LINES + 5):
        log.note("records.applied", "debug", {"number": number})
    names = [line.name for line in log.lines()]
    assert names[0] == "node.started"
    assert len(names) == LOG_RING_LINES + 1
    assert [line.name for line in log.lines(least="info")] == ["node.started"]
    assert [line.number for line in log.lines(log.last - 1)] == [log.last]


def test_a_level_for_a_while_ends_by_itself_and_one_of_a_peer_concerns_it_alone() -> None:
    clock = SetClock()
    log = RunLog(clock, "warning")
    log.set_level("debug", for_s=600)
    assert log.level == "debug"
    assert log.left_s() == 600
    assert log.admits("debug")
    clock.s += 600
    assert log.level == "warning"
    assert log.left_s() is None
    assert not log.admits("info")
    log.set_level("debug", peer=PEER, for_s=60)
    assert log.admits("debug", PEER)
    assert not log.admits("debug", b"q" * 32)
    assert log.peer_levels() == {PEER: ("debug", 60)}
    clock.s += 60
    assert not log.admits("debug", PEER)
    assert log.peer_levels() == {}
    log.set_level("error", peer=PEER)
    assert not log.admits("warning", PEER), "a peer may also be hushed"
    log.reset(PEER)
    assert log.admits("warning", PEER)
    log.configure("info")
    assert log.level == "info"
    with pytest.raises(LocalError, match="loud"):
        log.set_level("loud")


def test_only_so_many_peers_have_a_level_of_their_own() -> None:
    log = RunLog(SetClock())
    for number in range(LOG_PEERS_MAX):
        log.set_level("debug", peer=bytes([number]) * 32)
    with pytest.raises(LocalError, match="at most"):
        log.set_level("debug", peer=b"\xff" * 32)
    log.set_level("error", peer=bytes(32))


def test_whoever_waits_is_woken_by_the_next_line_from_any_thread() -> None:
    async def test() -> None:
        log = RunLog(SetClock())
        waiting = asyncio.create_task(log.wait(0))
        await asyncio.sleep(0)
        await asyncio.to_thread(log.note, "node.started", "info", {})
        await asyncio.wait_for(waiting, 30)
        await log.wait(0)

    asyncio.run(test())


def test_tokens_and_passwords_that_a_library_says_are_left_out() -> None:
    said = "GET /v1/x?token=abc&y=1 Authorization: Bearer s3cr3t passphrase=hunter2"
    assert json_form(said, 1000) == (
        f"GET /v1/x?token={REDACTED}&y=1 Authorization: Bearer {REDACTED} passphrase={REDACTED}"
    )


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        (LogFilter(), True),
        (LogFilter(level="warning"), True),
        (LogFilter(level="error"), False),
        (LogFilter(event="peer.*"), True),
        (LogFilter(event="peer"), False),
        (LogFilter(peer="abc"), True),
        (LogFilter(peer="bc"), False),
        (LogFilter(session="s1"), True),
        (LogFilter(session="s2"), False),
        (LogFilter(since_ms=1_740_821_400_123), True),
        (LogFilter(since_ms=1_740_821_400_124), False),
    ],
)
def test_a_line_is_wanted_when_it_fulfils_every_condition(wanted: LogFilter, takes: bool) -> None:
    line = {"time": "2025-03-01T09:30:00.123Z", "level": "warning", "event": "peer.absent", "peer": "abcd"}
    assert wanted.takes({**line, "session": "s1x"}) is takes
    assert not LogFilter(since_ms=1).takes({**line, "time": "yesterday"})
