"""The wheel and the source archive: what is in them, and that what they install runs where much is missing."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.e2e.machine import ROOT
from tests.e2e.processes import NodeProcess, running
from tests.faults.rooted import command

PIP = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check")
UNITS = (
    *("echonode.service", "echonode-api.socket", "echonode-user.service", "echonode.sysusers"),
    *("echonode.ufw", "echonode.firewalld.xml", "echonode.lnav.json", "echonode.alerts.yml"),
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command(*PIP, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as pip installs it from the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    command(*PIP, "install", "--no-index", "--no-deps", "--target", folder, wheel)
    return folder


def test_the_wheel_has_the_units_the_manual_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"echonode/systemd/{name}" for name in UNITS} <= names
    assert {"echonode/manual/topics.py", "echonode/api/page/index.html", "echonode/py.typed"} <= names
    assert not [name for name in names if name.startswith("tests/")]


def test_the_source_archive_has_what_a_build_needs(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    assert {f"systemd/{name}" for name in UNITS} <= names
    assert {"pyproject.toml", "echonode/app.py", "proto/PROTOCOL.md", "README.md", "LICENSE"} <= names


def run_installed(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    asked = [sys.executable, "-m", "echonode", *arguments]
    return subprocess.run(asked, cwd=folder, env=environ, capture_output=True, text=True, check=True, timeout=60)


def test_what_the_wheel_installs_finds_its_units(installed: Path) -> None:
    shown = run_installed(installed, "service", "install", "--print").stdout
    assert "echonode run\n" in shown
    assert "DynamicUser=yes" in shown
    assert (installed / "bin" / "echonode").exists()
    place = [sys.executable, "-c", "import echonode; print(echonode.__file__)"]
    environ = {**os.environ, "PYTHONPATH": str(installed)}
    loaded = subprocess.run(place, cwd=installed, env=environ, capture_output=True, text=True, check=True).stdout
    assert loaded.startswith(str(installed))


def test_what_the_wheel_installs_has_units_manual_completions_and_files_for_other_programs(
    installed: Path, tmp_path: Path
) -> None:
    printed = run_installed(installed, "service", "install", "--print").stdout
    for path in ("systemd/system/echonode.service", "systemd/system/echonode-api.socket", "sysusers.d/echonode.conf"):
        assert f"# /etc/{path}\n" in printed
    for topic, expected in (("configuration", "api.group"), ("logs", "sync.completed"), ("python", "import")):
        assert expected in run_installed(installed, "help", topic).stdout
    for topic, name in (("lnav", "echonode.lnav.json"), ("alerts", "echonode.alerts.yml")):
        assert run_installed(installed, "help", topic).stdout == (ROOT / "systemd" / name).read_text()
    for shell in ("bash", "zsh", "fish"):
        assert "_ECHONODE_COMPLETE" in run_installed(installed, "completion", "show", shell).stdout
    page = tmp_path / "echonode.1"
    page.write_text(run_installed(installed, "help", "--man").stdout)
    if shutil.which("man") is not None:
        environ = {**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"}
        asked = ["man", "--warnings", "-l", str(page)]
        shown = subprocess.run(asked, env=environ, capture_output=True, text=True, check=True)
        assert shown.stderr == ""
        assert "echonode service install" in shown.stdout


def test_a_node_starts_without_uvloop(tmp_path: Path) -> None:
    (tmp_path / "uvloop.py").write_text("raise ImportError('uvloop is not installed')\n")
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    node = NodeProcess(tmp_path / "home", "plain", mdns=False, environ=environ)
    for _ in running([node]):
        node.start()
        node.cli("put", "a", "1")
        assert node.cli("get", "a").stdout == b"1"
        assert node.stop() == 0


@pytest.mark.root
def test_a_node_starts_where_there_is_no_ipv6(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    off = "echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6; ip link set lo up; exec "
    inside = ("unshare", "-n", "sh", "-c", off + '"$@"', "sh")
    node = NodeProcess(tmp_path / "home", "plain", mdns=False, prefix=inside)
    for _ in running([node]):
        assert node.begin(listen="127.0.0.1:0")
        assert node.stop() == 0
    for _ in running([node]):
        assert node.begin(listen="0.0.0.0:0")
        assert node.address().startswith("0.0.0.0:")
