"""The server of the local API on a Unix socket. It drives uvicorn without the parts that a node has no use for.

    start   bind (mode 0600 from the first moment), then uvicorn's startup
    close   remove the socket file and accept no more; set Stop (streams and waits end by themselves); wait a moment for
            answers under way; drop the connections of clients that do not read; uvicorn's shutdown

uvicorn's `serve` takes over the process's signals. Its `main_loop` wakes ten times a second to refresh a Date header,
count requests and look for an exit flag. A node needs neither, so neither runs: asyncio's server works without them.
`startup` and `shutdown` are undocumented: pyproject.toml bounds the version, and tests hold them.
"""

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Final

import uvicorn

from echonode.api.app import Api
from echonode.api.shutdown import Stop
from echonode.errors import ConfigError
from echonode.limits import KIB
from echonode.node.node import Node

_UMASK: Final = 0o177  # a socket is made with mode 0777 less the umask: 0600
_GRACE_S: Final = 2.0  # for answers under way when the server closes
_LAST_RESORT_S: Final = 2  # after that, for tasks that go on although they were cancelled
_BACKLOG: Final = 128
_HEAD_BYTES_MAX: Final = 32 * KIB  # 64 tags of 64 bytes and a name, percent-encoded, and headers


class ApiServer:
    """Serves `node` on `socket_path` from `start` to `close`, once. `status` shows `version`."""

    def __init__(self, node: Node, *, socket_path: Path, version: str) -> None:
        self._path = socket_path
        self._stop = Stop()
        config = uvicorn.Config(
            Api(node, self._stop, version=version, api=[str(socket_path)]),
            http="h11",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=_LAST_RESORT_S,
            h11_max_incomplete_event_size=_HEAD_BYTES_MAX,
        )
        config.load()
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        self._socket: socket.socket | None = None
        self._inode = (0, 0)

    async def start(self) -> None:
        """Listen. Raises ConfigError when the socket cannot be made, or another process listens on it."""
        self._socket = _bind(self._path)
        self._inode = _inode(self._path)
        await self._server.startup(sockets=[self._socket])

    async def close(self) -> None:
        """End every stream and answer, stop listening, remove the socket file. A second call does nothing."""
        if self._socket is None:
            return
        listening, self._socket = self._socket, None
        if self._path.is_socket() and _inode(self._path) == self._inode:
            self._path.unlink()
        for server in self._server.servers:
            server.close()
        self._stop.set()
        await self._end_answers()
        await self._server.shutdown(sockets=[listening])

    async def _end_answers(self) -> None:
        state = self._server.server_state
        if not state.tasks:
            return
        _, late = await asyncio.wait(state.tasks, timeout=_GRACE_S)
        if late:
            for connection in list(state.connections):
                connection.transport.abort()
        for task in late:
            task.cancel()


def _bind(path: Path) -> socket.socket:
    """Return a bound Unix socket that only this user may open. Replace a socket file that a crash left behind."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        umask = os.umask(_UMASK)
        try:
            listener.bind(str(path))
        finally:
            os.umask(umask)
        listener.listen(_BACKLOG)  # at once, because a socket that refuses looks like one that a crash left
    except ConfigError:
        listener.close()
        raise
    except OSError as error:
        listener.close()
        why = error.strerror or str(error)  # a path over 107 bytes has no errno
        raise ConfigError(f"The API socket {path} cannot be made: {why}.") from None
    return listener


def _clear(path: Path) -> None:
    """Remove a socket file on which no process listens. Raises ConfigError when one does, or the file is no socket."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigError(f"The API socket {path} cannot be made: there is a file of another kind in its place.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # the backlog is full: a live process is busy
    raise ConfigError(f"Another echonode already listens on {path}.")


def _inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
