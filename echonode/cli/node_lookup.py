"""The address of the node that a command speaks to. The first of these that is given decides:

--home DIR                            that home and no other
ECHO_API_URL=unix:/PATH               that socket
ECHO_API_URL=http://HOST:PORT         that TCP listener, with the token in ECHO_TOKEN
ECHO_HOME=DIR                         that home
(nothing)                             this user's home, else /run/echonode/api.sock
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Final

import click

from echonode.cli.exit_codes import ExitCode, Failure
from echonode.cli.output import print_note
from echonode.cli.services import HomeView, Services
from echonode.text import escape

if TYPE_CHECKING:
    from echonode.cli.client import ApiClient
    from echonode.client.location import Location
    from echonode.client.synchronous import Client

SERVICE_SOCKET: Final = Path("/run/echonode/api.sock")
SERVICE_HOME: Final = Path("/var/lib/private/echonode")  # which only root can look into


@dataclass(frozen=True, slots=True)
class NodeLookup:
    """The services and the --home flag, which every command gets. It finds the home and the running node."""

    services: Services
    home_flag: str | None

    def home(self) -> HomeView:
        """Return the home in use."""
        return self.services.find_home(self.home_flag or os.environ.get("ECHO_HOME") or None)

    def stored_home(self) -> HomeView:
        """Return the home whose files are meant: the one that is named, else this user's, else the service's.

        The service's is meant only where there is one and this user has no node."""
        home = self.home()
        is_named = bool(self.home_flag or os.environ.get("ECHO_HOME"))
        if is_named or os.environ.get("STATE_DIRECTORY") or home.has_network() or not _is_folder(SERVICE_HOME):
            return home
        return self.services.find_home(str(SERVICE_HOME))

    def client(self, *, start_command: str = "run") -> "ApiClient":
        """Return a client of the running node. `start_command` is what a person should type if none runs."""
        from echonode.cli.client import ApiClient  # it imports h11, which --help does not need

        return ApiClient(self._location(start_command))

    def follower(self) -> "Client":
        """Return a client that goes on while the node restarts. Raises NotRunning when none runs now."""
        from echonode.client.connection import Connector
        from echonode.client.synchronous import Client

        location = self._location("run")
        Connector(location).check()
        return Client(location=location)

    def _location(self, start_command: str) -> "Location":
        from echonode.client.location import Location, UnixPlace

        url = os.environ.get("ECHO_API_URL")
        if url and not self.home_flag:
            return _location_of(url)
        if os.environ.get("ECHO_TOKEN") and not self.home_flag and not os.environ.get("ECHO_HOME"):
            raise Failure(
                "ECHO_TOKEN is set and ECHO_API_URL is not: set both (status --json has the URL, under api) or neither",
                ExitCode.USAGE,
            )
        home = self.home()
        places = [UnixPlace(home.api_socket)]
        if not self.home_flag and not os.environ.get("ECHO_HOME"):
            places.append(UnixPlace(SERVICE_SOCKET))
        return Location(tuple(places), absence=lambda: self._absence(home, start_command))

    def _absence(self, home: HomeView, start_command: str) -> str:
        """Return the sentence that says why no node answers, and what to do."""
        process = home.running_process()
        if process is not None:
            return f"the node runs (process {process}), but its socket {home.api_socket} is gone: stop and start it"
        named = f"--home {quote(self.home_flag)} " if self.home_flag else ""
        return f"the node is not running; type: echonode {named}{start_command}"

    @contextmanager
    def reader(self) -> Iterator["Reader"]:
        """Yield a client for requests that only read. If no node runs, it reads the home's store, and says so.

        Raises NotRunning when there is no store either.
        """
        client = self.client()
        has_url = bool(os.environ.get("ECHO_API_URL")) and not self.home_flag
        if has_url or client.is_listening():
            yield Reader(client, is_running=True)
            return
        home = self.home()
        if home.running_process() is not None:
            yield Reader(client, is_running=True)  # its first request says that the socket is gone
            return
        with self.services.serve_stopped(home) as path:
            if path is None:
                yield Reader(client, is_running=False)  # its first request says that no node runs
                return
            from echonode.cli.client import ApiClient
            from echonode.client.location import Location, UnixPlace

            print_note("the node is not running: this is read from its store")
            yield Reader(ApiClient(Location((UnixPlace(path),))), is_running=False)


@dataclass(frozen=True, slots=True)
class Reader:
    """A client for requests that only read, and whether a node runs behind it."""

    client: "ApiClient"
    is_running: bool


def _location_of(url: str) -> "Location":
    """Return the location that ECHO_API_URL names. Raises Failure, also where ECHO_TOKEN is missing."""
    from echonode.client.errors import ClientError
    from echonode.client.location import Location, TcpPlace, read_url

    try:
        place = read_url(url)
    except ClientError:
        raise Failure(
            f"ECHO_API_URL is {escape(url)!r}; unix:/PATH/TO/api.sock or http://HOST:PORT is expected", ExitCode.USAGE
        ) from None
    token = _token(url) if isinstance(place, TcpPlace) else None
    return Location((place,), token, lambda: f"nothing answers at {url} (ECHO_API_URL)")


def _token(url: str) -> str:
    token = os.environ.get("ECHO_TOKEN", "")
    if not token:
        raise Failure(
            f"ECHO_API_URL is {escape(url)} and ECHO_TOKEN is not set: on that node's machine, `echonode api token` "
            "prints it",
            ExitCode.NOT_AUTHORISED,
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        # The text is not quoted: it may be the token with one character too many.
        raise Failure("ECHO_TOKEN is no token: 52 letters and digits are expected", ExitCode.NOT_AUTHORISED)
    return token


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except PermissionError:
        return False


pass_lookup = click.make_pass_decorator(NodeLookup)
