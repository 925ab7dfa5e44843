"""One node in the foreground: files, store, node, sockets, API, discovery.

Like `app.py` this module belongs to the composition root, and may import every room.
"""

import asyncio
import gc
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from echonode import __version__
from echonode.errors import ConfigError, LocalError, TransportError
from echonode.text import from_base32, to_base32

if TYPE_CHECKING:
    from pathlib import Path

    from echonode.api.access import TcpAccess
    from echonode.api.app import Api
    from echonode.api.server import ApiServer
    from echonode.host.config import Config
    from echonode.host.files import NodeFiles
    from echonode.host.logs import Logs
    from echonode.host.mdns import Discovery
    from echonode.host.service import ServiceManager
    from echonode.host.tcp import Listener
    from echonode.model.member_secret import MemberSecret
    from echonode.node.node import Node, Presence, Settings
    from echonode.node.pauses import Pause
    from echonode.store.sqlite.store import SqliteStore

_INVITATION_S: Final = 600.0
_INTERRUPTED: Final = 130
_GC_THRESHOLD: Final = 20_000  # objects; at the usual 700 an import spends a tenth of its time collecting nothing
_LOOK_S: Final = 2.0  # for the node that made an invitation, before a person is told that none has answered
_LOOK_ROUND_S: Final = 5.0  # between two looks at the API's socket file, which cleaners of /tmp remove, and at peers
_DISCOVER_AGAIN_S: Final = 10.0  # an interface may come up long after the node


def node_settings(
    config: "Config",
    files: "NodeFiles",
    node_id: bytes,
    secret: "MemberSecret | None",
    *,
    is_provisional: bool = False,
) -> "Settings":
    """Return the settings of the node with this configuration, these files, id and network secret."""
    from echonode.host.config import read_model, trust_decisions
    from echonode.host.system import host_name
    from echonode.node.node import Settings
    from echonode.node.settings import Quota, Quotas
    from echonode.node.trust import Policy, TrustSettings

    quota = config.quota
    return Settings(
        name=files.chosen_name(config.name) or host_name() or f"node-{to_base32(node_id)[:8]}",
        member_secret=secret,
        past=files.read_past_networks(),
        is_provisional=is_provisional,
        contexts=None if config.contexts is None else frozenset(config.contexts),
        subscriptions=config.subscriptions,
        models=dict(map(read_model, config.models)),
        is_restored=files.is_restored,
        pools=files.read_pools(),
        echo_author=config.echo_author,
        pauses=_read_pauses(files),
        quotas=Quotas(
            author=Quota(quota.author_records, quota.author_bytes, quota.author_tombstones),
            total=Quota(quota.records, quota.bytes, quota.tombstones),
            peer_rate=quota.peer_rate,
        ),
        trust=TrustSettings(Policy(config.trust.policy), trust_decisions(config.trust), files.read_trust()),
    )


def _read_pauses(files: "NodeFiles") -> "tuple[Pause, ...]":
    """Return the pauses that the home keeps. One that names no peer any more is left out."""
    from echonode.model.identity import IDENTITY_BYTES, IdentityId
    from echonode.node.pauses import Pause

    found = []
    for text, until_ms in files.pauses():
        with suppress(ValueError):
            found.append(Pause(IdentityId(from_base32(text, IDENTITY_BYTES)) if text else None, until_ms))
    return tuple(found)


