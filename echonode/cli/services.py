"""The services that the commands need from other rooms: homes, running a node, repair, simulation.

    app.py -> main(services, args) -> exit code

The commands may not import `host`, `api` and `sim`. Most commands speak to a node that runs already, and need not wait
for those rooms to load.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from echonode.model.identity import IdentityId
    from echonode.model.member_secret import MemberSecret


class HomeView(Protocol):
    """The files of one node, whether it runs or not."""

    @property
    def root(self) -> Path:
        """The folder; it may not exist yet."""
        ...

    @property
    def config(self) -> Path:
        """The file of the configuration; it may not exist."""
        ...

    @property
    def api_socket(self) -> Path:
        """The socket on which the node takes commands while it runs."""
        ...

    def api_token(self, *, is_new: bool = False) -> str:
        """Return the token of the API over TCP, made when there is none or with `is_new`. Raises ConfigError."""
        ...

    def running_process(self) -> str | None:
        """Return the process id of the node that holds this home; None when none does."""
        ...

    def has_network(self) -> bool:
        """Return True if a network was chosen here, a private one or the open one."""
        ...

    def read_member_secret(self) -> "MemberSecret | None":
        """Return the secret of the private network; None on the open network, and before a network was chosen."""
        ...

    def root_identity(self) -> "IdentityId | None":
        """Return the identity of this home, None before its first run. Raises ConfigError."""
        ...

    def write_root_seed(self, seed: bytes | None, public: bytes) -> None:
        """Keep the seed of the root key; make the folder if needed. Raises ConfigError."""
        ...

    def choose_network(self, secret: "MemberSecret") -> None:
        """Choose the private network with this secret, and keep the one before; make the folder if needed.

        Raises ConfigError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """The options of `echonode run`. With None, () and False the environment, the file or the default decides."""

    home: HomeView
    join: str | None = None  # an invitation code
    at: str | None = None  # HOST:PORT of the inviting node
    name: str | None = None
    listen: str | None = None  # HOST:PORT
    peers: tuple[str, ...] = ()  # HOST:PORT each
    interfaces: tuple[str, ...] = ()  # addresses of this machine, for mDNS
    no_mdns: bool = False
    open: bool = False
    log_level: str | None = None
    log_format: str | None = None
    say: "Callable[[str], None] | None" = None  # told what a person at the terminal should know; None writes it there


class RepairReport(Protocol):
    """The result of a repair."""

    @property
    def kept(self) -> int:
        """The number of versions that are whole."""
        ...

    @property
    def left(self) -> int:
        """The number of rows that are damaged, or that no valid key statement covers any more."""
        ...

    @property
    def put_aside(self) -> Path:
        """The path of the damaged file now."""
        ...

    @property
    def lost(self) -> Sequence[tuple[str, str]]:
        """Context and id of each record that lost a head, as far as the damaged bytes still say."""
        ...


class BackupReport(Protocol):
    """The result of a backup."""

    @property
    def versions(self) -> int:
        """The number of versions in it, all hashed and verified again."""
        ...

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        ...


class ServiceFileView(Protocol):
    """A file of the service."""

    @property
    def path(self) -> Path:
        """The place where it belongs."""
        ...

    @property
    def text(self) -> str:
        """Its content."""
        ...


