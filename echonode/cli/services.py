"""What the commands need from outside their room: finding a home, running a node. `app.py` hands it in.

    app.py -> main(services, args) -> exit code

The commands may not import `host` and `api`; and most of them, talking to a node that runs already, should not pay for
loading them either.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class HomeView(Protocol):
    """One node's files, whether it runs or not."""

    @property
    def root(self) -> Path:
        """The folder; it need not exist yet."""
        ...

    @property
    def api_socket(self) -> Path:
        """Where its node listens for commands while it runs."""
        ...

    def has_network(self) -> bool:
        """Whether a network was chosen here, a private one or the open one."""
        ...

    def read_network_key(self) -> bytes | None:
        """The 32-byte key of the private network; None on the open one, and where none was chosen."""
        ...

    def write_network_key(self, key: bytes) -> None:
        """Choose the private network with this key, making the folder if need be. Raises ConfigError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What `echonode run` was told. None, () and False: not said, so environment, file or default decide."""

    home: HomeView
    join: str | None = None  # an invitation code
    name: str | None = None
    listen: str | None = None  # HOST:PORT
    peers: tuple[str, ...] = ()  # HOST:PORT each
    interfaces: tuple[str, ...] = ()  # addresses of this machine, for mDNS
    no_mdns: bool = False
    open: bool = False
    log_level: str | None = None
    log_format: str | None = None


class RepairReport(Protocol):
    """What became of a damaged store."""

    @property
    def kept(self) -> int:
        """Versions that are whole."""
        ...

    @property
    def left(self) -> int:
        """Rows that are not, or that nothing vouches for any more."""
        ...

    @property
    def put_aside(self) -> Path:
        """Where the damaged file is now."""
        ...

    @property
    def lost(self) -> Sequence[tuple[str, str]]:
        """Context and id of each record of which a head was left, as far as its bytes still say."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions:
    """What `echonode simulate` was told. None: as the seed draws it, or in a calm world the usual."""

    seeds: range
    is_calm: bool  # nothing goes wrong but what is asked for
    nodes: int | None = None
    records: int | None = None
    losses_per_minute: float | None = None
    partition_s: float | None = None
    jobs: int = 1


class SimulatedWorld(Protocol):
    """What a simulated world tells. Times are virtual seconds."""

    @property
    def seed(self) -> int:
        """What it was drawn from."""
        ...

    @property
    def failure(self) -> str:
        """What did not hold, with what is needed to find out why; "" when all is well."""
        ...

    @property
    def virtual_s(self) -> float:
        """How long the world lasted."""
        ...

    @property
    def groups(self) -> Sequence[tuple[float, int]]:
        """From when on there were how many different states."""
        ...

    def as_dict(self) -> dict[str, object]:
        """Everything, by name, fit for JSON."""
        ...


class Services(Protocol):
    """The outside, as one value."""

    @property
    def version(self) -> str:
        """Of this program."""
        ...

    def find_home(self, flag: str | None) -> HomeView:
        """The home that `flag` names; with None, the one the environment or the platform suggests. Creates nothing."""
        ...

    def run_node(self, options: RunOptions) -> int:
        """Run a node until it is told to stop; the exit code. Raises EchonodeError before it got anywhere."""
        ...

    def repair(self, home: HomeView) -> RepairReport:
        """Make the store of a node that does not run anew, of what is whole in it. Raises EchonodeError."""
        ...

    def simulate(
        self, options: SimulateOptions, on_time: Callable[[float, float], None]
    ) -> Iterator[SimulatedWorld]:
        """Simulate one world a seed, in processes of their own if there are several; as they come to their end.
        `on_time` is told of worlds in this process their virtual seconds, and about how many there will be."""
        ...
