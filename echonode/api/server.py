"""The server of the local API, on a Unix socket and on loopback TCP. It drives uvicorn, less what no node needs.

    start   bind (mode 0600 from the first moment; 0660 for a group, if one is named), then uvicorn's startup
            a socket that the service manager passed is taken as it is instead
    reopen  bind anew when the socket file is gone; connections that are up go on
    close   remove the socket file and accept no more; set Stop (streams and waits end by themselves); wait a moment for
            answers under way; drop the connections of clients that do not read; uvicorn's shutdown

uvicorn's `serve` takes over the process's signals. Its `main_loop` wakes ten times a second to refresh a Date header,
count requests and look for an exit flag. A node needs neither, so neither runs: asyncio's server works without them.
`startup` and `shutdown` are undocumented: pyproject.toml bounds the version, and tests hold them.
"""

import asyncio
import grp
import os
import pwd
import socket
import stat
from pathlib import Path
from typing import Final, Literal

import uvicorn
from starlette.types import ASGIApp

from echonode.api.access import Guard, TcpAccess
from echonode.api.app import Api
from echonode.api.http_protocol import BoundedProtocol
from echonode.api.page_routes import WITHOUT_TOKEN
from echonode.api.process_state import HEALTH, ProcessState
from echonode.api.shutdown import Stop
from echonode.errors import ConfigError
from echonode.limits import KIB
from echonode.node.node import Node
from echonode.node.run_log import RunLog
from echonode.text import escape

_HEALTH: Final = frozenset(("GET", path) for path in HEALTH)
_UMASK: Final = 0o177  # a socket is made with mode 0777 less the umask: 0600
_GROUP_MODE: Final = 0o660
_GRACE_S: Final = 2.0  # for answers under way when the server closes
_LAST_RESORT_S: Final = 2  # after that, for tasks that go on although they were cancelled
_ADVICE: Final = "Remove it as that user, or give this node another home."
_BACKLOG: Final = 128
_HEAD_BYTES_MAX: Final = 32 * KIB  # 64 tags of 64 bytes and a name, percent-encoded, and headers


class ApiServer:
    """Serves `node` on `socket_path` from `start` to `close`, once. `status` shows `version`. `app` answers requests
    from inside this process too.

    `group`: the group of this machine whose members may use the socket too, None for the owner alone. `passed`: a
    socket that listens at `socket_path` already; its file is left alone. `access`: the token, and the TCP socket to
    serve with it; `close` closes that. `run_log` has the lines of this run; a node that does not run has none.
    """

    def __init__(
        self,
        node: Node,
        *,
        socket_path: Path,
        version: str,
        run_log: RunLog | None = None,
        group: str | None = None,
        passed: socket.socket | None = None,
        access: TcpAccess | None = None,
        state: ProcessState | None = None,
    ) -> None:
        self._path = socket_path
        self._group = group
        self._passed = passed
        self._stop = Stop()
        url = None if access is None else access.url
        listed = [str(socket_path)] if url is None else [str(socket_path), url]
        run_log = run_log or RunLog(node.traces.clock)
        self.app = Api(node, self._stop, version=version, api=listed, run_log=run_log, access=access, state=state)
        self._server = _http_server(self.app)
        self._socket: socket.socket | None = None
        self._inode = (0, 0)
        self._tcp_server: uvicorn.Server | None = None
        self._tcp_socket = None if access is None else access.listening
        if access is not None and self._tcp_socket is not None:
            self._tcp_server = _http_server(Guard(self.app, access, WITHOUT_TOKEN | _HEALTH), BoundedProtocol)

    async def start(self) -> None:
        """Listen. Raises ConfigError when the socket cannot be made, or another process listens on it."""
        if self._passed is not None:
            self._socket = self._passed
        else:
            self._socket = _bind(self._path, self._group)
            self._inode = _inode(self._path)
        await self._server.startup(sockets=[self._socket])
        if self._tcp_server is not None and self._tcp_socket is not None:
            await self._tcp_server.startup(sockets=[self._tcp_socket])

    @property
    def is_gone(self) -> bool:
        """True when the socket file that this server made was removed, so that no client finds it."""
        return self._socket is not None and self._passed is None and not os.path.lexists(self._path)

    async def reopen(self) -> None:
        """Make the socket file anew after it was removed. Raises ConfigError when that is impossible."""
        assert self._socket is not None and self._passed is None, "only a socket of our own is made anew"
        earlier, unreachable = self._socket, list(self._server.servers)
        self._socket = _bind(self._path, self._group)
        self._inode = _inode(self._path)
        await self._server.startup(sockets=[self._socket])  # it replaces the list of servers
        for server in unreachable:
            server.close()
        earlier.close()

    async def close(self) -> None:
        """End every stream and answer, stop listening, remove the socket file. A second call does nothing."""
        if self._socket is None:
            return
        listening, self._socket = self._socket, None
        if self._passed is None and self._path.is_socket() and _inode(self._path) == self._inode:
            self._path.unlink()
        served = [(self._server, listening)]
        if self._tcp_server is not None and self._tcp_socket is not None:
            served.append((self._tcp_server, self._tcp_socket))
        for each, _ in served:
            for server in each.servers:
                server.close()
        self._stop.set()
        await self._end_answers([each for each, _ in served])
        await asyncio.gather(*[each.shutdown(sockets=[bound]) for each, bound in served])

    async def _end_answers(self, servers: list[uvicorn.Server]) -> None:
        tasks = [task for server in servers for task in server.server_state.tasks]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=_GRACE_S)
        if late:
            for server in servers:
                for connection in list(server.server_state.connections):
                    connection.transport.abort()
        for task in late:
            task.cancel()


