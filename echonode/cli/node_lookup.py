"""The address of the node that a command speaks to. The first of these that is given decides:

    --home DIR                            that home and no other
    ECHO_API_URL=unix:/PATH               that socket
    ECHO_HOME=DIR                         that home
    (nothing)                             this user's home, else /run/echonode/api.sock
"""

import os
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Final

import click

from echonode.cli.exit_codes import ExitCode, Failure
from echonode.cli.services import HomeView, Services

if TYPE_CHECKING:
    from echonode.cli.client import Client

SERVICE_SOCKET: Final = Path("/run/echonode/api.sock")


@dataclass(frozen=True, slots=True)
class NodeLookup:
    """The services and the --home flag, which every command gets. It finds the home and the running node."""

    services: Services
    home_flag: str | None

    def home(self) -> HomeView:
        """Return the home in use."""
        return self.services.find_home(self.home_flag or os.environ.get("ECHO_HOME") or None)

    def client(self, *, start_command: str = "run") -> "Client":
        """Return a client of the running node. `start_command` is the command that a person should type if none runs.
        """
        from echonode.cli.client import Client  # it imports h11, which --help does not need

        url = os.environ.get("ECHO_API_URL")
        if url and not self.home_flag:
            return Client([_socket_of(url)], hint=f"nothing answers at {url} (ECHO_API_URL)")
        named = f"--home {quote(self.home_flag)} " if self.home_flag else ""
        paths = [self.home().api_socket]
        if not self.home_flag and not os.environ.get("ECHO_HOME"):
            paths.append(SERVICE_SOCKET)
        return Client(paths, hint=f"type: echonode {named}{start_command}")


def _socket_of(url: str) -> Path:
    scheme, _, path = url.partition(":")
    path = path.removeprefix("//")
    if scheme != "unix" or not path.startswith("/"):
        raise Failure(f"ECHO_API_URL is {url!r}; unix:/PATH/TO/api.sock is expected", ExitCode.USAGE)
    return Path(path)


pass_lookup = click.make_pass_decorator(NodeLookup)
