"""The announcement of this node and the check of others', as pure functions of bytes and addresses."""

import socket
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode.host.announcement import (
    ADDRESSES_MAX,
    TXT_BYTES_MAX,
    Announcement,
    addresses_to_announce,
    instance_name,
    on_link_first,
    own_endpoints,
    parse_txt,
    read_sighting,
    tag_of,
    to_txt,
)
from echonode.host.system import Reach, local_address

TAG = bytes.fromhex("0123456789abcdef")
OURS = Announcement(TAG, bytes(8), "1.0")
ETH0 = local_address("eth0", "192.168.7.2", 24)
ETH0_LINK = local_address("eth0", "fe80::2", 64)
ETH0_GLOBAL = local_address("eth0", "2001:db8::2", 64)
LOOPBACK = local_address("lo", "127.0.0.1", 8)
EVERYWHERE = ("0.0.0.0:22087", "[::]:22087")

announcements = st.builds(
    Announcement,
    st.binary(min_size=8, max_size=8),
    st.binary(min_size=8, max_size=8),
    st.from_regex(r"[0-9]{1,3}\.[0-9]{1,3}", fullmatch=True).filter(str.isascii),
    st.none() | st.text("0123456789abcdefghijklmnopqrstuvwxyz", min_size=1, max_size=8),
    st.integers(0, 2**32),
)


def txt(*strings: bytes) -> bytes:
    return b"".join(bytes((len(each),)) + each for each in strings)


def encoded(announcement: Announcement) -> bytes:
    return txt(*(f"{key}={value}".encode() for key, value in to_txt(announcement).items()))


@given(announcements)
def test_what_is_announced_is_read_back(announcement: Announcement) -> None:
    assert parse_txt(encoded(announcement)) == announcement
    assert len(encoded(announcement)) < TXT_BYTES_MAX


@given(st.binary(max_size=600))
def test_any_bytes_are_an_announcement_or_nothing(data: bytes) -> None:
    assert parse_txt(data) is None or len(data) <= TXT_BYTES_MAX


@given(announcements, st.data())
def test_a_damaged_announcement_is_never_an_error(announcement: Announcement, data: st.DataObject) -> None:
    good = bytearray(encoded(announcement))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    read = parse_txt(bytes(good))
    assert read is None or (len(read.tag), len(read.group)) == (8, 8)


T, G = b"t=0123456789abcdef", b"g=0000000000000000"


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"\xff" + b"txtvers=1",  # a string longer than the record
        txt(b"txtvers=2", b"pv=1.0", T, G),
        txt(b"txtvers", b"pv=1.0", T, G),
        txt(b"txtvers=1", b"pv=1", T, G),
        txt(b"txtvers=1", b"pv=1.0\n", T, G),
        txt(b"txtvers=1", b"pv=1.0", b"t=0123", G),
        txt(b"txtvers=1", b"pv=1.0", b"t=0123456789ABCDEF", G),
        txt(b"txtvers=1", b"pv=1.0", T),
        txt(b"txtvers=1", b"pv=1.0", T, b"g=" + b"\xd9\xa0" * 8),
        txt(b"txtvers=1", b"pv=1.0", T, G, b"i="),
        txt(b"txtvers=1", b"pv=1.0", T, G, b"i=\x1b[2J"),
        txt(b"txtvers=1", b"pv=1.0", T, G, b"i=123456789"),
        txt(b"txtvers=1", b"pv=1.0", T, G, b"s="),
        txt(b"txtvers=1", b"pv=1.0", T, G, b"s=-1"),
        txt(b"txtvers=1", b"pv=1.0", T, G, b"s=12345678901"),
        txt(b"txtvers=1", b"pv=1.0", T, G, b"x" * 200, b"y" * 200),
    ],
)
def test_a_hostile_text_record_announces_nothing(hostile: bytes) -> None:
    assert parse_txt(hostile) is None


def test_unknown_keys_are_ignored_and_the_first_of_equal_keys_counts() -> None:
    data = txt(b"TXTVERS=1", b"txtvers=9", b"", b"=x", b"new", b"pv=1.7", T, G, b"i=7", b"i=8", b"s=3", b"later=\xff")
    assert parse_txt(data) == Announcement(TAG, bytes(8), "1.7", "7", 3)


