"""sd_notify against a real socket, signals against a real process, the unit against systemd's own checks."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest

from echonode.host.service import ServiceManager

UNIT = Path(__file__).parents[2] / "systemd" / "echonode.service"
SOCKET = "echonode-api.socket"
WAIT_S = 20


def manager(address: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    listening.bind(address)
    listening.settimeout(WAIT_S)
    return listening


def test_ready_status_and_stopping_arrive_as_datagrams(tmp_path: Path) -> None:
    with manager(str(tmp_path / "notify")) as systemd:
        service = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        service.ready("listening on\n0.0.0.0:22087")
        service.set_status("listening on 0.0.0.0:22087")  # nothing new: not sent
        service.set_status("equal with 1 node")
        service.stopping()
        assert systemd.recv(1000) == b"READY=1\nSTATUS=listening on 0.0.0.0:22087"
        assert systemd.recv(1000) == b"STATUS=equal with 1 node"
        assert systemd.recv(1000) == b"STOPPING=1\nSTATUS=stopping"


def test_a_reload_is_between_two_messages_even_when_it_fails(tmp_path: Path) -> None:
    with manager(str(tmp_path / "notify")) as systemd:
        service = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        with pytest.raises(ZeroDivisionError), service.reloading():
            raise ZeroDivisionError
        begun, since = systemd.recv(1000).split(b"\nMONOTONIC_USEC=")
        assert begun == b"RELOADING=1"
        assert 0 < int(since) <= time.monotonic_ns() // 1000
        assert systemd.recv(1000) == b"READY=1"


def test_a_long_start_is_extended_once_for_many_signs_of_progress(tmp_path: Path) -> None:
    with manager(str(tmp_path / "notify")) as systemd:
        service = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "notify")})
        for _ in range(1000):
            service.extend_start()
        service.stopping()
        assert systemd.recv(1000) == b"EXTEND_TIMEOUT_USEC=60000000"
        assert systemd.recv(1000).startswith(b"STOPPING=1")


@pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's")
def test_an_abstract_socket_is_reached_too() -> None:
    name = f"echonode-test-{os.getpid()}"
    with manager("\0" + name) as systemd:
        ServiceManager({"NOTIFY_SOCKET": "@" + name}).ready("up")
        assert systemd.recv(1000) == b"READY=1\nSTATUS=up"


def test_without_a_service_manager_nothing_happens_and_nothing_fails(tmp_path: Path) -> None:
    for environ in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}):
        service = ServiceManager(environ)
        service.ready("up")
        service.stopping()
        asyncio.run(asyncio.wait_for(ServiceManager({"WATCHDOG_USEC": "1000"}).feed_watchdog(lambda: True), WAIT_S))


def test_the_watchdog_is_fed_as_often_as_the_unit_asks_and_only_by_the_process_it_watches(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": str(os.getpid())}

    async def test() -> None:
        feeding = asyncio.create_task(ServiceManager(environ).feed_watchdog(lambda: True))
        with manager(address) as systemd:
            for _ in range(3):
                assert await asyncio.to_thread(systemd.recv, 1000) == b"WATCHDOG=1"
        feeding.cancel()
        for other in ({"WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "nonsense"}, {"WATCHDOG_USEC": "0"}):
            await ServiceManager({**environ, **other}).feed_watchdog(lambda: True)

    asyncio.run(asyncio.wait_for(test(), WAIT_S))


def test_a_node_that_is_not_healthy_does_not_feed_the_watchdog(tmp_path: Path) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "20000"}
    asked: list[bool] = []

    def is_healthy() -> bool:
        asked.append(len(asked) == 5)
        return asked[-1]

    async def test() -> None:
        with manager(environ["NOTIFY_SOCKET"]) as systemd:
            feeding = asyncio.create_task(ServiceManager(environ).feed_watchdog(is_healthy))
            assert await asyncio.to_thread(systemd.recv, 1000) == b"WATCHDOG=1"
            assert asked[:6] == [False] * 5 + [True]  # the first ping came with the first healthy answer
            feeding.cancel()

    asyncio.run(asyncio.wait_for(test(), WAIT_S))


def test_two_watchdog_pings_lie_at_most_half_of_the_time_limit_apart(tmp_path: Path) -> None:
    address, limit_s = str(tmp_path / "notify"), 2.4
    environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(int(limit_s * 1e6))}

    async def test() -> list[float]:
        with manager(address) as systemd:
            feeding = asyncio.create_task(ServiceManager(environ).feed_watchdog(lambda: True))
            arrived_s = []
            for _ in range(4):
                assert await asyncio.to_thread(systemd.recv, 1000) == b"WATCHDOG=1"
                arrived_s.append(time.monotonic())
            feeding.cancel()
            return arrived_s

    arrived_s = asyncio.run(asyncio.wait_for(test(), WAIT_S))
    gaps_s = [later - earlier for earlier, later in pairwise(arrived_s)]
    assert max(gaps_s) <= limit_s / 2, gaps_s
    assert min(gaps_s) > limit_s / 10, "a ping costs a wake-up"


CHILD = """
import asyncio, sys, time
from echonode.host.service import stop_on_signals

async def main():
    stop = stop_on_signals()
    print("ready", flush=True)
    await stop.wait()
    print("stopping", flush=True)
    if "stubborn" in sys.argv:
        while True:
            time.sleep(0.01)  # a loop that hangs

if "uvloop" in sys.argv:
    import uvloop
    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main())
else:
    asyncio.run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_first_signal_asks_to_stop_and_a_second_one_ends_even_a_hanging_process(
    loop: str, number: signal.Signals, code: int
) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    for arguments, expected in (([], 0), (["stubborn"], code)):
        with subprocess.Popen([sys.executable, "-c", CHILD, loop, *arguments], stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            child.send_signal(number)
            assert child.stdout.readline() == b"stopping\n"
            if arguments:
                child.send_signal(number)
            assert child.wait(WAIT_S) == expected


def analyzed(tmp_path: Path, *arguments: str, name: str = UNIT.name) -> subprocess.CompletedProcess[str]:
    """Run systemd-analyze on the unit, with a binary that exists in place of the installed one."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here (Debian: systemd)")
    unit = tmp_path / "echonode.service"
    text = UNIT.with_name(name).read_text()
    assert "ExecStart=/opt/echonode/bin/echonode run" in text
    unit.write_text(text.replace("/opt/echonode/bin/echonode", sys.executable))
    shutil.copy(UNIT.with_name(SOCKET), tmp_path)  # systemd looks for the units that one names beside it
    command = ["systemd-analyze", *arguments, str(unit)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_systemd_finds_nothing_wrong_with_the_unit_and_its_socket(tmp_path: Path) -> None:
    done = analyzed(tmp_path, "verify", "--man=no", str(tmp_path / SOCKET))
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_systemd_finds_nothing_wrong_with_the_unit_of_a_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    done = analyzed(tmp_path, "verify", "--man=no", "--user", name="echonode-user.service")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_unit_is_hardened(tmp_path: Path) -> None:
    done = analyzed(tmp_path, "security", "--offline=true", "--threshold=13", "--no-pager")
    assert done.returncode == 0, done.stdout


def test_the_unit_leaves_open_what_the_node_needs() -> None:
    lines = UNIT.read_text().splitlines()
    assert "Type=notify" in lines  # not notify-reload, which systemd 252 ignores
    assert "StateDirectory=echonode" in lines
    assert any(line.startswith("RestrictAddressFamilies=") and "AF_NETLINK" in line for line in lines)
