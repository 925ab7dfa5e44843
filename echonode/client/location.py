"""The place of the node: the URL that a program or the environment names, else the socket of this machine's node.

    url                    unix:/PATH/TO/api.sock, or http://HOST:PORT with a token
    home                   the node of that folder
    ECHO_API_URL=..        as url; ECHO_TOKEN as token
    ECHO_HOME=DIR          the node of that folder
    (nothing)              this user's node, else the service's (/run/echonode/api.sock)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from echonode.client.errors import ClientError
from echonode.host.home import SERVICE_SOCKET, Home


@dataclass(frozen=True, slots=True)
class UnixPlace:
    """A Unix socket."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True, slots=True)
class TcpPlace:
    """A TCP port, as a rule of this machine."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


Place = UnixPlace | TcpPlace


@dataclass(frozen=True, slots=True)
class Location:
    """The places at which to look for the node, the first that answers counts. `absence`: the sentence for when none
    does."""

    places: tuple[Place, ...]
    token: str | None
    absence: str


def locate(url: str | None, token: str | None, home: str | Path | None, environ: Mapping[str, str]) -> Location:
    """Return where the node is. Raises ClientError for a URL that is none, ConfigError for a home that cannot be."""
    if home is None:
        url = url or environ.get("ECHO_API_URL") or None
    token = token or environ.get("ECHO_TOKEN") or None
    if url is not None:
        return Location((read_url(url),), token, f"no node answers at {url}")
    named = str(home) if home is not None else environ.get("ECHO_HOME") or None
    found = Home.find(named, environ)
    found.check_socket_folder()
    places = [UnixPlace(found.api_socket)]
    if named is None:
        places.append(UnixPlace(SERVICE_SOCKET))
    start = f"echonode --home {named} run" if named else "echonode run"
    return Location(tuple(places), token, f"the node is not running; type: {start}")


def read_url(url: str) -> Place:
    """Return the place that a URL names. Raises ClientError."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    if parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/"):
        return UnixPlace(Path(parts.path))
    if parts.scheme == "http" and parts.hostname and port is not None and parts.path in ("", "/"):
        return TcpPlace(parts.hostname, port)
    raise ClientError(f"{url!r} is no URL of a node: unix:/PATH/TO/api.sock or http://HOST:PORT is expected")
