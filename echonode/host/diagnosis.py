"""Checks of the machine around a node, for `echonode doctor`: each finding says what to do.

    configuration  home  clock  port  firewall  addresses  mdns  disk

They need no running node, change nothing, and take about a second for each interface. Those of peers and records come
from the node's own API.
"""

import ctypes
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from echonode.errors import ConfigError
from echonode.host.announcement import addresses_to_announce
from echonode.host.config import Config
from echonode.host.files import SECRET_BYTES, NodeFiles
from echonode.host.firewall import firewall_hint
from echonode.host.home import read_secret
from echonode.host.multicast_echo import hears_itself
from echonode.host.system import Reach, local_addresses, reach_of
from echonode.host.tcp import DEFAULT_PORT, parse_address
from echonode.limits import FREE_SPACE_BYTES_MIN, MIB

FINE: Final = "fine"
WARNING: Final = "warning"
ERROR: Final = "error"

_CLOCK_BACK_S: Final = 60.0  # by which the store may be younger than the clock: file systems round
_EARLIEST_S: Final = 1_735_689_600  # 2025-01-01: this program did not exist before
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised
_TIMEX_BYTES: Final = 512  # struct timex has 208; the kernel writes no more
_WIDELY_FREE: Final = 16  # times the least free space


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `verdict` is FINE, WARNING or ERROR; `what_to_do` is "" for nothing."""

    area: str
    verdict: str
    text: str
    what_to_do: str = ""


def diagnose(
    files: NodeFiles, load_config: Callable[[], Config], listening: tuple[str, ...] | None
) -> Iterator[Check]:
    """Yield the findings. `listening`: where the node of this home listens, None when it does not run."""
    config = Config()
    try:
        config = load_config()
    except ConfigError as error:
        yield Check("configuration", ERROR, str(error), "mend it; `echonode help configuration` describes every key")
    else:
        where = str(files.config) if files.config.exists() else "every key has its default"
        yield Check("configuration", FINE, where)
    yield from _home(files)
    yield from _clock(files.home.store)
    yield from _port(config, listening)
    yield from _addresses(config, listening)
    yield from _disk(files)


def _home(files: NodeFiles) -> Iterator[Check]:
    home = files.home
    if not home.folder.exists():
        yield Check("home", WARNING, f"there is no {home.folder} yet", "the first `echonode run` makes it")
        return
    try:
        home.check_owner()
        home.check_socket_folder()
        for path in (home.root_key, home.device_key):
            read_secret(path, SECRET_BYTES)
        files.read_member_secret()
    except ConfigError as error:
        yield Check("home", ERROR, str(error))
        return
    except OSError as error:
        yield Check("home", ERROR, f"{home.folder} cannot be read: {error.strerror}", "use the node's user, or root")
        return
    if not os.access(home.folder, os.W_OK):
        yield Check("home", ERROR, f"{home.folder} cannot be written", "use the node's user, or give it the folder")
    else:
        yield Check("home", FINE, f"{home.folder} is this user's alone, and so are the keys")


def _clock(store: Path) -> Iterator[Check]:
    now_s = time.time()
    if now_s < _EARLIEST_S:
        yield Check("clock", ERROR, "the clock shows a time before this program was made", "set it: timedatectl")
        return
    written = [path for path in (store, store.with_name(f"{store.name}-wal")) if path.exists()]
    ahead_s = max((path.stat().st_mtime - now_s for path in written), default=0.0)
    if ahead_s > _CLOCK_BACK_S:
        yield Check(
            "clock",
            WARNING,
            f"the store was written {ahead_s / 60:.0f} minutes later than the clock shows now: the clock went back",
            "set the clock, then write again what you wrote while it was wrong",
        )
    elif _is_synchronised() is False:
        yield Check(
            "clock",
            WARNING,
            "the kernel says that no time service keeps this clock right",
            "switch one on: sudo timedatectl set-ntp true. Of two edits the later one is shown, so clocks matter",
        )
    else:
        yield Check("clock", FINE, time.strftime("%Y-%m-%d %H:%M:%S %Z"))


def _is_synchronised() -> bool | None:
    """Return whether a time service disciplines the clock; None where the kernel does not tell."""
    if sys.platform != "linux":
        return None
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else bool(state != _TIME_ERROR)


def _port(config: Config, listening: tuple[str, ...] | None) -> Iterator[Check]:
    if listening is None:
        host, port = parse_address(config.listen) if config.listen else ("0.0.0.0", DEFAULT_PORT)
        problem = _bind_problem(host, port)
        if problem:
            yield Check(
                "port",
                ERROR if config.listen else WARNING,
                f"TCP port {port} cannot be used: {problem}",
                f"find who has it: ss -ltnp 'sport = :{port}'; or choose another one: listen in the configuration",
            )
        else:
            yield Check("port", FINE, f"TCP port {port} is free; the node is not running")
    elif all(parse_address(address)[0] in ("127.0.0.1", "::1") for address in listening):
        port = parse_address(listening[0])[1]
        yield Check(
            "port",
            WARNING,
            f"the node listens on this machine alone ({', '.join(listening)}): no other machine reaches it",
            "take `listen` out of the configuration, or name an address of the network there",
        )
    else:
        port = parse_address(listening[0])[1]
        yield Check("port", FINE, f"the node listens on {', '.join(listening)}")
    hint = firewall_hint(port)
    if hint is not None:
        yield Check("firewall", WARNING, f"{hint[0]}: other nodes may not get in", hint[1])
    elif os.geteuid() != 0:
        yield Check("firewall", FINE, "none was seen; only root may read the rules of nftables")
    else:
        yield Check("firewall", FINE, "no rule of this machine keeps others out")


def _bind_problem(host: str, port: int) -> str:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.partition("%")[0], port))
        except OSError as error:
            return (error.strerror or str(error)).lower()
    return ""


def _addresses(config: Config, listening: tuple[str, ...] | None) -> Iterator[Check]:
    present = local_addresses()
    reach = reach_of(each.interface for each in present)
    listen = listening or ((config.listen,) if config.listen else (f"0.0.0.0:{DEFAULT_PORT}", f"[::]:{DEFAULT_PORT}"))
    announced = addresses_to_announce(present, config.interfaces, listen, reach)
    shown = ", ".join(f"{each.scoped} ({each.interface})" for each in announced)
    outside = [each for each in announced if not each.ip.is_loopback]
    if not outside:
        yield Check(
            "addresses",
            WARNING,
            "this machine has no address that another machine could reach"
            + (f"; announced: {shown}" if shown else ", or `interfaces` names none of them"),
            "join a network, or look at `interfaces` and `listen`: echonode config show --origin",
        )
    else:
        yield Check("addresses", FINE, shown)
    inside = [each for each in present if reach.get(each.interface) is Reach.INSIDE and each.ip.version == 4]
    if inside:
        names = ", ".join(f"{each.ip} ({each.interface})" for each in inside)
        yield Check("addresses", FINE, f"not announced, as other machines may have the same: {names}")
    if not config.mdns:
        yield Check("mdns", FINE, "switched off: nodes are found by `peers` in the configuration alone")
        return
    for each in (each for each in announced if each.ip.version == 4):
        problem = hears_itself(str(each.ip))
        if problem:
            yield Check(
                "mdns",
                ERROR,
                f"{each.interface} ({each.ip}): {problem}, so that no node is found there",
                "let UDP port 5353 to 224.0.0.251 through the firewall; where the network carries no multicast, name "
                "the nodes: peers in the configuration",
            )
        else:
            yield Check("mdns", FINE, f"{each.interface} ({each.ip}) hears what it sends")


def _disk(files: NodeFiles) -> Iterator[Check]:
    folder = files.root if files.root.exists() else files.root.parent
    try:
        status = os.statvfs(folder)
    except OSError:
        return  # the check of the home says why
    free = status.f_bavail * status.f_frsize
    if free < FREE_SPACE_BYTES_MIN:
        yield Check(
            "disk",
            ERROR,
            f"only {free // MIB} MiB are free at {folder}: nothing more is stored",
            "make room; the node goes on by itself",
        )
    elif free < _WIDELY_FREE * FREE_SPACE_BYTES_MIN:
        yield Check("disk", WARNING, f"{free // MIB} MiB are free at {folder}", "make room before it is full")
    else:
        yield Check("disk", FINE, f"{free // MIB:,} MiB are free")
