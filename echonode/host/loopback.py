"""The socket of the API's TCP listener: on a loopback address, because the token travels in the clear there.

    api.listen   (not set)       127.0.0.1, DEFAULT_API_PORT, or a free port where that is taken
                 HOST:PORT       that address; port 0 takes a free one
                 off             no listener
"""

import errno
import ipaddress
import socket
from typing import Final

from echonode.errors import ConfigError
from echonode.host.tcp import parse_address
from echonode.text import escape

OFF: Final = "off"
DEFAULT_API_PORT: Final = 22088  # beside that of the nodes, below the ephemeral range too
_DEFAULT_HOST: Final = "127.0.0.1"
_BACKLOG: Final = 128


def check_listen(text: str) -> None:
    """Raise ConfigError unless `text` is `off` or a loopback address."""
    if text != OFF:
        _parse(text)


def bind_loopback(listen: str | None) -> tuple[socket.socket | None, bool]:
    """Return a listening socket, None for `off`, and True when the default port was taken. Raises ConfigError."""
    if listen == OFF:
        return None, False
    if listen is not None:
        host, port = _parse(listen)
        try:
            return _bind(host, port), False
        except OSError as error:
            raise ConfigError(f"api.listen: cannot listen on {listen}: {_reason(error)}") from error
    try:
        return _bind(_DEFAULT_HOST, DEFAULT_API_PORT), False
    except OSError:
        pass
    try:
        return _bind(_DEFAULT_HOST, 0), True
    except OSError as error:
        raise ConfigError(
            f'api.listen: cannot listen on {_DEFAULT_HOST}: {_reason(error)}; api.listen = "off" does without'
        ) from error


def _parse(text: str) -> tuple[str, int]:
    host, port = parse_address(text)
    if host == "localhost":
        return _DEFAULT_HOST, port
    try:
        is_loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ConfigError(
            f"'{escape(text)}' is not this machine alone: 127.0.0.1:PORT or {OFF} is expected. From another machine, "
            "use an SSH tunnel."
        )
    return host, port


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program has that port; choose another one, or 0 for a free one"
    return (error.strerror or str(error)).lower()
