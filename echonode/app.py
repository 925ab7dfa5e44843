"""The composition root: the one module that may import every room, and wires them into a process.

    main         the entry of the command line
    _Services    what the command line may not import itself: homes, the simulator, a running node, repair
    _Process     one node in the foreground: files, store, node, sockets, API, discovery
    _StoppedNode the store of a node that does not run, for commands that read

Heavy rooms are imported inside functions: `echonode --help` should not load a database and a web server.
"""

import asyncio
import gc
import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from echonode import __version__
from echonode.cli.services import HomeView, RepairReport, RunOptions, SimulatedWorld, SimulateOptions
from echonode.errors import ConfigError, TransportError
from echonode.text import to_base32

if TYPE_CHECKING:
    from concurrent.futures import Future

    from echonode.host.config import Config
    from echonode.host.files import NodeFiles
    from echonode.host.logs import Logs
    from echonode.host.mdns import Discovery
    from echonode.node.node import Node, Presence, Settings
    from echonode.store.sqlite.store import SqliteStore
    from echonode.sync.streams import ByteStream

_INVITATION_S: Final = 600.0
_INTERRUPTED: Final = 130
_GC_THRESHOLD: Final = 20_000  # objects; at the usual 700 an import spends a tenth of its time collecting nothing
_LOOK_S: Final = 2.0  # for the node that made an invitation, before a person is told that none has answered
_DISCOVER_AGAIN_S: Final = 10.0  # an interface may come up long after the node


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Return the process's exit code."""
    from echonode.cli.main import main as command_line

    return command_line(_Services(os.environ), argv)


class _Services:
    """The services that the command line is handed (cli/services.py)."""

    version = __version__

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def find_home(self, flag: str | None) -> HomeView:
        from echonode.host.files import NodeFiles
        from echonode.host.home import Home

        return NodeFiles(Home.find(flag, self._environ))

    def simulate(
        self, options: SimulateOptions, on_time: Callable[[float, float], None]
    ) -> Iterator[SimulatedWorld]:
        from echonode.sim.batch import options_for, run_many

        worlds = ((seed, options_for(seed, options)) for seed in options.seeds)
        return run_many(worlds, options.jobs, on_time)

    def run_node(self, options: RunOptions) -> int:
        from echonode.host.config import load_config
        from echonode.host.files import NodeFiles
        from echonode.host.logs import open_logs
        from echonode.host.system import SystemClock
        from echonode.model.self_test import check_signatures

        check_signatures()
        os.umask(0o077)  # every file of this process is readable by its user alone
        files = options.home
        assert isinstance(files, NodeFiles), "homes come from find_home"
        config = load_config(files.home.config, self._environ, _flags(options))
        files.home.prepare()
        logs = open_logs(config.log.level, config.log.format, SystemClock(), self._environ)
        logs.route_libraries()
        try:
            with files.home.locked(), asyncio.Runner(loop_factory=_loop_factory()) as runner:
                return runner.run(_Process(files, config, logs, self._environ, options.join, options.at).run())
        finally:
            logs.close()

    def repair(self, home: HomeView) -> RepairReport:
        from echonode.host.files import NodeFiles
        from echonode.host.system import SystemClock, SystemEntropy
        from echonode.model.identity import INSTANCE_BYTES, Identity, Instance
        from echonode.model.self_test import check_signatures
        from echonode.node.event_bus import EventBus
        from echonode.node.record_book import RecordBook
        from echonode.store.sqlite.repair import repair

        check_signatures()
        assert isinstance(home, NodeFiles), "homes come from find_home"
        if not home.home.store.exists():
            raise ConfigError(f"there is no store in {home.root}")
        os.umask(0o077)
        clock, entropy = SystemClock(), SystemEntropy()
        with home.home.locked():
            identity = Identity.from_seeds(*home.identity_seeds(entropy.random_bytes))
            network_key = home.read_network_key()
            return asyncio.run(
                repair(
                    home.home.store,
                    new_instance=lambda: Instance(entropy.random_bytes(INSTANCE_BYTES)),
                    now_ms=clock.now_ms,
                    introduce=lambda store: RecordBook(
                        store, identity, clock, entropy, EventBus(lambda _: None)
                    ).introduce(network_key),
                )
            )


    def settings(self, home: HomeView) -> Iterable[tuple[str, object, str]]:
        from echonode.host.config import explain

        return explain(home.config, self._environ)

    def check_config(self, path: Path) -> None:
        from echonode.host.config import load_config

        load_config(path, {}, {})

    @contextmanager
    def serve_stopped(self, home: HomeView) -> Iterator[Path | None]:
        import tempfile

        from echonode.host.config import load_config
        from echonode.host.files import NodeFiles
        from echonode.host.loop_thread import in_thread
        from echonode.model.self_test import check_signatures

        check_signatures()
        assert isinstance(home, NodeFiles), "homes come from find_home"
        if not home.home.store.exists():
            yield None
            return
        config = load_config(home.home.config, self._environ, {})
        umask = os.umask(0o077)  # for the files beside the store; an export is made with the user's own
        try:
            with ExitStack() as stack:
                stack.enter_context(home.home.locked(is_reader=True))
                socket_path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="echonode-"))) / "api.sock"
                stack.enter_context(in_thread(_StoppedNode(home, config, socket_path).serve))
                os.umask(umask)
                yield socket_path
        finally:
            os.umask(umask)