class Process:
    """One run of one node. It closes in reverse what it opened: discovery first, the node and its store last."""

    def __init__(
        self,
        files: "NodeFiles",
        config: "Config",
        load_config: "Callable[[], Config]",
        logs: "Logs",
        environ: Mapping[str, str],
        join: str | None,
        join_at: str | None,
        say: "Callable[[str], None] | None" = None,
    ) -> None:
        self._files = files
        self._config = config
        self._load_config = load_config
        self._logs = logs
        self._environ = environ
        self._join = join
        self._join_at = join_at
        self._is_watched = say is not None or sys.stderr.isatty()  # by a person
        self._say = say or _write_to_terminal
        self._discovery: Discovery | None = None
        self._store: SqliteStore | None = None
        self._api: ApiServer | None = None
        self._announcement: Presence | None = None
        self._manager: ServiceManager | None = None
        self._listener: Listener | None = None
        self._passed_socket: socket.socket | None = None
        self._refused_config = ""  # why the configuration was not taken when it was last read again

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT. Return 0 after a clean stop, 130 when joining was interrupted."""
        from echonode.host.machine import worker_threads
        from echonode.host.service import ServiceManager, reload_on_hangup, stop_on_signals
        from echonode.host.socket_activation import passed_api_socket

        self._passed_socket = passed_api_socket(self._environ)
        asyncio.get_running_loop().set_default_executor(worker_threads())
        self._manager = manager = ServiceManager(self._environ)
        is_first_run = not self._files.has_network()
        is_stopping = stop_on_signals()
        is_changed = reload_on_hangup(is_stopping)
        stop = asyncio.create_task(is_stopping.wait())
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
            manager.ready(self._status_line(node))
            watchdog = asyncio.create_task(manager.feed_watchdog(self._is_healthy))
            self._greet(node, await self._invite_first(node, is_first_run))
            try:
                await self._until(stop, node, is_changed)
            finally:
                watchdog.cancel()
                manager.stopping()
        return 0

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple["Node", "Api"]]:
        """Yield the running node and its API, for a program that has the node inside it. Signals are the program's."""
        from echonode.host.service import ServiceManager

        self._manager = ServiceManager({})  # the program may be a service; this node in it is none
        async with AsyncExitStack() as stack:
            node = await self._start_node(stack)
            assert self._api is not None, "a started node has an API"
            keeping = asyncio.create_task(self._keep_round(node))
            try:
                yield node, self._api.app
            finally:
                keeping.cancel()

    async def _until(self, stop: "asyncio.Task[bool]", node: "Node", is_changed: asyncio.Event) -> None:
        """Wait for `stop`, and read the configuration again whenever `is_changed` is set.

        Raises the fault of a store that cannot write, or of a node that no longer dials.

        Such a node must not look alive to its service manager.
        """
        from echonode.host.audit_schedule import keep_audits
        from echonode.host.backup_schedule import keep_backups

        assert self._store is not None, "a started node has a store"
        broken = asyncio.create_task(self._store.wait_until_broken())
        running = asyncio.create_task(node.run())
        keeping = asyncio.create_task(self._keep_round(node))
        reloading = asyncio.create_task(self._reload_whenever(is_changed, node))
        backing_up = asyncio.create_task(
            keep_backups(self._config.backup, self._files, self._environ, self._logs)
        )
        auditing = asyncio.create_task(keep_audits(self._config.audit, self._files, node, self._logs))
        tasks = (stop, broken, running, keeping, reloading, backing_up, auditing)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if stop.done():
                return
            if broken.done():
                raise broken.result()
            for task in tasks[2:]:
                if task.done():
                    task.result()
        finally:
            for each in tasks[1:]:
                each.cancel()
            await asyncio.wait((backing_up, auditing))  # what is under way is ended, and leaves nothing

    async def _keep_round(self, node: "Node") -> None:
        """Every few seconds, make the API's socket file anew if it is gone, and tell the service manager how it is.

        Where the file cannot be made, log it once and try again."""
        assert self._api is not None and self._manager is not None, "a started node has both"
        is_said = False
        while True:
            await asyncio.sleep(_LOOK_ROUND_S)
            if self._manager.is_there:
                self._manager.set_status(self._status_line(node))
            if not self._api.is_gone:
                continue
            try:
                self._files.home.prepare()  # the folder may be gone with it
                await self._api.reopen()
            except ConfigError as error:
                if not is_said:
                    self._logs.log("api.socket_gone", "warning", reason=str(error))
                is_said = True
            else:
                self._logs.log("api.socket_made_anew", "warning", path=str(self._files.api_socket))
                is_said = False

    def _status_line(self, node: "Node") -> str:
        from echonode.host.service_status import status_line

        is_paused = node.pause_control.pauses.of(None) is not None
        return status_line(node.peers(), node.listening, self._refused_config, is_paused=is_paused)

    def _is_healthy(self) -> bool:
        """Return True while the store takes writes and peers can connect. The event loop shows its health by asking."""
        from echonode.limits import WRITE_S_MAX

        assert self._store is not None and self._listener is not None, "a started node has both"
        return self._store.stuck_s() <= WRITE_S_MAX and self._listener.is_serving

    def _trouble(self) -> str:
        """Return why the node cannot work, "" while it can."""
        if self._is_healthy():
            return ""
        assert self._listener is not None, "a started node has one"
        if not self._listener.is_serving:
            return "no peer can connect: the listener has ended"
        return "the disk does not take writes"

    def _settings(self) -> "Iterable[tuple[str, object, str]]":
        from echonode.host.config import effective

        return effective(self._config, self._files.config, self._environ)

    async def _reload_whenever(self, is_changed: asyncio.Event, node: "Node") -> None:
        while True:
            await is_changed.wait()
            is_changed.clear()
            assert self._manager is not None, "made before the node"
            with self._manager.reloading():
                self._reload(node)
            self._manager.set_status(self._status_line(node))

    def _reload(self, node: "Node") -> None:
        """Take from the configuration what can change at run time. A configuration with a mistake changes nothing."""
        from echonode.host.config import changed_keys, read_model, reloaded, trust_decisions
        from echonode.node.trust import Policy

        earlier = self._config
        try:
            fresh = self._load_config()
            changed, fixed = changed_keys(earlier, fresh)
            if {"models", "subscriptions"} & set(changed):
                node.reconfigure(dict(map(read_model, fresh.models)), fresh.subscriptions)
        except (ConfigError, LocalError) as error:
            self._logs.log("config.refused", "error", reason=str(error))
            self._refused_config = f"the configuration was not taken: {error}"
            return
        self._refused_config = ""
        self._config = reloaded(earlier, fresh)
        self._logs.level = fresh.log.level
        if earlier.trust != fresh.trust:
            node.trust_control.reconfigure(Policy(fresh.trust.policy), trust_decisions(fresh.trust))
        for address in set(earlier.peers) - set(fresh.peers):
            node.remove_peer(address)
        for address in fresh.peers:
            if address not in earlier.peers:
                node.add_peer(address)
        self._logs.log("config.reloaded", "warning" if fixed else "info", changed=changed, needs_restart=fixed)

    async def _start_node(self, stack: AsyncExitStack) -> "Node":
        from echonode.api.process_state import ProcessState
        from echonode.api.server import ApiServer
        from echonode.host.history_file import HistoryFile
        from echonode.host.machine import machine_id
        from echonode.host.system import SystemClock, SystemEntropy
        from echonode.host.tcp import Listener, TcpDial
        from echonode.model.identity import Instance
        from echonode.node.events import CaughtUp, NodePaused, NodeResumed
        from echonode.node.node import Node
        from echonode.store.sqlite.life_watch import LifeWatch
        from echonode.store.sqlite.store import SqliteStore

        clock, entropy = SystemClock(), SystemEntropy()
        identity = self._files.identity(entropy.random_bytes)
        is_provisional = self._join is not None and not self._files.has_network()
        secret = self._member_secret(entropy.random_bytes)
        settings = node_settings(self._config, self._files, identity.id, secret, is_provisional=is_provisional)
        store = await SqliteStore.open(
            self._files.home.store,
            new_instance=lambda: Instance(entropy.random_bytes(8)),
            now_ms=clock.now_ms,
            life=LifeWatch(self._files.root, machine_id()),
            on_progress=self._manager.extend_start if self._manager is not None and self._manager.is_there else None,
            counts_usage=settings.quotas.are_set,
        )
        self._store = store
        node = Node(
            store,
            identity,
            settings,
            clock=clock,
            entropy=entropy,
            dial=TcpDial(),
            observe=self._logs,
            announce=self._announce,
            save_secret=self._files.move_to,
            save_name=lambda name: self._files.write_name(name, configured=self._config.name),
            safe=self._files,
        )
        node.bus.on(CaughtUp, lambda _: self._files.note_caught_up())
        node.echo_sync.history.keep_in(HistoryFile(self._files.home.history))
        node.audits.last = self._files.read_audit()
        for event in (NodePaused, NodeResumed):
            node.bus.on(event, lambda _: self._keep_pauses(node))
        stack.push_async_callback(node.stop)
        self._listener = listener = Listener()
        stack.push_async_callback(listener.close)
        if await listener.bind(self._config.listen):
            self._logs.log("tcp.port_taken", "warning", listen=listener.addresses)
        await node.start(listener.addresses)
        await listener.serve(node.accept, lambda address: self._logs.log("tcp.refused", "warning", address=address))
        self._api = api = ApiServer(
            node,
            socket_path=self._socket_path(),
            version=__version__,
            run_log=self._logs.run_log,
            group=self._config.api.group,
            passed=self._passed_socket,
            access=self._tcp_access(),
            state=ProcessState(self._trouble, self._settings),
        )
        await api.start()
        stack.push_async_callback(api.close)
        for address in self._config.peers:
            node.add_peer(address)
        if self._config.mdns:
            discovering = asyncio.create_task(self._discover(node, listener.addresses))
            stack.push_async_callback(self._stop_discovering, discovering)
        return node

    def _socket_path(self) -> "Path":
        from echonode.host.socket_activation import path_of

        return self._files.api_socket if self._passed_socket is None else path_of(self._passed_socket)

    def _keep_pauses(self, node: "Node") -> None:
        """Keep the pauses over a restart. A disk that refuses them is told to the log: the pauses hold all the same."""
        kept = [(to_base32(pause.peer or b""), pause.until_ms) for pause in node.pause_control.pauses]
        try:
            self._files.write_pauses(kept)
        except ConfigError as error:
            self._logs.log("pauses.not_kept", "error", reason=str(error))

    def _member_secret(self, random_bytes: Callable[[int], bytes]) -> "MemberSecret | None":
        """Return the secret of the home's network, None for the open one. A home without one gets a fresh one."""
        from echonode.model.member_secret import MEMBER_SECRET_BYTES, MemberSecret

        if self._config.open:
            self._files.choose_open_network()
            return None
        if self._files.has_network():
            self._files.keep_pool_seed()
            return self._files.read_member_secret()
        secret = MemberSecret.from_bytes(random_bytes(MEMBER_SECRET_BYTES))
        if self._join is None:
            self._files.write_member_secret(secret)
        return secret

    def _tcp_access(self) -> "TcpAccess":
        from echonode.api.access import ApiToken, TcpAccess
        from echonode.host.loopback import bind_loopback

        token = ApiToken(self._files.api_token(), lambda: self._files.api_token(is_new=True))
        listening, is_moved = bind_loopback(self._config.api.listen)
        access = TcpAccess(token, listening)
        if is_moved:
            self._logs.log("api.port_taken", "info", url=access.url)
        return access

    # -- discovery ---------------------------------------------------------------------------------------------------

    async def _discover(self, node: "Node", listen: Sequence[str]) -> None:
        """Announce and browse. Where that is not possible yet, log it once and try again, for ever."""
        is_said = False
        while True:
            self._discovery = self._make_discovery(node, listen)
            try:
                await self._discovery.start()
                return
            except TransportError as error:
                if not is_said:
                    self._logs.log("mdns.unavailable", "warning", reason=str(error))
                is_said = True
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
            node.sighted(sighting.name, sighting.addresses, tag=sighting.tag, group=sighting.group, slot=sighting.slot)

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
        self._say(f"{node.name} is joining: looking for the node that made this invitation ..")
        joining = asyncio.create_task(node.join(code, at))
        try:
            await asyncio.wait((joining,), timeout=_LOOK_S)
            if not joining.done():
                self._say("not joined yet: the code may be wrong, spent or expired; looking on for a minute")
            network = await joining
        finally:
            joining.cancel()
        self._say(f"joined the network {network}")

    async def _invite_first(self, node: "Node", is_first_run: bool) -> str | None:
        """Open the invitation of a first run on a terminal. Return its code, None elsewhere."""
        if not is_first_run or self._join or node.network_secret() is None or not self._is_watched:
            return None
        return await node.invite(uses=1, expires_s=_INVITATION_S)

    def _greet(self, node: "Node", code: str | None) -> None:
        if not self._is_watched:
            return
        self._say(f"{node.name} is up, listening on {', '.join(node.listening)}; stop it with Ctrl-C")
        if code is not None:
            self._say(f"on the other machine, within ten minutes, type:\n\n    echonode run --join {code}\n")


def _version_text() -> str:
    from echonode.wire.messages import PROTOCOL_VERSION, version_text

    return version_text(PROTOCOL_VERSION)


def _write_to_terminal(text: str) -> None:
    sys.stderr.write(text + "\n")
