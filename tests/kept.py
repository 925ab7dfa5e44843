"""Kept secrets in memory, for nodes of tests that are not started a second time."""

from collections.abc import Sequence

from echonode.model.known_pool import KnownPool
from echonode.node.trust import Decisions


class Kept:
    """Implements `Safe` of echonode/node/settings.py."""

    def __init__(self) -> None:
        self.pools: tuple[KnownPool, ...] = ()
        self.decisions = Decisions()
        self.device_seed: bytes | None = None
        self.root: tuple[bytes | None, bytes] | None = None

    def write_pools(self, pools: Sequence[KnownPool]) -> None:
        self.pools = tuple(pools)

    def write_trust(self, decisions: Decisions) -> None:
        self.decisions = decisions

    def write_device_seed(self, seed: bytes) -> None:
        self.device_seed = seed

    def write_root_seed(self, seed: bytes | None, public: bytes) -> None:
        self.root = seed, public
