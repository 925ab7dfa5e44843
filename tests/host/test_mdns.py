"""Discovery over real mDNS on loopback. Every node has a tag of its own, so that parallel runs do not meet."""

import asyncio
import itertools
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from zeroconf import DNSOutgoing, DNSPointer, RecordUpdate, RecordUpdateListener, Zeroconf
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from echonode.errors import TransportError
from echonode.host.announcement import SERVICE, Announcement, Sighting, instance_name, to_txt
from echonode.host.mdns import Discovery, _OneLineFilter
from tests.host.namespaces import ROOT, isolated

WAIT_S = 20.0
PEER = "tests.host.mdns_peer"


class Watcher:
    """A Discovery with its reports, and a way to wait for one."""

    _ports = itertools.count(4100)  # nodes of one machine are told apart by their ports

    def __init__(self, *, group: bytes | None = None, port: int | None = None, interface: str = "127.0.0.1") -> None:
        self.announcement = Announcement(os.urandom(8), group or os.urandom(8), "1.0")
        self.name = instance_name(self.announcement.tag)
        self.seen: dict[str, Sighting] = {}
        self.gone: list[str] = []
        self._news = asyncio.Event()
        self.discovery = Discovery(
            self.announcement,
            listen=[f"{interface}:{port or next(self._ports)}"],
            is_ours=lambda _, theirs: theirs == group,
            on_sighting=self._on_sighting,
            on_gone=self._on_gone,
            interfaces=[interface],
        )

    def _on_sighting(self, sighting: Sighting) -> None:
        self.seen[sighting.name] = sighting
        self._news.set()

    def _on_gone(self, name: str) -> None:
        self.gone.append(name)
        self._news.set()

    async def until(self, wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not wanted():
                self._news.clear()
                await self._news.wait()


@asynccontextmanager
async def running(*watchers: Watcher) -> AsyncIterator[None]:
    try:
        for watcher in watchers:
            await watcher.discovery.start()
        yield
    finally:
        for watcher in watchers:
            await watcher.discovery.close()


def run(test: Callable[[], object]) -> None:
    asyncio.run(test())  # type: ignore[arg-type]


@pytest.fixture(autouse=True, scope="module")
def _multicast() -> None:
    async def probe() -> None:
        async with running(Watcher()):
            pass

    try:
        run(probe)
    except TransportError as error:
        pytest.skip(f"no multicast on loopback here: {error}")


def test_two_nodes_see_each_other_and_never_themselves() -> None:
    async def test() -> None:
        one, two = Watcher(port=4001), Watcher(port=4002)
        async with running(one, two):
            await one.until(lambda: two.name in one.seen)
            await two.until(lambda: one.name in two.seen)
            assert one.seen[two.name] == Sighting(
                two.name, ("127.0.0.1:4002",), two.announcement.tag, two.announcement.group, None, "1.0"
            )
            assert one.name not in one.seen
            assert two.name not in two.seen

    run(test)


def test_a_node_in_another_process_is_seen_and_its_goodbye_is_too() -> None:
    async def test() -> None:
        here = Watcher()
        async with running(here):
            peer = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", PEER), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
            )
            assert peer.stdin is not None
            assert peer.stdout is not None
            try:
                name = (await asyncio.wait_for(peer.stdout.readline(), WAIT_S)).decode().strip()
                await here.until(lambda: name in here.seen)
                peer.stdin.write(here.name.encode() + b"\n")  # the peer answers once it sees this node
                assert (await asyncio.wait_for(peer.stdout.readline(), WAIT_S)).strip() == b"seen"
                assert name not in here.gone
                peer.stdin.close()  # ends the peer
                await here.until(lambda: name in here.gone)
                assert await asyncio.wait_for(peer.wait(), WAIT_S) == 0
            finally:
                if peer.returncode is None:
                    peer.kill()

    run(test)


def test_an_invitation_is_seen_while_it_is_open_and_again_when_reopened() -> None:
    async def test() -> None:
        one, two = Watcher(), Watcher()
        async with running(one, two):
            await two.until(lambda: one.name in two.seen)
            for slot in ("7", None, "7", None):  # a return to an earlier text is a change too
                one.discovery.set_invitation(slot)
                await two.until(lambda slot=slot: two.seen[one.name].slot == slot)
            assert two.gone == []

    run(test)


def test_a_node_that_joins_a_network_is_seen_in_its_new_group() -> None:
    async def test() -> None:
        one, two = Watcher(), Watcher()
        async with running(one, two):
            await two.until(lambda: one.name in two.seen)
            one.discovery.set_invitation("4")
            one.discovery.update(group=b"new grou")
            await two.until(lambda: two.seen[one.name].group == b"new grou")
            await two.until(lambda: two.seen[one.name].slot == "4")

    run(test)


