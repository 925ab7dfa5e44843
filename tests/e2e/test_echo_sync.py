"""The scenarios of the Echo Sync Protocol on real nodes, with real concurrent writes, by its command and by the client
that is published for it.

    one ──relay──> two      the relays can be cut: what is written meanwhile is concurrent
     └────relay──> three
"""

import http.client
import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from tushell.echo_sync_client import EchoSyncClient

from tests.e2e.processes import NodeProcess, equal, running, wait_for
from tests.e2e.relay import Relay

WITHIN_S = 60
LOCAL = {"beside": 1}  # what the published command takes for its local state; it wants some for a pull too
APART = "127.0.0.3:0"  # where `one` listens; see relay.py


@dataclass
class Net:
    """Three nodes. `one` reaches `two` and `three` through relays; these two do not know each other."""

    one: NodeProcess
    two: NodeProcess
    three: NodeProcess
    to_two: Relay
    to_three: Relay

    def part(self, *relays: Relay) -> None:
        """Cut the relays, and wait until `one` knows that nobody is there."""
        for relay in relays:
            relay.cut()
        names = {name for name, relay in (("two", self.to_two), ("three", self.to_three)) if relay in relays}
        wait_for(lambda: not names & {p["name"] for p in self.one.json("peers")["peers"] if p["state"] == "connected"})

    def conflict(self, name: str, ours: object, theirs: object) -> None:
        """Write shared/NAME on `one` and on `two` while they are apart."""
        self.part(self.to_two)
        put(self.one, name, ours)
        put(self.two, name, theirs)
        self.to_two.mend()


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    home = tmp_path_factory.mktemp("echo")
    one, two, three = nodes = [NodeProcess(home / name, name, mdns=False) for name in ("one", "two", "three")]
    relays: list[Relay] = []
    for _ in running(nodes):
        try:
            secret = two.start().cli("network", "show").stdout
            for node in (one, three):
                node.cli("network", "set", stdin=secret)
            three.start()
            try:
                relays += [Relay(int(node.address().rpartition(":")[2])) for node in (two, three)]
            except OSError as error:
                pytest.skip(f"no second loopback address here: {error}")
            one.start(*(part for relay in relays for part in ("--peer", relay.address)), listen=APART)
            wait_for(lambda: len(online(one)) == 2)
            yield Net(one, two, three, *relays)
        finally:
            for relay in relays:
                relay.close()


@pytest.fixture(autouse=True)
def whole(net: Net) -> Iterator[None]:
    """Mend what a test cut, and let the nodes become equal, so that each test begins in peace."""
    yield
    net.to_two.mend()
    net.to_three.mend()
    net.one.cli("sync", "--force", "--retry", "20", "--timeout", "60")
    net.one.cli("sync", "--retry", "5", "--timeout", "60")


def online(node: NodeProcess) -> list[dict[str, Any]]:
    return [peer for peer in node.json("peers")["peers"] if peer["state"] in ("connected", "reachable")]


def ask(node: NodeProcess, method: str, target: str, body: bytes = b"") -> bytes:
    """Send a request over the node's socket, and return the body of its answer."""
    connection = http.client.HTTPConnection("localhost", timeout=WITHIN_S)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(node.home / "api.sock"))
    connection.request(method, target, body=body)
    answer = connection.getresponse()
    assert answer.status == 200
    with answer:
        return answer.read()


def put(node: NodeProcess, name: str, value: object) -> None:
    """Write shared/NAME with a JSON body."""
    query = urlencode({"id": f"shared/{name}", "type": "application/json"})
    ask(node, "PUT", f"/v1/records/main?{query}", json.dumps(value).encode())


def metric(node: NodeProcess, name: str) -> float:
    lines = ask(node, "GET", "/metrics").decode().splitlines()
    (value,) = [line.rpartition(" ")[2] for line in lines if line.startswith(f"echonode_{name} ")]
    return float(value)


def value(node: NodeProcess, name: str) -> Any:
    done = node.cli("get", f"shared/{name}", check=False)
    return json.loads(done.stdout) if done.returncode == 0 else None


def sync(node: NodeProcess, *options: str, code: int = 0) -> dict[str, Any]:
    done = node.cli("sync", "--json", "--retry", "20", *options, check=False)
    assert done.returncode == code, (options, done)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


# -- the ten scenarios -----------------------------------------------------------------------------------------------


