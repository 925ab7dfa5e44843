"""KeptContexts: the contexts that this node takes. That is local policy: no node can use up the places of another.

    context                                                    taken
      identities, main, listed in the configuration            always
      written here                                             always; up to CONTEXTS_OWN_MAX
      of others, with a live record                            up to CONTEXTS_MAX; 16 introduced by one identity
      of others, with tombstones only                          while there is room beside those
      forgotten                                                no, until it is written here again

When the configuration lists contexts, these and no others are taken. A context is introduced by the author of the first
record that comes of it, or by the peer that brings it where that author is a pool.
"""

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence

from echonode.errors import LocalError
from echonode.limits import (
    BATCH_RECORDS_MAX,
    CONTEXTS_HELD_MAX,
    CONTEXTS_MAX,
    CONTEXTS_OWN_MAX,
    CONTEXTS_PER_IDENTITY_MAX,
)
from echonode.model.identity import Identity, IdentityId
from echonode.model.record import IDENTITIES, MAIN, Record
from echonode.node.events import ContextShown, RecordsApplied
from echonode.store.port import ContextOrigin, Store
from echonode.sync.tasks import uninterrupted
from echonode.text import escape


class KeptContexts:
    """The contexts of one store. `listed`: those that the configuration lists, None for no list."""

    def __init__(self, store: Store, identity: Identity, listed: frozenset[str] | None) -> None:
        self._store = store
        self._identity = identity
        self._listed = listed
        self._origins: dict[str, ContextOrigin] = {}  # in the order in which contexts came
        self._unsaved: dict[str, ContextOrigin] = {}
        self._coming: dict[str, IdentityId] = {}  # those whose first records are being stored
        self._empty: set[str] = set()  # contexts of others that hold tombstones only
        self._unsure: set[str] = set()  # those in which something was deleted since that was looked into
        self._others: tuple[str, ...] | None = None  # taken contexts of others; None: to be listed anew

    async def load(self) -> None:
        """Read the origins of contexts, and find out those that were not saved."""
        self._origins = {origin.context: origin for origin in await self._store.origins()}
        for context in self._store.contexts():
            if not self._is_always_taken(context):
                if context not in self._origins:
                    await self._find_origin(context)
                self._unsure.add(context)
        await self.refresh()

    # -- what is taken -----------------------------------------------------------------------------------------------

    def takes(self, context: str) -> bool:
        """Return whether `context` is kept here, or would be."""
        if self._is_always_taken(context):
            return True
        if self._listed is not None or self._is_forgotten(context):
            return False
        if len(self._store.tree(context)):
            return context in self._coming or context in self._list_others()
        return self._has_room()

    def introduce(self, context: str, identity: IdentityId) -> bool:
        """Return whether `identity` may bring `context`, which holds nothing here. Its place is taken from now on: what
        is on its way for other contexts finds one less."""
        if not self.is_new(context):
            return True
        if identity == self._identity.id:  # a person brought a file: that takes the places of what is written here
            may_come = self.has_room_to_write(context)
        else:
            may_come = self._has_room() and self._introduced()[identity] < CONTEXTS_PER_IDENTITY_MAX
        if may_come:
            self._coming[context] = identity
        return may_come

    def is_new(self, context: str) -> bool:
        """Return whether `context` would have to be introduced: it holds nothing here and is not always taken."""
        return not (self._is_always_taken(context) or len(self._store.tree(context)) or context in self._coming)

    def introducer(self, record: Record, peer: IdentityId) -> IdentityId:
        """Return who introduces the context of `record`, which `peer` brings, if it is the first one of it."""
        return peer if self.is_of_pool(record) else record.author

    def is_of_pool(self, record: Record) -> bool:
        """Return whether the author of `record` is a pool: several devices write for it, so that what is bounded for
        one author is bounded for each of them."""
        return self._store.keyring.is_listed(record.author, record.kid)

    def is_own(self, context: str) -> bool:
        """Return whether `context` was written here."""
        origin = self._origins.get(context)
        return origin is not None and origin.identity == self._identity.id and not origin.is_forgotten

    def may_write(self, context: str) -> bool:
        """Return whether the configuration lets `context` be written here."""
        return self._listed is None or context in self._listed

    def has_room_to_write(self, context: str) -> bool:
        """Return whether one more context may be written here, if `context` was not yet."""
        own = sum(self.is_own(each) and len(self._store.tree(each)) > 0 for each in self._origins)
        return context == MAIN or self.is_own(context) or own < CONTEXTS_OWN_MAX

    def _is_always_taken(self, context: str) -> bool:
        if context == IDENTITIES:
            return True
        if self._listed is not None:
            return context in self._listed
        return context == MAIN or self.is_own(context)

    def _is_forgotten(self, context: str) -> bool:
        origin = self._origins.get(context)
        return origin is not None and origin.is_forgotten

    def _has_room(self) -> bool:
        held = list(self._held_of_others())
        live = sum(context not in self._empty for context in held) + len(self._coming)
        return live < CONTEXTS_MAX and len(held) < CONTEXTS_HELD_MAX

    def _held_of_others(self) -> Iterator[str]:
        """Yield the contexts of others that hold anything, the earliest first."""
        held = [context for context in self._store.contexts() if not self._is_always_taken(context)]
        known = [context for context in self._origins if context in held]
        return (
            context for context in dict.fromkeys((*known, *held)) if not self._is_forgotten(context)
        )

    def _introduced(self) -> Counter[IdentityId]:
        """Return how many contexts with a live record each identity introduced here."""
        held = (context for context in self._held_of_others() if context not in self._empty)
        introduced = (self._origins[context].identity for context in held if context in self._origins)
        return Counter((*introduced, *self._coming.values()))

    def _list_others(self) -> tuple[str, ...]:
        if self._others is None:
            held = list(self._held_of_others())
            live = [context for context in held if context not in self._empty]
            empty = [context for context in held if context in self._empty]
            self._others = tuple((live + empty)[:CONTEXTS_MAX])
        return self._others

    # -- what changes ------------------------------------------------------------------------------------------------

    async def note_written(self, context: str) -> None:
        """Note, durably, that `context` is written here."""
        if context not in (IDENTITIES, MAIN) and not self.is_own(context):
            self._set_origin(ContextOrigin(context, self._identity.id))
            await uninterrupted(self._save())

    async def forget(self, context: str) -> None:
        """Note, durably, that `context` is not to come again. Raises LocalError for one that is always taken."""
        if context in (IDENTITIES, MAIN):
            raise LocalError(f"{context} is always kept")
        if self._listed is not None and context in self._listed:
            raise LocalError(f"the configuration lists {escape(context)}: take it out of `contexts` first")
        if not len(self._store.tree(context)):
            raise LocalError(f"nothing is held of the context {escape(context)}")
        self._set_origin(ContextOrigin(context, self._identity.id, is_forgotten=True))
        await self._save()

    def note_applied(self, event: RecordsApplied) -> bool:
        """Note what came of a context of others. Return True when `refresh` has something to do."""
        context = event.context
        self._coming.pop(context, None)
        if not event.source or not event.records or self._is_always_taken(context):
            return False
        if context not in self._origins:
            self._set_origin(ContextOrigin(context, self.introducer(event.records[0], IdentityId(event.source))))
        if not all(record.is_tombstone for record in event.records):
            if context in self._empty:
                self._empty.discard(context)
                self._others = None
            self._unsure.discard(context)
        elif context not in self._empty:
            self._unsure.add(context)
        return bool(self._unsaved) or (bool(self._unsure) and self._is_short())

    def note_shown(self, event: ContextShown) -> bool:
        """Note a context that a snapshot filled. Return True when `refresh` has something to do."""
        introducer = self._coming.pop(event.context, IdentityId(event.source))
        if self._is_always_taken(event.context):
            return False
        if event.context not in self._origins:
            self._set_origin(ContextOrigin(event.context, introducer))
        self._others = None
        self._empty.discard(event.context)
        self._unsure.add(event.context)
        return True

    async def refresh(self) -> None:
        """Save new origins, and find out which contexts have no live record any more."""
        await self._save()
        while self._unsure:
            context = self._unsure.pop()
            if not await self._has_live_record(context) and context not in self._unsure:
                self._empty.add(context)
                self._others = None

    def _is_short(self) -> bool:
        """Return whether there may be no room for one more context, of somebody at least."""
        introduced = self._introduced()
        return not self._has_room() or max(introduced.values(), default=0) >= CONTEXTS_PER_IDENTITY_MAX

    def _set_origin(self, origin: ContextOrigin) -> None:
        self._origins[origin.context] = self._unsaved[origin.context] = origin
        self._others = None

    async def _save(self) -> None:
        while self._unsaved:
            context = next(iter(self._unsaved))
            await self._store.save_origin(self._unsaved.pop(context))

    async def _find_origin(self, context: str) -> None:
        """Set the origin of a context of which none was saved: this node, if it wrote there at all."""
        first: Record | None = None
        async for page in self._pages(context):
            first = first or page[0]
            if any(record.kid == self._identity.device.public for record in page):
                self._set_origin(ContextOrigin(context, self._identity.id))
                return
        if first is not None:
            self._set_origin(ContextOrigin(context, first.author))

    async def _has_live_record(self, context: str) -> bool:
        async for page in self._pages(context):
            if not all(record.is_tombstone for record in page):
                return True
        return False

    async def _pages(self, context: str) -> AsyncIterator[Sequence[Record]]:
        after = 0
        while True:
            page, last = await self._store.scan(context, after, limit=BATCH_RECORDS_MAX)
            if not page:
                return
            yield page
            after = last