def test_a_goodbye_follows_a_stop_in_the_middle_of_an_announcement() -> None:
    async def test() -> None:
        one, two = Watcher(), Watcher()
        async with running(two):
            async with running(one):
                await two.until(lambda: one.name in two.seen)
                one.discovery.set_invitation("7")
                await two.until(lambda: two.seen[one.name].slot == "7")  # its first of three packets
            await two.until(lambda: one.name in two.gone)
            assert one.name not in {each.name for each in two.discovery.sightings}
            await one.discovery.close()

    run(test)


def service(tag: bytes, **changes: object) -> AsyncServiceInfo:
    """Return the announcement of a hostile node: correct but for `changes`."""
    as_it_should_be = {
        "port": 4009,
        "properties": to_txt(Announcement(tag, os.urandom(8), "1.0")),
        "server": f"{tag.hex()}.local.",
        "parsed_addresses": ["127.0.0.1"],
    }
    return AsyncServiceInfo(SERVICE, str(changes.pop("name", instance_name(tag))), **{**as_it_should_be, **changes})  # type: ignore[arg-type]


def test_an_answer_that_comes_late_does_not_take_back_what_was_announced_behind_it() -> None:
    async def test() -> None:
        tag = os.urandom(8)
        texts = [Announcement(tag, bytes(8), "1.0", slot, serial) for serial, slot in enumerate(("7", "8", "9"))]
        first, second, third = (service(tag, properties=to_txt(text)) for text in texts)
        here = Watcher()
        peer = AsyncZeroconf(interfaces=["127.0.0.1"])
        slots = []
        try:
            async with running(here):
                await peer.zeroconf.async_wait_for_start()
                for shape in (second, first, third):
                    peer.zeroconf.async_send(peer.zeroconf.generate_service_broadcast(shape, None))
                    slots.append(here.seen[first.name].slot if first.name in here.seen else None)
                    await asyncio.sleep(0.2)
                await here.until(lambda: here.seen[first.name].slot == "9")
                assert slots == [None, "8", "8"]
        finally:
            await peer.async_close()

    run(test)


def test_a_forged_announcement_with_the_highest_serial_hides_a_node_for_a_moment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("echonode.host.mdns._LATE_S", 1.0)

    async def test() -> None:
        tag = os.urandom(8)
        forged, honest, later = (
            service(tag, properties=to_txt(Announcement(tag, group * 8, "1.0", None, serial)))
            for group, serial in ((b"f", 9_999_999_999), (b"h", 1), (b"h", 2))
        )
        here = Watcher()
        peer = AsyncZeroconf(interfaces=["127.0.0.1"])

        def send(shape: AsyncServiceInfo) -> None:
            peer.zeroconf.async_send(peer.zeroconf.generate_service_broadcast(shape, None))

        try:
            async with running(here):
                await peer.zeroconf.async_wait_for_start()
                send(forged)
                await here.until(lambda: forged.name in here.seen)
                send(honest)
                await asyncio.sleep(1.2)  # zeroconf takes two records within a second for two that both hold
                assert here.seen[forged.name].group == b"f" * 8
                send(later)
                await here.until(lambda: here.seen[forged.name].group == b"h" * 8)
        finally:
            await peer.async_close()

    run(test)


def test_a_change_is_announced_once_more_behind_the_answers_that_came_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echonode.host.mdns._WATCH_INTERVAL_S", 1.5)

    class Listener(RecordUpdateListener):
        heard = asyncio.Event()

        def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
            if any(record.new.name == one.name and b"i=7" in getattr(record.new, "text", b"") for record in records):
                self.heard.set()

    one = Watcher()

    async def test() -> None:
        async with running(one):
            one.discovery.set_invitation("7")
            await asyncio.sleep(1)  # zeroconf sends three packets within half a second
            late = AsyncZeroconf(interfaces=["127.0.0.1"])
            try:
                late.zeroconf.async_add_listener(Listener(), None)  # it asks nothing
                await asyncio.wait_for(Listener.heard.wait(), WAIT_S)
            finally:
                await late.async_close()

    run(test)