def test_an_instance_is_named_by_its_tag_and_by_nothing_else() -> None:
    assert tag_of(instance_name(TAG)) == TAG
    for name in ("x", "0123456789ABCDEF._echonode._tcp.local.", instance_name(TAG).upper(), "a." + instance_name(TAG)):
        assert tag_of(name) is None
    assert read_sighting(instance_name(bytes(8)), encoded(OURS), ["192.168.7.9"], 1, [ETH0]) is None


def test_a_sighting_lists_what_can_be_dialled_from_here_nearest_first() -> None:
    ips = ["10.0.0.9", "fe80::9%2", "192.168.7.9", "fe80::8", "224.0.0.1", "0.0.0.0", "127.0.0.1", "::1", "255.0.0.1"]
    ips += ["junk", "::ffff:127.0.0.1", "192.168.7.9"]
    sighting = read_sighting(instance_name(TAG), encoded(replace(OURS, slot="7")), ips, 22087, [ETH0, ETH0_LINK])
    assert sighting is not None
    assert sighting.addresses == ("192.168.7.9:22087", "[fe80::9%2]:22087", "10.0.0.9:22087")
    assert (sighting.tag, sighting.group, sighting.slot, sighting.version) == (TAG, bytes(8), "7", "1.0")


def test_a_loopback_address_is_believed_only_by_a_node_that_is_on_loopback() -> None:
    def seen(own: list[object]) -> object:
        return read_sighting(instance_name(TAG), encoded(OURS), ["127.0.0.1"], 7, own)  # type: ignore[arg-type]

    assert seen([ETH0]) is None
    assert seen([LOOPBACK]) is not None


@pytest.mark.parametrize("port", [None, 0, 65_536])
def test_a_sighting_without_a_usable_port_is_none(port: int | None) -> None:
    assert read_sighting(instance_name(TAG), encoded(OURS), ["192.168.7.9"], port, [ETH0]) is None


def test_a_sighting_keeps_a_bounded_number_of_addresses_and_all_of_the_near_ones() -> None:
    ips = [f"10.0.0.{number}" for number in range(1, 40)] + ["192.168.7.9"]
    sighting = read_sighting(instance_name(TAG), encoded(OURS), ips, 7, [ETH0])
    assert sighting is not None
    assert (len(sighting.addresses), sighting.addresses[0]) == (ADDRESSES_MAX, "192.168.7.9:7")


def test_addresses_on_a_network_of_ours_come_first_and_the_order_is_kept_otherwise() -> None:
    addresses = ["[2001:db8::9]:7", "10.0.0.9:7", "10.0.0.8:7", "192.168.7.9:7", "[fe80::9%eth0]:7"]
    assert on_link_first(addresses, [ETH0.network, ETH0_LINK.network]) == (
        "192.168.7.9:7",
        "[fe80::9%eth0]:7",
        "10.0.0.9:7",
        "10.0.0.8:7",
        "[2001:db8::9]:7",
    )
    assert on_link_first([], []) == ()


BRIDGE = local_address("podman0", "10.88.0.1", 16)
VPN = local_address("a-vpn", "10.9.0.1", 24)
REACH = {"podman0": Reach.INSIDE, "a-vpn": Reach.UNKNOWN, "eth0": Reach.OUTSIDE, "lo": Reach.UNKNOWN}


def test_interfaces_are_announced_by_what_is_behind_them_the_best_first() -> None:
    assert addresses_to_announce([BRIDGE, VPN, ETH0], None, EVERYWHERE, REACH) == (ETH0, VPN)
    assert addresses_to_announce([BRIDGE, VPN], None, EVERYWHERE, REACH) == (VPN,)
    assert addresses_to_announce([VPN, ETH0, ETH0_LINK], None, EVERYWHERE, REACH) == (ETH0, ETH0_LINK, VPN)
    assert addresses_to_announce([BRIDGE, LOOPBACK], None, EVERYWHERE, REACH) == (LOOPBACK,)
    assert addresses_to_announce([BRIDGE], None, EVERYWHERE, REACH) == ()


