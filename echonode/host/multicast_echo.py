"""Does a multicast packet that leaves by an interface come back? Without that no mDNS works there (RFC 6762 §11).

A question for a name that nobody has is sent to 224.0.0.251:5353 by one address of this machine, with the loop of the
kernel on. A firewall that drops multicast, or an interface that carries none, keeps it from coming back.
"""

import select
import socket
import struct
import time
from secrets import token_hex
from typing import Final

_GROUP: Final = "224.0.0.251"
_PORT: Final = 5353
_WAIT_S: Final = 1.0
_PACKET_BYTES_MAX: Final = 9000
_TYPE_TXT_CLASS_IN: Final = struct.pack("!HH", 16, 1)


def hears_itself(ip: str) -> str:
    """Return "" when a packet sent by the IPv4 address `ip` of this machine comes back to it, otherwise why not."""
    name = f"{token_hex(8)}.doctor._echonode._tcp.local"
    question = struct.pack("!6H", 0, 0, 1, 0, 0, 0) + _encoded(name) + _TYPE_TXT_CLASS_IN
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP) as udp:
            for option in ("SO_REUSEADDR", "SO_REUSEPORT"):
                if hasattr(socket, option):
                    udp.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
            udp.bind(("", _PORT))
            member = socket.inet_aton(_GROUP) + socket.inet_aton(ip)
            udp.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
            udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(ip))
            udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
            udp.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)  # it need not leave this machine
            udp.sendto(question, (_GROUP, _PORT))
            return _await(udp, question)
    except OSError as error:
        return (error.strerror or str(error)).lower()


def _await(udp: socket.socket, question: bytes) -> str:
    until_s = time.monotonic() + _WAIT_S
    while (left_s := until_s - time.monotonic()) > 0:
        if select.select([udp], [], [], left_s)[0] and udp.recv(_PACKET_BYTES_MAX) == question:
            return ""
    return "what is sent there does not come back"


def _encoded(name: str) -> bytes:
    """Return a domain name as DNS packets have it (RFC 1035 §3.1)."""
    return b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split(".")) + b"\0"
