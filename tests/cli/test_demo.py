"""The demo with real nodes in real processes; nothing of it may remain, however it ends."""

import os
import pty
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from echonode.cli import demo_nodes
from echonode.cli.commands.demo import are_equal, records_in, split_conversations
from echonode.cli.demo_nodes import DemoNodes, free_ports, multicast_works
from echonode.cli.exit_codes import ExitCode, Failure
from tests.cli.harness import FakeServices, Shell, live_node

WITHIN_S = 120


def environment(folder: Path) -> dict[str, str]:
    return {**{key: value for key, value in os.environ.items() if not key.startswith("ECHO_")}, "TMPDIR": str(folder)}


def demo(folder: Path, *args: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "echonode", "demo", *args]
    return subprocess.Popen(command, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def children_of(folder: Path) -> list[int]:
    """Return the ids of processes whose command line names this folder."""
    if not Path("/proc/self/cmdline").exists():
        pytest.skip("no /proc on this system")
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if str(folder).encode() in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            pass  # the process has ended meanwhile
    return found


def test_a_demo_ends_equal_says_what_it_cost_and_leaves_nothing(tmp_path: Path) -> None:
    process = demo(tmp_path, "--nodes", "2", "--records", "300")
    out, err = (text.decode() for text in process.communicate(timeout=WITHIN_S))
    assert process.returncode == 0, err
    lines = out.splitlines()
    equal = next(index for index, line in enumerate(lines) if line.startswith("equal after "))
    assert lines[equal].endswith("all 2 nodes hold 300 records, and every root is the same on each")
    met = re.fullmatch(r" *[0-9.]+ s  node-1 300 (\w+)   node-2 300 (\w+)", lines[equal - 1])
    assert met is not None
    assert met[1] == met[2]
    assert lines[equal + 1].split()[:3] == ["WHO", "ASKED", "WHOM"]
    assert any(" main " in line for line in lines[equal + 2 :])
    assert list(tmp_path.iterdir()) == []
    assert children_of(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_demo_told_to_stop_cleans_up_first(tmp_path: Path, number: signal.Signals) -> None:
    process = demo(tmp_path, "--nodes", "2", "--records", "200000")
    assert process.stdout is not None
    assert process.stdout.readline()  # the nodes run, and records are being imported
    assert len(children_of(tmp_path)) == 2
    process.send_signal(number)
    out, err = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 128 + number
    assert b"equal after" not in out
    assert b"Traceback" not in err
    assert list(tmp_path.iterdir()) == []
    assert children_of(tmp_path) == []


def test_without_multicast_it_says_so_and_the_nodes_meet_all_the_same(
    shell: Shell, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interface does not exist. To the demo this looks like a machine without multicast on loopback."""
    folder = tmp_path_factory.mktemp("d")  # a short name: a socket's path has 107 bytes
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    works = multicast_works
    monkeypatch.setattr(demo_nodes, "multicast_works", lambda: works("192.0.2.1"))
    result = shell("demo", "--nodes", "2", "--records", "50")
    assert result.code == 0, result
    assert "no multicast" in result.err
    assert "all 2 nodes hold 50 records" in result.text
    assert children_of(folder) == []


def test_a_person_sees_a_live_table(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    seen: list[bytes] = []

    def read() -> None:
        try:
            while data := os.read(ours, 65_536):
                seen.append(data)
        except OSError:
            pass  # EIO: the other end is closed

    reader = threading.Thread(target=read)
    reader.start()
    done = subprocess.run(
        [sys.executable, "-m", "echonode", "demo", "--nodes", "2", "--records", "50"],
        env={**environment(tmp_path), "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
        stdout=theirs,
        stderr=theirs,
        timeout=WITHIN_S,
        check=False,
    )
    os.close(theirs)
    reader.join(WITHIN_S)
    os.close(ours)
    text = b"".join(seen).decode()
    assert done.returncode == 0, text
    assert "root of main" in text
    assert "\x1b[" in text
    assert "equal after" in text
    last_table = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).rpartition("equal with")[2].partition("equal after")
    assert [row.split()[-2] for row in last_table[0].splitlines() if "node-" in row] == ["1", "1"]


def test_an_import_on_a_terminal_draws_a_bar(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(b"".join(b'{"name": "n%d"}\n' % number for number in range(3000)))
    ours, theirs = pty.openpty()
    with live_node(tmp_path / "home"):
        command = [sys.executable, "-m", "echonode", "--home", str(tmp_path / "home"), "import"]
        done = subprocess.run(
            [*command, str(tmp_path / "in.jsonl")],
            env={**environment(tmp_path), "TERM": "xterm"},
            stdout=subprocess.PIPE,
            stderr=theirs,
            timeout=WITHIN_S,
            check=False,
        )
    os.close(theirs)
    text = os.read(ours, 1_000_000).decode()
    os.close(ours)
    assert (done.returncode, done.stdout) == (0, b"")
    assert "━" in text
    assert "3,000 records written" in text


# -- its parts ---------------------------------------------------------------------------------------------------------


def test_free_ports_are_many_and_free() -> None:
    ports = free_ports(5)
    assert len(set(ports)) == 5
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass


def test_an_interface_that_does_not_exist_has_no_multicast() -> None:
    assert not multicast_works("192.0.2.1")


def script(folder: Path, text: str) -> list[str]:
    """Return the command of a Python program that stands in for echonode."""
    (folder / "program.py").write_text(text)
    return [sys.executable, str(folder / "program.py")]


def test_a_node_that_ends_is_reported_with_its_last_words(tmp_path: Path) -> None:
    command = script(tmp_path, "print('first'); print('no room left'); print(); raise SystemExit(3)")
    words = r"^node-1 ended with exit code 3: no room left$"
    with DemoNodes(FakeServices(tmp_path), tmp_path, command) as nodes, pytest.raises(Failure, match=words):
        nodes.start("node-1", []).wait_ready()


def test_a_deaf_node_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_nodes, "_STOP_TIMEOUT_S", 0.1)
    deaf = "import signal, sys; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    with DemoNodes(FakeServices(tmp_path), tmp_path, script(tmp_path, deaf)) as nodes:
        node = nodes.start("node-1", [])
        while "deaf" not in node.log.read_text():
            os.sched_yield()
    assert node.process.returncode == -signal.SIGKILL


def test_a_node_that_never_takes_commands_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_nodes, "_READY_TIMEOUT_S", 0.1)
    command = script(tmp_path, "import signal; signal.pause()")
    silent = pytest.raises(Failure, match="took no commands")
    with DemoNodes(FakeServices(tmp_path), tmp_path, command) as nodes, silent as caught:
        nodes.start("node-1", []).wait_ready()
    assert caught.value.exit_code == ExitCode.TIMED_OUT


def test_nodes_do_not_hear_of_the_environment_of_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_API_URL", "unix:/elsewhere")
    command = script(tmp_path, "import os, sys; print(sys.argv[1:], 'ECHO_API_URL' in os.environ)")
    with DemoNodes(FakeServices(tmp_path), tmp_path, command) as nodes:
        node = nodes.start("node-1", ["--no-mdns"])
        node.process.wait(WITHIN_S)
        said = node.log.read_text().strip()
    assert said == f"['--home', '{tmp_path}/node-1', 'run', '--name', 'node-1', '--no-mdns'] False"


def test_equal_means_every_root_of_every_context() -> None:
    def status(**roots: str) -> dict[str, object]:
        return {"contexts": [{"name": name, "root": root, "records": 2} for name, root in roots.items()]}

    assert are_equal([status(main="a", identities="b"), status(identities="b", main="a")])
    assert not are_equal([status(main="a"), status(main="a", identities="b")])
    assert not are_equal([status(main="a"), status(main="a"), status(main="b")])
    assert records_in(status(main="a", other="b")) == 2
    assert records_in(status(other="b")) == 0


def test_each_conversation_is_told_once_and_idle_ones_are_counted() -> None:
    def event(role: str, sent: int = 0, received: int = 0) -> dict[str, object]:
        return {"role": role, "sent": sent, "received": received}

    asked, answered, idle = event("initiator", sent=3), event("responder", received=3), event("initiator")
    assert split_conversations([("one", [asked, idle]), ("two", [answered])]) == ([("one", asked)], 1)
