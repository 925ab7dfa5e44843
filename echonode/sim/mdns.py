"""Simulated mDNS: who is told of whom, when, and what else is on the air.

    announced    told to every host, each after a delay of its own, some only at the next refresh
    withdrawn    told likewise; a node that crashed says nothing and stays listed until its records expire
    false        sightings of what is not there: addresses nobody listens at, other people's addresses, stale ports
    flood        more sightings than a node may keep

Multicast does not cross a partition: what could not be heard is heard at the first refresh after it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from echonode.node.node import Presence
from echonode.sim.event_loop import SimLoop

REFRESH_S: Final = 60.0
EXPIRY_S: Final = 120.0  # the TTL of host records (RFC 6762 §10)


class Listens(Protocol):
    """The part of a node that discovery speaks to."""

    def sighted(
        self, key: str, addresses: list[str], *, tag: bytes, group: bytes, slot: str | None = None
    ) -> None: ...

    def gone(self, key: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Air:
    """What multicast is like."""

    delay_s: float = 0.0  # the longest until a sighting arrives
    loss: float = 0.0  # the share of sightings that arrive only with the next refresh


CLEAR: Final = Air()


class SimDiscovery:
    """One LAN's multicast. `is_blocked(from host, to host)` is the network's word on who hears whom."""

    def __init__(self, loop: SimLoop, *, seed: int | str, air: Air, is_blocked: Callable[[str, str], bool]) -> None:
        self.is_off = False  # nobody hears of anybody's coming and going, nor later of what was meanwhile
        self._loop = loop
        self._draw = Random(f"discovery/{seed}")
        self._air = air
        self._is_blocked = is_blocked
        self._listening: dict[str, Listens] = {}
        self._announced: dict[str, tuple[Presence, str]] = {}  # by host: what it announced last, and its address

    def listen(self, host: str, node: Listens) -> None:
        """From now on `node` is what hears at `host`; it is told of everybody."""
        self._listening[host] = node
        for other in list(self._announced):
            self._tell(other, host)

    def deafen(self, host: str) -> None:
        """The process at `host` is gone. What it announced stays on the air until it expires."""
        self._listening.pop(host, None)
        announced = self._announced.pop(host, None)
        if announced is not None:
            self._loop.call_later(EXPIRY_S, self._expire, host, _key(announced[0].tag))

    def announce(self, host: str, announcement: Presence, address: str) -> None:
        """`host` announces itself, for the first time or anew."""
        self._announced[host] = (announcement, address)
        for other in list(self._listening):
            self._tell(host, other)

    def withdraw(self, host: str) -> None:
        """`host` says goodbye."""
        self._listening.pop(host, None)
        announced = self._announced.pop(host, None)
        if announced is not None and not self.is_off:
            key = _key(announced[0].tag)
            for other, node in list(self._listening.items()):
                if self._is_blocked(host, other):
                    self._loop.call_later(EXPIRY_S, self._expire, host, key)
                else:
                    node.gone(key)

    def mislead(self, victim: str, count: int) -> None:
        """Tell the node at `victim` of `count` nodes that are not there."""
        node = self._listening.get(victim)
        real = [(announcement, address) for announcement, address in self._announced.values()]
        for _ in range(count if node is not None else 0):
            assert node is not None
            tag, group = self._draw.randbytes(8), self._draw.randbytes(8)
            address = f"10.9.{self._draw.randrange(256)}.{self._draw.randrange(256)}:{self._draw.randrange(1, 65536)}"
            match self._draw.randrange(4):
                case 0 if real:  # a member's word, replayed with another address
                    announcement, _ = self._draw.choice(real)
                    tag, group = announcement.tag, announcement.group
                case 1 if real:  # a stranger at a member's address
                    _, address = self._draw.choice(real)
                case 2:  # the port of an earlier start
                    address = f"{self._draw.choice(list(self._listening))}:1"
            node.sighted(_key(self._draw.randbytes(8)), [address], tag=tag, group=group)

    def _tell(self, host: str, other: str) -> None:
        if host == other or self.is_off:
            return
        delay_s = self._draw.uniform(0.0, self._air.delay_s) if self._air.delay_s else 0.0
        if self._draw.random() < self._air.loss:
            delay_s += REFRESH_S
        if delay_s:
            self._loop.call_later(delay_s, self._arrive, host, other)
        else:
            self._arrive(host, other)

    def _arrive(self, host: str, other: str) -> None:
        """`other` hears what `host` announces by now."""
        announced, node = self._announced.get(host), self._listening.get(other)
        if announced is None or node is None:
            return
        if self._is_blocked(host, other):
            self._loop.call_later(REFRESH_S, self._arrive, host, other)
            return
        announcement, address = announced
        node.sighted(
            _key(announcement.tag), [address], tag=announcement.tag, group=announcement.group, slot=announcement.slot
        )

    def _expire(self, host: str, key: str) -> None:
        for other, node in list(self._listening.items()):
            if other != host:
                node.gone(key)


def _key(tag: bytes) -> str:
    return tag.hex()
