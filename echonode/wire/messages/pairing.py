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
    """The inviter's proof that it knows the code, and what is sealed: network secret and pool."""

    code: ClassVar[int] = 51
    confirmation: bytes
    sealed: bytes


@dataclass(frozen=True, slots=True)
class PairMember:
    """The joiner's consent to be listed in the closed pool of the invitation (PROTOCOL.md §4.7)."""

    code: ClassVar[int] = 47
    owner: bytes
    key: bytes
    proof: bytes