def _flags(options: RunOptions) -> dict[str, object]:
    """Return the options that were given on the command line, by configuration key."""
    said: dict[str, object] = {
        "name": options.name,
        "listen": options.listen,
        "peers": list(options.peers) or None,
        "interfaces": list(options.interfaces) or None,
        "mdns": False if options.no_mdns else None,
        "open": True if options.open else None,
        "log.level": options.log_level,
        "log.format": options.log_format,
    }
    return {key: value for key, value in said.items() if value is not None}


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the loop factory of uvloop where it is installed, None for the standard loop elsewhere."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _settings(
    config: "Config", files: "NodeFiles", node_id: bytes, network_key: bytes | None, *, is_provisional: bool = False
) -> "Settings":
    """Return the settings of the node with this configuration, these files, id and network key."""
    from echonode.host.config import read_model
    from echonode.host.system import host_name
    from echonode.node.node import Settings

    return Settings(
        name=files.chosen_name(config.name) or host_name() or f"node-{to_base32(node_id)[:8]}",
        network_key=network_key,
        is_provisional=is_provisional,
        contexts=None if config.contexts is None else frozenset(config.contexts),
        subscriptions=config.subscriptions,
        models=dict(map(read_model, config.models)),
    )


class _StoppedNode:
    """The store of a node that does not run, behind the API, on a socket of this process. No peer is spoken to.

    It is only read, so that the watch over its life can wait for the next run, whose log says what it notices."""

    def __init__(self, files: "NodeFiles", config: "Config", socket_path: Path) -> None:
        self._files = files
        self._config = config
        self._socket_path = socket_path

    async def serve(self, ready: "Future[None]", end: asyncio.Event) -> None:
        """Serve from the moment at which `ready` gets a result until `end` is set. Raises EchonodeError."""
        from echonode.api.server import ApiServer
        from echonode.host.system import SystemClock, SystemEntropy
        from echonode.model.identity import Identity, Instance
        from echonode.node.node import Node
        from echonode.store.sqlite.store import SqliteStore

        clock, entropy = SystemClock(), SystemEntropy()
        identity = Identity.from_seeds(*self._files.identity_seeds(entropy.random_bytes))
        key = self._files.read_network_key()
        store = await SqliteStore.open(
            self._files.home.store,
            new_instance=lambda: Instance(entropy.random_bytes(8)),
            now_ms=clock.now_ms,
        )
        async with AsyncExitStack() as stack:
            node = Node(
                store,
                identity,
                _settings(self._config, self._files, identity.id, key),
                clock=clock,
                entropy=entropy,
                dial=_dial_nobody,
                observe=lambda event: None,
                announce=lambda presence: None,
                save_network_key=lambda key: None,
                save_name=lambda name: None,
            )
            stack.push_async_callback(node.stop)
            await node.start()
            api = ApiServer(node, socket_path=self._socket_path, version=__version__)
            await api.start()
            stack.push_async_callback(api.close)
            ready.set_result(None)
            await end.wait()


