"""Simulated mDNS: announcements, goodbyes and false sightings on one LAN.

    announced    every host gets a sighting, after a delay of its own or only at the next refresh
    withdrawn    every host gets the goodbye; a crashed node stays listed until its records expire
    false        sightings of nodes that do not exist: unused addresses, addresses of other nodes, outdated ports
    flood        more sightings than a node may keep

Multicast does not cross a partition. A host that missed an announcement hears it at the first refresh after the
partition.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from echonode.node.node import Presence
from echonode.sim.event_loop import SimLoop

REFRESH_S: Final = 60.0
EXPIRY_S: Final = 120.0  # the TTL of host records (RFC 6762 §10)


class SightingReceiver(Protocol):
    """The part of a node that discovery calls."""

    def sighted(
        self, key: str, addresses: list[str], *, tag: bytes, group: bytes, slot: str | None = None
    ) -> None: ...

    def gone(self, key: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MulticastConditions:
    """The properties of multicast on a LAN."""

    delay_s: float = 0.0  # a sighting arrives within this time
    loss: float = 0.0  # the share of sightings that arrive only at the next refresh


RELIABLE: Final = MulticastConditions()


class SimDiscovery:
    """The multicast of one LAN. `is_blocked(from host, to host)` is the network's method."""

    def __init__(
        self,
        loop: SimLoop,
        *,
        seed: int | str,
        conditions: MulticastConditions,
        is_blocked: Callable[[str, str], bool],
    ) -> None:
        self.is_off = False  # no announcement or goodbye is heard, then or later
        self.shared: tuple[str, ...] = ()  # addresses that every host announces before its own
        self._loop = loop
        self._draw = Random(f"discovery/{seed}")
        self._conditions = conditions
        self._is_blocked = is_blocked
        self._receivers: dict[str, SightingReceiver] = {}
        self._announced: dict[str, tuple[Presence, str]] = {}  # by host: its last announcement and its address

    def listen(self, host: str, node: SightingReceiver) -> None:
        """Deliver sightings at `host` to `node` from now on, beginning with all that are announced."""
        self._receivers[host] = node
        for other in list(self._announced):
            self._schedule_sighting(other, host)

    def crash(self, host: str) -> None:
        """Stop deliveries to `host`, whose process is gone. Its announcement stays until it expires."""
        self._receivers.pop(host, None)
        announced = self._announced.pop(host, None)
        if announced is not None:
            self._loop.call_later(EXPIRY_S, self._expire, host, _key(announced[0].tag))

    def announce(self, host: str, announcement: Presence, address: str) -> None:
        """Announce `host` to every other host, for the first time or anew."""
        self._announced[host] = (announcement, address)
        for other in list(self._receivers):
            self._schedule_sighting(host, other)

    def withdraw(self, host: str) -> None:
        """Say goodbye for `host`. A host behind a partition forgets it only when its records expire."""
        self._receivers.pop(host, None)
        announced = self._announced.pop(host, None)
        if announced is not None and not self.is_off:
            key = _key(announced[0].tag)
            for other, node in list(self._receivers.items()):
                if self._is_blocked(host, other):
                    self._loop.call_later(EXPIRY_S, self._expire, host, key)
                else:
                    node.gone(key)

    def mislead(self, victim: str, count: int) -> None:
        """Send `count` sightings of nodes that do not exist to the node at `victim`."""
        node = self._receivers.get(victim)
        real = [(announcement, address) for announcement, address in self._announced.values()]
        for _ in range(count if node is not None else 0):
            assert node is not None
            tag, group = self._draw.randbytes(8), self._draw.randbytes(8)
            address = f"10.9.{self._draw.randrange(256)}.{self._draw.randrange(256)}:{self._draw.randrange(1, 65536)}"
            match self._draw.randrange(4):
                case 0 if real:  # a member's announcement, replayed with another address
                    announcement, _ = self._draw.choice(real)
                    tag, group = announcement.tag, announcement.group
                case 1 if real:  # a stranger at a member's address
                    _, address = self._draw.choice(real)
                case 2:  # the port of an earlier start
                    address = f"{self._draw.choice(list(self._receivers))}:1"
            node.sighted(_key(self._draw.randbytes(8)), [address], tag=tag, group=group)

    def _schedule_sighting(self, host: str, other: str) -> None:
        if host == other or self.is_off:
            return
        delay_s = self._draw.uniform(0.0, self._conditions.delay_s) if self._conditions.delay_s else 0.0
        if self._draw.random() < self._conditions.loss:
            delay_s += REFRESH_S
        if delay_s:
            self._loop.call_later(delay_s, self._arrive, host, other)
        else:
            self._arrive(host, other)

    def _arrive(self, host: str, other: str) -> None:
        """Deliver the present announcement of `host` to `other`; during a partition, try again at the next refresh."""
        announced, node = self._announced.get(host), self._receivers.get(other)
        if announced is None or node is None:
            return
        if self._is_blocked(host, other):
            self._loop.call_later(REFRESH_S, self._arrive, host, other)
            return
        announcement, address = announced
        node.sighted(
            _key(announcement.tag),
            [*self.shared, address],
            tag=announcement.tag,
            group=announcement.group,
            slot=announcement.slot,
        )

    def _expire(self, host: str, key: str) -> None:
        for other, node in list(self._receivers.items()):
            if other != host:
                node.gone(key)


def _key(tag: bytes) -> str:
    return tag.hex()
