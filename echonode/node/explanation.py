"""Explanations: why a record is not here, and why a peer is not equal, from what each part of the node knows.

    of a record    context not kept · hidden, as its writer is denied · deleted · in conflict · from the future ·
                   refused, by which rule · key unknown or voided · outside the wanted part · held by peers that were
                   asked · not seen yet
    of a peer      away, with the last error and the next try · refused · waiting to be let in · unequal, and why · its
                   records hidden or refused here · its clock · wanted parts · models that are read in another version

Nothing is changed here. Peers that answer are asked for a record that is not here, by `pull`: only ids move.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from echonode.clock import Clock, is_ahead, to_ms
from echonode.errors import EchonodeError, LocalError, Reason
from echonode.limits import DIALS_MAX
from echonode.model.address import distinct_label
from echonode.model.filter import Filter
from echonode.model.heads import winner
from echonode.model.identity import IdentityId
from echonode.model.keys import Admission
from echonode.model.record import IDENTITIES, Record, leaf_key
from echonode.node.addresses import Addresses
from echonode.node.events import TimestampAhead
from echonode.node.on_demand import OnDemand
from echonode.node.peer_views import PeerViews
from echonode.node.record_book import RecordBook
from echonode.node.refusal_book import Refusal, RefusalBook
from echonode.node.remembered import remember
from echonode.node.subscriptions import Subscriptions
from echonode.node.trust_control import TrustControl
from echonode.node.views import PeerState, PeerView
from echonode.text import escape, to_base32
from echonode.wire.messages import RecordId

_ASK_TIMEOUT_S: Final = 5.0
_ASKED_MAX: Final = 8  # peers asked for a record that is not here
_EARLIER_MAX: Final = 20
_GLOB_CHARS: Final = "*?"
_KEPT_OUT: Final = (
    PeerState.REFUSED,
    PeerState.OTHER_NETWORK,
    PeerState.COPY,
    PeerState.PAUSED,
    PeerState.LEFT_OUT,
    PeerState.REJECTED,
)
_ANSWERS: Final = (PeerState.CONNECTED, PeerState.REACHABLE)  # a node that wants a part keeps no link

# What a person can do about a refusal, by its reason.
_REMEDIES: Final = {
    Reason.UNKNOWN_KEY: "the key statements of its author are fetched by themselves; if that takes more than a minute, "
    "sync with the node that wrote it",
    Reason.KEY_REVOKED: "its owner writes it again under a new key, if it should stay",
    Reason.NOT_ACCEPTED: "to keep such records too, change the configuration: echonode help configuration",
    Reason.QUOTA: "a person who wants it here anyway fetches it: echonode get RECORD --from PEER",
    Reason.STORE_FAILED: "see what the disk lacks: echonode doctor",
}


class Because(Enum):
    """The reasons, as words for programs."""

    HERE = "here"
    DENIED = "denied"
    CONFLICT = "conflict"
    DELETED = "deleted"
    FROM_THE_FUTURE = "from the future"
    CONTEXT_NOT_KEPT = "context not kept"
    FILTERED = "filtered"
    REFUSED = "refused"
    QUOTA = "quota"
    BUDGET = "budget"
    UNKNOWN_KEY = "unknown key"
    VOIDED = "voided"
    EARLIER_ONLY = "earlier versions only"
    HELD_BY_PEER = "held by a peer"
    NOT_SEEN = "not seen yet"
    EQUAL = "equal"
    IN_STEP = "in step"
    UNEQUAL = "unequal"
    AWAY = "away"
    KEPT_OUT = "kept out"
    PENDING = "pending"
    NEXT_TRY = "next try"
    PARTIAL = "partial"
    CLOCK = "clock"
    MODELS = "models"


_REFUSED_BECAUSE: Final = {
    Reason.UNKNOWN_KEY: Because.UNKNOWN_KEY,
    Reason.KEY_REVOKED: Because.VOIDED,
    Reason.QUOTA: Because.QUOTA,
    Reason.BUSY: Because.BUDGET,
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One reason: a sentence, and what to do about it, "" for nothing."""

    because: Because
    text: str
    what_to_do: str = ""