def _http_server(app: ASGIApp, protocol: Literal["h11"] | type[asyncio.Protocol] = "h11") -> uvicorn.Server:
    """Return a server of `app` that has not begun."""
    config = uvicorn.Config(
        app,
        http=protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=_LAST_RESORT_S,
        h11_max_incomplete_event_size=_HEAD_BYTES_MAX,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    return server


def _bind(path: Path, group: str | None) -> socket.socket:
    """Return a bound Unix socket that only this user, and `group`, may open. Replace a socket that a crash left."""
    gid = None if group is None else _group_id(group)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        umask = os.umask(_UMASK)
        try:
            listener.bind(str(path))
        finally:
            os.umask(umask)
        if group is not None and gid is not None:
            _admit(path, group, gid)
        listener.listen(_BACKLOG)  # at once, because a socket that refuses looks like one that a crash left
    except ConfigError:
        listener.close()
        raise
    except OSError as error:
        listener.close()
        why = error.strerror or str(error)  # a path over 107 bytes has no errno
        raise ConfigError(f"The API socket {path} cannot be made: {why}.") from None
    return listener


def _group_id(group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise ConfigError(f"api.group: there is no group '{escape(group)}' on this machine.") from None


def _admit(path: Path, group: str, gid: int) -> None:
    """Let the members of the group use the socket. Raises ConfigError when this user may not give it to them."""
    try:
        if path.stat().st_gid != gid:  # a service may not change owners, but has its own group already
            os.chown(path, -1, gid)
        path.chmod(_GROUP_MODE)
    except OSError:
        path.unlink()
        raise ConfigError(
            f"api.group: the user of this node is not in the group '{escape(group)}'. Add it to that group; for a "
            f"service, write Group={escape(group)} into its unit."
        ) from None


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
            _remove_left(path)
            return
        except PermissionError:
            raise ConfigError(f"The API socket {path} belongs to {_owner(path)}. {_ADVICE}") from None
        except BlockingIOError:
            pass  # the backlog is full: a live process is busy
    raise ConfigError(f"Another echonode already listens on {path}.")


def _remove_left(path: Path) -> None:
    """Remove the socket file of a process that is gone. Raises ConfigError when another user left it."""
    try:
        path.unlink()
    except PermissionError:
        raise ConfigError(f"The API socket {path} was left by {_owner(path)}. {_ADVICE}") from None


def _owner(path: Path) -> str:
    uid = path.lstat().st_uid
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user with the number {uid}"


def _inode(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
