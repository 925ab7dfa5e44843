"""Facilities that need root: a small disk, little memory, networks of one's own. Each is removed after the test."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest


def needs_root() -> None:
    """Skip the test where this is not root."""
    if os.geteuid() != 0:
        pytest.skip("needs root")


def command(*arguments: object) -> str:
    """Run a program of the system and return its output."""
    return subprocess.run([str(each) for each in arguments], check=True, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[Path]:
    """Mount a disk of so many MiB at `folder`."""
    needs_root()
    folder.mkdir()
    command("mount", "-t", "tmpfs", "-o", f"size={size_mib}m,mode=0700", "tmpfs", folder)
    try:
        yield folder
    finally:
        command("umount", "--lazy", folder)


@dataclass(frozen=True)
class Star:
    """Network namespaces: a hub and leaves. Each leaf reaches only the hub, over a link of its own."""

    hub: str
    leaves: tuple[str, ...]

    def address(self, leaf: int, host: int = 1) -> str:
        """Return an address on the link of a leaf: that of the hub, or with `host` 2 that of the leaf."""
        return f"10.79.{leaf}.{host}"

    @staticmethod
    def inside(namespace: str) -> tuple[str, ...]:
        """Return the prefix of a command that runs in `namespace`."""
        return ("ip", "netns", "exec", namespace)

    def cut(self, leaf: int) -> None:
        """Drop everything that comes over the link of a leaf, on both sides and without notice."""
        for namespace, link in ((self.hub, f"v{leaf}"), (self.leaves[leaf], "eth0")):
            nft = (*self.inside(namespace), "nft")
            command(*nft, "add table inet cut")
            command(*nft, "add chain inet cut heard { type filter hook input priority 0; }")
            command(*nft, f"add rule inet cut heard iifname {link} drop")

    def mend(self, leaf: int) -> None:
        """Let everything pass again."""
        for namespace in (self.hub, self.leaves[leaf]):
            command(*self.inside(namespace), "nft", "delete table inet cut")


@contextmanager
def star(leaves: int) -> Iterator[Star]:
    """Make network namespaces, and delete them afterwards."""
    needs_root()
    hub, *names = [f"echo-{os.getpid()}-{number}" for number in range(leaves + 1)]
    made: list[str] = []
    try:
        for name in (hub, *names):
            command("ip", "netns", "add", name)
            made.append(name)
            command("ip", "-n", name, "link", "set", "lo", "up")
        for number, name in enumerate(names):
            command("ip", "-n", hub, "link", "add", f"v{number}", "type", "veth", "peer", "name", "eth0", "netns", name)
            for namespace, link, host in ((hub, f"v{number}", 1), (name, "eth0", 2)):
                command("ip", "-n", namespace, "address", "add", f"10.79.{number}.{host}/24", "dev", link)
                command("ip", "-n", namespace, "link", "set", link, "up")
        yield Star(hub, tuple(names))
    finally:
        for name in made:
            command("ip", "netns", "delete", name)


_CGROUPS: Final = Path("/sys/fs/cgroup")


@contextmanager
def little_memory(mib: int) -> Iterator[tuple[str, ...]]:
    """Yield the prefix of a command that may use so much memory; the kernel kills it if it takes more."""
    needs_root()
    is_first_version = (_CGROUPS / "memory").is_dir()
    group = (_CGROUPS / "memory" if is_first_version else _CGROUPS) / f"echo-{os.getpid()}"
    try:
        group.mkdir()
        limit = group / ("memory.limit_in_bytes" if is_first_version else "memory.max")
        limit.write_text(str(mib << 20))
    except OSError:
        pytest.skip("no control group for memory can be made here")
    try:
        yield ("sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "sh")
    finally:
        group.rmdir()