def test_an_interface_that_is_asked_for_is_announced_whatever_it_is() -> None:
    assert addresses_to_announce([BRIDGE, ETH0], ["10.88.0.1"], EVERYWHERE, REACH) == (BRIDGE,)


def test_a_link_local_address_may_be_asked_for_with_its_interface() -> None:
    other = local_address("eth1", "fe80::2", 64)
    number, name = socket.if_nameindex()[0]
    here = local_address(name, "fe80::2", 64)
    present = [ETH0_LINK, other, here]

    def asked(text: str) -> tuple[object, ...]:
        return addresses_to_announce(present, [text], EVERYWHERE, {})

    assert asked("fe80::2") == tuple(present)
    assert asked("fe80::2%eth1") == (other,)
    assert asked(f"fe80::2%{name}") == asked(f"fe80::2%{number}") == (here,)
    assert asked("fe80::2%eth9") == asked("fe80::3%eth1") == ()


def test_every_address_that_is_listened_on_is_an_own_endpoint() -> None:
    present = [ETH0, ETH0_LINK, ETH0_GLOBAL, LOOPBACK, BRIDGE]
    assert own_endpoints(present, ["0.0.0.0:7", "[::]:7"]) == {
        "192.168.7.2:7",
        "[fe80::2%eth0]:7",
        "[2001:db8::2]:7",
        "127.0.0.1:7",
        "10.88.0.1:7",
    }
    assert own_endpoints(present, ["192.168.7.2:7", "[fe80::2%eth0]:9"]) == {"192.168.7.2:7", "[fe80::2%eth0]:9"}
    assert own_endpoints(present, []) == set()


def test_what_others_announce_is_never_an_address_of_this_node() -> None:
    """Every Podman host has 10.88.0.1 on a bridge: dialled from here, it is this node."""
    ips = ["10.88.0.1", "192.168.7.9", "fe80::2%eth0", "fe80::2%eth1"]
    endpoints = own_endpoints([ETH0, ETH0_LINK, BRIDGE], ["0.0.0.0:7", "[::]:7"])

    def addresses(port: int, ips: list[str] = ips) -> tuple[str, ...] | None:
        sighting = read_sighting(instance_name(TAG), encoded(OURS), ips, port, [ETH0, ETH0_LINK], endpoints)
        return sighting and sighting.addresses

    assert addresses(7) == ("192.168.7.9:7", "[fe80::2%eth1]:7")
    # At another port it is a second node of this machine, or another machine with the same address: last.
    assert addresses(8) == ("192.168.7.9:8", "[fe80::2%eth1]:8", "[fe80::2%eth0]:8", "10.88.0.1:8")
    assert addresses(7, ["10.88.0.1"]) is None
    assert addresses(8, ["10.88.0.1"]) == ("10.88.0.1:8",)


def test_ipv4_and_link_local_ipv6_are_announced_and_loopback_only_where_there_is_nothing_else() -> None:
    assert addresses_to_announce([ETH0, ETH0_LINK, ETH0_GLOBAL, LOOPBACK], None, EVERYWHERE, {}) == (ETH0, ETH0_LINK)
    assert addresses_to_announce([local_address("lo", "::1", 128), LOOPBACK], None, EVERYWHERE, {}) == (LOOPBACK,)
    assert addresses_to_announce([], None, EVERYWHERE, {}) == ()


def test_only_what_is_listened_on_is_announced() -> None:
    present = [ETH0, ETH0_LINK, LOOPBACK]
    assert addresses_to_announce(present, None, ["127.0.0.1:4000"], {}) == (LOOPBACK,)
    assert addresses_to_announce(present, None, ["0.0.0.0:4000"], {}) == (ETH0,)
    assert addresses_to_announce(present, None, ["[fe80::2%eth0]:4000"], {}) == (ETH0_LINK,)
    assert addresses_to_announce(present, ["192.168.7.2"], ["127.0.0.1:4000"], {}) == ()
