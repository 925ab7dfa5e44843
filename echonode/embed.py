"""A node inside another program: `from echonode import Node`.

    async with Node.open(home) as node:
        await node.put("shared/x", "seen from here")
        async for change in node.changes("main", since=cursor): ...

It is the node that `echonode run` runs, wired by the same composition root (process.py): files, store, sockets, mDNS,
and the local API of its home, so that commands and other programs may use it too. The program's own calls are those of
AsyncClient, and reach the API without a socket. Its log goes to the logger `echonode` of the standard library.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from echonode.client.asynchronous import AsyncAnswer, AsyncClient
from echonode.client.errors import ConnectionLost, TimedOut
from echonode.client.request import MAIN, Request

if TYPE_CHECKING:
    from echonode.node.node import Node as RunningNode

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

_QUEUE_PARTS_MAX: Final = 2  # pieces of an answer that wait for the program; the node waits beyond that


class Node(AsyncClient):
    """A node that runs in this process. `open` makes one; the calls are those of AsyncClient.

    >>> from echonode import Node
    >>> async with Node.open(home, mdns=False) as node:
    ...     written = await node.put("shared/x", {"seen": True})
    ...     async for change in node.changes("main"):
    ...         print(change.record.name, change.record.json())
    ...         break
    x {'seen': True}
    """

    def __init__(self, running: "RunningNode", app: App, context: str) -> None:
        super().__init__(context=context, retry=0, transport=_InProcess(app))
        self._running = running

    @property
    def name(self) -> str:
        """The name of this node, for people."""
        return self._running.name

    @property
    def listening(self) -> tuple[str, ...]:
        """HOST:PORT of every address on which other nodes reach this one."""
        return self._running.listening

    async def invite(self, *, uses: int = 1, expires: float = 600.0) -> str:
        """Open an invitation for `expires` seconds. Return the code to type on the other machine."""
        return await self._running.invite(uses=uses, expires_s=expires)

    async def join(self, code: str, at: str | None = None) -> str:
        """Join the network of the node that gave the code, found on the LAN or at HOST:PORT. Return its short name."""
        return await self._running.join(code, at)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        home: str | Path | None = None,
        *,
        name: str | None = None,
        listen: str | None = None,
        peers: Sequence[str] = (),
        mdns: bool | None = None,
        open_network: bool | None = None,
        context: str = MAIN,
        environ: Mapping[str, str] | None = None,
    ) -> AsyncIterator["Node"]:
        """Run the node of that home while the block runs. A new home becomes a node of a private network of its own.

        What is not given comes from the environment and the home's configuration, as for `echonode run`. Raises
        ConfigError when another process runs the node, or something there cannot be used.
        """
        from echonode.host.config import load_config
        from echonode.host.files import NodeFiles
        from echonode.host.home import Home
        from echonode.host.logs import Logs
        from echonode.host.system import SystemClock
        from echonode.model.self_test import check_signatures
        from echonode.process import Process

        environ = os.environ if environ is None else environ
        check_signatures()
        files = NodeFiles(Home.find(None if home is None else str(home), environ))
        flags = {"name": name, "listen": listen, "peers": list(peers) or None, "mdns": mdns, "open": open_network}
        load = partial(
            load_config, files.home.config, environ, {key: value for key, value in flags.items() if value is not None}
        )
        config = load()
        files.home.prepare()
        logs = Logs(_LoggerFile(), SystemClock(), level=config.log.level)
        process = Process(files, config, load, logs, environ, None, None)
        with files.home.locked():
            async with process.opened() as (running, app):
                yield cls(running, app, context)


class _LoggerFile:
    """A file for logs whose lines become records of the logger `echonode`, each with its own level."""

    def __init__(self) -> None:
        self._logger = logging.getLogger("echonode")

    def write(self, line: bytes, /) -> int:
        level = logging.getLevelName(str(json.loads(line)["level"]).upper())
        self._logger.log(level, "%s", line.decode().rstrip("\n"))
        return len(line)

    def flush(self) -> None:
        """Do nothing: a logger keeps nothing back."""

    def isatty(self) -> bool:
        return False


class _InProcess:
    """Carries requests to an ASGI application in this process (ASGI 3.0)."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def open(self, request: Request, timeout_s: float) -> AsyncAnswer:
        """Hand the request to the application and return once its answer begins."""
        path, _, query = request.target.partition("?")
        headers = [("content-length", str(len(request.body))), ("host", "localhost"), *request.headers]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "scheme": "http",
            "method": request.method,
            "path": unquote(path),
            "raw_path": path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "headers": [(key.lower().encode("ascii"), value.encode("latin-1")) for key, value in headers],
            "client": None,
            "server": None,
        }
        answer = _InProcessAnswer(request.body, timeout_s)
        answer.task = asyncio.ensure_future(self._app(scope, answer.receive, answer.send))
        answer.task.add_done_callback(answer.end)
        try:
            await answer.begin()
        except BaseException:
            answer.close()
            raise
        return answer


class _InProcessAnswer:
    def __init__(self, body: bytes, timeout_s: float) -> None:
        self.status = 0
        self.task: asyncio.Future[None] | None = None
        self._body: bytes | None = body
        self._timeout_s = timeout_s
        self._is_left = asyncio.Event()  # the program wants no more of the answer
        self._parts: asyncio.Queue[tuple[bytes, bool] | None] = asyncio.Queue(_QUEUE_PARTS_MAX)
        self._is_begun = asyncio.Event()
        self._is_over = False

    async def receive(self) -> Message:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self._is_left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._is_begun.set()
        else:
            await self._parts.put((message.get("body", b""), message.get("more_body", False)))

    def end(self, task: "asyncio.Future[None]") -> None:
        """Wake who waits for an application that ended without an answer, or without all of it."""
        if not self._parts.full():
            self._parts.put_nowait(None)
        self._is_begun.set()
        if not task.cancelled():
            task.exception()  # the API has logged it

    async def begin(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._is_begun.wait()
        except TimeoutError:
            raise TimedOut(f"the node did not answer within {self._timeout_s:g} s") from None
        if not self.status:
            raise ConnectionLost("the node stopped before it answered")

    async def piece(self) -> bytes:
        while not self._is_over:
            part = await self._parts.get()
            if part is None:
                raise ConnectionLost("the node stopped before its answer was complete")
            data, is_more = part
            self._is_over = not is_more
            if data:
                return data
        return b""

    def close(self) -> None:
        self._is_left.set()
        if self.task is not None and not self.task.done() and not self.task.get_loop().is_closed():
            self.task.cancel()
