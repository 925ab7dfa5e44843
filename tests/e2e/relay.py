"""A relay: the cable to a node process on this machine, which a test can cut and mend.

    other node  ──>  relay, 127.0.0.2:PORT  ──>  node, 127.0.0.1:PORT

The others know the node by the relay's address; the ports are equal, because a node says its port and the others add
the address at which they met it. One that listens on 127.0.0.3 and comes through the relay cannot be dialled by the
node, which sees it at 127.0.0.1: so one cut parts them. While a relay is cut, each connection through it is dropped.
"""

import socket
import threading
from contextlib import suppress

_READ_BYTES = 65536
_WITHIN_S = 10.0


class Relay:
    """The cable to the node that listens on `port` of 127.0.0.1. Raises OSError where `host` is no address here."""

    def __init__(self, port: int, host: str = "127.0.0.2") -> None:
        self.address = f"{host}:{port}"
        self._port = port
        self._lock = threading.Lock()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._is_cut = False
        self._listening = socket.create_server((host, port))
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Drop every connection, and all that come until `mend`."""
        with self._lock:
            self._is_cut = True
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            _drop(pair)

    def mend(self) -> None:
        """Let connections through again."""
        with self._lock:
            self._is_cut = False

    def close(self) -> None:
        """End the relay."""
        self.cut()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                incoming, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(incoming,), daemon=True).start()

    def _serve(self, incoming: socket.socket) -> None:
        try:
            outgoing = socket.create_connection(("127.0.0.1", self._port), _WITHIN_S)
        except OSError:
            incoming.close()
            return
        outgoing.settimeout(None)
        pair = (incoming, outgoing)
        with self._lock:
            is_cut = self._is_cut
            if not is_cut:
                self._pairs.add(pair)
        if not is_cut:
            back = threading.Thread(target=_copy, args=(outgoing, incoming), daemon=True)
            back.start()
            _copy(incoming, outgoing)
            back.join()
            with self._lock:
                self._pairs.discard(pair)
        _drop(pair)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(_READ_BYTES):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _drop(pair: tuple[socket.socket, socket.socket]) -> None:
    for each in pair:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