async def _dial_nobody(address: str) -> "ByteStream":
    raise TransportError("the node is not running")


class _Process:
    """One run of one node. It closes in reverse what it opened: discovery first, the node and its store last."""

    def __init__(
        self,
        files: "NodeFiles",
        config: "Config",
        logs: "Logs",
        environ: Mapping[str, str],
        join: str | None,
        join_at: str | None,
    ) -> None:
        self._files = files
        self._config = config
        self._logs = logs
        self._environ = environ
        self._join = join
        self._join_at = join_at
        self._discovery: Discovery | None = None
        self._store: SqliteStore | None = None
        self._announcement: Presence | None = None

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT. Return 0 after a clean stop, 130 when joining was interrupted."""
        from echonode.host.service import ServiceManager, stop_on_signals

        manager = ServiceManager(self._environ)
        is_first_run = not self._files.has_network()
        stop = asyncio.create_task(stop_on_signals().wait())
        async with AsyncExitStack() as stack:
            node = await self._start_node(stack)
            if self._join is not None:
                joining = asyncio.create_task(self._join_network(node, self._join))
                await asyncio.wait((joining, stop), return_when=asyncio.FIRST_COMPLETED)
                if stop.done():
                    joining.cancel()
                    return _INTERRUPTED
                joining.result()
            # The objects of a started node live as long as the process: the collector need not look at them again.
            gc.freeze()
            gc.set_threshold(_GC_THRESHOLD)
            manager.ready(f"listening on {', '.join(node.listening)}")
            watchdog = asyncio.create_task(manager.feed_watchdog())
            self._greet(node, await self._invite_first(node, is_first_run))
            try:
                await self._until(stop, node)
            finally:
                watchdog.cancel()
                manager.stopping()
        return 0

    async def _until(self, stop: "asyncio.Task[bool]", node: "Node") -> None:
        """Wait for `stop`. Raises the fault of a store that cannot write, or of a node that no longer dials.

        Such a node must not look alive to its service manager.
        """
        assert self._store is not None, "a started node has a store"
        broken = asyncio.create_task(self._store.wait_until_broken())
        running = asyncio.create_task(node.run())
        try:
            await asyncio.wait((stop, broken, running), return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                return
            if broken.done():
                raise broken.result()
            running.result()
        finally:
            for task in (broken, running):
                task.cancel()

    async def _start_node(self, stack: AsyncExitStack) -> "Node":
        from echonode.api.server import ApiServer
        from echonode.host.machine import machine_id
        from echonode.host.system import SystemClock, SystemEntropy
        from echonode.host.tcp import Listener, TcpDial
        from echonode.model.identity import Identity, Instance
        from echonode.node.node import Node
        from echonode.store.sqlite.life_watch import LifeWatch
        from echonode.store.sqlite.store import SqliteStore

        clock, entropy = SystemClock(), SystemEntropy()
        identity = Identity.from_seeds(*self._files.identity_seeds(entropy.random_bytes))
        is_provisional = self._join is not None and not self._files.has_network()
        network_key = self._network_key(entropy.random_bytes)
        self._store = store = await SqliteStore.open(
            self._files.home.store,
            new_instance=lambda: Instance(entropy.random_bytes(8)),
            now_ms=clock.now_ms,
            life=LifeWatch(self._files.root, machine_id()),
        )
        node = Node(
            store,
            identity,
            _settings(self._config, self._files, identity.id, network_key, is_provisional=is_provisional),
            clock=clock,
            entropy=entropy,
            dial=TcpDial(),
            observe=self._logs,
            announce=self._announce,
            save_network_key=self._files.write_network_key,
            save_name=lambda name: self._files.write_name(name, configured=self._config.name),
        )
        stack.push_async_callback(node.stop)
        listener = Listener()
        stack.push_async_callback(listener.close)
        if await listener.bind(self._config.listen):
            self._logs.log("tcp.port_taken", "warning", listen=listener.addresses)
        await node.start(listener.addresses)
        await listener.serve(node.accept, lambda address: self._logs.log("tcp.refused", "warning", address=address))
        api = ApiServer(node, socket_path=self._files.api_socket, version=__version__)
        await api.start()
        stack.push_async_callback(api.close)
        node.add_peers(self._config.peers)
        if self._config.mdns:
            task = asyncio.create_task(self._discover(node, listener.addresses))
            stack.push_async_callback(self._stop_discovering, task)
        return node

    def _network_key(self, random_bytes: Callable[[int], bytes]) -> bytes | None:
        """Return the key of the home's network, None for the open one. A home without a network gets a fresh key."""
        from echonode.host.files import SECRET_BYTES

        if self._config.open:
            self._files.choose_open_network()
            return None
        if self._files.has_network():
            return self._files.read_network_key()
        key = random_bytes(SECRET_BYTES)
        if self._join is None:
            self._files.write_network_key(key)
        return key

    # -- discovery ---------------------------------------------------------------------------------------------------

    async def _discover(self, node: "Node", listen: Sequence[str]) -> None:
        """Announce and browse. Where that is not possible yet, log it once and try again, for ever."""
        for attempt in itertools.count():
            self._discovery = self._make_discovery(node, listen)
            try:
                await self._discovery.start()
                return
            except TransportError as error:
                if attempt == 0:
                    self._logs.log("mdns.unavailable", "warning", reason=str(error))
            await self._discovery.close()
            await asyncio.sleep(_DISCOVER_AGAIN_S)

    async def _stop_discovering(self, discovering: "asyncio.Task[None]") -> None:
        discovering.cancel()
        await asyncio.wait((discovering,))
        if self._discovery is not None:
            await self._discovery.close()

    def _make_discovery(self, node: "Node", listen: Sequence[str]) -> "Discovery":
        from echonode.host.announcement import Announcement as Announced
        from echonode.host.mdns import Discovery, Sighting

        assert self._announcement is not None, "a started node has announced itself"

        def on_sighting(sighting: Sighting) -> None:
            node.sighted(
                sighting.name, sighting.addresses, tag=sighting.tag, group=sighting.group, slot=sighting.slot
            )

        announcement = self._announcement
        return Discovery(
            Announced(announcement.tag, announcement.group, _version_text(), announcement.slot),
            listen=listen,
            is_ours=node.is_of_our_network,
            on_sighting=on_sighting,
            on_gone=node.gone,
            interfaces=self._config.interfaces or None,
        )

    def _announce(self, announcement: "Presence") -> None:
        self._announcement = announcement
        if self._discovery is not None:
            self._discovery.update(group=announcement.group)
            self._discovery.set_invitation(announcement.slot)

    # -- the person at the terminal ----------------------------------------------------------------------------------

    async def _join_network(self, node: "Node", code: str) -> None:
        at = self._join_at
        if at is None and not self._config.mdns:
            at = next(iter(self._config.peers), None)
            if at is None:
                raise ConfigError("without mDNS an inviting node is not found: say where it is with --at HOST:PORT")
        _say("looking for the node that made this invitation ..")
        joining = asyncio.create_task(node.join(code, at))
        try:
            await asyncio.wait((joining,), timeout=_LOOK_S)
            if not joining.done():
                _say("not joined yet: the code may be wrong, spent or expired; looking on for a minute")
            network = await joining
        finally:
            joining.cancel()
        _say(f"joined the network {network}")

    async def _invite_first(self, node: "Node", is_first_run: bool) -> str | None:
        """Open the invitation of a first run on a terminal. Return its code, None elsewhere."""
        if not is_first_run or self._join or node.network_key() is None or not sys.stderr.isatty():
            return None
        return await node.invite(uses=1, expires_s=_INVITATION_S)

    def _greet(self, node: "Node", code: str | None) -> None:
        if not sys.stderr.isatty():
            return
        _say(f"{node.name} is up, listening on {', '.join(node.listening)}; stop it with Ctrl-C")
        if code is not None:
            _say(f"on the other machine, within ten minutes, type:\n\n    echonode run --join {code}\n")


def _version_text() -> str:
    from echonode.wire.messages import PROTOCOL_VERSION, version_text

    return version_text(PROTOCOL_VERSION)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
