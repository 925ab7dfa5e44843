"""The machine's clock, randomness and addresses."""

import os
import shutil
import socket
import subprocess
import sys
import time
from ipaddress import ip_address

import pytest

from echonode.clock import Clock, Entropy
from echonode.host.system import SystemClock, SystemEntropy, host_name, in_order, local_address, local_addresses


def test_the_clock_gives_milliseconds_since_1970_and_seconds_that_never_go_back() -> None:
    clock: Clock = SystemClock()
    before = int(time.time() * 1000) - 1
    assert before <= clock.now_ms() <= before + 60_000
    readings = [clock.monotonic_s() for _ in range(1000)]
    assert readings == sorted(readings)


def test_entropy_has_the_size_and_the_range_that_were_asked_for() -> None:
    entropy: Entropy = SystemEntropy()
    assert len(entropy.random_bytes(32)) == 32
    assert entropy.random_bytes(32) != entropy.random_bytes(32)
    drawn = [entropy.uniform(60.0, 90.0) for _ in range(1000)]
    assert all(60.0 <= number <= 90.0 for number in drawn)
    assert len(set(drawn)) > 900


@pytest.mark.parametrize(
    ("name", "usable"),
    [
        (b"kitchen", "kitchen"),
        (b"x" * 64, "x" * 64),
        ("küche".encode(), "küche"),
        ("ku\u0308che".encode(), "küche"),  # as a Mac may spell it
        (b"", None),
        (b" ", None),
        (b"bad\nname", None),
        (b"\x1b[31mred", None),
        (b"\xff\xfe", None),
        (b"k\xfcche", None),
        ("a\u202eb".encode(), None),
    ],
)
def test_a_host_name_is_taken_where_it_is_fit_to_be_a_name(name: bytes, usable: str | None) -> None:
    """Set the name in a UTS namespace of its own, so that it reaches Python as the kernel has it."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root can change a host name, in a namespace of unshare (util-linux)")
    script = f"import socket; socket.sethostname({name!r}); from echonode.host.system import host_name as read"
    script += "; print(ascii(read()))"
    done = subprocess.run(
        ["unshare", "--uts", sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ascii(usable)


def test_a_host_name_is_bounded_as_a_nodes_name_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS has longer host names than a node's name may be."""
    monkeypatch.setattr(socket, "gethostname", lambda: "x" * 65)
    assert host_name() is None


def test_loopback_is_among_the_addresses_and_two_scans_agree() -> None:
    found = local_addresses()
    assert ip_address("127.0.0.1") in {each.ip for each in found}
    assert found == local_addresses()


def test_addresses_come_each_once_ipv4_first() -> None:
    six, four = local_address("eth0", "fe80::1", 64), local_address("eth0", "10.0.0.1", 24)
    assert in_order([six, four, six]) == (four, six)
    assert str(four.network) == "10.0.0.0/24"
