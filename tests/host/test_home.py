"""The folder of a node: its place, its permissions, and that one node has it at a time."""

import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from echonode.errors import ConfigError
from echonode.host.files import NodeFiles
from echonode.host.home import SERVICE_SOCKET, Home, read_secret, write_secret

WITHIN_S = 30.0


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def powerless() -> Iterator[None]:
    """Run the block as a user whom file permissions bind."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_the_flag_goes_before_the_environment_and_that_before_the_service_and_the_user() -> None:
    everything = {
        "ECHO_HOME": "/srv/echo",
        "STATE_DIRECTORY": "/var/lib/echonode:/var/lib/other",
        "CONFIGURATION_DIRECTORY": "/etc/echonode",
        "RUNTIME_DIRECTORY": "/run/echonode",
        "XDG_STATE_HOME": "/users/ann/state",
        "HOME": "/users/ann",
    }
    assert Home.find("/srv/flag", everything).folder == Path("/srv/flag")
    assert Home.find(None, everything).folder == Path("/srv/echo")
    del everything["ECHO_HOME"]
    service = Home.find(None, everything)
    assert service.folder == Path("/var/lib/echonode")
    assert service.config == Path("/etc/echonode/config.toml")
    assert service.api_socket == SERVICE_SOCKET
    del everything["STATE_DIRECTORY"]
    assert Home.find(None, everything).folder == Path("/users/ann/state/echonode")
    everything["XDG_STATE_HOME"] = "relative/is/ignored"
    assert Home.find(None, everything).folder == Path("/users/ann/.local/state/echonode")
    del everything["XDG_STATE_HOME"]
    assert Home.find(None, everything).folder == Path("/users/ann/.local/state/echonode")


def test_a_named_home_holds_everything_of_its_node() -> None:
    home = Home.find("/srv/echo", {})
    assert home.config == Path("/srv/echo/config.toml")
    assert home.root_key == Path("/srv/echo/keys/root")
    assert home.device_key == Path("/srv/echo/keys/device")
    assert home.network == Path("/srv/echo/network")
    assert home.store == Path("/srv/echo/store.db")
    assert home.api_socket == Path("/srv/echo/api.sock")
    assert Home.find("here", {}).folder == Path.cwd() / "here"


def test_a_service_without_the_other_directories_keeps_all_in_its_state() -> None:
    home = Home.find(None, {"STATE_DIRECTORY": "/var/lib/echonode"})
    assert home.config == Path("/var/lib/echonode/config.toml")
    assert home.api_socket == Path("/var/lib/echonode/api.sock")


def test_a_socket_path_too_long_for_the_kernel_moves_to_the_runtime_directory(tmp_path: Path) -> None:
    long = "/srv/" + "x" * 120
    home = Home.find(long, {"XDG_RUNTIME_DIR": str(tmp_path)})
    assert home.api_socket.parent == tmp_path / "echonode"
    assert home.api_socket == Home.find(long, {"XDG_RUNTIME_DIR": str(tmp_path)}).api_socket
    assert home.api_socket != Home.find(long + "y", {"XDG_RUNTIME_DIR": str(tmp_path)}).api_socket
    assert Home.find(long, {}).api_socket.parent == Path("/tmp") / f"echonode-{os.geteuid()}"


def test_the_folders_are_made_for_this_user_alone(tmp_path: Path) -> None:
    home = Home.find(str(tmp_path / "deep" / "home" / ("x" * 90)), {"XDG_RUNTIME_DIR": str(tmp_path)})
    home.prepare()
    home.prepare()
    assert mode_of(home.folder) == mode_of(home.root_key.parent) == mode_of(home.api_socket.parent) == 0o700
    assert os.listdir(home.folder) == ["keys"]


def test_a_socket_folder_others_can_write_is_not_trusted(tmp_path: Path) -> None:
    home = Home.find("/srv/" + "x" * 120, {"XDG_RUNTIME_DIR": str(tmp_path)})
    home.check_socket_folder()  # not there yet: nothing to distrust
    folder = home.api_socket.parent
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(ConfigError, match="is not this user's alone"):
        home.check_socket_folder()
    folder.chmod(0o700)
    home.check_socket_folder()
    folder.rmdir()
    folder.symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="is not this user's alone"):
        home.check_socket_folder()


def test_a_home_that_cannot_be_written_is_refused_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(ConfigError, match=f"the home {file} cannot be used: file exists"):
        Home.find(str(file), {}).prepare()
    folder = tmp_path / "home"
    Home.find(str(folder), {}).prepare()
    folder.chmod(0o500)
    with powerless(), pytest.raises(ConfigError, match=f"the home {folder} cannot be used: permission denied"):
        Home.find(str(folder), {}).prepare()
    with powerless(), pytest.raises(ConfigError, match="permission denied"), Home.find(str(folder), {}).locked():
        pass
    with powerless(), pytest.raises(ConfigError, match="cannot be written: permission denied"):
        write_secret(folder / "network", bytes(32))


def test_a_user_without_a_home_folder_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 61_234)  # which has no entry in /etc/passwd
    for environ in ({}, {"HOME": ""}, {"HOME": "relative"}):
        with pytest.raises(ConfigError, match=r"^this user has no home folder: .* --home DIR or ECHO_HOME$"):
            Home.find(None, environ)
    for named in ("~/node", "~nobody-there/node"):
        with pytest.raises(ConfigError, match=rf"^the home '{named}' begins with a user who is unknown here"):
            Home.find(named, {})
    assert Home.find("/srv/echo", {}).folder == Path("/srv/echo")


def test_a_home_of_another_user_is_refused_with_both_names(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a folder away")
    folder = tmp_path / "home"
    Home.find(str(folder), {}).prepare()
    for uid, owner in ((65_534, "nobody"), (61_234, "61234")):
        os.chown(folder, uid, -1)
        with pytest.raises(ConfigError) as caught:
            Home.find(str(folder), {}).prepare()
        assert str(caught.value) == f"the home {folder} belongs to {owner}: run as {owner}, or give root another home"
    os.chown(folder, 0, -1)
    os.chown(folder / "keys", 65_534, -1)
    with pytest.raises(ConfigError, match=f"the home {folder}/keys belongs to nobody"):
        Home.find(str(folder), {}).prepare()


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o720, 0o702])
def test_a_home_that_others_may_write_is_refused_with_the_command_that_mends_it(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "my home"
    Home.find(str(folder), {}).prepare()
    for each in (folder, folder / "keys"):
        each.chmod(mode)
        with pytest.raises(ConfigError, match=f"other users may write into the home {each}: run chmod go-w '{each}'$"):
            Home.find(str(folder), {}).prepare()
        each.chmod(mode & ~0o022)
        Home.find(str(folder), {}).prepare()


CHILD = """
import sys
from echonode.errors import ConfigError
from echonode.host.home import Home
try:
    with Home.find(sys.argv[1], {}).locked():
        print("locked", flush=True)
        sys.stdin.read()
