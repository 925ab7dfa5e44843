"""The service under a real systemd: installed, reloaded, killed, hung, misconfigured, stopped, removed.

One machine serves all tests of this file; each leaves the service as it found it, running.
"""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from echonode.model.member_secret import MemberSecret
from echonode.text import to_base32
from tests.e2e.machine import PROGRAM, Machine, booted, bridged
from tests.e2e.processes import code_in, wait_for

pytestmark = pytest.mark.root

CONFIG = "/etc/echonode/config.toml"
DROP_IN = "/etc/systemd/system/echonode.service.d/quick.conf"
# So that a test need not wait for minutes. What the unit itself says is left alone.
QUICK = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestartSec=1\nWatchdogSec=3\nTimeoutAbortSec=1\n"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory() as folder, booted(Path(folder)) as each:
        wheels = Path(folder) / "wheels"
        wheels.mkdir()
        each.install_program(wheels)
        yield each


@pytest.fixture
def service(machine: Machine) -> Machine:
    """The machine with the service installed and running."""
    if machine.show("ActiveState") != "active":
        machine.write(DROP_IN, QUICK)
        done = machine.echonode("service", "install")
        assert "the node runs, and starts with the machine" in done.stdout
    return machine


def journal(machine: Machine, *arguments: str) -> list[dict[str, Any]]:
    lines = machine.run("journalctl", "-u", "echonode", "-o", "json", "--no-pager", *arguments).stdout.splitlines()
    return [json.loads(line) for line in lines]


def events(machine: Machine, name: str) -> list[dict[str, Any]]:
    """Return the log lines of the node with this event name."""
    messages = [entry["MESSAGE"] for entry in journal(machine) if str(entry["MESSAGE"]).startswith("{")]
    return [line for line in map(json.loads, messages) if line["event"] == name]


def main_pid(machine: Machine) -> int:
    return int(machine.show("MainPID"))


def test_the_service_is_installed_enabled_and_started_in_one_command(service: Machine) -> None:
    assert service.show("UnitFileState") == "enabled"
    assert service.show("StatusText").startswith("no other node known; listening on 0.0.0.0:22087")
    state = json.loads(service.echonode("service", "status", "--json").stdout)
    assert (state["state"], state["is_enabled"], state["result"]) == ("active", True, "success")
    again = service.echonode("service", "install")
    assert "/etc/systemd/system/echonode.service is as it should be" in again.stdout
    units = ("echonode.service", "echonode-api.socket")
    assert service.run("systemd-analyze", "verify", *units, check=False).stderr == ""
    exposure = service.run("systemd-analyze", "security", "--no-pager", "--threshold=13", "echonode", check=False)
    assert exposure.returncode == 0, exposure.stdout


def test_the_sandbox_is_around_the_process(service: Machine) -> None:
    pid = main_pid(service)
    status = service.run("cat", f"/proc/{pid}/status").stdout
    values = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert (values["NoNewPrivs"], values["Seccomp"], int(values["CapEff"], 16)) == ("1", "2", 0)
    assert int(values["Uid"].split()[0]) >= 61184  # the users that DynamicUser= makes
    inside = ("nsenter", "-t", str(pid), "-m")
    for path in ("/etc/x", "/usr/x", "/var/lib/x", "/opt/echonode/x"):
        assert "Read-only file system" in service.run(*inside, "touch", path, check=False).stderr, path
    service.run(*inside, "touch", "/var/lib/echonode/x")
    service.run(*inside, "rm", "/var/lib/echonode/x")
    assert service.run(*inside, "ls", "/home").stdout == ""
    assert "/dev/sda" not in service.run(*inside, "sh", "-c", "ls /dev/*").stdout


def test_the_members_of_the_group_may_give_commands_and_nobody_else(service: Machine) -> None:
    group = service.run("getent", "group", "echonode-api").stdout.split(":")[2]
    for groups, may_connect in ((f"--groups={group}", True), ("--clear-groups", False)):
        user = ("setpriv", "--reuid=65000", "--regid=65000", groups)
        tried = service.run(*user, "test", "-w", "/run/echonode/api.sock", check=False)
        assert (tried.returncode == 0) is may_connect


