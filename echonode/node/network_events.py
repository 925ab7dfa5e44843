"""Events of membership: invitations, the network that this node is in, and rotations of its secret."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class InvitationOpened:
    """An invitation is open. `slot`: its number."""

    name: ClassVar[str] = "invitation.opened"
    level: ClassVar[str] = "info"
    slot: str
    uses: int
    expires_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class InvitationUsed:
    """A node joined by an invitation."""

    name: ClassVar[str] = "invitation.used"
    level: ClassVar[str] = "info"
    slot: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InvitationRefused:
    """A joiner did not know the code, or broke off."""

    name: ClassVar[str] = "invitation.refused"
    level: ClassVar[str] = "warning"
    address: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkJoined:
    """This node is a member of another network now."""

    name: ClassVar[str] = "network.joined"
    level: ClassVar[str] = "info"
    network: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRotated:
    """The network secret was replaced. `peer` told of it, b"" if it was done here; `rotator` did it."""

    name: ClassVar[str] = "network.rotated"
    level: ClassVar[str] = "warning"
    network: str
    peer: bytes
    rotator: bytes
    members: int
    without: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkLeftOut:
    """A peer said that the network was rotated without this node, which is alone in it, or with others left out."""

    name: ClassVar[str] = "network.left_out"
    level: ClassVar[str] = "warning"
    peer: bytes
    network: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RotationRefused:
    """A peer told of a rotation that is not to be believed, or that this node cannot follow now."""

    name: ClassVar[str] = "network.rotation_refused"
    level: ClassVar[str] = "warning"
    peer: bytes
    detail: str
