"""A machine of its own on this one: systemd boots in a container, on a copy of this system that is thrown away.

The container's files are those of this machine under an overlay in memory, without its services, its machine id and
its journal. So nothing is fetched and nothing is kept; it boots in a second. Of this project it has what `pip install`
makes of a wheel of this tree, in /opt/echonode. Machines have a network once `bridged` joins them.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import distribution
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.processes import wait_for
from tests.faults.rooted import command, needs_root

ROOT: Final = Path(__file__).parents[2]
PROGRAM: Final = "/opt/echonode/bin/echonode"
_BOOT_S: Final = 30.0
_COMMAND_S: Final = 90.0
_DISK_MIB: Final = 700


class Machine:
    """A booted container. `folder` is its root, as this machine sees it."""

    def __init__(self, folder: Path, leader: int) -> None:
        self.folder = folder
        self._leader = leader

    def run(self, *arguments: str, check: bool = True, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        """Run a program in the machine as root."""
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        inside = ["nsenter", "-t", str(self._leader), "-a", "--wdns=/", "env", "-i", path, "LANG=C.UTF-8", *arguments]
        done = subprocess.run(inside, input=stdin, capture_output=True, text=True, check=False, timeout=_COMMAND_S)
        assert not check or done.returncode == 0, (arguments, done.returncode, done.stdout, done.stderr)
        return done

    def echonode(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a command of this project in the machine."""
        return self.run(PROGRAM, *arguments, check=check)

    def show(self, name: str) -> str:
        """Return a property of the service as systemd has it."""
        return self.run("systemctl", "show", "echonode", "--value", f"--property={name}").stdout.strip()

    def add_interface(self, switch: str, port: str, address: str) -> None:
        """Connect the machine to the bridge br0 of a network namespace."""
        leader = str(self._leader)
        end = ("name", "host0", "netns", leader)
        command("ip", "link", "add", port, "netns", switch, "type", "veth", "peer", *end)
        command("ip", "-n", switch, "link", "set", port, "master", "br0", "up")
        self.run("ip", "addr", "add", address, "dev", "host0")
        self.run("ip", "link", "set", "host0", "up")

    def copy_program(self, other: "Machine") -> None:
        """Take the program that another machine has."""
        shutil.copytree(other.folder / "opt/echonode", self.folder / "opt/echonode", symlinks=True)

    def write(self, path: str, text: str) -> None:
        """Write a file of the machine."""
        file = self.folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def install_program(self, wheel_folder: Path) -> None:
        """Install this project in /opt/echonode, from a wheel, with the packages that this Python has."""
        pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
        command(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheel_folder, ROOT)
        (wheel,) = wheel_folder.glob("*.whl")
        base = sys._base_executable
        self.run(base, "-m", "venv", "/opt/echonode")
        (packages,) = (self.folder / "opt/echonode/lib").glob("python3*/site-packages")
        for name in _requirements():
            _copy_distribution(name, packages)
        shutil.copy(wheel, self.folder / "opt" / wheel.name)
        install = ("-m", "pip", "-q", "install", "--no-index", "--no-deps", f"/opt/{wheel.name}")
        self.run("/opt/echonode/bin/python", *install)


def _requirements() -> set[str]:
    """Return the names of all distributions that this project needs, and that those need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: set[str] = set()
    waiting = [_name_in(text) for text in project["dependencies"]]
    while waiting:
        each = waiting.pop()
        if each in found:
            continue
        try:
            requires = distribution(each).requires or []
        except ImportError:
            continue  # for other systems or Pythons
        found.add(each)
        waiting += [_name_in(text) for text in requires if "extra ==" not in text]
    return found


def _name_in(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0].lower()


def _copy_distribution(name: str, packages: Path) -> None:
    installed = distribution(name)
    for file in installed.files or ():
        source, target = Path(str(installed.locate_file(file))), packages / file
        if ".." in file.parts or "tests" in file.parts or not source.is_file():
            continue  # scripts of other packages, and what nobody imports
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


@contextmanager
def booted(folder: Path, name: str = "echo") -> Iterator[Machine]:
    """Boot a machine whose root is made in `folder`, and switch it off afterwards. `name` begins its host name."""
    needs_root()
    if shutil.which("systemd-nspawn") is None:
        pytest.skip("no systemd-nspawn here (Debian: systemd-container)")
    disk, root = folder / "disk", folder / "root"
    for each in (disk, root):
        each.mkdir()
    command("mount", "-t", "tmpfs", "-o", f"size={_DISK_MIB}m", "tmpfs", disk)
    try:
        for each in ("upper", "work"):
            (disk / each).mkdir()
        options = f"lowerdir=/,upperdir={disk}/upper,workdir={disk}/work"
        command("mount", "-t", "overlay", "-o", options, "overlay", root)
        try:
            _make_clean(root)
            with _switched_on(root, name, folder / "console") as leader:
                machine = Machine(root, leader)
                state = machine.run("systemctl", "is-system-running", "--wait", check=False).stdout.strip()
                assert state in ("running", "degraded"), (state, (folder / "console").read_text())
                yield machine
        finally:
            command("umount", "--lazy", root)
    finally:
        command("umount", "--lazy", disk)


@contextmanager
def bridged(machines: Sequence[Machine]) -> Iterator[None]:
    """Put machines on one LAN: 10.77.89.10, .11 and so on."""
    switch = f"em{os.getpid()}b"
    command("ip", "netns", "add", switch)
    try:
        command("ip", "-n", switch, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        command("ip", "-n", switch, "link", "set", "br0", "up")
        for number, machine in enumerate(machines):
            machine.add_interface(switch, f"port{number}", f"10.77.89.{10 + number}/24")
        yield
    finally:
        command("ip", "netns", "del", switch)


def _make_clean(root: Path) -> None:
    """Take from the copy what makes it this machine: its services, its id, its name, its journal."""
    for path in ("etc/systemd/system", "etc/systemd/user", "var/log/journal", "opt/echonode", "etc/echonode"):
        shutil.rmtree(root / path, ignore_errors=True)
    (root / "etc/systemd/system").mkdir(parents=True)
    (root / "etc/machine-id").write_text("")
    (root / "etc/hostname").unlink(missing_ok=True)
    for path in ("var/lib/echonode", "var/lib/private/echonode"):
        shutil.rmtree(root / path, ignore_errors=True)


@contextmanager
def _switched_on(root: Path, name: str, console: Path) -> Iterator[int]:
    """Yield the process id of the container's first process."""
    arguments = ["-D", root, f"--machine={name}-{os.getpid()}", "--register=no", "--keep-unit", "--private-network"]
    with console.open("wb") as output:
        nspawn = subprocess.Popen(
            ["systemd-nspawn", *map(str, arguments), "--console=pipe", "-b"],
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield wait_for(lambda: _init_of(nspawn, console), _BOOT_S)
        finally:
            # The container's first process ends all others in it at once.
            for child in _children(nspawn.pid):
                os.kill(child, 9)
            nspawn.terminate()
            nspawn.wait(_BOOT_S)


def _init_of(nspawn: "subprocess.Popen[bytes]", console: Path) -> int | None:
    assert nspawn.poll() is None, console.read_text(errors="replace")
    for child in _children(nspawn.pid):
        if b"systemd" in Path(f"/proc/{child}/cmdline").read_bytes().partition(b"\0")[0].rpartition(b"/")[2]:
            bus = Path(f"/proc/{child}/root/run/systemd/private")
            return child if bus.exists() else None
    return None


def _children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