@dataclass(slots=True)
class Explanations:
    """Reads the parts of a node."""

    records: RecordBook
    subscriptions: Subscriptions
    addresses: Addresses
    on_demand: OnDemand
    views: PeerViews
    trust_control: TrustControl
    # How far the records that a peer sent were dated ahead of our clock.
    _ahead_s: "OrderedDict[bytes, int]" = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.on_demand.connections.bus.on(TimestampAhead, self._note_ahead)

    @property
    def clock(self) -> Clock:
        """The clock of the node."""
        return self.on_demand.connections.clock

    @property
    def refusals(self) -> RefusalBook:
        """The versions that were refused here lately."""
        return self.on_demand.connections.links.refusals

    def _note_ahead(self, event: TimestampAhead) -> None:
        """Note that a peer sent a record from the future."""
        remember(self._ahead_s, event.peer, event.ahead_s)

    # -- a record ----------------------------------------------------------------------------------------------------

    async def of_record(self, context: str, author: IdentityId, name: str) -> list[Finding]:
        """Return why a record is not here, or how it is. Peers that answer are asked for one that is missing."""
        return [finding async for finding in self._of_record(context, author, name, self.views.views())]

    def of_peer(self, text: str) -> tuple[str, list[Finding]]:
        """Return the label of the peer with that name, id or address, and why it is not equal. Raises LocalError."""
        views = self.views.views()
        view = next((view for view in views if text and text == view.address), None)
        if view is None:
            peer = self.trust_control.resolve(text)
            view = next((view for view in views if view.id == peer), None)
        if view is None:
            raise LocalError(f"no peer {escape(text)}")
        return view.label or view.name or view.address, list(self._of_peer(view))

    async def _of_record(
        self, context: str, author: IdentityId, name: str, peers: list[PeerView]
    ) -> AsyncIterator[Finding]:
        """Yield what is known of one record. Those of `peers` that answer are asked for one that is missing."""
        if not self.subscriptions.takes(context):
            yield Finding(
                Because.CONTEXT_NOT_KEPT,
                f"this node does not keep the context {escape(context)}: it is not among `contexts` in the "
                "configuration, or was forgotten here, or as many contexts of others are here as are taken",
                "add it to `contexts` in the configuration, or write a record into it here",
            )
        heads = await self.records.all_heads(context, author, name)
        for finding in self._of_hidden(heads):
            yield finding
        for finding in self._of_heads(self.records.denials.shown(heads)):
            yield finding
        refusal = self.refusals.of(context, leaf_key(author, name))
        if refusal is not None:
            yield self._of_refusal(refusal)
        if heads:
            return
        for finding in await self._of_earlier(context, author, name):
            yield finding
        is_known = author == self.records.id or self.records.store.keyring.has_author(author)
        if context != IDENTITIES and not is_known and refusal is None:
            yield Finding(
                Because.NOT_SEEN,
                "no node that was met has told of this author yet",
                "check the address, and sync with the node that wrote the record: echonode sync",
            )
        held_by = [view for view in await self._holders(context, author, name, peers) if view is not None]
        for finding in self._of_holders(context, author, held_by):
            yield finding
        if not held_by:
            for finding in self._not_held(peers):
                yield finding

    def _of_hidden(self, heads: list[Record]) -> Iterator[Finding]:
        owners = [owner for head in heads if (owner := self.records.denials.owner(head)) is not None]
        for owner in dict.fromkeys(owners):
            number, shown = owners.count(owner), self.addresses.author_text(owner)
            versions = "a version of it is" if number == 1 else f"{number} versions of it are"
            yield Finding(
                Because.DENIED,
                f"{versions} here, by {escape(shown)}, and hidden from readers: that node is denied here",
                f"show what it writes: echonode allow {escape(shown)}",
            )

    def _of_heads(self, heads: list[Record]) -> Iterator[Finding]:
        if not heads:
            return
        shown = winner(heads)
        writer = self.addresses.writer_text(shown) or "a key that is no longer known"
        if shown.is_tombstone:
            yield Finding(
                Because.DELETED,
                f"it was deleted by {writer}",
                "earlier versions may be here still: echonode history RECORD",
            )
        else:
            yield Finding(Because.HERE, f"it is here, in a version by {writer}")
        if len(heads) > 1:
            yield Finding(
                Because.CONFLICT,
                f"it has {len(heads)} versions at once: nodes wrote it without knowing of each other. Readers get the "
                "latest one",
                "look at both sides: echonode conflicts show RECORD",
            )
        now_ms = self.clock.now_ms()
        ahead = [head for head in heads if is_ahead(head.timestamp, now_ms)]
        if ahead:
            seconds = (max(to_ms(head.timestamp) for head in ahead) - now_ms) // 1000
            yield Finding(
                Because.FROM_THE_FUTURE,
                f"it is dated {_span(seconds)} from now: the clock of its writer ({writer}) is wrong, or that of this "
                "machine. Until then it wins over every version dated rightly",
                "set the clock that is wrong (echonode doctor looks at this machine's), then write the record again",
            )

    def _of_refusal(self, refusal: Refusal) -> Finding:
        ago = _span((self.clock.now_ms() - refusal.at_ms) // 1000)
        return Finding(
            _REFUSED_BECAUSE.get(refusal.reason, Because.REFUSED),
            f"a version that {self._label(refusal.peer)} brought {ago} ago was refused here by the rule "
            f"`{refusal.reason.text}`: {escape(refusal.detail)}",
            _REMEDIES.get(refusal.reason, ""),
        )

    async def _of_earlier(self, context: str, author: IdentityId, name: str) -> list[Finding]:
        earlier = await self.records.store.earlier(context, author, name, limit=_EARLIER_MAX)
        if not earlier:
            return []
        keyring = self.records.store.keyring
        voided = [each for each in earlier if keyring.admission(each.record) is Admission.VOID]
        if voided:
            return [
                Finding(
                    Because.VOIDED,
                    f"{len(voided)} versions of it were signed with a key that its owner has declared compromised",
                    "its owner writes it again, if it should stay; what it said: echonode history RECORD",
                )
            ]
        return [
            Finding(
                Because.EARLIER_ONLY,
                f"only earlier versions of it are kept here ({len(earlier)}): the record itself was dropped",
                "read them: echonode history RECORD",
            )
        ]

    async def _holders(
        self, context: str, author: IdentityId, name: str, peers: list[PeerView]
    ) -> list[PeerView | None]:
        """Return the peers that hold the record, by asking those that answer."""
        asked = [view for view in peers if view.id is not None and view.state in _ANSWERS][:_ASKED_MAX]
        slots = asyncio.Semaphore(DIALS_MAX)
        is_plain = not any(char in name for char in _GLOB_CHARS)
        wanted = Filter(authors=frozenset({author}), name=name if is_plain else "")

        async def ask(view: PeerView) -> PeerView | None:
            assert view.id is not None, "only such are asked"
            try:
                async with slots:
                    pulled = await self.on_demand.pull(
                        view.id, context, wanted, after=0, limit=1, timeout_s=_ASK_TIMEOUT_S
                    )
            except EchonodeError:
                return None  # it cannot say: its own line tells why it is not equal
            return view if any(_is_of(one, author, name) for one in pulled.ids) else None

        return list(await asyncio.gather(*map(ask, asked)))

    def _of_holders(self, context: str, author: IdentityId, holders: list[PeerView]) -> Iterator[Finding]:
        terms, is_full = self.subscriptions.terms_of(context), author in self.subscriptions.closed(context)
        for view in holders:
            label = escape(view.label or view.name)
            anyway = f"fetch this one anyway: echonode get RECORD --from {label}"
            if is_full:
                yield Finding(
                    Because.QUOTA,
                    f"{label} holds it, and this node takes no more records of its author: the quota is used up",
                    f"{anyway}; or raise `quota` in the configuration",
                )
            elif terms is not None and view.in_sync is not False:
                yield Finding(
                    Because.FILTERED,
                    f"{label} holds it, and this node wants only a part of {escape(context)}: "
                    f"{escape(' '.join(terms))}. The record is outside that part",
                    f"{anyway}; or change `subscriptions` in the configuration",
                )
            else:
                why = view.reason or "it has not come yet"
                again = f"fetch it now: echonode sync --node-id {label}"
                yield Finding(Because.HELD_BY_PEER, f"{label} holds it: {why}", again)

    def _not_held(self, peers: list[PeerView]) -> Iterator[Finding]:
        """Yield which peers might have the record, and cannot be asked now."""
        known = [view for view in peers if view.id is not None]
        away = [view for view in known if view.state not in _ANSWERS]
        if not known:
            yield Finding(
                Because.NOT_SEEN,
                "no other node was met yet, and the record was not written here",
                "add a node: echonode invite",
            )
        elif len(away) < len(known):
            yield Finding(Because.NOT_SEEN, "no peer that answers now holds it")
        for view in away[:_ASKED_MAX]:
            yield Finding(
                Because.AWAY,
                f"{escape(view.label or view.name)} cannot be asked, it is {view.state.value}"
                + (f": {view.reason}" if view.reason else ""),
                self._next_try(view),
            )

    # -- a peer ------------------------------------------------------------------------------------------------------

    def _of_peer(self, view: PeerView) -> Iterator[Finding]:
        """Yield why a peer is not equal, or not even there."""
        if view.state in (PeerState.ABSENT, PeerState.GONE, PeerState.SIGHTED):
            yield Finding(
                Because.AWAY, f"it is {view.state.value}: {view.reason or 'no session came up yet'}", _reach_it(view)
            )
        elif view.state is PeerState.PENDING:
            yield Finding(Because.PENDING, view.reason, "compare its id with what `echonode status` shows there")
        elif view.state in _KEPT_OUT:
            yield Finding(Because.KEPT_OUT, f"it is shown as {view.state.value}: {view.reason or 'it keeps us out'}")
        elif view.in_sync:
            yield Finding(Because.EQUAL, "all that both keep is equal")
        elif view.in_step:
            yield Finding(Because.IN_STEP, f"on its way to it: {view.lag or 0} changes; nothing else differs")
        else:
            yield Finding(Because.UNEQUAL, view.reason or "it was not compared yet")
        next_try = self._next_try(view)
        if next_try:
            yield Finding(Because.NEXT_TRY, next_try)
        if view.id is None:
            return
        if view.is_denied:
            yield Finding(
                Because.DENIED,
                "its records are kept and passed on here, and hidden from readers: it is denied",
                f"show what it writes: echonode allow {escape(self.addresses.author_text(view.id))}",
            )
        yield from self._refused_of(view.id)
        if view.id in self._ahead_s:
            yield Finding(
                Because.CLOCK,
                f"it sent records dated {_span(self._ahead_s[view.id])} from now: the clock there is wrong, or the one "
                "here",
                "compare the clocks of both machines with a third one, and set the wrong one",
            )
        for context, terms in self.subscriptions.terms.items():
            yield Finding(
                Because.PARTIAL,
                f"this node wants only a part of {escape(context)} ({escape(' '.join(terms))}): the roots of the two "
                "differ on purpose, and no link is kept",
            )
        if view.unreadable:
            shown = ", ".join(map(escape, view.unreadable))
            yield Finding(Because.MODELS, f"it reads another major version of the models {shown} than programs here")

    def _refused_of(self, peer: IdentityId) -> Iterator[Finding]:
        refused = self.refusals.by(peer)
        by_reason: dict[Reason, list[tuple[str, Refusal]]] = {}
        for context, refusal in refused:
            by_reason.setdefault(refusal.reason, []).append((context, refusal))
        for reason, found in by_reason.items():
            context, last = found[-1]
            yield Finding(
                _REFUSED_BECAUSE.get(reason, Because.REFUSED),
                f"records of it were refused here lately by the rule `{reason.text}`, {len(found):,} at least, the "
                f"last in {escape(context)}: {escape(last.detail)}",
                _REMEDIES.get(reason, ""),
            )

    def _next_try(self, view: PeerView) -> str:
        """Return when the peer is tried next, in words; "" when nothing is due."""
        if view.state is PeerState.CONNECTED and view.following:
            return ""
        at_s = self.on_demand.connections.scheduler.next_dial_s(view.id, f"static:{view.address}")
        if at_s is None:
            return ""
        left_s = max(0.0, at_s - self.clock.monotonic_s())
        what = "compared with" if view.state in _ANSWERS else "tried"
        return f"it is {what} again in {_span(left_s)}" if left_s >= 1 else f"it is being {what} now"

    def _label(self, peer: IdentityId) -> str:
        return escape(distinct_label(peer, self.addresses.node_labels())) or to_base32(peer)[:8]


def _is_of(one: RecordId, author: IdentityId, name: str) -> bool:
    return one.author == author and one.name == name


def _reach_it(view: PeerView) -> str:
    """Return what to look at when a peer cannot be reached."""
    reason = view.reason.lower()
    where = escape(view.address) or "its address"
    if any(words in reason for words in ("timed out", "silent", "did not answer")):
        return (
            f"nothing answers at {where}: is the machine on, and does a firewall there let TCP to that port in? "
            "`echonode doctor` on that machine says more"
        )
    if "refused" in reason:
        return f"the machine answers and no node listens at {where}: is `echonode run` running there, on that port?"
    if "another network" in reason:
        return "to bring both into one network, type `echonode invite` on one and `echonode join CODE` on the other"
    return "is the machine on, and in this network? `echonode doctor` on both machines says more"


def _span(seconds: float) -> str:
    """Return a span of seconds in words."""
    for unit, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return "1 second" if f"{seconds:.0f}" == "1" else f"{seconds:.0f} seconds"
