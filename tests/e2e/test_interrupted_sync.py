"""A long sync on a terminal: its bar is seen, Ctrl-C interrupts it, and a later sync goes on."""

import os
import pty
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

from tests.e2e.data import write_lines
from tests.e2e.processes import DEADLINE_S, NodeProcess, equal, running, wait_for

RECORDS = 30_000


class Terminal:
    """Runs `echonode` with a terminal as its stderr, and keeps what appears there."""

    def __init__(self, node: NodeProcess, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self._seen: list[bytes] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "echonode", "--home", str(node.home), *arguments],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while data := os.read(self._ours, 65_536):
                self._seen.append(data)
        except OSError:
            pass  # EIO: the other end is closed

    @property
    def text(self) -> str:
        return b"".join(self._seen).decode()

    def shows(self, text: str) -> bool:
        """Return True if `text` has appeared, or can appear no more."""
        return text in self.text or self.process.poll() is not None

    def ended(self) -> tuple[int, bytes]:
        """Wait for the end; return the exit code and stdout."""
        out, _ = self.process.communicate(timeout=DEADLINE_S)
        self._reader.join(DEADLINE_S)
        os.close(self._ours)
        return self.process.returncode, out


def test_a_sync_on_a_terminal_shows_a_bar_ends_at_ctrl_c_and_goes_on_later(tmp_path: Path) -> None:
    full, empty = nodes = [NodeProcess(tmp_path / name, name, mdns=False) for name in ("full", "empty")]
    for _ in running(nodes):
        # The nodes meet. Then one imports records while the other is away, so that they are new to it.
        full.start("--open")
        met_at = full.address()
        empty.start("--open", "--peer", met_at)
        wait_for(lambda: equal(nodes, "identities"))
        empty.stop()
        write_lines(tmp_path / "in.jsonl", iter([{"name": f"n{n}", "body": "x" * 100} for n in range(RECORDS)]))
        full.cli("import", str(tmp_path / "in.jsonl"))
        full.stop()
        empty.start("--open", "--peer", met_at)
        # Freeze one node so that the sync begins when it is watched, then the other so that it does not end too soon.
        empty.signal(signal.SIGSTOP)
        full.start("--open", listen=met_at)
        watched = Terminal(empty, "sync", "--timeout", "10m")
        empty.signal(signal.SIGCONT)
        wait_for(partial(watched.shows, "main: snapshot with "))
        full.signal(signal.SIGSTOP)
        watched.process.send_signal(signal.SIGINT)
        assert watched.ended() == (130, b""), watched.text
        assert "━" in watched.text and f"/{RECORDS}" in watched.text
        assert "interrupted; what came is kept" in watched.text
        assert "Traceback" not in watched.text
        full.signal(signal.SIGCONT)
        again = empty.cli("sync", "--timeout", "1m")
        assert again.stderr.decode() == "in sync with 1 node, and verified\n"
        assert equal(nodes, "main", "identities")


def connections_to(address: str) -> set[str]:
    """Return the local ports of TCP connections to `address`, as the kernel lists them."""
    port = f"{int(address.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[2].endswith(f":{port}") and row[3] == "01"}  # established


def has_more(address: str, before: set[str]) -> bool:
    return not connections_to(address) <= before


def test_a_request_to_one_peer_ends_at_ctrl_c_and_succeeds_when_repeated(tmp_path: Path) -> None:
    full, part = nodes = [NodeProcess(tmp_path / name, name, mdns=False) for name in ("full", "part")]
    for _ in running(nodes):
        part.home.mkdir()
        (part.home / "config.toml").write_text('[subscriptions]\nmain = ["tag=nothing"]\n')
        full.start("--open")
        full_at = full.address()
        part.start("--open", "--peer", full_at)
        wait_for(lambda: equal(nodes, "identities"))
        full.cli("put", "theirs", "x")
        part.cli("put", "ours", "y")
        theirs, ours = (f"{node.json('status')['id']}/{name}" for node, name in ((full, "theirs"), (part, "ours")))
        for request in (
            ("pull", "--from", "full"),
            ("get", "--from", "full", theirs),
            ("put", "--to", "full", ours),
        ):
            full.signal(signal.SIGSTOP)  # the peer must not answer before the command is interrupted
            before = connections_to(full_at)
            watched = Terminal(part, *request)
            wait_for(partial(has_more, full_at, before))
            watched.process.send_signal(signal.SIGINT)
            assert watched.ended() == (130, b""), (request, watched.text)
            assert "Traceback" not in watched.text
            full.signal(signal.SIGCONT)
            assert part.cli(*request).returncode == 0
        assert part.cli("get", theirs).stdout == b"x"
        assert part.json("verify")["ok"] and full.json("verify")["ok"]
