"""Membership: the network that this node is a member of, by its key, and what discovery makes known of that."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TypeAlias

from echonode.model.member_secret import MemberSecret
from echonode.model.past_networks import PastNetwork
from echonode.node.settings import Presence, Settings, group_tag
from echonode.text import to_base32
from echonode.wire.channel import NetworkSecret

OPEN: Final = "open"
SaveSecret: TypeAlias = Callable[[MemberSecret, Sequence[PastNetwork]], None]


class Membership:
    """The network secret, None on the open network. `tag` is fresh random bytes of this start.

    `past`: secrets that this node had before; `announce` gets what to make known on the local network, `save` the
    secret and the past ones to keep.
    """

    def __init__(
        self,
        settings: Settings,
        tag: bytes,
        now_ms: Callable[[], int],
        *,
        announce: Callable[[Presence], None],
        save: SaveSecret,
    ) -> None:
        self.member_secret = settings.member_secret
        self.past = tuple(each for each in settings.past if each.secret != settings.member_secret)
        self.tag = tag
        self._now_ms = now_ms
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
        """Return whether the node that announces `tag` and `group` knows our network key, or one that was rotated."""
        keys = [self.key, *(each.secret.key for each in self.served())]
        return any(group == group_tag(key, tag) for key in keys)

    def served(self) -> list[PastNetwork]:
        """Return the past networks whose members this node still tells of their rotation, the oldest first."""
        now_ms = self._now_ms()
        return [each for each in self.past if each.is_served(now_ms)]

    def move_to(self, secret: MemberSecret, past: Sequence[PastNetwork]) -> None:
        """Be a member of the network with that secret, for good, and keep those of the past."""
        self._save(secret, past)
        self.member_secret, self.past = secret, tuple(past)

    def note_copied(self, secret: MemberSecret) -> None:
        """Keep that what was `shared` under the past `secret` is copied."""
        past = tuple(replace(each, is_copied=True) if each.secret == secret else each for each in self.past)
        assert self.member_secret is not None, "only a private network is rotated"
        self._save(self.member_secret, past)
        self.past = past

    def announce(self, slot: str | None) -> None:
        """Announce this node to members, with the number of the open invitation, None for no invitation."""
        self._announce(Presence(self.tag, group_tag(self.key, self.tag), slot))
