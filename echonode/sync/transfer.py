"""Records on their way, in both directions: requests, pages and Puts in flight. Each of these exists here once.

    receive    request_records   requests in flight, each answered by Records
               receive_records   one such answer
               request_pages     messages that come under credit: Page, Changes
    send       send_answer       one answer in several messages, of which the last says that it is the last
               CreditedSender    messages under the peer's credit
               PutWindow         Puts in flight, each answered by Stored

What is received is verified and written while more is received (`Pipeline` in sync/verify_apply.py). What becomes of it
is the mode's decision: it hands over a check for each answer, or takes the pages one by one.
"""

from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from itertools import islice
from typing import Protocol, TypeVar

from echonode.limits import WINDOW
from echonode.model.record import Record
from echonode.sync.conversation import Conversation
from echonode.sync.verify_apply import Pipeline
from echonode.sync.work import RECORD_SENT_S
from echonode.wire.messages import (
    Changes,
    Credit,
    DeltaInit,
    Message,
    Page,
    Put,
    Records,
    Refusal,
    SnapshotInit,
    Stored,
)

_Page = TypeVar("_Page", Page, Changes)


# -- receiving ---------------------------------------------------------------------------------------------------------


class PendingAnswer(Protocol):
    """One answer that comes as Records messages: its checks, and what becomes of its records."""

    def check(self, message: Records) -> None:
        """Check the form of one message, as soon as it is here. Raises RemoteError."""
        ...

    async def store(self, message: Records, records: list[Record]) -> None:
        """Check the verified records of one message, and store them. Messages come in order. Raises RemoteError."""
        ...


class PendingRequest(PendingAnswer, Protocol):
    """A request that Records answer."""

    @property
    def message(self) -> Message:
        """The message that asks."""
        ...

    def rest(self, last: Records) -> "PendingRequest | None":
        """Return the request for what the answer left out, None when it left out nothing. `last`: its last message."""
        ...


async def receive_records(conversation: Conversation, pipeline: Pipeline, answer: PendingAnswer) -> Records:
    """Receive one answer and hand its records to `pipeline`; return its last message."""
    while True:
        message = await conversation.receive(Records)
        answer.check(message)
        if message.records:
            await pipeline.put(message.records, partial(answer.store, message))
        if not message.more:
            return message


async def request_records(conversation: Conversation, requests: Iterable[PendingRequest]) -> None:
    """Send `requests`, a window of them in flight, and store all that answers them."""
    waiting = iter(requests)
    in_flight: deque[PendingRequest] = deque()
    async with Pipeline(conversation.context) as pipeline:
        for request in islice(waiting, WINDOW):
            in_flight.append(request)
            await conversation.ask(request.message)
        while in_flight:
            last = await receive_records(conversation, pipeline, in_flight[0])
            conversation.tally.answered()
            following = in_flight.popleft().rest(last) or next(waiting, None)
            if following is not None:
                in_flight.append(following)
                await conversation.ask(following.message)


async def request_pages(
    conversation: Conversation, opening: SnapshotInit | DeltaInit, kind: type[_Page]
) -> AsyncGenerator[_Page, None]:
    """Send `opening` and yield the messages that answer it, up to the last. A window of them comes unasked; each one
    taken gives credit for one more."""
    for _ in range(WINDOW):  # those that come unasked count as asked for here
        conversation.tally.ask()
    await conversation.transport.send(opening)
    while True:
        page = await conversation.receive_answer(kind)
        yield page
        if page.is_last:
            break
        await conversation.ask(Credit(1))
    conversation.tally.forget_asked()  # credit is left over


# -- sending -----------------------------------------------------------------------------------------------------------


async def send_answer(
    conversation: Conversation,
    batches: AsyncGenerator[list[bytes], None],
    make_message: Callable[[tuple[bytes, ...], bool], Message],
    *,
    is_counted: bool = True,
) -> None:
    """Send a message for each batch, an empty one when there is none. `make_message` gets the batch, and True when more
    follow: a batch is held back until the next one is read. `is_counted`: the records count as sent."""

    async def send(batch: list[bytes], *, more: bool) -> None:
        await conversation.transport.send(make_message(tuple(batch), more))
        conversation.count_sent(len(batch) if is_counted else 0)

    held: list[bytes] = []
    async with aclosing(batches):
        async for batch in batches:
            if held:
                await send(held, more=True)
            held = batch
    await send(held, more=False)


class CreditedSender:
    """Sends messages of records as long as there is credit, and waits for more where there is none."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._credit = WINDOW

    async def send(self, message: Page | Changes) -> None:
        """Send one message. Waits for credit."""
        if self._credit == 0:
            self._credit += (await self._conversation.receive(Credit)).pages
        await self._conversation.transport.send(message)
        self._credit -= 1
        self._conversation.count_sent(len(message.records))
        await self._conversation.charge(RECORD_SENT_S * len(message.records))


class PutWindow:
    """Puts in flight, at most `size` of them. `on_refused` is told what the peer did not take."""

    def __init__(
        self,
        conversation: Conversation,
        size: int = WINDOW,
        on_refused: Callable[[Sequence[Refusal]], None] | None = None,
    ) -> None:
        self._conversation = conversation
        self._size = size
        self._on_refused = on_refused
        self._unanswered = 0

    async def put(self, batches: AsyncGenerator[list[bytes], None]) -> None:
        """Put every batch. The last Puts are left without an answer: `drain` waits for those."""
        async with aclosing(batches):  # a generator that is left early ends here, and not when it is collected
            async for batch in batches:
                if self._unanswered == self._size:
                    await self._receive_stored()
                await self._conversation.ask(Put(tuple(batch)))
                self._unanswered += 1
                self._conversation.count_sent(len(batch))

    async def drain(self) -> None:
        """Wait until every Put is answered."""
        while self._unanswered:
            await self._receive_stored()

    async def _receive_stored(self) -> None:
        stored = await self._conversation.receive_answer(Stored)
        self._unanswered -= 1
        self._conversation.tally.refused_there += len(stored.refused)
        if self._on_refused is not None:
            self._on_refused(stored.refused)
