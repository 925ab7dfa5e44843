"""The end of a conversation: each side sends a Done with the root it holds, and compares (PROTOCOL.md §8.5)."""

from echonode.sync.conversation import Conversation, Result
from echonode.sync.transfer import PutWindow
from echonode.wire.messages import Direction, Done


def done_of(conversation: Conversation, *, is_final: bool) -> Done:
    """Return this side's Done: what its tree holds now."""
    tree = conversation.tree
    return Done(tree.root, len(tree), conversation.store.seq(conversation.context), is_final)


async def exchange_dones(conversation: Conversation, ours: Done, puts: PutWindow | None = None) -> Done:
    """Send `ours` and return the peer's Done. The answers to `puts`, which may still be in flight, come before it."""
    await conversation.ask(ours)
    if puts is not None:
        await puts.drain()
    theirs = await conversation.receive_answer(Done)
    note_followed(conversation, theirs)
    return theirs


async def end(conversation: Conversation, puts: PutWindow | None = None) -> Done:
    """Exchange final Dones, as `exchange_dones` does; return the peer's."""
    return await exchange_dones(conversation, done_of(conversation, is_final=True), puts)


async def answer_done(conversation: Conversation, theirs: Done, *, is_final: bool) -> Done:
    """Answer the initiator's Done, and note how far its log was followed. Return the answer."""
    note_followed(conversation, theirs)
    ours = done_of(conversation, is_final=is_final)
    await conversation.transport.send(ours)
    return ours


async def answer_end(conversation: Conversation) -> Result:
    """Answer the Done of an initiator that had a question: no root is compared."""
    await conversation.transport.send(done_of(conversation, is_final=True))
    return Result.ANSWERED


def note_followed(conversation: Conversation, theirs: Done) -> None:
    """Note how far the peer's log has been followed: with equal roots, all it held at its Done is held here."""
    if theirs.root == conversation.tree.root:
        conversation.tally.followed = theirs.seq


def responder_result(conversation: Conversation, direction: int, theirs: Done, ours: Done) -> Result | None:
    """Return how the conversation ended for the responder, None when the initiator begins another round."""
    if theirs.root == ours.root:
        return Result.EQUAL
    if not theirs.is_final:
        return None
    if direction != Direction.BOTH:
        return Result.ONE_WAY
    return Result.DIFFERENT if conversation.tally.refused else Result.MOVED
