"""Messages that stand in place of Auth under an open invitation (PROTOCOL.md §10.2). wire/pairing.py makes them."""

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
    """The joiner's proof that it knows the code."""

    code: ClassVar[int] = 50
    confirmation: bytes


@dataclass(frozen=True, slots=True)
class PairFinish:
    """The inviter's proof that it knows the code, and the network secret, sealed."""

    code: ClassVar[int] = 51
    confirmation: bytes
    sealed: bytes
