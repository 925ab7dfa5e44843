"""Messages that stand instead of Auth under an open invitation (PROTOCOL.md §10.2). A part of `messages`, which names
them."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class PairStart:
    """The joiner's SPAKE2 share."""

    code: ClassVar[int] = 48
    share: bytes


@dataclass(frozen=True, slots=True)
class PairAnswer:
    """The inviter's SPAKE2 share."""

    code: ClassVar[int] = 49
    share: bytes


@dataclass(frozen=True, slots=True)
class PairConfirm:
    """The joiner proves it knows the code."""

    code: ClassVar[int] = 50
    confirmation: bytes


@dataclass(frozen=True, slots=True)
class PairFinish:
    """The inviter proves the same, and hands over the network key, sealed."""

    code: ClassVar[int] = 51
    confirmation: bytes
    sealed: bytes
