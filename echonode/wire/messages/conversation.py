"""Messages of every mode: the direction, the refusal to begin, and the end (PROTOCOL.md §8, §8.5)."""

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar


class Direction(IntEnum):
    """The way records may move in a conversation, seen from its initiator."""

    BOTH = 0
    SEND = 1
    RECEIVE = 2


@dataclass(frozen=True, slots=True)
class Refused:
    """Answers an InitPayload that the responder does not serve. The session goes on."""

    code: ClassVar[int] = 5
    reason: int
    supported: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """The state of the sender's tree, computed anew and never copied from the peer.

    The initiator sends it first and the responder answers with its own; behind a sketch it is the other way round. The
    conversation is over when both roots are equal or the initiator's Done was final.
    """

    code: ClassVar[int] = 4
    root: bytes
    count: int
    seq: int
    is_final: bool
