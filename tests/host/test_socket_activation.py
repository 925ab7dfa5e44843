"""Sockets that a service manager passes, each to a process of its own: they come with its pid, as descriptor 3."""

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

CHILD = """
import os, sys
from echonode.errors import ConfigError
from echonode.host.socket_activation import passed_api_socket, path_of
environ = {key: value.replace("PID", str(os.getpid())) for key, value in (part.split("=") for part in sys.argv[1:])}
try:
    passed = passed_api_socket(environ)
except ConfigError as error:
    print("refused:", error)
else:
    print("none" if passed is None else f"{path_of(passed)} {os.get_inheritable(passed.fileno())}")
"""
RIGHT = {"LISTEN_PID": "PID", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "api"}


def said_with(passed: socket.socket | None, environ: Mapping[str, str]) -> str:
    """Return what a process says that has `passed` as its descriptor 3."""

    def place() -> None:
        if passed is not None:
            os.dup2(passed.fileno(), 3)

    arguments = [sys.executable, "-c", CHILD, *(f"{key}={value}" for key, value in environ.items())]
    kept = () if passed is None else (3, passed.fileno())
    done = subprocess.run(arguments, pass_fds=kept, preexec_fn=place, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


@pytest.mark.parametrize("names", [{"LISTEN_FDNAMES": "api"}, {"LISTEN_FDNAMES": ""}, {}])
def test_the_socket_that_was_passed_is_taken_and_goes_to_no_child(tmp_path: Path, names: Mapping[str, str]) -> None:
    with listening(tmp_path / "api.sock") as passed:
        assert said_with(passed, {"LISTEN_PID": "PID", "LISTEN_FDS": "1", **names}) == f"{tmp_path}/api.sock False"


@pytest.mark.parametrize(
    "environ", [{}, {**RIGHT, "LISTEN_PID": "1"}, {"LISTEN_FDS": "1"}, {**RIGHT, "LISTEN_FDS": "0"}]
)
def test_what_was_passed_to_another_process_is_not_ours(tmp_path: Path, environ: Mapping[str, str]) -> None:
    with listening(tmp_path / "api.sock") as passed:
        assert said_with(passed, environ) == "none"


@pytest.mark.parametrize(
    "wrong", [{"LISTEN_FDS": "2"}, {"LISTEN_FDS": "many"}, {"LISTEN_FDS": ""}, {"LISTEN_FDNAMES": "other"}]
)
def test_sockets_of_another_number_or_name_are_refused_in_a_sentence(tmp_path: Path, wrong: Mapping[str, str]) -> None:
    with listening(tmp_path / "api.sock") as passed:
        said = said_with(passed, {**RIGHT, **wrong})
        assert said.endswith("; a node takes one, with FileDescriptorName=api and ListenStream=/PATH in its unit")


def test_a_socket_of_another_kind_is_refused_in_a_sentence(tmp_path: Path) -> None:
    kinds = [socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
    kinds[1].bind(f"\0echonode-{os.getpid()}")
    kinds[1].listen()
    kinds[2].bind(str(tmp_path / "deaf.sock"))
    for passed in kinds:
        with passed:
            said = said_with(passed, RIGHT)
            assert said == "refused: systemd passed a socket of another kind; a node takes ListenStream=/PATH"
    assert said_with(None, RIGHT).startswith("refused: systemd passed a socket that cannot be used: ")
