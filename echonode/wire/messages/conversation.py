"""Messages of every mode: the direction, the refusal to begin, and the end (PROTOCOL.md §8)."""

from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar


class Direction(IntEnum):
    """Which way records may move in a conversation, as its initiator sees it."""

    BOTH = 0
    SEND = 1
    RECEIVE = 2


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer to an InitPayload that will not be served; the session goes on."""

    code: ClassVar[int] = 5
    reason: int
    supported: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """What the sender's tree holds now, recomputed, never copied from the peer.

    The responder answers with its own Done; the conversation is over when both roots are equal, or the initiator's Done
    was final."""

    code: ClassVar[int] = 4
    root: bytes
    count: int
    seq: int
    is_final: bool