except ConfigError as error:
    print(error, flush=True)
"""


def test_two_processes_never_hold_one_home_and_the_second_learns_which_has_it(tmp_path: Path) -> None:
    home = Home.find(str(tmp_path), {})
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "locked\n"
        said = f"a node already runs on the home {tmp_path} (process {first.pid})"
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == said + "\n"
        with pytest.raises(ConfigError) as caught, home.locked():
            pass
        assert str(caught.value) == said
        first.kill()
    with home.locked():  # a killed node leaves no lock behind
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
        assert mode_of(tmp_path / "lock") == 0o600
        with pytest.raises(ConfigError, match=f"process {os.getpid()}"), home.locked():
            pass
    with home.locked():
        pass


def test_a_node_waits_for_a_reader_and_a_reader_does_not_wait_for_a_node(tmp_path: Path) -> None:
    home = Home.find(str(tmp_path), {})
    held, release = threading.Event(), threading.Event()

    def read() -> None:
        with home.locked(is_reader=True):
            held.set()
            release.wait(WITHIN_S)

    reader = threading.Thread(target=read)
    reader.start()
    assert held.wait(WITHIN_S)
    assert home.lock_holder() is None  # a reader is no node
    threading.Timer(0.5, release.set).start()  # longer than the grace that any holder gets
    with home.locked():
        assert release.is_set()
        assert home.lock_holder() == str(os.getpid())
        began_s = time.monotonic()
        with pytest.raises(ConfigError, match="already runs"), home.locked(is_reader=True):
            pass
        assert time.monotonic() - began_s < 2.0
    reader.join(WITHIN_S)
    assert home.lock_holder() is None
    assert Home.find(str(tmp_path / "nowhere"), {}).lock_holder() is None


def test_a_reader_that_does_not_end_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echonode.host.home._READER_TIMEOUT_S", 0.01)
    home = Home.find(str(tmp_path), {})
    said = f"a command still reads the store in the home {tmp_path} .process {os.getpid()}"
    with home.locked(is_reader=True), pytest.raises(ConfigError, match=said), home.locked():
        pass


def test_a_secret_is_read_back_and_only_its_owner_can(tmp_path: Path) -> None:
    path = tmp_path / "network"
    assert read_secret(path, 32) is None
    write_secret(path, b"a" * 32)
    write_secret(path, b"k" * 32)
    assert read_secret(path, 32) == b"k" * 32
    assert mode_of(path) == 0o600
    assert os.listdir(tmp_path) == ["network"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660])
def test_a_secret_others_may_read_is_refused_with_the_command_that_mends_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "network"
    write_secret(path, bytes(32))
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"run chmod 600 {path}"):
        read_secret(path, 32)


@pytest.mark.parametrize("size", [0, 31, 33, 4096])
def test_a_secret_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "network"
    write_secret(path, bytes(size))
    with pytest.raises(ConfigError, match="32 bytes are expected"):
        read_secret(path, 32)


def test_a_secret_that_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: is a directory"):
        read_secret(tmp_path, 32)


def test_a_secret_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "network").mkdir()
    (tmp_path / "network" / "in the way").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"network cannot be written"):
        write_secret(tmp_path / "network", bytes(32))
    assert os.listdir(tmp_path) == ["network"]
    with pytest.raises(ConfigError, match=r"no such file"):
        write_secret(tmp_path / "no" / "network", bytes(32))


def test_the_token_is_made_once_for_this_user_alone_and_replaced_when_asked(tmp_path: Path) -> None:
    files = NodeFiles(Home.find(str(tmp_path / "home"), {}))
    token = files.api_token()
    path = files.home.api_token
    assert (files.api_token(), path.read_text()) == (token, token)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    renewed = files.api_token(is_new=True)
    assert renewed != token
    assert files.api_token() == renewed
    for damaged in ("short", "0" * 52):
        path.write_text(damaged)
        with pytest.raises(ConfigError, match="is damaged"):
            files.api_token()
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        files.api_token()
    assert files.api_token(is_new=True) == files.api_token()
