"""A real node behind its real API on a real Unix socket, and a small client that holds every answer to
proto/openapi.yaml."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h11

from echonode.api.access import ApiToken, TcpAccess
from echonode.api.process_state import ProcessState
from echonode.api.server import ApiServer
from echonode.host.loopback import bind_loopback
from echonode.host.system import SystemClock, SystemEntropy
from echonode.host.tcp import Listener, TcpDial
from echonode.model.identity import Identity, Instance
from echonode.model.member_secret import MemberSecret
from echonode.node.events import Event, Observer
from echonode.node.node import Node, Settings
from echonode.node.run_log import RunLog
from echonode.store.memory import MemoryStore
from echonode.store.port import Store
from echonode.text import to_base32
from tests.api import openapi
from tests.kept import Kept

VERSION = "1.2.3"
WITHIN_S = 60  # a test that hangs fails then; a busy machine needs some of it
SECRET = MemberSecret.of_lone_key(bytes(range(32)))


@contextmanager
def hearing(node: Node) -> Iterator["asyncio.Queue[Event]"]:
    """Queue every event of `node` from now on, as a reader that wants to be told of every record."""
    events: asyncio.Queue[Event] = asyncio.Queue()
    node.bus.hear(events.put_nowait, has_readers=lambda: True)
    yield events


def run(
    test: Callable[[], Awaitable[None]], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> None:
    """Run `test` on a loop of its own. A test that hangs fails."""
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(asyncio.wait_for(test(), WITHIN_S))


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]

    @property
    def code(self) -> str:
        return self.json()["error"]["code"]

    @property
    def message(self) -> str:
        return self.json()["error"]["message"]


class Connection:
    """One connection to the API. `send` and `answer` may run side by side; `ask` does one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._h11 = h11.Connection(h11.CLIENT)
        self._asked = ("", "")

    async def ask(self, method: str, target: str, body: bytes = b"", headers: Iterable[tuple[str, str]] = ()) -> Answer:
        await self.begin(method, target, [*headers, ("content-length", str(len(body)))])
        await self.send(body)
        await self.end()
        return await self.answer()

    async def begin(self, method: str, target: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        self._asked = (method, target)
        given = list(headers)
        host = [] if any(name == "host" for name, _ in given) else [("host", "localhost")]
        await self._write(h11.Request(method=method, target=target, headers=[*host, *given]))

    async def send(self, data: bytes) -> None:
        await self._write(h11.Data(data=data))

    async def end(self) -> None:
        await self._write(h11.EndOfMessage())

    async def answer(self) -> Answer:
        """Read the whole answer and check it against the document."""
        head = await self.head()
        answer = Answer(head.status, head.headers, b"".join([data async for data in self.data()]))
        openapi.check(*self._asked, answer.status, answer.headers.get("content-type", ""), answer.body)
        return answer

    async def head(self) -> Answer:
        event = await self._event()
        while isinstance(event, h11.InformationalResponse):
            event = await self._event()
        assert isinstance(event, h11.Response), event
        return Answer(event.status_code, {k.decode(): v.decode("latin-1") for k, v in event.headers}, b"")

    async def data(self) -> AsyncIterator[bytes]:
        while isinstance(event := await self._event(), h11.Data):
            yield bytes(event.data)
        assert isinstance(event, h11.EndOfMessage), event

    def next_request(self) -> None:
        self._h11.start_next_cycle()

    def cut(self) -> None:
        self._writer.transport.abort()

    async def closed_by_server(self) -> bool:
        return await self._reader.read(1) == b""

    async def close(self) -> None:
        self._writer.close()
        await asyncio.gather(self._writer.wait_closed(), return_exceptions=True)

    async def _write(self, event: Any) -> None:
        data = self._h11.send(event)
        if data:
            self._writer.write(data)
            await self._writer.drain()

    async def _event(self) -> Any:
        while (event := self._h11.next_event()) is h11.NEED_DATA:
            self._h11.receive_data(await self._reader.read(65536))
        return event


@dataclass
class Served:
    """A node under test, with its server and its events."""

    node: Node
    server: ApiServer
    socket: Path
    listen: tuple[str, ...]
    access: TcpAccess | None
    run_log: RunLog
    events: list[Event] = field(default_factory=list)

    @asynccontextmanager
    async def tcp_connection(self) -> AsyncIterator[Connection]:
        """Yield a connection to the TCP listener, without a token."""
        assert self.access is not None
        assert self.access.listening is not None
        connection = Connection(*await asyncio.open_connection(*self.access.listening.getsockname()))
        try:
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        connection = Connection(*await asyncio.open_unix_connection(str(self.socket)))
        try:
            yield connection
        finally:
            await connection.close()

    async def ask(self, method: str, target: str, body: bytes | str | object = b"") -> Answer:
        """Send one request and return its answer, checked. A `body` that is neither bytes nor text is sent as JSON."""
        data = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
        async with self.connection() as connection:
            return await connection.ask(method, target, data)

    async def ask_tcp(self, method: str, target: str) -> Answer:
        """Send one request to the TCP listener, without a token."""
        assert self.access is not None and self.access.listening is not None
        host, port = self.access.listening.getsockname()
        connection = Connection(*await asyncio.open_connection(host, port))
        try:
            return await connection.ask(method, target)
        finally:
            await connection.close()

    async def put(self, name: str, body: bytes = b"x", query: str = "", context: str = "main") -> dict[str, Any]:
        answer = await self.ask("PUT", f"/v1/records/{context}?id={name}{query}", body)
        assert answer.status == 200, answer
        return answer.json()

    async def whole(self, name: str, context: str = "main") -> dict[str, Any]:
        answer = await self.ask("GET", f"/v1/records/{context}?id={name}&whole=1")
        assert answer.status == 200, answer
        return answer.json()


@asynccontextmanager
async def serving(
    folder: Path,
    *,
    name: str = "one",
    secret: MemberSecret | None = SECRET,
    store: Store | None = None,
    models: Mapping[str, tuple[int, int]] | None = None,
    has_token: bool = True,
    api_listen: str = "off",
    observe: Observer | None = None,
    run_log: RunLog | None = None,
    state: ProcessState | None = None,
) -> AsyncIterator[Served]:
    """Yield a node with its API and a TCP listener on loopback. At the end stop the server, then the node."""
    entropy = SystemEntropy()
    identity = Identity.from_seeds(entropy.random_bytes(32), entropy.random_bytes(32))
    events: list[Event] = []
    node = Node(
        store or MemoryStore(Instance(entropy.random_bytes(8))),
        identity,
        Settings(name=name, member_secret=secret, models=models or {}),
        clock=SystemClock(),
        entropy=entropy,
        dial=TcpDial(),
        observe=observe or events.append,
        announce=lambda _: None,
        save_secret=lambda *_: None,
        save_name=lambda name: None,
        safe=Kept(),
    )
    run_log = run_log or RunLog(SystemClock())
    listener = Listener()
    await listener.start("127.0.0.1:0", node.accept, lambda _: None)
    await node.start(listener.addresses)
    path = folder / f"{name}.sock"
    token = ApiToken(to_base32(entropy.random_bytes(32)), lambda: to_base32(entropy.random_bytes(32)))
    access = TcpAccess(token, bind_loopback(api_listen)[0]) if has_token else None
    server = ApiServer(node, socket_path=path, version=VERSION, run_log=run_log, access=access, state=state)
    await server.start()
    try:
        yield Served(node, server, path, listener.addresses, access, run_log, events)
    finally:
        await server.close()
        await listener.close()
        await node.stop()
