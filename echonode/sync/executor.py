"""The contract of a sync mode: one executor with both sides of the conversation, over any stream.

    run_initiator(conversation, opening)   send the mode's InitPayload; return the answer
    run_responder(conversation, init)      serve the InitPayload; return how the conversation ended

The node reads the first message to learn the mode, and a message that was read cannot be unread. So the responder gets
it as data: `init` is the opening message itself. A module in sync/modes with these two functions is an executor.
node/mode_table.py lists all of them.
"""

from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from echonode.limits import HASH_COMPARISON_DEPTH
from echonode.model.filter import Filter
from echonode.sync.conversation import Conversation, Result
from echonode.wire.messages import Direction

Opening = TypeVar("Opening", contravariant=True)
ResponderInit = TypeVar("ResponderInit", contravariant=True)
Answer = TypeVar("Answer", covariant=True)


class Executor(Protocol[Opening, ResponderInit, Answer]):
    """Both sides of one sync mode. Both raise PeerRefused, RemoteError, TransportError and StoreError."""

    async def run_initiator(self, conversation: Conversation, opening: Opening, /) -> Answer:
        """Open the conversation as `opening` says, and lead it to its end."""
        ...

    async def run_responder(self, conversation: Conversation, init: ResponderInit, /) -> Result:
        """Serve the conversation that `init` opened, to its end."""
        ...


@dataclass(frozen=True, slots=True)
class InitiatorOptions:
    """The opening of the modes that make two stores equal. Each mode reads the options that concern it.

    `direction`    which side receives records
    `width`        bytes of each tree digest that travels: 16, or 32
    `expected`     about how many leaves differ, None when that is unknown
    `max_depth`    tree levels that one answer of `hash_comparison` describes
    `wanted`       the filter whose records `reconcile` compares, None for the whole context
    `follows_all`  True when `reconcile` also updates the records held here that `wanted` does not take
    """

    direction: Direction = Direction.BOTH
    width: int = 16
    expected: int | None = 0
    max_depth: int = HASH_COMPARISON_DEPTH[0]
    wanted: Filter | None = None
    follows_all: bool = False


DEFAULTS: Final = InitiatorOptions()
