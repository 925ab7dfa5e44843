"""The machine's time, randomness and addresses: the production side of the `Clock` and `Entropy` ports."""

import secrets
import socket
import time
import unicodedata
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
)
from pathlib import Path
from typing import Final, TypeAlias

import ifaddr

from echonode.text import is_node_name

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


_SYS_NET: Final = Path("/sys/class/net")
_PROC_NET: Final = Path("/proc/self/net")  # of this network namespace
_ROUTE_FLAG_GATEWAY: Final = 0x2  # RTF_GATEWAY


class SystemClock:
    """Wall time from the operating system, which may step, and a monotonic time, which may not."""

    def now_ms(self) -> int:
        """Return wall time in milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Return seconds that never go back, from an arbitrary start."""
        return time.monotonic()


class SystemEntropy:
    """The operating system's random numbers, for jitter too: a second, weaker source could be mistaken for it."""

    def __init__(self) -> None:
        self._random = secrets.SystemRandom()

    def random_bytes(self, size: int) -> bytes:
        """Return `size` unpredictable bytes."""
        return secrets.token_bytes(size)

    def uniform(self, low: float, high: float) -> float:
        """Return a number between `low` and `high`."""
        return self._random.uniform(low, high)


def host_name() -> str | None:
    """Return this machine's host name, None where it is not fit to be a node's name: empty, or with other bytes than
    printable text."""
    try:
        name = socket.gethostname()
    except (OSError, UnicodeError):
        return None
    name = unicodedata.normalize("NFC", name)
    return name if is_node_name(name) and name.isprintable() else None


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """One address of this machine, with the network it is on and the interface that has it."""

    interface: str
    ip: Address
    network: Network

    @property
    def scoped(self) -> str:
        """The address as a text that can be dialled here: a link-local one with its interface."""
        is_scoped = self.ip.version == 6 and self.ip.is_link_local
        return f"{self.ip}%{self.interface}" if is_scoped else str(self.ip)

    @property
    def scopes(self) -> tuple[str, ...]:
        """The name and the number of the interface."""
        with suppress(OSError):
            return self.interface, str(socket.if_nametoindex(self.interface))
        return (self.interface,)  # it went away


class Reach(IntEnum):
    """The prospect that other machines are behind an interface, the best first."""

    OUTSIDE = 0  # it has a link, and a gateway or a physical port
    UNKNOWN = 1  # it has a link and neither: a VPN, a cable into another namespace, a network of this host alone
    INSIDE = 2  # it has no link, or is a bridge without a physical port, or a port of a bridge


def reach_of(interfaces: Iterable[str]) -> dict[str, Reach]:
    """Return the reach of each of `interfaces`, by what they are and not by their names (Linux: /sys/class/net).

    It is UNKNOWN for those of which the kernel shows nothing, as on macOS."""
    with_gateway = _interfaces_with_gateway()
    return {name: _reach(name, has_gateway=name in with_gateway) for name in set(interfaces)}


def _reach(name: str, *, has_gateway: bool) -> Reach:
    folder = _SYS_NET / name.partition(":")[0]  # eth0:1 is a second address of eth0
    try:
        if int((folder / "ifindex").read_text()) != socket.if_nametoindex(folder.name):
            return Reach.UNKNOWN  # /sys shows the interfaces of another network namespace
        has_link = (folder / "carrier").read_text().strip() == "1"
    except FileNotFoundError:
        return Reach.UNKNOWN
    except OSError:  # the interface is down, and its carrier cannot be read
        has_link = False
    is_physical = _is_physical(folder)
    if not has_link or (folder / "brport").exists() or ((folder / "bridge").exists() and not is_physical):
        return Reach.INSIDE
    return Reach.OUTSIDE if has_gateway or is_physical else Reach.UNKNOWN


def _is_physical(folder: Path) -> bool:
    """Return True for an interface with a device, and for one above it: a bridge, a bond, a VLAN."""
    return (folder / "device").exists() or any(_is_physical(lower) for lower in folder.glob("lower_*"))


def _interfaces_with_gateway() -> set[str]:
    """Return the interfaces with a route through a gateway (proc(5), /proc/net/route)."""
    found = set()
    # The columns of the interface and of the flags, which are hexadecimal.
    for name, interface_at, flags_at in (("route", 0, 3), ("ipv6_route", 9, 8)):
        with suppress(OSError):
            for line in (_PROC_NET / name).read_text().splitlines():
                fields = line.split()
                with suppress(ValueError, IndexError):  # the heading
                    if int(fields[flags_at], 16) & _ROUTE_FLAG_GATEWAY:
                        found.add(fields[interface_at])
    return found


def local_addresses() -> tuple[LocalAddress, ...]:
    """Return every address of every interface that is up, in a stable order. Takes about one millisecond."""
    found = [
        local_address(
            adapter.name, address.ip if isinstance(address.ip, str) else address.ip[0], address.network_prefix
        )
        for adapter in ifaddr.get_adapters()
        for address in adapter.ips
    ]
    return in_order(found)


def local_address(interface: str, ip: str, prefix: int) -> LocalAddress:
    """Return the address `ip`/`prefix` of `interface`."""
    with_network: IPv4Interface | IPv6Interface = ip_interface(f"{ip}/{prefix}")
    return LocalAddress(interface, ip_address(ip), with_network.network)


def in_order(addresses: Iterable[LocalAddress]) -> tuple[LocalAddress, ...]:
    """Sort addresses, IPv4 first, then by interface and address, each once: two scans of an unchanged machine are
    equal."""
    return tuple(sorted(set(addresses), key=lambda each: (each.ip.version, each.interface, each.ip.packed)))
