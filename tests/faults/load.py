"""Load on a real node: several writers at once over its API, and a list of the acknowledged writes."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from echonode.cli.client import ApiClient
from echonode.client.errors import ClientError, Refused
from echonode.client.location import Location, UnixPlace
from tests.e2e.processes import NodeProcess

_WRITERS = 4
_NAMES = 15  # odd writers write these names again and again


def client_of(node: NodeProcess) -> ApiClient:
    return ApiClient(Location((UnixPlace(node.home / "api.sock"),)))


def put(node: NodeProcess, name: str, body: bytes) -> Any:
    return client_of(node).call("PUT", "/v1/records/main", query=[("id", name)], body=body)


@dataclass
class Load:
    """Writers that write into `node` until they are stopped or it does not answer.

    Bodies are growing numbers, so that a body tells how new a version is.
    """

    node: NodeProcess
    on_acknowledged: Callable[[str, int], None] = lambda name, number: None
    acknowledged: dict[str, int] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    _count: int = 0
    _turn: threading.Condition = field(default_factory=threading.Condition)
    _is_over: bool = False
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> "Load":
        self._is_over = False
        self._threads = [threading.Thread(target=self._write, args=(writer,)) for writer in range(_WRITERS)]
        for thread in self._threads:
            thread.start()
        return self

    def wait_for(self, writes: int, timeout_s: float = 60.0) -> None:
        """Wait until so many more writes were acknowledged, or all writers have ended."""
        with self._turn:
            wanted = self._count + writes
            assert self._turn.wait_for(lambda: self._count >= wanted or self._has_ended(), timeout_s)

    def stop(self) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join()

    def _has_ended(self) -> bool:
        return not any(thread.is_alive() for thread in self._threads)

    def _write(self, writer: int) -> None:
        number = self._count
        while not self._is_over:
            number += 1
            name = f"{writer}/{number % _NAMES}" if writer % 2 else f"{writer}/{number}"
            try:
                put(self.node, name, b".%d" % number + b"." * (number % 50 * 40))
            except Refused as refused:
                self.refusals.append(str(refused))
            except ClientError:
                break  # the node was killed
            else:
                with self._turn:
                    self._count += 1
                    self.acknowledged[name] = number
                    self.on_acknowledged(name, number)
                    self._turn.notify_all()
        with self._turn:
            self._turn.notify_all()


def lost(node: NodeProcess, acknowledged: dict[str, int]) -> list[str]:
    """Return in words the acknowledged records that `node` lacks or holds only in an older version."""
    with client_of(node).open("GET", "/v1/records/main/list", query=[("body", "1")]) as answer:
        held = {record["name"]: int(record["body"].strip(".")) for record in answer.values()}
    return [
        f"{name}: {held.get(name)}, not {number}" for name, number in acknowledged.items() if held.get(name, 0) < number
    ]
