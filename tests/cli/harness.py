"""The surroundings of a command under test: a home and fake services, a real node behind its real API in a thread, and
a server that sends scripted bytes."""

import asyncio
import contextlib
import io
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from echonode.cli.main import main
from echonode.cli.services import BackupReport, CheckView, HomeView, RepairReport, RunOptions, ServiceSetupView
from echonode.errors import ConfigError
from echonode.host.config import explain, load_config
from echonode.host.diagnosis import Check
from echonode.host.service_setup import ServiceSetup
from echonode.host.unit_files import Program, read_template
from echonode.model.identity import IdentityId, SigningKey, identity_of
from echonode.model.member_secret import MemberSecret
from echonode.node.node import Node
from echonode.store.sqlite.backup import BackedUp
from tests.api.serving import SECRET, Served, hearing, serving

WITHIN_S = 30.0


class FolderHome:
    """A home that is a folder and nothing more."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.is_open = False

    @property
    def config(self) -> Path:
        return self.root / "config.toml"

    @property
    def api_socket(self) -> Path:
        return self.root / "api.sock"

    def api_token(self, *, is_new: bool = False) -> str:
        path = self.root / "api-token"
        if is_new or not path.exists():
            path.write_text("a" * 52 if not path.exists() else "b" * 52)
        return path.read_text()

    def running_process(self) -> str | None:
        return (self.root / "running").read_text() if (self.root / "running").exists() else None

    def has_network(self) -> bool:
        return self.is_open or (self.root / "network").exists()

    def read_member_secret(self) -> MemberSecret | None:
        path = self.root / "network"
        return MemberSecret.from_bytes(path.read_bytes()) if path.exists() else None

    def root_identity(self) -> IdentityId | None:
        path = self.root / "root"
        return identity_of(SigningKey(path.read_bytes()).public) if path.exists() else None

    def write_root_seed(self, seed: bytes | None, public: bytes) -> None:
        assert seed is not None and SigningKey(seed).public == public, "the command line only brings root keys"
        self.root.mkdir(exist_ok=True)
        (self.root / "root").write_bytes(seed)

    def choose_network(self, secret: MemberSecret) -> None:
        try:
            self.root.mkdir(exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{self.root} cannot be made") from error
        (self.root / "network").write_bytes(secret.to_bytes())


@dataclass(frozen=True)
class Repaired:
    """A repair report."""

    kept: int
    left: int
    put_aside: Path
    lost: tuple[tuple[str, str], ...]


@dataclass
class FakeServices:
    """The services of the command line: homes are folders, and `run_node` records its options in `runs`."""

    default: Path
    version: str = "9.8.7"
    schema: int = 4
    stopped: Path | None = None  # the socket of a stopped node's store
    runs: list[RunOptions] = field(default_factory=list)
    run_gives: Callable[[], int] = lambda: 0

    def find_home(self, flag: str | None) -> HomeView:
        return FolderHome(Path(flag) if flag else self.default)

    def run_node(self, options: RunOptions) -> int:
        self.runs.append(options)
        return self.run_gives()

    def settings(self, home: HomeView) -> Iterator[tuple[str, object, str]]:
        return explain(home.config, {"ECHO_LISTEN": "127.0.0.1:0"})

    def diagnose(self, home: HomeView, listening: Sequence[str] | None) -> Iterator[CheckView]:
        yield Check("disk", "fine", f"all is well at {home.root}, {listening}")

    def check_config(self, path: Path) -> None:
        load_config(path, {}, {})

    @contextmanager
    def serve_stopped(self, home: HomeView) -> Iterator[Path | None]:
        yield self.stopped

    def back_up(self, home: HomeView, path: Path) -> BackupReport:
        return BackedUp(versions=12, size_bytes=3456)

    def restore(self, home: HomeView, path: Path) -> int:
        return 12

    def service(self, *, is_user: bool) -> ServiceSetupView:
        return ServiceSetup(Program.current(), {}, is_user=is_user)

    def packaged_file(self, name: str) -> str:
        return read_template(name)

    def repair(self, home: HomeView) -> RepairReport:
        return Repaired(1234, 1, home.root / "store.db.damaged-1", (("main", "abc/a\x1b1"),))


@dataclass
class Result:
    """Exit code and output of a command."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def json(self) -> Any:
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Shell:
    """Runs commands in this process, as `app.py` would."""

    services: FakeServices

    def __call__(self, *args: str, stdin: bytes = b"") -> Result:
        out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.StringIO()
        before = sys.stdin
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), "utf-8")
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = main(self.services, args)
        finally:
            sys.stdin = before
        out.flush()
        assert isinstance(out.buffer, io.BytesIO)
        assert os.environ.get("ECHO_DEBUG") == "1" or "Traceback" not in err.getvalue()
        return Result(code, out.buffer.getvalue(), err.getvalue())

    def fails(self, code: int, *args: str, stdin: bytes = b"") -> str:
        """Run a command that must exit with `code`, and return the one sentence that it prints on stderr."""
        result = self(*args, stdin=stdin)
        assert result.code == code, result
        sentence = result.err.removesuffix("\n")
        assert sentence.startswith("echonode: "), result
        assert "\n" not in sentence, result
        return sentence.removeprefix("echonode: ")


