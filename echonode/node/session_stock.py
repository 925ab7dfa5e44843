"""The end of a session that a peer led: what is known of the contexts about which it held no conversation."""

from collections.abc import Callable
from typing import Final

from echonode.node.handshake import Session
from echonode.node.log_cursor import LogCursor
from echonode.node.session_report import SessionReport
from echonode.node.subscriptions import Subscriptions
from echonode.node.summaries import empty
from echonode.store.port import Store
from echonode.sync.conversation import Result

_NOT_ASKED_FOR: Final = "left to the peer, which did not ask for it"

_NOT_MADE_EQUAL: Final = "the part that is wanted was not made equal when it was last asked for"


def take_stock(
    session: Session, log: SessionReport, store: Store, takes: Callable[[str], bool], partial: Subscriptions
) -> None:
    """Note which contexts are not known to be equal, no conversation having been held about them."""
    log.is_compared = True
    theirs = {summary.context: summary for summary in session.hello.contexts}
    answered = Result.ANSWERED.value
    held = {conversation.context for conversation in log.conversations if conversation.outcome != answered}
    for context in dict.fromkeys((*store.contexts(), *theirs)):
        if context in held or not takes(context):
            continue
        summary = theirs.get(context, empty(context))
        if summary.is_partial or partial.of(context) is not None:
            # Whoever wants a part asks for it when there is something to ask for: it does not say when there is not.
            if partial.is_open(session.peer.id, context):
                log.unequal.setdefault(context, _NOT_MADE_EQUAL)
            continue
        if summary.root != store.tree(context).root:
            log.unequal.setdefault(context, _NOT_ASKED_FOR)
        else:
            LogCursor.of(store, session).reached(context, summary.seq)