class ServiceStateView(Protocol):
    """The state of the service; a dataclass. `unit` is "" while it is not installed."""

    @property
    def unit(self) -> str: ...
    @property
    def is_enabled(self) -> bool: ...
    @property
    def state(self) -> str: ...
    @property
    def since(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def restarts(self) -> int: ...
    @property
    def result(self) -> str: ...
    @property
    def exit_code(self) -> int: ...


class ServiceSetupView(Protocol):
    """The service of systemd that runs a node. Every method raises EchonodeError where there is no systemd."""

    def files(self) -> Sequence[ServiceFileView]:
        """Return the files that an installation writes."""
        ...

    def install(self, say: Callable[[str], None]) -> ServiceStateView:
        """Write the files, enable and start the service, and tell `say` each step. Return the state it is in then."""
        ...

    def uninstall(self, say: Callable[[str], None]) -> None:
        """Stop the service and remove its files, and tell `say` each step."""
        ...

    def state(self) -> ServiceStateView:
        """Return the state of the service."""
        ...


class CheckView(Protocol):
    """A finding of `diagnose`; `verdict` is fine, warning or error, and `what_to_do` "" for nothing."""

    @property
    def area(self) -> str:
        """The thing that was looked at."""
        ...

    @property
    def verdict(self) -> str:
        """The state that it is in."""
        ...

    @property
    def text(self) -> str:
        """A sentence."""
        ...

    @property
    def what_to_do(self) -> str:
        """A sentence, "" for nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions:
    """The options of `echonode simulate`. None: the seed draws the value, or in a calm world the usual one is taken."""

    seeds: range
    is_calm: bool  # only the faults that the options name
    nodes: int | None = None
    records: int | None = None
    losses_per_minute: float | None = None
    partition_s: float | None = None
    jobs: int = 1


class SimulatedStory(Protocol):
    """The story of one household's nodes."""

    @property
    def lines(self) -> Sequence[str]:
        """The lines, of at most 80 columns."""
        ...

    @property
    def failure(self) -> str:
        """The reason why the story ends early, with what helps to find it; "" when all went well."""
        ...


class SimulatedWorld(Protocol):
    """The result of one simulated world. Times are virtual seconds."""

    @property
    def seed(self) -> int:
        """The seed that the world was drawn from."""
        ...

    @property
    def failure(self) -> str:
        """The invariant that failed, with what helps to find the reason; "" when all held."""
        ...

    @property
    def virtual_s(self) -> float:
        """The length of the world's life."""
        ...

    @property
    def groups(self) -> Sequence[tuple[float, int]]:
        """The number of different roots over time: (seconds, number) at each change."""
        ...

    def as_dict(self) -> dict[str, object]:
        """Return every figure by name, fit for JSON."""
        ...


class Services(Protocol):
    """The services, as one value."""

    @property
    def version(self) -> str:
        """The version of this program."""
        ...

    @property
    def schema(self) -> int:
        """The number of the disk schema that this program writes."""
        ...

    def find_home(self, flag: str | None) -> HomeView:
        """Return the home that `flag` names; with None, the home that the environment or the platform suggests. Creates
        nothing."""
        ...

    def run_node(self, options: RunOptions) -> int:
        """Run a node until it is told to stop, and return the exit code. Raises EchonodeError when it cannot start."""
        ...

    def settings(self, home: HomeView) -> Iterable[tuple[str, object, str]]:
        """Return key, value and origin of every setting: the file's path, the variable, or "default".

        Raises ConfigError.
        """
        ...

    def check_config(self, path: Path) -> None:
        """Raise ConfigError unless the file at `path` is missing, or a configuration without a mistake."""
        ...

    def diagnose(self, home: HomeView, listening: Sequence[str] | None) -> Iterator[CheckView]:
        """Look at the machine around a node: configuration, home, clock, port, firewall, addresses, mDNS, disk.

        `listening`: where the node of this home listens, None when it does not run. Changes nothing.
        """
        ...

    def serve_stopped(self, home: HomeView) -> AbstractContextManager[Path | None]:
        """Serve the store of a stopped node on a socket of this process, and yield its path; None without a store.

        The caller sends only requests that read. Raises EchonodeError, also when the node runs after all.
        """
        ...

    def repair(self, home: HomeView) -> RepairReport:
        """Make the store of a stopped node anew from the versions that are whole. Raises EchonodeError."""
        ...

    def back_up(self, home: HomeView, path: Path) -> BackupReport:
        """Write a backup of a node, whether it runs or not, to `path`. Raises EchonodeError."""
        ...

    def restore(self, home: HomeView, path: Path) -> int:
        """Put the backup `path` into a home without a node; return its number of versions. Raises EchonodeError."""
        ...

    def service(self, *, is_user: bool) -> ServiceSetupView:
        """Return the service of this machine, or that of this user."""
        ...

    def packaged_file(self, name: str) -> str:
        """Return the text of a file of the folder systemd/. Raises EchonodeError where the installation lacks it."""
        ...

    def simulate(
        self, options: SimulateOptions, on_time: Callable[[float, float], None]
    ) -> Iterator[SimulatedWorld]:
        """Simulate one world for each seed, and yield each when it ends; several run in processes of their own. For a
        world in this process `on_time` is called with its virtual seconds and an estimate of their total."""
        ...

    def simulate_story(self, seed: int, days: int, on_time: Callable[[float, float], None]) -> SimulatedStory:
        """Simulate a household for so many days and return its story. `on_time` is called as `simulate` does."""
        ...
