"""Hosts on one LAN: network namespaces on a bridge, each with processes of its own. Needs root; skips elsewhere."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

_BRIDGE = "10.88.0.1/16"  # the address of podman's bridge, the same on every host


@dataclass(frozen=True)
class Host:
    """A network namespace with an address on the LAN."""

    namespace: str
    ip: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """The command that runs another one on this host."""
        return ("ip", "netns", "exec", self.namespace)

    def ip_command(self, *arguments: str) -> None:
        """Run `ip` on this host."""
        _ip("-n", self.namespace, *arguments)

    def add_container_bridge(self) -> None:
        """Give the host a bridge that has a link and leads to no other host, with the address that all such have."""
        self.ip_command("link", "add", "cni0", "type", "bridge")
        self.ip_command("link", "add", "pod0", "type", "veth", "peer", "name", "pod1")
        self.ip_command("link", "set", "pod0", "master", "cni0", "up")
        self.ip_command("link", "set", "pod1", "up")
        self.ip_command("addr", "add", _BRIDGE, "dev", "cni0")
        self.ip_command("link", "set", "cni0", "up")


@contextmanager
def lan(count: int, tag: str = "em") -> Iterator[list[Host]]:
    """Make `count` hosts on one LAN; remove them at the end. `tag` tells two LANs of one process apart."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("hosts are network namespaces: root and iproute2 are needed")
    tag += str(os.getpid())
    switch, names = f"{tag}s", [f"{tag}h{number}" for number in range(count)]
    try:
        for name in (switch, *names):
            if subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True).returncode:
                pytest.skip("no network namespace can be made here")
            _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", switch, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        _ip("-n", switch, "link", "set", "br0", "up")
        hosts = [Host(name, f"10.77.88.{10 + number}") for number, name in enumerate(names)]
        for number, host in enumerate(hosts):
            end = ("name", "eth0", "netns", host.namespace)
            _ip("link", "add", f"{tag}p{number}", "netns", switch, "type", "veth", "peer", *end)
            _ip("-n", switch, "link", "set", f"{tag}p{number}", "master", "br0", "up")
            _ip("-n", host.namespace, "addr", "add", f"{host.ip}/24", "dev", "eth0")
            _ip("-n", host.namespace, "link", "set", "eth0", "up")
            _ip("-n", host.namespace, "route", "add", "default", "via", "10.77.88.1")
        yield hosts
    finally:
        for name in (*names, switch):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