@contextmanager
def in_thread(body: Callable[[Future[Any], asyncio.Event], Coroutine[Any, Any, None]]) -> Iterator[Any]:
    """Run `body` on a loop of another thread, and yield what it puts into its Future. The Event tells it to end."""
    ready: Future[Any] = Future()
    loop = asyncio.new_event_loop()
    end = asyncio.Event()

    def work() -> None:
        try:
            loop.run_until_complete(body(ready, end))
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error)
            raise
        finally:
            loop.close()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield ready.result(WITHIN_S)
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join(WITHIN_S)
        assert not thread.is_alive()


@dataclass
class LiveNode:
    """A real node in another thread."""

    served: Served
    loop: asyncio.AbstractEventLoop

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on the node's loop and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(WITHIN_S)

    def until(self, condition: Callable[[Node], Awaitable[object]]) -> None:
        """Wait until `condition` is true of the node."""

        async def wait() -> None:
            with hearing(self.served.node) as events:
                while not await condition(self.served.node):
                    with contextlib.suppress(TimeoutError):  # not every change of a node is an event
                        await asyncio.wait_for(events.get(), 0.2)

        self.do(wait())


@contextmanager
def live_node(
    folder: Path, name: str = "one", secret: MemberSecret | None = SECRET, api_listen: str = "off"
) -> Iterator[LiveNode]:
    """Yield a node without peers, whose API is `folder`/api.sock."""

    async def body(ready: Future[Any], end: asyncio.Event) -> None:
        async with serving(folder, name=name, secret=secret, api_listen=api_listen) as served:
            (folder / "api.sock").symlink_to(served.socket)
            ready.set_result(LiveNode(served, asyncio.get_running_loop()))
            await end.wait()

    folder.mkdir(exist_ok=True)
    with in_thread(body) as live:
        yield live


@contextmanager
def scripted_server(
    path: Path, answer: bytes | Callable[[bytes], bytes], *, reads_body: bool = True, hangs_up: bool = True
) -> Iterator[list[bytes]]:
    """Accept requests at `path` and answer each with the bytes of `answer`, which may depend on the request. Yield the
    list of requests received."""
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            body = b""
            if reads_body and b"content-length:" in head.lower():
                size = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                body = await reader.readexactly(size)
            elif reads_body and b"chunked" in head.lower():
                body = await reader.readuntil(b"0\r\n\r\n")
            heard.append(head + body)
            writer.write(answer if isinstance(answer, bytes) else answer(head))
            await writer.drain()
            if not hangs_up:
                await reader.read()
        writer.close()

    async def body(ready: Future[Any], end: asyncio.Event) -> None:
        server = await asyncio.start_unix_server(talk, path)
        ready.set_result(None)
        await end.wait()
        server.close()

    path.parent.mkdir(exist_ok=True)
    with in_thread(body):
        yield heard
    path.unlink()


def http_answer(body: bytes | object, status: str = "200 OK", more: str = "") -> bytes:
    """Return a whole HTTP answer. A `body` that is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n{more}\r\n".encode() + data


def refusal(status: str, code: str, message: str) -> bytes:
    return http_answer({"error": {"code": code, "message": message}}, status)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Return a Shell with an empty home. The environment variables of the test run do not reach it."""
    for name in ("ECHO_HOME", "ECHO_API_URL", "ECHO_TOKEN", "ECHO_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    return Shell(FakeServices(tmp_path / "home"))
