"""The journal of systemd: log lines as entries with the fields that people search by.

    journalctl -u echonode EVENT=sync.completed      EVENT, PEER, SESSION and CONTEXT, each where the line has it

An entry is one datagram of FIELD=value lines (systemd.io/JOURNAL_NATIVE_PROTOCOL).
"""

import socket
from collections.abc import Mapping
from typing import Final

_SOCKET: Final = "/run/systemd/journal/socket"
_SEARCHED: Final = ("event", "peer", "session", "context")


class JournalEntries:
    """Sends entries to the journal that listens at `path`. It is found anew for each: a journal may be restarted."""

    def __init__(self, path: str = _SOCKET) -> None:
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def send(self, message: bytes, priority: int, line: Mapping[str, object]) -> bool:
        """Send an entry whose text is `message`, of one line, at a priority of syslog(3).

        Return False, without waiting, when the journal takes none.
        """
        fields = [b"MESSAGE=%b" % message, b"PRIORITY=%d" % priority, b"SYSLOG_IDENTIFIER=echonode"]
        for key in _SEARCHED:
            value = line.get(key)
            if isinstance(value, str) and value and value.isprintable():  # no value can end its line
                fields.append(f"{key.upper()}={value}".encode())
        try:
            self._socket.sendto(b"\n".join((*fields, b"")), socket.MSG_DONTWAIT, self._path)
        except OSError:
            return False
        return True