def test_1_a_pull_makes_this_node_equal_to_the_other(net: Net) -> None:
    net.part(net.to_two)
    for number in range(20):
        put(net.two, f"pulled-{number}", {"n": number})
    net.to_two.mend()
    command = [sys.executable, "-c", "import sys; from echonode.app import echo_sync_main; sys.exit(echo_sync_main())"]
    done = subprocess.run(
        [*command, "--home", str(net.one.home), "--node-id", "two", "--retry", "20"],
        capture_output=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done
    assert b"pulled from 1 node, and verified" in done.stderr
    assert equal([net.one, net.two], "main")


def test_2_a_push_makes_the_other_node_equal_to_this(net: Net) -> None:
    net.part(net.to_two)
    for number in range(20):
        put(net.one, f"pushed-{number}", {"n": number})
    net.to_two.mend()
    assert sync(net.one, "--action", "push", "--node-id", "two")["status"] == "verified"
    assert equal([net.one, net.two], "main")


def test_3_a_forced_push_goes_through_conflicts(net: Net, tmp_path: Path) -> None:
    net.conflict("forced", {"one": 1}, {"two": 2})
    kept = sync(net.one, "--action", "push", "--node-id", "two", "--export", str(tmp_path / "kept.json"), code=3)
    (contested,) = kept["contested"]
    assert (contested["record"], contested["local"], contested["remote"]) == ("shared/forced", {"one": 1}, {"two": 2})
    exported = json.loads((tmp_path / "kept.json").read_text())
    assert (exported["status"], exported["exit_code"]) == ("conflict", 3)
    assert "in conflict" in exported["error"]
    forced = sync(net.one, "--action", "push", "--node-id", "two", "--force")
    assert [each["record"] for each in forced["resolved"]] == ["shared/forced"]
    assert value(net.two, "forced") == value(net.one, "forced") == {"one": 1, "two": 2}
    assert net.two.json("conflicts")["conflicts"] == []


def test_4_one_node_can_be_chosen(net: Net) -> None:
    put(net.one, "chosen", 1)
    told = sync(net.one, "--node-id", net.two.json("status")["id"][:10])
    assert [peer["name"] for peer in told["peers"]] == ["two"]


def test_5_a_verbose_status_tells_the_detail(net: Net) -> None:
    sync(net.one)
    shown = net.one.cli("sync", "--verbose", "--metrics").stdout.decode()
    assert "CONTEXT" in shown or "no conversation was needed" in shown
    assert "0 left" in shown
    closing = shown[shown.rindex("PEER") :].splitlines()
    assert {line.split()[0] for line in closing[1:]} == {"two", "three"}
    told = json.loads(net.one.cli("sync", "--action", "status", "--json").stdout)
    assert {(node["name"], node["is_online"], node["status"]) for node in told["nodes"]} == {
        ("two", True, "in sync"),
        ("three", True, "in sync"),
    }


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("prefer_local", {"one": 1}), ("prefer_remote", {"two": 2}), ("merge", {"one": 1, "two": 2})],
)
def test_6_to_8_a_strategy_ends_conflicts_on_both_sides(net: Net, strategy: str, expected: dict[str, int]) -> None:
    net.conflict(strategy, {"one": 1}, {"two": 2})
    sync(net.one, "--node-id", "two", "--force", "--strategy", strategy)
    assert value(net.one, strategy) == value(net.two, strategy) == expected
    for node in (net.one, net.two):
        assert node.json("conflicts")["conflicts"] == []


def test_9_only_what_was_chosen_goes_only_where_it_was_chosen(net: Net) -> None:
    net.part(net.to_two, net.to_three)
    put(net.one, "selected", 1)
    net.to_two.mend()
    told = sync(net.one, "--filter", "tw?", "--action", "batch", "--batch-size", "1")
    assert [peer["name"] for peer in told["peers"]] == ["two"]
    assert value(net.two, "selected") == 1
    assert value(net.three, "selected") is None
    told = json.loads(net.one.cli("sync", "--json", "--action", "batch", "--retry", "1", check=False).stdout)
    assert {peer["name"]: peer["status"] for peer in told["peers"]} == {"two": "verified", "three": "unreachable"}
    assert "no known node" in net.one.cli("sync", "--filter", "kitchen*", check=False).stderr.decode()


