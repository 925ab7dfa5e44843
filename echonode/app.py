"""The composition root: it alone may import every room, and wires them into a process.

    main             the entry of the command line; echo_sync_main that of `echo-sync`
    _Services        what the command line may not import itself: homes, the simulator, a running node, repair
    process.py       one node in the foreground: files, store, node, sockets, API, discovery
    stopped_node.py  the store of a node that does not run, for commands that read

Heavy rooms are imported inside functions: `echonode --help` should not load a database and an event loop.
"""

import faulthandler
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from echonode import __version__
from echonode.errors import ConfigError, EchonodeError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

    from echonode.cli.services import (
        BackupReport,
        CheckView,
        HomeView,
        RepairReport,
        RunOptions,
        ServiceSetupView,
        SimulatedStory,
        SimulatedWorld,
        SimulateOptions,
    )
    from echonode.host.files import NodeFiles
    from echonode.host.home import Home
    from echonode.model.identity import IdentityId
    from echonode.model.member_secret import MemberSecret


_INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line. Return the process's exit code."""
    try:
        from echonode.cli.main import main as command_line
    except KeyboardInterrupt:  # it takes a tenth of a second
        return _INTERRUPTED

    return command_line(_Services(os.environ), argv)


def echo_sync_main(argv: Sequence[str] | None = None) -> int:
    """Run the command `echo-sync`. Return the process's exit code."""
    from echonode.cli.main import main as command_line

    return command_line(_Services(os.environ), argv, program="echo-sync")


class _Services:
    """The services that the command line is handed (cli/services.py)."""

    version = __version__

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    @property
    def schema(self) -> int:
        from echonode.store.sqlite.schema import SCHEMA

        return SCHEMA

    def find_home(self, flag: str | None) -> "HomeView":
        from echonode.host.home import Home

        return _FoundHome(Home.find(flag, self._environ))

    def simulate(
        self, options: "SimulateOptions", on_time: Callable[[float, float], None]
    ) -> "Iterator[SimulatedWorld]":
        from echonode.sim.batch import options_for, run_many

        worlds = ((seed, options_for(seed, options)) for seed in options.seeds)
        return run_many(worlds, options.jobs, on_time)

    def simulate_story(
        self, seed: int, days: int, on_time: Callable[[float, float], None]
    ) -> "SimulatedStory":
        from echonode.sim.residents import DAY_S
        from echonode.sim.year import run_year

        return run_year(seed, days, lambda now_s: on_time(now_s, days * DAY_S))

    def run_node(self, options: "RunOptions") -> int:
        from echonode.host.service import ServiceManager
        from echonode.model.self_test import check_signatures

        check_signatures()
        faulthandler.enable()  # a watchdog that ends a node which hangs leaves in the log where it hung
        os.umask(0o077)  # every file of this process is readable by its user alone
        files = _files(options.home)
        try:
            return self._run(options, files)
        except EchonodeError as error:
            ServiceManager(self._environ).set_status(f"stopped: {error}")
            raise

    def _run(self, options: "RunOptions", files: "NodeFiles") -> int:
        import asyncio

        from echonode.host.config import load_config
        from echonode.host.logs import open_logs
        from echonode.host.system import SystemClock
        from echonode.process import Process

        load = partial(load_config, files.home.config, self._environ, _flags(options))
        config = load()
        files.home.prepare()
        logs = open_logs(config.log.level, config.log.format, SystemClock(), self._environ)
        logs.is_silenced = options.say is not None and os.isatty(sys.stderr.fileno())  # a table has the terminal
        logs.route_libraries()
        try:
            with files.home.locked(), asyncio.Runner(loop_factory=_loop_factory()) as runner:
                files.take_credentials(self._environ)
                process = Process(files, config, load, logs, self._environ, options.join, options.at, options.say)
                return runner.run(process.run())
        finally:
            logs.close()

    def repair(self, home: "HomeView") -> "RepairReport":
        import asyncio

        from echonode.host.system import SystemClock, SystemEntropy
        from echonode.model.identity import INSTANCE_BYTES, Instance
        from echonode.model.self_test import check_signatures
        from echonode.node.event_bus import EventBus
        from echonode.node.record_book import RecordBook
        from echonode.store.sqlite.repair import repair

        check_signatures()
        files = _files(home)
        if not files.home.store.exists():
            raise ConfigError(f"there is no store in {files.root}")
        os.umask(0o077)
        clock, entropy = SystemClock(), SystemEntropy()
        with files.home.locked():
            identity = files.identity(entropy.random_bytes)
            secret = files.read_member_secret()
            return asyncio.run(
                repair(
                    files.home.store,
                    new_instance=lambda: Instance(entropy.random_bytes(INSTANCE_BYTES)),
                    now_ms=clock.now_ms,
                    introduce=lambda store: RecordBook(
                        store, identity, clock, entropy, EventBus(lambda _: None)
                    ).introduce(secret),
                )
            )

    def back_up(self, home: "HomeView", path: Path) -> "BackupReport":
        import asyncio

        from echonode.host.system import SystemClock, SystemEntropy
        from echonode.model.identity import INSTANCE_BYTES, Instance
        from echonode.model.self_test import check_signatures
        from echonode.store.sqlite.backup import back_up

        check_signatures()
        files = _files(home)
        if not files.home.store.exists():
            raise ConfigError(f"there is no store in {files.root}")
        entropy = SystemEntropy()
        return asyncio.run(
            back_up(
                files.home.store,
                path.absolute(),
                files.kept_files(),
                new_instance=lambda: Instance(entropy.random_bytes(INSTANCE_BYTES)),
                now_ms=SystemClock().now_ms,
            )
        )

    def restore(self, home: "HomeView", path: Path) -> int:
        import asyncio

        from echonode.host.system import SystemClock, SystemEntropy
        from echonode.model.identity import INSTANCE_BYTES, Instance
        from echonode.model.self_test import check_signatures
        from echonode.store.sqlite.backup import read_files, restore_store

        check_signatures()
        files = _files(home)
        os.umask(0o077)
        if not path.is_file():
            raise ConfigError(f"there is no file {path}")
        kept = read_files(path)
        entropy = SystemEntropy()
        files.home.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with files.home.locked():
            written = files.put_back(kept)
            try:
                versions = asyncio.run(
                    restore_store(
                        path,
                        files.home.store,
                        new_instance=lambda: Instance(entropy.random_bytes(INSTANCE_BYTES)),
                        now_ms=SystemClock().now_ms,
                    )
                )
            except BaseException:
                files.take_back(written)  # else the next run would be that node, with an empty store
                raise
            files.give_to_owner()
        return versions

    def settings(self, home: "HomeView") -> Iterable[tuple[str, object, str]]:
        from echonode.host.config import explain

        return explain(home.config, self._environ)

    def diagnose(self, home: "HomeView", listening: Sequence[str] | None) -> "Iterator[CheckView]":
        from echonode.host.config import load_config
        from echonode.host.diagnosis import diagnose

        files = _files(home)
        load = partial(load_config, files.home.config, self._environ, {})
        yield from diagnose(files, load, None if listening is None else tuple(listening))

    def check_config(self, path: Path) -> None:
        from echonode.host.config import load_config

        load_config(path, {}, {})

    def service(self, *, is_user: bool) -> "ServiceSetupView":
        from echonode.host.service_setup import ServiceSetup
        from echonode.host.unit_files import Program

        return ServiceSetup(Program.current(), self._environ, is_user=is_user)

    def packaged_file(self, name: str) -> str:
        from echonode.host.unit_files import read_template

        return read_template(name)

    @contextmanager
    def serve_stopped(self, home: "HomeView") -> Iterator[Path | None]:
        import tempfile

        from echonode.host.config import load_config
        from echonode.host.loop_thread import in_thread
        from echonode.model.self_test import check_signatures
        from echonode.stopped_node import StoppedNode

        check_signatures()
        files = _files(home)
        if not files.home.store.exists():
            yield None
            return
        config = load_config(files.home.config, self._environ, {})
        umask = os.umask(0o077)  # for the files beside the store; an export is made with the user's own
        try:
            with ExitStack() as stack:
                stack.enter_context(files.home.locked(is_reader=True))
                socket_path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="echonode-"))) / "api.sock"
                stack.enter_context(in_thread(StoppedNode(files, config, socket_path).serve))
                os.umask(umask)
                yield socket_path
        finally:
            os.umask(umask)


