"""A program that announces nodes that do not exist: `python -m tests.faults.mdns_flood ADDRESS COUNT`.

It sends well-formed answers as any machine of the LAN can. Each has another tag, the group of no network, and an unused
address. Half of them come without an address, so that a receiver asks for it.
"""

import os
import socket
import sys
from typing import Final

from zeroconf import DNSAddress, DNSOutgoing, DNSPointer, DNSService, DNSText
from zeroconf.asyncio import AsyncServiceInfo

from echonode.host.announcement import SERVICE, Announcement, instance_name, to_txt

_GROUP: Final = ("224.0.0.251", 5353)
_ANSWER: Final = 0x8400  # an authoritative response (RFC 6762 §18)
_IN, _UNIQUE, _A, _PTR, _TXT, _SRV = 1, 0x8000, 1, 12, 16, 33
_TTL_S: Final = 4500
_PER_PACKET: Final = 3


def announce(number: int, out: DNSOutgoing) -> None:
    tag = os.urandom(8)
    name, host = instance_name(tag), f"{tag.hex()}.local."
    text = AsyncServiceInfo(SERVICE, name, properties=to_txt(Announcement(tag, os.urandom(8), "1.0"))).text
    out.add_answer_at_time(DNSPointer(SERVICE, _PTR, _IN, _TTL_S, name), 0)
    out.add_answer_at_time(DNSService(name, _SRV, _IN | _UNIQUE, _TTL_S, 0, 0, 4100, host), 0)
    out.add_answer_at_time(DNSText(name, _TXT, _IN | _UNIQUE, _TTL_S, text), 0)
    if number % 2:
        out.add_answer_at_time(DNSAddress(host, _A, _IN | _UNIQUE, _TTL_S, bytes((10, 80, *os.urandom(2)))), 0)


def main(address: str, count: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as speaker:
        speaker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        speaker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        speaker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
        speaker.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        speaker.bind((address, 5353))
        for start in range(0, count, _PER_PACKET):
            out = DNSOutgoing(_ANSWER)
            for number in range(start, start + _PER_PACKET):
                announce(number, out)
            for packet in out.packets():
                speaker.sendto(packet, _GROUP)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
