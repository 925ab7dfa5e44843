"""A person watches a long sync on a terminal, interrupts it, and has it go on later."""

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
    """`echonode` with a terminal for its stderr, all of which is kept."""

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
        """Whether it has shown `text`, or will not any more."""
        return text in self.text or self.process.poll() is not None

    def ended(self) -> tuple[int, bytes]:
        """Exit code, and what came on stdout."""
        out, _ = self.process.communicate(timeout=DEADLINE_S)
        self._reader.join(DEADLINE_S)
        os.close(self._ours)
        return self.process.returncode, out


def test_a_sync_on_a_terminal_shows_a_bar_ends_at_ctrl_c_and_goes_on_later(tmp_path: Path) -> None:
    full, empty = nodes = [NodeProcess(tmp_path / name, name, mdns=False) for name in ("full", "empty")]
    for _ in running(nodes):
        # They have met, and what one wrote since, where nobody could find it, is new to the other.
        full.start("--open")
        met_at = full.address()
        empty.start("--open", "--peer", met_at)
        wait_for(lambda: equal(nodes, "identities"))
        full.stop()
        full.start("--open")
        write_lines(tmp_path / "in.jsonl", iter([{"name": f"n{n}", "body": "x" * 100} for n in range(RECORDS)]))
        full.cli("import", str(tmp_path / "in.jsonl"))
        full.stop()
        # Frozen, so that it begins when somebody looks; then the other, so that it does not end too soon.
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
    """The ends here of TCP connections to `address`, as the kernel lists them."""
    port = f"{int(address.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[1] for row in rows if row[2].endswith(f":{port}") and row[3] == "01"}  # established


def has_more(address: str, before: set[str]) -> bool:
    return not connections_to(address) <= before


def test_what_one_peer_is_asked_ends_at_ctrl_c_and_is_done_when_asked_again(tmp_path: Path) -> None:
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
        for asked in (
            ("pull", "--from", "full"),
            ("get", "--from", "full", theirs),
            ("offer", "--to", "full", ours),
        ):
            full.signal(signal.SIGSTOP)  # nothing is answered until it is interrupted
            before = connections_to(full_at)
            watched = Terminal(part, *asked)
            wait_for(partial(has_more, full_at, before))
            watched.process.send_signal(signal.SIGINT)
            assert watched.ended() == (130, b""), (asked, watched.text)
            assert "Traceback" not in watched.text
            full.signal(signal.SIGCONT)
            assert part.cli(*asked).returncode == 0
        assert part.cli("get", theirs).stdout == b"x"
        assert part.json("verify")["ok"] and full.json("verify")["ok"]
