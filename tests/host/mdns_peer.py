"""The other process of test_mdns.py: a node to be seen, or a script to run in a network namespace."""

import asyncio
import logging
import os
import sys
from collections.abc import Sequence

from echonode.errors import TransportError
from echonode.host import mdns
from echonode.host.announcement import Announcement, Sighting, instance_name
from echonode.host.mdns import Discovery
from echonode.host.tcp import Listener, TcpDial
from echonode.sync.streams import ByteStream
from tests.host.namespaces import ip


def node(
    *, listen: Sequence[str], interfaces: list[str] | None, sightings: "asyncio.Queue[Sighting]"
) -> tuple[str, Discovery]:
    announcement = Announcement(os.urandom(8), os.urandom(8), "1.0")
    discovery = Discovery(
        announcement,
        listen=listen,
        interfaces=interfaces,
        is_ours=lambda _tag, _group: False,
        on_sighting=sightings.put_nowait,
        on_gone=lambda _name: None,
    )
    return instance_name(announcement.tag), discovery


async def be_seen() -> None:
    """Print this node's name, print "seen" once the name read from stdin is seen, stop when stdin ends."""
    sightings: asyncio.Queue[Sighting] = asyncio.Queue()
    name, discovery = node(listen=["127.0.0.1:4003"], interfaces=["127.0.0.1"], sightings=sightings)
    await discovery.start()
    print(name, flush=True)
    wanted = (await asyncio.to_thread(sys.stdin.readline)).strip()
    while (await sightings.get()).name != wanted:
        pass
    print("seen", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await discovery.close()


async def address_appears() -> None:
    """Let two nodes meet on loopback, the only address there is; both must move to the network that then comes up."""
    ip("link", "set", "lo", "up")
    ip("link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
    accepted: asyncio.Queue[str] = asyncio.Queue()

    async def note(stream: ByteStream) -> None:
        accepted.put_nowait(stream.address)

    listener = Listener()
    await listener.start(None, note, lambda _: None)
    sightings: asyncio.Queue[Sighting] = asyncio.Queue()
    name, one = node(listen=listener.addresses, interfaces=None, sightings=sightings)
    _, two = node(listen=["0.0.0.0:4005", "[::]:4005"], interfaces=None, sightings=sightings)
    await one.start()
    await two.start()
    while (seen := await sightings.get()).name != name:
        pass
    assert seen.addresses == ("127.0.0.1:22087",), seen
    ip("link", "set", "lan0", "up")
    ip("link", "set", "lan1", "up")
    ip("address", "add", "10.77.0.1/24", "dev", "lan0")
    has_ipv6 = "fe80" in ip("-6", "route", "show", "dev", "lan0")
    while (
        seen.name != name
        or "10.77.0.1:22087" not in seen.addresses
        or has_ipv6 > any(each.startswith("[fe80::") and "%lan" in each for each in seen.addresses)
    ):
        seen = await sightings.get()
    for address in seen.addresses:
        stream = await TcpDial()(address)
        await accepted.get()
        await stream.close()
    for discovery in (one, two):
        await discovery.close()
    await listener.close()


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


async def interface_flaps() -> None:
    """Take an interface away and bring it back while its node announces: one plain line is logged, and all goes on."""
    mdns._WATCH_INTERVAL_S = 0.2  # type: ignore[misc]
    lines = Lines()
    logging.getLogger().addHandler(lines)
    ip("link", "set", "lo", "up")
    ip("link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
    for interface in ("lan0", "lan1"):
        ip("link", "set", interface, "up")
    ip("address", "add", "10.77.0.1/24", "dev", "lan0")
    _, discovery = node(listen=["0.0.0.0:4007"], interfaces=None, sightings=asyncio.Queue())
    await discovery.start()

    async def until(address: str) -> None:
        while [str(each.ip) for each in discovery._own] != [address]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # a scan reports to nobody

    await until("10.77.0.1")
    for _ in range(2):
        ip("link", "set", "lan0", "down")
        discovery.set_invitation("7")  # sends on a socket whose interface is down
        await asyncio.sleep(0.5)
        ip("link", "set", "lan0", "up")
        await asyncio.sleep(0.5)
    ip("link", "del", "lan0")
    discovery.set_invitation(None)
    await until("127.0.0.1")
    await discovery.close()
    warnings = [record for record in lines.records if record.levelno >= logging.WARNING]
    (line,) = [record for record in warnings if record.name == "zeroconf"]
    assert warnings == [line], [record.getMessage() for record in warnings]
    assert line.exc_info is None
    assert line.getMessage().startswith("an interface failed or went away ("), line.getMessage()


async def no_multicast() -> None:
    """Announce on an address whose interface cannot send."""
    ip("link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
    ip("address", "add", "10.77.0.1/24", "dev", "lan0")
    _, discovery = node(listen=["0.0.0.0:4006"], interfaces=["10.77.0.1"], sightings=asyncio.Queue())
    try:
        await discovery.start()
    except TransportError as error:
        assert "10.77.0.1" in str(error), error
    else:
        raise AssertionError("announced on an interface that is down")
    await discovery.close()


SCRIPTS = {"address-appears": address_appears, "interface-flaps": interface_flaps, "no-multicast": no_multicast}
asyncio.run(SCRIPTS.get(sys.argv[-1], be_seen)())
