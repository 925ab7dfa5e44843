"""Interfaces of every kind in a network namespace, for test_system.py. Their names say nothing of what they are."""

import subprocess
import time

from echonode.host.system import Reach, local_addresses, reach_of
from tests.host.namespaces import ip


def main() -> None:
    subprocess.run(
        ["mount", "-t", "sysfs", "sysfs", "/sys"], check=True
    )  # or /sys shows another namespace's interfaces
    ip("link", "set", "lo", "up")
    ip("link", "add", "docker0", "type", "veth", "peer", "name", "far0")  # a cable to a router, whatever its name
    ip("link", "add", "eth5", "type", "veth", "peer", "name", "far1")  # a cable without a router
    ip("link", "add", "eth6", "type", "veth", "peer", "name", "far2")  # a cable that is pulled out at the other end
    ip("link", "add", "eth7", "type", "veth", "peer", "name", "port0")  # a container, on a bridge
    ip("link", "add", "lan", "type", "bridge")
    ip("link", "add", "empty", "type", "bridge")
    ip("link", "add", "down0", "type", "veth", "peer", "name", "far3")  # a cable that nobody switched on
    ip("link", "set", "port0", "master", "lan")
    for name in ("docker0", "far0", "eth5", "far1", "eth6", "eth7", "port0", "lan", "empty"):
        ip("link", "set", name, "up")
    for number, name in enumerate(("docker0", "eth5", "eth6", "eth7", "lan", "empty", "down0"), start=1):
        ip("address", "add", f"10.{number}.0.1/24", "dev", name)
    ip("route", "add", "default", "via", "10.1.0.2")
    expected = {
        "docker0": Reach.OUTSIDE,
        "eth5": Reach.UNKNOWN,
        "eth6": Reach.INSIDE,
        "eth7": Reach.UNKNOWN,
        "port0": Reach.INSIDE,
        "lan": Reach.INSIDE,
        "empty": Reach.INSIDE,
        "down0": Reach.INSIDE,
        "gone": Reach.UNKNOWN,
    }
    deadline_s = time.monotonic() + 10  # a bridge takes a moment to see the link of its port
    while (found := reach_of(expected)) != expected:
        assert time.monotonic() < deadline_s, {name: found[name] for name in found if found[name] != expected[name]}
    assert {each.interface for each in local_addresses()} >= {"lo", "docker0", "eth5", "eth6", "eth7", "lan", "empty"}
    ip("route", "del", "default")
    assert reach_of(["docker0"]) == {"docker0": Reach.UNKNOWN}
    if ip("-6", "route", "show", "dev", "eth5"):  # this kernel has IPv6
        ip("-6", "route", "add", "default", "via", "fe80::1", "dev", "eth5")
        assert reach_of(["eth5"]) == {"eth5": Reach.OUTSIDE}


if __name__ == "__main__":
    main()