def test_the_control_socket_is_that_of_its_unit_and_commands_wait_in_it_while_the_node_is_away(
    service: Machine,
) -> None:
    socket = ("stat", "--format=%U:%G %a %i", "/run/echonode/api.sock", "/run/echonode")
    before = service.run(*socket).stdout
    assert re.fullmatch(r"root:echonode-api 660 \d+\nroot:root 755 \d+\n", before)
    assert json.loads(service.echonode("status", "--json").stdout)["api"][0] == "/run/echonode/api.sock"
    service.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "echonode")
    wait_for(lambda: service.show("SubState") == "auto-restart")
    assert service.echonode("put", "after the crash", "1").returncode == 0
    pid = main_pid(service)
    service.run("systemctl", "restart", "--no-block", "echonode")
    wait_for(lambda: main_pid(service) != pid)
    assert service.echonode("put", "after a restart", "1").returncode == 0
    assert service.run(*socket).stdout == before


def test_a_command_starts_no_node_that_was_stopped(service: Machine) -> None:
    service.run("systemctl", "stop", "echonode")
    wait_for(lambda: not (service.folder / "run/echonode/api.sock").exists())
    refused = service.echonode("put", "a", "1", check=False)
    assert (refused.returncode, service.show("ActiveState")) == (5, "inactive")
    service.run("systemctl", "start", "echonode")
    service.echonode("put", "a", "1")


def test_a_reload_takes_the_settings_and_one_with_a_mistake_fails_and_changes_nothing(service: Machine) -> None:
    pid = main_pid(service)
    service.write(CONFIG, 'peers = ["192.0.2.1:22087"]\n')
    service.run("systemctl", "reload", "echonode")
    wait_for(lambda: [each["changed"] for each in events(service, "config.reloaded")] == [["peers"]])
    wait_for(lambda: service.show("ActiveState") == "active")
    service.write(CONFIG, 'nam = "kitchen"\n')
    refused = service.run("systemctl", "reload", "echonode", check=False)
    assert refused.returncode != 0
    said = [entry["MESSAGE"] for entry in journal(service) if "there is no setting 'nam'" in str(entry["MESSAGE"])]
    assert said == [f"echonode: {CONFIG}: there is no setting 'nam'"]
    # A signal by hand goes past that check: the node itself refuses the file, and says so as long as it is there.
    service.run("systemctl", "kill", "--kill-whom=main", "--signal=HUP", "echonode")
    wait_for(lambda: "the configuration was not taken: " in service.show("StatusText"))
    service.write(CONFIG, "")
    service.run("systemctl", "reload", "echonode")
    wait_for(lambda: service.show("StatusText").startswith("no other node known"))
    assert main_pid(service) == pid


def test_a_killed_node_is_started_again_with_all_that_was_acknowledged(service: Machine) -> None:
    service.echonode("put", "kept", "1")
    restarts = int(service.show("NRestarts"))
    service.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "echonode")
    wait_for(lambda: (int(service.show("NRestarts")), service.show("ActiveState")) == (restarts + 1, "active"))
    assert service.echonode("get", "kept").stdout == "1"
    assert "restarts" in service.echonode("service", "status").stdout


def test_the_watchdog_ends_a_node_that_hangs_and_it_is_started_again(service: Machine) -> None:
    service.echonode("put", "hung", "1")
    restarts = int(service.show("NRestarts"))
    pid = main_pid(service)
    service.run("kill", "-STOP", str(pid))
    wait_for(lambda: (int(service.show("NRestarts")), service.show("ActiveState")) == (restarts + 1, "active"))
    assert main_pid(service) != pid
    assert any("Watchdog timeout" in str(entry["MESSAGE"]) for entry in journal(service))
    assert service.echonode("get", "hung").stdout == "1"


