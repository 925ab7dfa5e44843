"""The machine's clock, randomness and addresses."""

import os
import shutil
import socket
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path

import pytest

from echonode.clock import Clock, Entropy
from echonode.host import system
from echonode.host.system import (
    Reach,
    SystemClock,
    SystemEntropy,
    host_name,
    in_order,
    local_address,
    local_addresses,
    reach_of,
)
from tests.host.namespaces import isolated


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


def test_interfaces_are_known_by_what_they_are_whatever_their_names() -> None:
    isolated("tests.host.interfaces")


def test_a_physical_port_is_found_below_bridges_bonds_and_vlans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read a tree like that of /sys/class/net: there is no hardware in a network namespace."""
    monkeypatch.setattr(system, "_SYS_NET", tmp_path)
    monkeypatch.setattr(system, "_PROC_NET", tmp_path / "none")
    names = ["nic", "vlan", "bond", "br-lan", "virbr0", "tap", "unplugged"]
    monkeypatch.setattr(socket, "if_nametoindex", names.index)
    for index, name in enumerate(names):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ifindex").write_text(f"{index}\n")
        (tmp_path / name / "carrier").write_text("0\n" if name == "unplugged" else "1\n")
    for name in ("nic", "unplugged"):
        (tmp_path / name / "device").mkdir()
    for name in ("br-lan", "virbr0"):
        (tmp_path / name / "bridge").mkdir()
    for above, below in (("vlan", "nic"), ("bond", "vlan"), ("br-lan", "bond"), ("virbr0", "tap")):
        (tmp_path / above / f"lower_{below}").symlink_to(tmp_path / below)
    assert reach_of([*names, "vlan:1"]) == {
        "nic": Reach.OUTSIDE,
        "vlan": Reach.OUTSIDE,
        "vlan:1": Reach.OUTSIDE,
        "bond": Reach.OUTSIDE,
        "br-lan": Reach.OUTSIDE,
        "virbr0": Reach.INSIDE,
        "tap": Reach.UNKNOWN,
        "unplugged": Reach.INSIDE,
    }
    (tmp_path / "nic" / "ifindex").write_text("99\n")  # as in a namespace that shows the interfaces of another one
    assert reach_of(["nic"]) == {"nic": Reach.UNKNOWN}


def test_a_link_local_address_is_dialled_with_its_interface() -> None:
    assert local_address("eth0", "fe80::1", 64).scoped == "fe80::1%eth0"
    assert local_address("eth0", "10.0.0.1", 24).scoped == "10.0.0.1"
    assert local_address("eth0", "2001:db8::1", 64).scoped == "2001:db8::1"
    number, name = socket.if_nameindex()[0]
    assert local_address(name, "fe80::1", 64).scopes == (name, str(number))
    assert local_address("gone9", "fe80::1", 64).scopes == ("gone9",)


def test_loopback_is_among_the_addresses_and_two_scans_agree() -> None:
    found = local_addresses()
    assert ip_address("127.0.0.1") in {each.ip for each in found}
    assert found == local_addresses()


def test_addresses_come_each_once_ipv4_first() -> None:
    six, four = local_address("eth0", "fe80::1", 64), local_address("eth0", "10.0.0.1", 24)
    assert in_order([six, four, six]) == (four, six)
    assert str(four.network) == "10.0.0.0/24"
