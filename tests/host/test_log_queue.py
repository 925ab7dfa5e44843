"""A reader of the log that stops costs lines and never the node: real pipes, and a real process."""

import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from echonode.host.log_queue import LogQueue
from echonode.limits import LOG_QUEUE_BYTES_MAX

WAIT_S = 20
LINE = b"x" * 999 + b"\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """Make a pipe that holds one page."""
    read, write = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    yield read, write
    for descriptor in (read, write):
        try:
            os.close(descriptor)
        except OSError:
            pass  # a test closed it


def read_until(descriptor: int, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        data += os.read(descriptor, 1 << 16)
    return data


def test_lines_arrive_in_order(pipe: tuple[int, int]) -> None:
    queue = LogQueue(pipe[1])
    for number in range(100):
        queue.write(b"%d\n" % number)
    assert read_until(pipe[0], b"99\n") == b"".join(b"%d\n" % number for number in range(100))
    queue.close()
    assert queue.write(b"late\n") == 5  # a closed queue takes nothing, and complains of nothing


def test_a_reader_that_stops_costs_the_lines_beyond_the_bound_and_no_time(pipe: tuple[int, int]) -> None:
    queue = LogQueue(pipe[1])
    queue.gap_line = lambda count: b"dropped %d\n" % count
    total = 3 * LOG_QUEUE_BYTES_MAX // len(LINE)
    started_s = time.monotonic()
    for _ in range(total):
        queue.write(LINE)
    assert time.monotonic() - started_s < WAIT_S / 2
    assert queue._waiting_bytes <= LOG_QUEUE_BYTES_MAX
    kept = dropped = 0
    rest = b""
    while kept + dropped < total:  # a gap stands in the place of the lines that it counts
        *lines, rest = (rest + os.read(pipe[0], 1 << 16)).split(b"\n")
        kept += lines.count(LINE[:-1])
        dropped += sum(int(line.split()[1]) for line in lines if line.startswith(b"dropped"))
    assert kept + dropped == total
    assert kept * len(LINE) >= LOG_QUEUE_BYTES_MAX - len(LINE), "the whole bound was used"
    queue.write(b"after\n")
    assert read_until(pipe[0], b"after\n") == b"after\n"
    queue.close()


@pytest.mark.parametrize("beyond", [0, 1])
def test_the_bound_is_reached_exactly(pipe: tuple[int, int], beyond: int) -> None:
    queue = LogQueue(pipe[1])
    for _ in range(300):
        queue.write(LINE)
    deadline_s = time.monotonic() + WAIT_S
    while (before := queue._waiting_bytes) == 300 * len(LINE):  # the thread takes a chunk, and hangs with it
        assert time.monotonic() < deadline_s
    queue.write(b"y" * (LOG_QUEUE_BYTES_MAX - before + beyond))
    assert queue._waiting_bytes == (before if beyond else LOG_QUEUE_BYTES_MAX)
    # Its thread must not go on writing to a descriptor of that number that the next test opens.
    reader = Thread(target=read_until, args=(pipe[0], b"end\n"))
    reader.start()
    while queue._waiting_bytes:
        assert time.monotonic() < deadline_s
    queue.write(b"end\n")
    reader.join()
    queue.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_what_a_full_disk_lost_is_told_when_it_takes_lines_again(tmp_path: Path) -> None:
    target = os.open("/dev/full", os.O_WRONLY)
    queue = LogQueue(target)
    queue.gap_line = lambda count: b"dropped %d\n" % count
    for _ in range(3):
        queue.write(b"lost\n")
    deadline_s = time.monotonic() + WAIT_S
    while queue._failed < 3:
        assert time.monotonic() < deadline_s
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, target)  # there is room again
    queue.write(b"kept\n")
    queue.close()
    assert (tmp_path / "log").read_bytes() == b"dropped 3\nkept\n"
    for descriptor in (log, target):
        os.close(descriptor)


def test_a_closed_pipe_and_a_closed_descriptor_end_nothing(pipe: tuple[int, int]) -> None:
    queue = LogQueue(pipe[1])
    os.close(pipe[0])
    queue.write(LINE)
    queue.close()
    os.close(pipe[1])
    queue = LogQueue(pipe[1])
    queue.write(LINE)
    queue.close()
    assert not queue.isatty()


def test_closing_waits_for_the_last_lines_but_not_for_a_reader_that_stopped(pipe: tuple[int, int]) -> None:
    queue = LogQueue(pipe[1])
    for _ in range(50):
        queue.write(LINE)
    started_s = time.monotonic()
    queue.close(timeout_s=0.2)
    assert 0.2 <= time.monotonic() - started_s < WAIT_S / 2
    assert read_until(pipe[0], LINE).count(b"\n") > 0


def test_a_descriptor_that_another_process_made_non_blocking_loses_nothing(pipe: tuple[int, int]) -> None:
    os.set_blocking(pipe[1], False)
    queue = LogQueue(pipe[1])
    for _ in range(200):
        queue.write(LINE)
    queue.write(b"end\n")
    assert read_until(pipe[0], b"end\n").count(LINE) == 200
    queue.close()


CHILD = """
import asyncio, json, sys
from echonode.host.logs import open_logs
from echonode.host.system import SystemClock

async def main():
    logs = open_logs("info", "json", SystemClock(), {})
    late = 0.0
    loop = asyncio.get_running_loop()
    for number in range(400):
        before = loop.time()
        await asyncio.sleep(0)
        for line in range(8):
            logs.log(f"host.line{line}.{number}", "warning", text="x" * 1000)
        late = max(late, loop.time() - before)
    print(json.dumps(late), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    logs.log("host.line", "warning", text="after")
    logs.close()

asyncio.run(main())
"""


def test_the_loop_of_a_process_whose_log_is_not_read_goes_on_and_the_log_tells_what_is_missing() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        try:
            assert child.stdout is not None
            assert child.stdin is not None
            assert child.stderr is not None
            assert json.loads(child.stdout.readline()) < 1.0, "3 MB of lines, and nobody reads them"
            child.stdin.write(b"\n")
            child.stdin.flush()
            lines = [json.loads(line) for line in child.stderr]
        finally:
            if child.poll() is None:
                child.kill()
    gaps = [line for line in lines if line["event"] == "log.dropped"]
    assert {gap["level"] for gap in gaps} == {"warning"}
    kept = sum(line["event"].startswith("host.line") for line in lines) - 1
    assert kept + sum(gap["count"] for gap in gaps) == 3200
    assert lines[-1]["text"] == "after"
