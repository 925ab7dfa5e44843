"""The name of this machine, and the machines that have none."""

import sys
from pathlib import Path

import pytest

from echonode.host.machine import machine_id

MACHINE_ID = "0123456789abcdef0123456789abcdef"


def machine(root: Path, *, files: dict[str, str]) -> Path:
    """Make the root folder of a machine with these files."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has its own id")
def test_a_machine_is_named_by_a_hash_of_its_id(tmp_path: Path) -> None:
    one = machine_id(machine(tmp_path / "one", files={"etc/machine-id": f"{MACHINE_ID}\n"}), {})
    again = machine_id(machine(tmp_path / "again", files={"var/lib/dbus/machine-id": MACHINE_ID}), {})
    other = machine_id(machine(tmp_path / "other", files={"etc/machine-id": f"{MACHINE_ID[::-1]}\n"}), {})
    assert one == again != other
    assert len(one) == len(other) == 32
    assert MACHINE_ID not in one


@pytest.mark.parametrize(
    ("files", "environ"),
    [
        ({}, {}),
        ({"etc/machine-id": ""}, {}),
        ({"etc/machine-id": "uninitialized\n"}, {}),
        ({"etc/machine-id": "\xe9\n"}, {}),
        ({"etc/machine-id": MACHINE_ID, ".dockerenv": ""}, {}),
        ({"etc/machine-id": MACHINE_ID, "run/.containerenv": ""}, {}),
        ({"etc/machine-id": MACHINE_ID, "run/systemd/container": "lxc"}, {}),
        ({"etc/machine-id": MACHINE_ID, "run/machine-id": MACHINE_ID}, {}),
        ({"etc/machine-id": MACHINE_ID}, {"container": "podman"}),
    ],
)
@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has its own id")
def test_containers_and_machines_whose_id_does_not_last_have_no_name(
    tmp_path: Path, files: dict[str, str], environ: dict[str, str]
) -> None:
    assert machine_id(machine(tmp_path / "root", files=files), environ) == ""