def test_a_mistake_in_the_settings_leaves_the_service_stopped_and_its_status_says_what_to_mend(
    service: Machine,
) -> None:
    service.write(CONFIG, 'listen = "kitchen"\n')
    assert service.run("systemctl", "restart", "echonode", check=False).returncode != 0
    # A service that waits for another start is `activating`, in the sub-state `auto-restart`.
    assert (service.show("ActiveState"), service.show("SubState")) == ("failed", "failed")
    assert (service.show("Result"), service.show("ExecMainStatus")) == ("exit-code", "2")
    sentence = f"{CONFIG}: listen: 'kitchen' is not an address"
    assert service.show("StatusText").startswith(f"stopped: {sentence}")
    assert sentence in service.run("systemctl", "status", "echonode", "--no-pager", check=False).stdout
    looked = service.echonode("service", "status", check=False)
    assert looked.returncode == 5
    assert "listen: 'kitchen' is not an address" in " ".join(looked.stdout.split())
    assert service.echonode("put", "a", "1", check=False).returncode == 5  # it waits for no node that does not come
    tried = service.echonode("service", "install", check=False)
    assert tried.returncode == 2
    assert "the node did not start" in tried.stderr
    service.write(CONFIG, "")
    assert service.echonode("service", "install").returncode == 0


def test_the_journal_has_each_line_with_its_priority_and_its_event(service: Machine) -> None:
    lines = [
        (entry["PRIORITY"], json.loads(entry["MESSAGE"]))
        for entry in journal(service, "_COMM=echonode")
        if str(entry["MESSAGE"]).startswith("{")
    ]
    numbers = {"debug": "7", "info": "6", "warning": "4", "error": "3"}
    assert {line["level"] for _, line in lines} >= {"info", "warning"}  # without an interface there is no mDNS
    assert all(priority == numbers[line["level"]] for priority, line in lines)
    started = journal(service, "EVENT=node.started")
    assert started and all(json.loads(entry["MESSAGE"])["event"] == "node.started" for entry in started)


def test_a_stop_under_load_is_clean_and_loses_nothing_that_was_acknowledged(service: Machine) -> None:
    service.write("/srv/many.jsonl", "".join(f'{{"name": "r{number}", "body": "x"}}\n' for number in range(30_000)))
    load = ("systemd-run", "--unit=load", "--property=StandardError=file:/srv/load.txt")
    service.run(*load, PROGRAM, "import", "/srv/many.jsonl", "-c", "load")
    wait_for(lambda: records(service, "load"))
    service.run("systemctl", "stop", "echonode")
    assert (service.show("Result"), service.show("ExecMainStatus")) == ("success", "0")
    assert events(service, "node.stopped")
    said = wait_for((service.folder / "srv/load.txt").read_text)
    written = re.search(r"\(([\d,]+) records? written", said)
    assert written, said
    acknowledged = int(written[1].replace(",", ""))
    service.run("systemctl", "start", "echonode")
    assert 0 < acknowledged <= records(service, "load") < 30_000
    service.echonode("verify")


def records(machine: Machine, context: str) -> int:
    contexts = json.loads(machine.echonode("contexts", "--json").stdout)["contexts"]
    return next((int(each["records"]) for each in contexts if each["name"] == context), 0)


def test_the_node_of_the_service_is_backed_up_by_root_and_put_back(service: Machine) -> None:
    service.echonode("put", "backed up", "1")
    before = json.loads(service.echonode("status", "--json").stdout)
    service.echonode("backup", "/srv/node.backup")
    service.run("systemctl", "stop", "echonode")
    service.run("rm", "-r", "/var/lib/private/echonode")
    service.echonode("--home", "/var/lib/private/echonode", "restore", "/srv/node.backup")
    service.run("systemctl", "start", "echonode")
    after = json.loads(service.echonode("status", "--json").stdout)
    assert after["id"] == before["id"]
    assert after["instance"] != before["instance"]
    assert service.echonode("get", "backed up").stdout == "1"
    service.echonode("put", "backed up", "2")