def test_10_the_highest_priority_goes_first(net: Net) -> None:
    """Each has one attempt, so that the order in which they end is that in which they had their place."""

    def pull(priority: int) -> str:
        body = {"peers": ["two"], "action": "pull", "priority": priority, "retry": 1, "timeout": WITHIN_S}
        return str(json.loads(ask(net.one, "POST", "/v1/sync", json.dumps(body).encode()))["sync_id"])

    net.two.signal(signal.SIGSTOP)
    try:
        with ThreadPoolExecutor() as pool:
            begun = []
            for waiting, priority in enumerate((0, 0, 10)):  # the first has its place before the others come
                begun.append(pool.submit(pull, priority))
                wait_for(lambda waiting=waiting: metric(net.one, "sync_queue_waiting") == waiting)
                wait_for(lambda: metric(net.one, "sync_queue_running") == 1)
            net.two.signal(signal.SIGCONT)
            first, usual, urgent = [each.result(WITHIN_S) for each in begun]
    finally:
        net.two.signal(signal.SIGCONT)
    history = json.loads(net.one.cli("sync", "--node-id", "two", "--action", "history", "--json").stdout)["history"]
    ended = [entry["details"]["sync_id"] for entry in reversed(history)]
    assert [each for each in ended if each in (first, usual, urgent)] == [first, urgent, usual]


# -- the published client --------------------------------------------------------------------------------------------


def test_the_published_client_works_unchanged(net: Net) -> None:
    access = json.loads(net.one.cli("api", "token", "--json").stdout)
    client = EchoSyncClient(access["url"], access["token"])
    node = net.two.json("status")["id"]
    pushed = client.push_state(node, {"client": {"by": "tushell"}})
    assert (pushed["status"], pushed["success"], pushed["conflicts"]) == ("success", True, [])
    assert value(net.two, "client") == {"by": "tushell"}
    assert client.pull_state(node)["data"]["client"] == {"by": "tushell"}

    net.conflict("client", {"one": 1}, {"two": 2})
    wait_for(lambda: client.get_node_status(node)["is_online"])
    pulled = client.pull_state(node)
    assert (pulled["status"], pulled["conflicts"][0]["remote"]) == ("conflict", {"two": 2})
    assert client.push_state(node, {})["status"] == "conflict"
    resolved = client.resolve_conflicts(node, "merge")
    assert (resolved["success"], [each["record"] for each in resolved["resolved"]]) == (True, ["shared/client"])
    assert value(net.two, "client") == {"one": 1, "two": 2}
    net.conflict("client", {"one": 3}, {"two": 4})
    wait_for(lambda: client.get_node_status(node)["is_online"])
    assert client.push_state(node, {}, force=True)["success"]

    status = client.get_node_status(node)
    assert (status["node_id"], status["is_online"]) == (node, True)
    assert status["metrics"]["sync_count"] >= 5
    history: Any = client.get_node_history(node, limit=3)
    assert [entry["operation"] for entry in history] == ["push", "resolve", "push"]


def test_the_published_client_sees_failures_as_failures(net: Net) -> None:
    access = json.loads(net.one.cli("api", "token", "--json").stdout)
    for token, node, status in (
        ("x" * 52, "two", 401),
        (access["token"], "nobody", 404),
    ):
        with pytest.raises(requests.HTTPError) as caught:
            EchoSyncClient(access["url"], token).pull_state(node)
        assert caught.value.response.status_code == status
    net.part(net.to_two)
    with pytest.raises(requests.HTTPError) as caught:
        EchoSyncClient(access["url"], access["token"]).push_state("two", {"late": 1})
    assert caught.value.response.json()["status"] == "error"


def published(net: Net, *runs: tuple[str, dict[str, Any]], **environ: str) -> list[str]:
    """Return what the published command prints for each line of options, with the local state that it pushes."""
    access = json.loads(net.one.cli("api", "token", "--json").stdout)
    known = {"ECHO_API_URL": access["url"], "ECHO_TOKEN": access["token"], **environ}
    node = net.two.json("status")["id"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.e2e.published_command"],
        input=json.dumps([{"args": ["--node-id", node, *line.split()], "data": data} for line, data in runs]).encode(),
        capture_output=True,
        env={**os.environ, **known},
        timeout=WITHIN_S,
        check=True,
    )
    said: list[str] = json.loads(done.stdout)
    return said


