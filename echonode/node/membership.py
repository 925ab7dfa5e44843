"""Membership: the network that this node is a member of, by its key, and what discovery makes known of that."""

from collections.abc import Callable
from typing import Final

from echonode.model.member_secret import MemberSecret
from echonode.node.settings import Presence, group_tag
from echonode.text import to_base32
from echonode.wire.channel import NetworkSecret

OPEN: Final = "open"


class Membership:
    """The network secret, None on the open network. `tag` is fresh random bytes of this start.

    `announce` gets what to make known on the local network, `save` the secret to keep.
    """

    def __init__(
        self,
        member_secret: MemberSecret | None,
        tag: bytes,
        *,
        announce: Callable[[Presence], None],
        save: Callable[[MemberSecret], None],
    ) -> None:
        self.member_secret = member_secret
        self.tag = tag
        self._announce = announce
        self._save = save

    @property
    def key(self) -> bytes | None:
        """The network key, None on the open network."""
        return None if self.member_secret is None else self.member_secret.key

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

    def move_to(self, secret: MemberSecret) -> None:
        """Be a member of the network with that secret, for good."""
        self._save(secret)
        self.member_secret = secret

    def announce(self, slot: str | None) -> None:
        """Announce this node to members, with the number of the open invitation, None for no invitation."""
        self._announce(Presence(self.tag, group_tag(self.key, self.tag), slot))
