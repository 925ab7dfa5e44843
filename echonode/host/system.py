"""The machine's time, randomness and addresses: the production side of the `Clock` and `Entropy` ports."""

import secrets
import socket
import time
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
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
from typing import TypeAlias

import ifaddr

from echonode.limits import NODE_NAME_BYTES_MAX
from echonode.text import is_nfc_text

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network


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
    return name if is_nfc_text(name, NODE_NAME_BYTES_MAX) and name.isprintable() and not name.isspace() else None


@dataclass(frozen=True, slots=True)
class LocalAddress:
    """One address of this machine, with the network it is on and the interface that has it."""

    interface: str
    ip: Address
    network: Network


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
