"""The files of the service as they are installed: the path of the program, what the sandbox shows, firewalls."""

import sys
from pathlib import Path

import pytest

from echonode.errors import ConfigError
from echonode.host.home import SERVICE_SOCKET
from echonode.host.socket_activation import NAME
from echonode.host.tcp import DEFAULT_PORT
from echonode.host.unit_files import API_GROUP, Program, read_template, system_files, user_files

TEMPLATE = read_template("echonode.service")


def program(*folders: str, command: str = "/opt/echonode/bin/echonode") -> Program:
    return Program((command,), tuple(map(Path, folders)))


def unit_of(each: Program, root: Path) -> str:
    (unit,) = [file.text for file in system_files(each, root) if file.path.name == "echonode.service"]
    return unit


def test_a_program_in_its_usual_place_gets_the_unit_as_it_stands(tmp_path: Path) -> None:
    assert unit_of(program("/opt/echonode", "/usr"), tmp_path) == TEMPLATE


def test_another_path_stands_in_every_command_of_the_unit(tmp_path: Path) -> None:
    unit = unit_of(program("/srv/my $5 100%", command="/srv/my $5 100%/bin/echonode"), tmp_path)
    assert 'ExecStart="/srv/my $$5 100%%/bin/echonode" run\n' in unit
    assert 'ExecReload="/srv/my $$5 100%%/bin/echonode" config check\n' in unit
    assert "=/opt/echonode" not in unit


def test_a_program_below_a_home_is_shown_in_the_sandbox_and_nothing_else_of_the_home(tmp_path: Path) -> None:
    hers, roots = str(Path("/home", "anna", ".venv")), str(Path("/root", "python"))
    unit = unit_of(program(hers, roots, "/opt/x"), tmp_path)
    assert f"ProtectHome=tmpfs\nBindReadOnlyPaths={hers}\nBindReadOnlyPaths={roots}\n" in unit
    assert "ProtectHome=yes" not in unit
    assert "/opt/x" not in unit


def test_a_program_that_would_be_gone_or_cannot_be_read_is_no_service(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="emptied when the machine starts"):
        program(str(Path("/tmp", "x"))).check()
    if not str(tmp_path).startswith(("/tmp", "/var/tmp")):
        tmp_path.chmod(0o700)
        with pytest.raises(ConfigError, match="other users may not read"):
            program(str(tmp_path)).check()


def test_a_profile_comes_for_each_firewall_that_is_installed(tmp_path: Path) -> None:
    def names() -> set[str]:
        return {str(file.path.relative_to(tmp_path)) for file in system_files(program(), tmp_path)}

    units = {"etc/systemd/system/echonode.service", "etc/systemd/system/echonode-api.socket"}
    usual = units | {"etc/sysusers.d/echonode.conf"}
    assert names() == usual
    (tmp_path / "etc/ufw/applications.d").mkdir(parents=True)
    (tmp_path / "etc/firewalld").mkdir()
    assert names() == usual | {"etc/ufw/applications.d/echonode", "etc/firewalld/services/echonode.xml"}


def test_the_profiles_of_the_firewalls_open_the_port_of_the_node() -> None:
    assert f"ports={DEFAULT_PORT}/tcp|5353/udp" in read_template("echonode.ufw")
    assert f'<port protocol="tcp" port="{DEFAULT_PORT}"/>' in read_template("echonode.firewalld.xml")


def test_the_socket_is_for_the_group_that_the_installation_makes_and_stands_where_commands_look() -> None:
    lines = read_template("echonode-api.socket").splitlines()
    assert {f"ListenStream={SERVICE_SOCKET}", f"SocketGroup={API_GROUP}", f"FileDescriptorName={NAME}"} <= set(lines)
    assert f"g {API_GROUP} -" in read_template("echonode.sysusers")


def test_the_unit_of_a_user_stands_where_that_users_manager_looks(tmp_path: Path) -> None:
    (unit,) = user_files(program(command="/x/echonode"), tmp_path)
    assert unit.path == tmp_path / "systemd/user/echonode.service"
    assert "ExecStart=/x/echonode run\n" in unit.text


def test_the_program_of_this_process_is_what_runs_here() -> None:
    current = Program.current()
    assert Path(current.command[0]).exists()
    assert any(folder in (Path(sys.prefix), *Path(sys.prefix).parents) for folder in current.folders)
