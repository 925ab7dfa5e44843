"""The limits of this machine, measured in the same run as the node."""

import os
import socket
import sqlite3
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from echonode.cli.machine_limits import sign_rate as sign_rate
from echonode.cli.machine_limits import verify_rate as verify_rate

_RECORD = bytes(600)
_LOG = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE log (id BLOB UNIQUE, bytes BLOB)"
_ROWS, _BATCH = 40_000, 1000
_FRAMES, _FRAME = 100_000, (300).to_bytes(4, "big") + bytes(300)


def durable_row_ms(folder: Path) -> float:
    """Return the median time in milliseconds for one row of SQLite that the disk has at the return."""
    times_s = []
    with closing(_log(folder / "row.db")) as database:
        for _ in range(100):
            began_s = time.perf_counter()
            database.execute("INSERT INTO log VALUES (?, ?)", (os.urandom(32), _RECORD))
            times_s.append(time.perf_counter() - began_s)
    return 1000 * statistics.median(times_s)


def log_rows_rate(folder: Path) -> float:
    """Return the rows a second of a log with unique ids, in durable transactions of 1,000."""
    batches = [[(os.urandom(32), _RECORD) for _ in range(_BATCH)] for _ in range(_ROWS // _BATCH)]
    with closing(_log(folder / "log.db")) as database:

        def insert() -> None:
            for batch in batches:
                database.execute("BEGIN")
                database.executemany("INSERT INTO log VALUES (?, ?)", batch)
                database.execute("COMMIT")

        return _rate(insert, _ROWS)


def _log(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, isolation_level=None)
    database.executescript(_LOG)
    return database


def frame_rate() -> float:
    """Return the frames of 300 bytes a second, behind lengths of 4, over loopback and out of one buffer of 64 KiB."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sender:
        receiver, _ = server.accept()

        def send() -> None:
            for _ in range(0, _FRAMES, 200):
                sender.sendall(_FRAME * 200)

        def receive() -> None:
            threading.Thread(target=send).start()
            left = _FRAMES * len(_FRAME)
            while left:
                left -= len(receiver.recv(65536))

        with receiver:
            return _rate(receive, _FRAMES)


def _rate(work: Callable[[], object], calls: int) -> float:
    began = time.perf_counter()
    work()
    return calls / (time.perf_counter() - began)
