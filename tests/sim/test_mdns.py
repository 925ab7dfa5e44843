"""Simulated mDNS: sightings that come late, at the next refresh, or of nodes that do not exist."""

import asyncio
from collections.abc import Awaitable, Callable

from echonode.node.node import Presence
from echonode.sim.event_loop import SimLoop
from echonode.sim.mdns import EXPIRY_S, REFRESH_S, MulticastConditions, SimDiscovery


class RecordingReceiver:
    """The sightings and goodbyes that a host heard."""

    def __init__(self) -> None:
        self.seen: dict[str, list[str]] = {}
        self.goodbyes: list[str] = []

    def sighted(self, key: str, addresses: list[str], *, tag: bytes, group: bytes, slot: str | None = None) -> None:
        assert len(tag) == len(group) == 8
        self.seen[key] = addresses

    def gone(self, key: str) -> None:
        self.goodbyes.append(key)


class Lan:
    def __init__(self, loop: SimLoop, conditions: MulticastConditions) -> None:
        self.blocked: set[tuple[str, str]] = set()
        self.discovery = SimDiscovery(
            loop, seed=1, conditions=conditions, is_blocked=lambda *pair: pair in self.blocked
        )
        self.receivers = {host: RecordingReceiver() for host in ("a", "b", "c")}
        for host, receiver in self.receivers.items():
            self.discovery.listen(host, receiver)

    def announce(self, host: str) -> str:
        tag = host.encode() * 8
        self.discovery.announce(host, Presence(tag, bytes(8), None), f"{host}:1")
        return tag.hex()


def on_a_lan(work: Callable[[Lan], Awaitable[None]], conditions: MulticastConditions | None = None) -> None:
    loop = SimLoop(seed=1)

    async def main() -> None:
        await work(Lan(loop, conditions or MulticastConditions()))

    loop.complete(main())


def test_every_other_host_hears_of_a_host_even_if_it_comes_later() -> None:
    async def work(lan: Lan) -> None:
        key = lan.announce("a")
        assert lan.receivers["b"].seen == lan.receivers["c"].seen == {key: ["a:1"]}
        assert lan.receivers["a"].seen == {}
        late = RecordingReceiver()
        lan.discovery.listen("d", late)
        assert late.seen == {key: ["a:1"]}

    on_a_lan(work)


def test_a_lost_sighting_comes_with_the_next_refresh() -> None:
    async def work(lan: Lan) -> None:
        key = lan.announce("a")
        await asyncio.sleep(REFRESH_S / 2)
        assert key not in lan.receivers["b"].seen
        await asyncio.sleep(REFRESH_S)
        assert key in lan.receivers["b"].seen

    on_a_lan(work, MulticastConditions(loss=1.0))


def test_a_partition_is_not_crossed_until_it_is_over() -> None:
    async def work(lan: Lan) -> None:
        lan.blocked = {("a", "b")}
        key = lan.announce("a")
        assert key in lan.receivers["c"].seen
        await asyncio.sleep(3 * REFRESH_S)
        assert key not in lan.receivers["b"].seen
        lan.blocked = set()
        await asyncio.sleep(REFRESH_S)
        assert key in lan.receivers["b"].seen

    on_a_lan(work)


def test_a_goodbye_is_heard_at_once_and_a_crash_when_records_expire() -> None:
    async def work(lan: Lan) -> None:
        first, second = lan.announce("a"), lan.announce("b")
        lan.discovery.withdraw("a")
        assert lan.receivers["c"].goodbyes == [first]
        lan.discovery.crash("b")
        await asyncio.sleep(EXPIRY_S - 1)
        assert second not in lan.receivers["c"].goodbyes
        await asyncio.sleep(2)
        assert second in lan.receivers["c"].goodbyes

    on_a_lan(work)


def test_false_sightings_are_of_nodes_that_were_not_announced() -> None:
    async def work(lan: Lan) -> None:
        real = {lan.announce("a"), lan.announce("b")}
        lan.discovery.mislead("c", 60)
        assert len(lan.receivers["c"].seen) == 62
        addresses = [address for key, (address,) in lan.receivers["c"].seen.items() if key not in real]
        assert {"a:1", "b:1"} & set(addresses), "strangers at members' addresses are among them"
        assert len(set(addresses)) > 15

    on_a_lan(work)
