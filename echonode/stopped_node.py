"""The store of a node that does not run, served to commands that read.

Like `app.py` this module belongs to the composition root, and may import every room.
"""

import asyncio
from concurrent.futures import Future
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from echonode import __version__
from echonode.errors import TransportError
from echonode.process import node_settings

if TYPE_CHECKING:
    from echonode.host.config import Config
    from echonode.host.files import NodeFiles
    from echonode.sync.streams import ByteStream


class StoppedNode:
    """The store of a node that does not run, behind the API, on a socket of this process. No peer is spoken to.

    It is only read, so that the watch over its life can wait for the next run, whose log says what it notices."""

    def __init__(self, files: "NodeFiles", config: "Config", socket_path: Path) -> None:
        self._files = files
        self._config = config
        self._socket_path = socket_path

    async def serve(self, ready: "Future[None]", end: asyncio.Event) -> None:
        """Serve from the moment at which `ready` gets a result until `end` is set. Raises EchonodeError."""
        from echonode.api.server import ApiServer
        from echonode.host.history_file import HistoryFile
        from echonode.host.system import SystemClock, SystemEntropy
        from echonode.model.identity import Instance
        from echonode.node.node import Node
        from echonode.store.sqlite.store import SqliteStore

        clock, entropy = SystemClock(), SystemEntropy()
        identity = self._files.identity(entropy.random_bytes)
        secret = self._files.read_member_secret()
        store = await SqliteStore.open(
            self._files.home.store,
            new_instance=lambda: Instance(entropy.random_bytes(8)),
            now_ms=clock.now_ms,
            counts_usage=False,
        )
        async with AsyncExitStack() as stack:
            node = Node(
                store,
                identity,
                node_settings(self._config, self._files, identity.id, secret),
                clock=clock,
                entropy=entropy,
                dial=_dial_nobody,
                observe=lambda event: None,
                announce=lambda presence: None,
                save_secret=lambda secret, past: None,
                save_name=lambda name: None,
                safe=self._files,
            )
            node.echo_sync.history.keep_in(HistoryFile(self._files.home.history))
            node.audits.last = self._files.read_audit()
            stack.push_async_callback(node.stop)
            await node.start()
            api = ApiServer(node, socket_path=self._socket_path, version=__version__)
            await api.start()
            stack.push_async_callback(api.close)
            ready.set_result(None)
            await end.wait()


async def _dial_nobody(address: str) -> "ByteStream":
    raise TransportError("the node is not running")