def test_the_thirteen_scenarios_of_the_published_command_go_well(net: Net, tmp_path: Path) -> None:
    """They are those of its own tests, where a client is made up; here it speaks to our nodes."""
    file = tmp_path / "sync.json"
    everyday = (
        ("--action push", {"published": {"n": 1}}, "Data successfully pushed to remote nodes"),
        ("", LOCAL, "Data successfully pulled from remote nodes"),
        ("--action status --verbose", LOCAL, "Online: ✅"),
        ("--action history --verbose", LOCAL, "Operation: push"),
        ("--action batch --batch-size 2 --verbose", LOCAL, "Processed 2 of 2 nodes"),
        ("--action batch --filter tw* --verbose", LOCAL, "Processed 1 of 1 nodes"),
        ("--metrics", LOCAL, "duration_ms: "),
        (f"--export {file}", LOCAL, "Results saved to"),
        ("--action push --retry 3", {"published": {"n": 2}}, "Data successfully pushed to remote nodes"),
        ("--priority 5 --verbose", LOCAL, "Priority: 5"),
    )
    for (line, _, expected), said in zip(everyday, published(net, *(run[:2] for run in everyday)), strict=True):
        assert expected in said and "❌" not in said, (line, said)
    assert json.loads(file.read_text())["status"] == "success"
    assert value(net.two, "published") == {"n": 2}

    net.conflict("published", {"one": 1}, {"two": 2})
    wait_for(lambda: len(online(net.one)) == 2)
    (met,) = published(net, ("--action push --verbose", LOCAL))
    assert "Conflicts detected" in met and "Conflicts resolved successfully" in met, met
    assert value(net.two, "published") == {"one": 1, "two": 2}

    net.part(net.to_two)
    (failed,) = published(net, ("--action push --verbose", {"late": 1}))
    assert "Error pushing data" in failed and '"status":"error"' in failed, failed
    (unset,) = published(net, ("", LOCAL), ECHO_TOKEN="")
    assert "ECHO_API_URL and ECHO_TOKEN environment variables must be set" in unset


# -- results, the live view, and what lasts --------------------------------------------------------------------------


def test_failures_are_exported_too_and_the_earlier_file_stays_until_the_new_one_is_whole(
    net: Net, tmp_path: Path
) -> None:
    file = tmp_path / "sync.json"
    file.write_text("earlier")
    assert net.one.cli("sync", "--export", str(tmp_path / "no" / "x.json"), check=False).returncode == 2
    assert net.one.cli("sync", "--export", str(tmp_path), check=False).returncode == 2
    assert file.read_text() == "earlier"
    nobody = NodeProcess(tmp_path / "nobody", "nobody")
    for node, options, code, status in (
        (net.one, (), 0, "success"),
        (net.one, ("--node-id", "kitchen"), 1, "error"),
        (nobody, (), 5, "error"),
    ):
        done = node.cli("sync", *options, "--export", str(file), check=False)
        assert done.returncode == code, done
        exported = json.loads(file.read_text())
        assert (exported["status"], exported["exit_code"]) == (status, code)
        assert bool(exported["error"]) == bool(code)
    assert list(tmp_path.glob(".sync.json*")) == []


def test_the_live_view_ends_when_all_are_equal(net: Net) -> None:
    net.part(net.to_two)
    put(net.one, "viewed", 1)
    net.to_two.mend()
    done = net.one.cli("sync", "--monitor", "--exit-when-synced", "--json", "--retry", "20")
    *_, last, _ = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(peer["in_sync"] or peer["in_step"] for peer in last["peers"])
    assert value(net.two, "viewed") == 1
    assert net.one.cli("sync", "--exit-when-synced", check=False).returncode == 2


def test_the_live_view_on_a_terminal_shows_peers_and_what_moves_until_ctrl_c(net: Net) -> None:
    ours, theirs = pty.openpty()
    command = net.one.command("sync", "--monitor", "--node-id", "two")
    environ = {**os.environ, "COLUMNS": "80", "LINES": "24", "TERM": "xterm"}
    restores = "import os, signal, sys; signal.signal(2, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    viewer = subprocess.Popen(
        [sys.executable, "-c", restores, *command], stdin=theirs, stdout=theirs, stderr=theirs, env=environ
    )
    os.close(theirs)
    seen = bytearray()

    def read() -> None:
        try:
            while data := os.read(ours, 65536):
                seen.extend(data)
        except OSError:
            pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        wait_for(lambda: b"PEER" in seen and b"two" in seen)
        put(net.two, "moving", 1)
        wait_for(lambda: b"shared/moving" in seen)
        assert b"three" not in seen
        viewer.send_signal(signal.SIGINT)
        assert viewer.wait(WITHIN_S) == 0
    finally:
        viewer.kill()
        reader.join(WITHIN_S)
        os.close(ours)


def test_the_history_lasts_over_a_restart(net: Net) -> None:
    before = json.loads(net.one.cli("sync", "--action", "history", "--json").stdout)["history"]
    assert before
    assert net.one.stop() == 0
    net.one.start("--peer", net.to_two.address, "--peer", net.to_three.address, listen=APART)
    wait_for(lambda: len(online(net.one)) == 2)
    assert json.loads(net.one.cli("sync", "--action", "history", "--json").stdout)["history"] == before