class _FoundHome:
    """A home, as commands see it (cli/services.py:HomeView). Most ask where its socket is: keys can wait until then."""

    def __init__(self, home: "Home") -> None:
        self._home = home

    @cached_property
    def files(self) -> "NodeFiles":
        from echonode.host.files import NodeFiles

        return NodeFiles(self._home)

    @property
    def root(self) -> Path:
        return self._home.folder

    @property
    def config(self) -> Path:
        return self._home.config

    @property
    def api_socket(self) -> Path:
        return self._home.api_socket

    def running_process(self) -> str | None:
        return self._home.lock_holder()

    def api_token(self, *, is_new: bool = False) -> str:
        return self.files.api_token(is_new=is_new)

    def has_network(self) -> bool:
        return self.files.has_network()

    def read_member_secret(self) -> "MemberSecret | None":
        return self.files.read_member_secret()

    def root_identity(self) -> "IdentityId | None":
        return self.files.root_identity()

    def write_root_seed(self, seed: bytes | None, public: bytes) -> None:
        self.files.write_root_seed(seed, public)

    def choose_network(self, secret: "MemberSecret") -> None:
        self.files.choose_network(secret)


def _files(home: "HomeView") -> "NodeFiles":
    assert isinstance(home, _FoundHome), "homes come from find_home"
    return home.files


def _flags(options: "RunOptions") -> dict[str, object]:
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


def _loop_factory() -> "Callable[[], AbstractEventLoop] | None":
    """Return the loop factory of uvloop where it is installed, None for the standard loop elsewhere."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
