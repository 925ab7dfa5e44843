"""The records that a node announces over mDNS, and the check of those that others announce. Pure: hostile answers end
here (SECURITY.md H5; the form is that of RFC 6763). `mdns.py` sends and receives.

    instance   <tag as 16 hex digits>._echonode._tcp.local.      host  <the same>.local.
    TXT        txtvers=1  pv=MAJOR.MINOR  t=<tag>  g=<group>  [i=<invitation slot>]  [s=<serial>]

`t` is 8 random bytes drawn at each start. `g` is 8 bytes over it, keyed with the network key. Both are in lower-case
hex. A node that has the key recognises its own network; any other sees neither an identity nor a name, nor the same
node twice. An instance must be named by its tag, so that one overheard pair of `t` and `g` makes one entry and no more.

`i` is there while an invitation is open. `s` counts the changes since the start, for two reasons. A cache that keeps
expired records for a while (python-zeroconf: 10 s) takes a return to an earlier text for no change. An answer may be
sent up to a second after it was made, behind a newer one (RFC 6762 §6): of two texts the higher serial counts. Unknown
keys are ignored.

A sighting is a hint where to dial and never a decision whom to trust.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from echonode.host.system import Address, LocalAddress, Network, Reach
from echonode.host.tcp import format_address, parse_address

SERVICE: Final = "_echonode._tcp.local."
TAG_BYTES: Final = 8
TXT_BYTES_MAX: Final = 400  # RFC 6763 §6.2: still fits one small packet
ADDRESSES_MAX: Final = 16  # in one sighting: more than a node has interfaces, few enough to dial

_INSTANCE: Final = re.compile(rf"([0-9a-f]{{{2 * TAG_BYTES}}})\.{re.escape(SERVICE)}", re.ASCII)
_HEX: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_VERSION: Final = re.compile(r"[0-9]{1,3}\.[0-9]{1,3}", re.ASCII)
_SLOT: Final = re.compile(r"[0-9a-z]{1,8}", re.ASCII)
_SERIAL: Final = re.compile(r"[0-9]{1,10}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Announcement:
    """The content of one TXT record."""

    tag: bytes
    group: bytes
    version: str
    slot: str | None = None
    serial: int = 0


@dataclass(frozen=True, slots=True)
class Sighting:
    """An announced node: its instance `name`, where to dial (HOST:PORT, on-link first), and its TXT record."""

    name: str
    addresses: tuple[str, ...]
    tag: bytes
    group: bytes
    slot: str | None
    version: str
    serial: int = 0


def instance_name(tag: bytes) -> str:
    """Return the service instance that a node with this tag announces."""
    return f"{tag.hex()}.{SERVICE}"


def tag_of(name: str) -> bytes | None:
    """Return the tag in an instance name, None for a name that no node gave."""
    match = _INSTANCE.fullmatch(name)
    return bytes.fromhex(match[1]) if match else None


def to_txt(announcement: Announcement) -> dict[str, str]:
    """Return the keys and values of the TXT record, `txtvers` first (RFC 6763 §6.7)."""
    pairs = {
        "txtvers": "1",
        "pv": announcement.version,
        "t": announcement.tag.hex(),
        "g": announcement.group.hex(),
    }
    if announcement.slot is not None:
        pairs["i"] = announcement.slot
    if announcement.serial:
        pairs["s"] = str(announcement.serial)
    return pairs


def parse_txt(data: bytes) -> Announcement | None:
    """Return the announcement in the bytes of a TXT record (RFC 6763 §6), None when no node made them."""
    pairs = _pairs(data)
    if pairs is None or pairs.get("txtvers") != "1":
        return None
    version, tag, group, slot = pairs.get("pv", ""), pairs.get("t", ""), pairs.get("g", ""), pairs.get("i")
    serial = pairs.get("s", "0")
    if not (_VERSION.fullmatch(version) and _HEX.fullmatch(tag) and _HEX.fullmatch(group)):
        return None
    if not _SERIAL.fullmatch(serial) or (slot is not None and not _SLOT.fullmatch(slot)):
        return None
    return Announcement(bytes.fromhex(tag), bytes.fromhex(group), version, slot, int(serial))


def read_sighting(
    name: str,
    txt: bytes,
    ips: Sequence[str],
    port: int | None,
    own: Sequence[LocalAddress],
    endpoints: Collection[str] = (),
) -> Sighting | None:
    """Return the sighting that these answers make for a node that announces `own`, None when they make none.

    `endpoints` are all that this node listens on (`own_endpoints`). They are left out: every host with a container
    bridge announces the bridge's address, and dialled from here it is this node."""
    announcement = parse_txt(txt)
    if announcement is None or announcement.tag != tag_of(name) or not port or not 0 < port <= 65_535:
        return None
    on_loopback = any(each.ip.is_loopback for each in own)
    hosts = {str(ip): ip for ip in map(_dialable_ip, ips[: 4 * ADDRESSES_MAX]) if ip is not None}
    addresses = [format_address(text, port) for text, ip in hosts.items() if on_loopback or not ip.is_loopback]
    others = [address for address in addresses if address not in endpoints]
    own_hosts = {parse_address(endpoint)[0] for endpoint in endpoints}
    first = on_link_first(others, [each.network for each in own])
    # An address of this machine at another port is another node here, or another machine with the same address: last.
    first = tuple(sorted(first, key=lambda address: parse_address(address)[0] in own_hosts))[:ADDRESSES_MAX]
    if not first:
        return None
    return Sighting(
        name,
        first,
        announcement.tag,
        announcement.group,
        announcement.slot,
        announcement.version,
        announcement.serial,
    )


