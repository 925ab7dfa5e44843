"""The place of the node: the URL that a program or the environment names, else the socket of this machine's node.

url                    unix:/PATH/TO/api.sock, or http://HOST:PORT with a token
home                   the node of that folder
ECHO_API_URL=..        as url; ECHO_TOKEN as token
ECHO_HOME=DIR          the node of that folder
(nothing)              this user's node, else the service's (/run/echonode/api.sock)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from echonode.client.errors import ClientError


@dataclass(frozen=True, slots=True)
class UnixPlace:
    """A Unix socket."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def host(self) -> str:
        """The Host header of a request."""
        return "localhost"


@dataclass(frozen=True, slots=True)
class TcpPlace:
    """A TCP port, as a rule of this machine."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"http://{self.host}"

    @property
    def host(self) -> str:
        """The Host header of a request."""
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


Place = UnixPlace | TcpPlace


@dataclass(frozen=True, slots=True)
class Location:
    """The places at which to look for the node, the first that answers counts, and the token that it asks for.

    `absence` gives the sentence for when none answers.
    """

    places: tuple[Place, ...]
    token: str | None = field(default=None, repr=False)
    absence: Callable[[], str] = lambda: "the node is not running"


def locate(url: str | None, token: str | None, home: str | Path | None, environ: Mapping[str, str]) -> Location:
    """Return where the node is. Raises ClientError for a URL that is none, ConfigError for a home that cannot be."""
    from echonode.host.home import SERVICE_SOCKET, Home  # who is told a URL needs none

    if home is None:
        url = url or environ.get("ECHO_API_URL") or None
    token = token or environ.get("ECHO_TOKEN") or None
    if url is not None:
        return Location((read_url(url),), token, lambda: f"no node answers at {url}")
    named = str(home) if home is not None else environ.get("ECHO_HOME") or None
    found = Home.find(named, environ)
    found.check_socket_folder()
    places = [UnixPlace(found.api_socket)]
    if named is None:
        places.append(UnixPlace(SERVICE_SOCKET))
    start = f"echonode --home {named} run" if named else "echonode run"
    return Location(tuple(places), token, lambda: f"the node is not running; type: {start}")


def read_url(url: str) -> Place:
    """Return the place that a URL names. Raises ClientError."""
    scheme, _, rest = url.partition(":")
    path = rest.removeprefix("//")
    if scheme == "unix" and path.startswith("/"):
        return UnixPlace(Path(path))
    try:
        parts = urlsplit(url)
        name, port = parts.hostname, parts.port
    except ValueError:
        name, port = None, None
    else:
        if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
            name = None
    if scheme == "http" and name and port is not None:
        return TcpPlace(name, port)
    raise ClientError(f"{url!r} is no URL of a node: unix:/PATH/TO/api.sock or http://HOST:PORT is expected")
