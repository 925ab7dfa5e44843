"""Membership: the network that this node is a member of, by its key, and what discovery makes known of that."""

from collections.abc import Callable
from typing import Final

from echonode.node.settings import Presence, group_tag
from echonode.text import to_base32
from echonode.wire.channel import NetworkSecret

OPEN: Final = "open"


class Membership:
    """The network key, None on the open network. `tag` is fresh random bytes of this start.

    `announce` gets what to make known on the local network, `save` the key to keep.
    """

    def __init__(
        self,
        key: bytes | None,
        tag: bytes,
        *,
        announce: Callable[[Presence], None],
        save: Callable[[bytes], None],
    ) -> None:
        self.key = key
        self.tag = tag
        self._announce = announce
        self._save = save

    @property
    def name(self) -> str:
        """A short public name of the network."""
        return OPEN if self.key is None else to_base32(self.secret.netid[:8])

    @property
    def secret(self) -> NetworkSecret:
        """The secret under which connections of this network are made."""
        return NetworkSecret.public() if self.key is None else NetworkSecret.private(self.key)

    def is_shared_by(self, tag: bytes, group: bytes) -> bool:
        """Return whether the node that announces `tag` and `group` knows our network key."""
        return group == group_tag(self.key, tag)

    def move_to(self, key: bytes) -> None:
        """Be a member of the network with that key, for good."""
        self._save(key)
        self.key = key

    def announce(self, slot: str | None) -> None:
        """Announce this node to members, with the number of the open invitation, None for no invitation."""
        self._announce(Presence(self.tag, group_tag(self.key, self.tag), slot))