def on_link_first(addresses: Sequence[str], own_networks: Sequence[Network]) -> tuple[str, ...]:
    """Sort the HOST:PORT `addresses`: those on one of `own_networks` first, IPv4 before IPv6, otherwise in the given
    order."""

    def rank(address: str) -> tuple[bool, int]:
        ip = ip_address(parse_address(address)[0])
        return not any(ip.version == network.version and ip in network for network in own_networks), ip.version

    return tuple(sorted(addresses, key=rank))


def own_endpoints(present: Sequence[LocalAddress], listen: Sequence[str]) -> frozenset[str]:
    """Return each HOST:PORT of this machine that is listened on, on interfaces of every kind."""
    bound = [parse_address(address) for address in listen]
    return frozenset(
        format_address(each.scoped, port)
        for each in present
        for host, port in bound
        if _is_listened_on([host], each.ip)
    )


def addresses_to_announce(
    present: Sequence[LocalAddress],
    chosen: Sequence[str] | None,
    listen: Sequence[str],
    reach: Mapping[str, Reach],
) -> tuple[LocalAddress, ...]:
    """Return the addresses of this machine to announce, and to announce on: those listened to, `chosen` or else all
    usable.

    Without `chosen` these are IPv4 and link-local IPv6 addresses of interfaces that may lead to other machines, the
    best `reach` first. Where there is none, loopback is announced: nodes on a machine without a network meet too."""
    hosts = [parse_address(address)[0] for address in listen]
    reachable = [each for each in present if _is_listened_on(hosts, each.ip)]
    if chosen is not None:
        return tuple(each for each in reachable if any(_is_meant(each, text) for text in chosen))
    usable = [each for each in reachable if _may_carry_mdns(each.ip)]
    beyond = [
        each
        for each in usable
        if not each.ip.is_loopback and reach.get(each.interface, Reach.UNKNOWN) is not Reach.INSIDE
    ]
    beyond.sort(key=lambda each: reach.get(each.interface, Reach.UNKNOWN))
    return tuple(beyond or (each for each in usable if each.ip.is_loopback))


def _is_meant(address: LocalAddress, text: str) -> bool:
    """Return True when `text` names this address: an IP address, with or without its interface."""
    ip, percent, scope = text.partition("%")
    return ip_address(ip) == address.ip and (not percent or scope in address.scopes)


def _pairs(data: bytes) -> dict[str, str] | None:
    """Return keys in lower case with their values; of equal keys the first counts (§6.4). None for a malformed
    record."""
    if len(data) > TXT_BYTES_MAX:
        return None
    pairs: dict[str, str] = {}
    position = 0
    while position < len(data):
        end = position + 1 + data[position]
        if end > len(data):
            return None
        key, _, value = data[position + 1 : end].partition(b"=")
        if key:  # §6.4: a string without a key is to be ignored
            pairs.setdefault(key.decode("latin-1").lower(), value.decode("latin-1"))
        position = end
    return pairs


def _dialable_ip(text: str) -> Address | None:
    """Return the address, None where no node can be dialled: link-local without an interface, multicast,
    unspecified."""
    try:
        ip = ip_address(text)
    except ValueError:
        return None
    if ip.is_multicast or ip.is_unspecified or (ip.is_reserved and not ip.is_loopback):
        return None
    return None if isinstance(ip, IPv6Address) and ip.is_link_local and not ip.scope_id else ip


def _is_listened_on(hosts: Sequence[str], ip: Address) -> bool:
    everywhere = "0.0.0.0" if isinstance(ip, IPv4Address) else "::"
    return everywhere in hosts or any(ip_address(host.partition("%")[0]) == ip for host in hosts)


def _may_carry_mdns(ip: Address) -> bool:
    return isinstance(ip, IPv4Address) or ip.is_link_local