def test_hostile_announcements_are_dropped_and_counted_and_honest_ones_still_come_through() -> None:
    async def test() -> None:
        here, honest = Watcher(), Watcher()
        shapes = [
            service(os.urandom(8), properties=b"\xff" * 300),
            service(os.urandom(8), properties=b""),
            service(os.urandom(8), properties={"txtvers": "1", "pv": "1.0", "t": "0" * 16, "g": "0" * 16}),
            service(os.urandom(8), port=0),
            service(os.urandom(8), parsed_addresses=["224.0.0.1", "255.255.255.255"]),
        ]
        names = [f"\x1b[31m.{SERVICE}", f"{'ä' * 30}.{SERVICE}", f"{'A' * 16}.{SERVICE}"]
        hostile = AsyncZeroconf(interfaces=["127.0.0.1"])
        try:
            async with running(here):
                await hostile.zeroconf.async_wait_for_start()
                for name in names:
                    pointer = DNSOutgoing(0x8400)  # an authoritative response (RFC 6762 §18)
                    pointer.add_answer_at_time(DNSPointer(SERVICE, 12, 1, 4500, name), 0)
                    hostile.zeroconf.async_send(pointer)
                for shape in shapes:
                    await hostile.async_register_service(shape, cooperating_responders=True)
                async with running(honest):
                    await here.until(lambda: honest.name in here.seen)
                    assert set(here.seen).isdisjoint([*names, *(shape.name for shape in shapes)])
                    assert here.discovery.dropped >= len(shapes) + len(names)
        finally:
            await hostile.async_close()

    run(test)


def test_missing_records_are_asked_for() -> None:
    """Resolve a bare pointer, as some responders send it, by questions of this node."""

    class PointerOnly(Zeroconf):
        def _add_broadcast_answer(self, out, info, override_ttl, broadcast_addresses=True) -> None:  # type: ignore[no-untyped-def]
            out.add_answer_at_time(info.dns_pointer(override_ttl=override_ttl), 0)

    async def test() -> None:
        here = Watcher()
        terse = AsyncZeroconf(zc=PointerOnly(interfaces=["127.0.0.1"]))
        shape = service(os.urandom(8))
        try:
            async with running(here):
                await terse.async_register_service(shape, cooperating_responders=True)
                await here.until(lambda: shape.name in here.seen)
        finally:
            await terse.async_close()

    run(test)


def test_a_flood_of_strangers_is_bounded_and_never_pushes_out_our_own_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("echonode.host.mdns.CANDIDATES_MAX", 8)

    async def test() -> None:
        group = os.urandom(8)
        here, friend = Watcher(group=group), Watcher(group=group)
        flood = AsyncZeroconf(interfaces=["127.0.0.1"])
        shapes = [service(os.urandom(8)) for _ in range(30)]
        try:
            async with running(here, friend):
                await here.until(lambda: friend.name in here.seen)
                await flood.zeroconf.async_wait_for_start()
                for shape in shapes:
                    flood.zeroconf.registry.async_add(shape)
                    flood.zeroconf.async_send(flood.zeroconf.generate_service_broadcast(shape, None))
                await here.until(lambda: {shape.name for shape in shapes} <= here.seen.keys())
                assert len(here.discovery.sightings) == 8
                assert friend.name in {each.name for each in here.discovery.sightings}
                assert friend.name not in here.gone
                assert here.discovery.dropped >= 22
        finally:
            await flood.async_close()

    run(test)


def test_an_interface_that_is_not_ours_is_refused_in_a_sentence() -> None:
    async def test() -> None:
        watcher = Watcher(interface="192.0.2.77")
        with pytest.raises(TransportError, match="nothing to announce"):
            await watcher.discovery.start()
        await watcher.discovery.close()

    run(test)


def test_an_address_that_appears_is_announced_without_a_restart() -> None:
    isolated(PEER, "address-appears")


def test_an_interface_that_flaps_and_goes_away_costs_one_line_of_log() -> None:
    isolated(PEER, "interface-flaps")


def test_other_errors_of_zeroconf_are_one_line_each() -> None:
    one_line = _OneLineFilter()

    def filtered(text: str, error: Exception | None) -> str | None:
        info = (type(error), error, None) if error else None
        record = logging.LogRecord("zeroconf", logging.WARNING, "", 0, text, (), info)
        if not one_line.filter(record):
            return None
        assert record.exc_info is None
        return record.getMessage()

    assert filtered("odd packet", None) == "odd packet"
    assert filtered("odd packet", ValueError("why")) == "odd packet: ValueError: why"
    assert "(network is down)" in (filtered("Error with socket 1", OSError("network is down")) or "")
    assert filtered("Error with socket 2", OSError("network is down")) is None
    assert filtered("odd packet", ValueError("why")) == "odd packet: ValueError: why"


def test_where_multicast_is_cut_off_the_caller_learns_it() -> None:
    isolated(PEER, "no-multicast")
