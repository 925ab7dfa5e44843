"""The socket that the service manager listens on and hands to this process: sd_listen_fds(3), systemd.socket(5).

    LISTEN_PID      the process that it is meant for
    LISTEN_FDS      how many there are; the first is descriptor 3
    LISTEN_FDNAMES  their names with colons between them: FileDescriptorName= of the socket unit

The manager made the file, with the owner, mode and group of the unit, and removes it. Connections that come while no
process of the service runs wait in it for the next one.
"""

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from echonode.errors import ConfigError

NAME: Final = "api"
_FIRST_DESCRIPTOR: Final = 3  # SD_LISTEN_FDS_START


def passed_api_socket(environ: Mapping[str, str]) -> socket.socket | None:
    """Return the Unix socket that was passed to this process for the API, None where none was. Call it once.

    Raises ConfigError where something else was passed."""
    if environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    count = environ.get("LISTEN_FDS", "")
    if count == "0":
        return None
    if count != "1" or environ.get("LISTEN_FDNAMES", NAME) not in (NAME, ""):
        raise ConfigError(
            f"systemd passed {count or 'no'} sockets named '{environ.get('LISTEN_FDNAMES', '')}'; a node takes one, "
            f"with FileDescriptorName={NAME} and ListenStream=/PATH in its unit"
        )
    try:
        passed = socket.socket(fileno=_FIRST_DESCRIPTOR)
        is_right = (
            (passed.family, passed.type) == (socket.AF_UNIX, socket.SOCK_STREAM)
            and passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
            and str(passed.getsockname()).startswith("/")
        )
    except OSError as error:
        raise ConfigError(f"systemd passed a socket that cannot be used: {error.strerror}") from None
    if not is_right:
        raise ConfigError("systemd passed a socket of another kind; a node takes ListenStream=/PATH")
    passed.set_inheritable(False)
    return passed


def path_of(passed: socket.socket) -> Path:
    """Return the path of a socket that was passed."""
    return Path(passed.getsockname())