def test_a_new_home_takes_its_network_and_token_from_credentials(service: Machine) -> None:
    secret = MemberSecret(bytes(range(32)), b"s" * 32).to_text()
    token = to_base32(b"t" * 32)
    service.run("systemctl", "stop", "echonode")
    service.run("rm", "-r", "/var/lib/private/echonode")
    service.run("mkdir", "-p", "-m", "700", "/etc/credstore")
    service.write("/etc/credstore/echonode.network", secret)
    service.write("/etc/credstore/echonode.api-token", token + "\n")
    service.run("systemctl", "start", "echonode")
    assert json.loads(service.echonode("network", "show", "--json").stdout)["secret"] == secret
    assert service.echonode("api", "token").stdout.strip() == token


def test_the_service_of_the_system_goes_and_leaves_the_records(service: Machine) -> None:
    gone = service.echonode("service", "uninstall")
    assert "removed /etc/systemd/system/echonode.service" in gone.stdout
    assert "/var/lib/private/echonode" in gone.stderr
    assert service.run("systemctl", "is-active", "echonode", check=False).stdout.strip() == "inactive"
    left = [path for path in (service.folder / "etc/systemd/system").glob("echonode*") if path.is_file()]
    assert left == []
    assert not (service.folder / "run/echonode/api.sock").exists()
    assert (service.folder / "var/lib/private/echonode/store.db").stat().st_size > 0
    assert service.echonode("service", "status", check=False).returncode == 5


def test_a_user_has_a_service_too_that_runs_without_a_login(machine: Machine) -> None:
    installed = machine.echonode("service", "install", "--user")
    assert "the node runs while you are not logged in, too" in installed.stdout
    looked = machine.echonode("service", "status", "--user")
    assert "active" in looked.stdout
    assert "says        no other node known" in looked.stdout
    machine.echonode("put", "mine", "1")
    user = ("env", "XDG_RUNTIME_DIR=/run/user/0", "systemctl", "--user")
    machine.run(*user, "reload", "echonode")
    pid = machine.run(*user, "show", "echonode", "--value", "--property=MainPID").stdout.strip()
    assert "Seccomp:\t2" in machine.run("cat", f"/proc/{pid}/status").stdout
    gone = machine.echonode("service", "uninstall", "--user")
    assert "/.local/state/echonode" in gone.stderr


def test_two_machines_on_one_lan_are_joined_by_a_code_and_equal_again_after_a_restart_and_a_crash(
    service: Machine, tmp_path: Path
) -> None:
    with booted(tmp_path, "other") as other, bridged([service, other]):
        other.copy_program(service)
        other.write(DROP_IN, QUICK)
        other.echonode("service", "install")
        name = json.loads(other.echonode("status", "--json").stdout)["name"]
        code = code_in(service.echonode("invite").stdout)  # by a node that had no interface when it started
        assert "joined the network" in other.echonode("join", code).stderr
        other.echonode("put", "from the other", "1")
        wait_for(lambda: are_equal(service, other))
        assert service.echonode("get", f"@{name}/from the other").stdout == "1"

        other.run("systemctl", "restart", "--no-block", "echonode")
        service.echonode("put", "during the restart", "1")
        wait_for(lambda: are_equal(service, other))

        service.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "echonode")
        other.echonode("put", "during the crash", "1")
        wait_for(lambda: are_equal(service, other))
        assert int(service.show("NRestarts")) > 0
        wait_for(lambda: all(each.show("StatusText").startswith("equal with 1 node;") for each in (service, other)))


def are_equal(*machines: Machine) -> bool:
    """Return True once the nodes of two machines are connected, and the roots of their contexts agree."""
    states = [json.loads(each.echonode("status", "--json").stdout) for each in machines]
    roots = [{context["name"]: context["root"] for context in state["contexts"]} for state in states]
    return roots[0] == roots[1] and all(
        [peer["state"] for peer in state["peers"]] == ["connected"] for state in states
    )
