"""The sources of `echonode logs`: the running node, a file, the journal. Each yields lines in their JSON form."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Final

from echonode.cli.client import ApiClient
from echonode.cli.exit_codes import Failure
from echonode.limits import LOG_LINE_BYTES_MAX

_LOOK_S: Final = 0.25  # between two looks at a file that is followed
_UNITS: Final = ("_SYSTEMD_UNIT=echonode.service", "+", "_SYSTEMD_USER_UNIT=echonode.service")

Line = dict[str, Any]


def from_node(client: ApiClient, query: list[tuple[str, str | None]], *, is_followed: bool) -> Iterator[Line]:
    """Yield the lines that the running node keeps, and with `is_followed` those that come."""
    query = [*query, ("follow", "1" if is_followed else None)]
    with client.open("GET", "/v1/logs", query=query, timeout_s=None if is_followed else 30.0) as response:
        yield from response.values()


def from_file(path: str, *, is_followed: bool) -> Iterator[Line]:
    """Yield the lines of a log file, `-` for stdin. A file that is followed may be replaced or cut meanwhile."""
    if path == "-":
        yield from _parsed(sys.stdin.buffer)
        return
    file = open(path, "rb")  # noqa: SIM115  it may be opened anew
    rest = b""
    while True:
        while data := file.readline(LOG_LINE_BYTES_MAX):
            rest += data
            if rest.endswith(b"\n"):
                yield from _parsed([rest])
                rest = b""
            elif len(rest) > LOG_LINE_BYTES_MAX:
                rest = b""  # no line of a node is as long
        if not is_followed:
            yield from _parsed([rest])
            file.close()
            return
        sys.stdout.flush()
        time.sleep(_LOOK_S)
        if _is_replaced(file, path):
            file.close()
            file, rest = open(path, "rb"), b""  # noqa: SIM115


def from_journal(since_s: float | None, *, is_followed: bool) -> Iterator[Line]:
    """Yield the lines that the service wrote to the journal. Raises Failure without a journal, or one that is empty."""
    command = ["journalctl", "--output=cat", "--no-pager", "--quiet", *_UNITS]
    if since_s is not None:
        command.append(f"--since=@{since_s:.0f}")
    if is_followed:
        command += ["--follow", "--lines=all" if since_s is not None else "--lines=100"]
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    except OSError:
        raise Failure("there is no journal on this machine: give the log's file with --file") from None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        count = 0
        for line in _parsed(process.stdout):
            count += 1
            yield line
        if not count and process.wait() != 0:
            said = process.stderr.read().decode("utf-8", "replace").strip().splitlines()
            raise Failure(f"the journal cannot be read: {said[-1] if said else 'journalctl failed'}")
        if not count:
            raise Failure(
                "the node is not running, and the journal has no line of a service echonode; give the log's file with "
                "--file"
            )
    finally:
        process.kill()
        process.wait()


def _parsed(lines: Any) -> Iterator[Line]:
    """Yield the lines that are JSON objects; of others, such as what a shell said, the text."""
    for raw in lines:
        text = raw[3:] if raw[:1] == b"<" and raw[2:3] == b">" else raw  # a journal's priority
        if not text.strip():
            continue
        value = None
        with suppress(ValueError, RecursionError):
            value = json.loads(text)
        if isinstance(value, dict) and "event" in value:
            yield value
        else:
            yield {
                "time": "",
                "level": "info",
                "event": "library.message",
                "logger": "text",
                "message": text.decode("utf-8", "replace").strip(),
            }


def _is_replaced(file: IO[bytes], path: str) -> bool:
    """Return True when another file has this name now, or this one was cut."""
    import os

    try:
        there, here = Path(path).stat(), os.fstat(file.fileno())
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino) or there.st_size < file.tell()
