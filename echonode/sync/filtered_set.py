"""What a filter takes of one context here: the set that `reconcile` compares, with the means to read its records.

It holds all heads of each record of which the filter takes one: of a conflict nobody is to hold a part.

    survey = await surveys.of(store, context, wanted)       one pass over the log, in pages, or what was written since
    await survey.refresh()                                   only what was written since
    await survey.items()   survey.digest()   survey.key_of(id)

Writers go on meanwhile: what is written during the pass is seen at its end, and what it replaced is let go. The latest
surveys are kept, and shared by the conversations about the same part.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from echonode.digest import ID_LIST, digest
from echonode.limits import BATCH_RECORDS_MAX, FILTERED_SETS_MAX, MIB
from echonode.model.fields import AUTHOR, CREATED, NAME
from echonode.model.filter import Filter
from echonode.model.merkle import Digest
from echonode.model.record import IDENTITIES, LeafKey, VersionId, fields_of, from_store, leaf_key
from echonode.store.port import Change, Store
from echonode.wire.ranges import Items, item

_PAGE_BYTES: Final = 4 * MIB
_MS: Final = 1000

_Entry: TypeAlias = tuple[bytes, LeafKey, VersionId]  # the item, and which record and version it is


class FilteredSet:
    """Made by `take`."""

    def __init__(self, store: Store, context: str, wanted: Filter) -> None:
        self._store = store
        self._context = context
        self._wanted = wanted
        self._entries: list[_Entry] = []
        self._seq = 0
        self._statements = Digest(b"")
        self._keys: dict[VersionId, LeafKey] | None = None
        self._refreshing = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    async def refresh(self) -> None:
        """Take note of what was written since."""
        async with self._refreshing:
            try:
                await self._refresh()
            except BaseException:
                self._begin(Digest(b""))  # it may have been half done
                raise

    def _begin(self, statements: Digest) -> None:
        self._entries, self._seq, self._statements, self._keys = [], 0, statements, None

    async def _refresh(self) -> None:
        statements = self._store.tree(IDENTITIES).root
        if statements != self._statements:
            # A compromised key takes versions out of the log and leaves no entry there.
            self._begin(statements)
        is_whole = self._seq == 0
        began = self._seq or self._store.seq(self._context)
        edited: set[LeafKey] = set()
        while True:
            changes, self._seq = await self._store.changes(
                self._context, self._seq, records_max=BATCH_RECORDS_MAX, bytes_max=_PAGE_BYTES
            )
            if not changes:
                break
            loop = asyncio.get_running_loop()
            stood = [change for change in changes if change.seq <= began]
            self._entries += await loop.run_in_executor(None, _entries_of, stood, self._wanted)
            edited.update(_key_of(fields_of(change.raw)) for change in changes[len(stood) :])
        if is_whole:
            edited.update(self._store.conflicts(self._context))
        if edited:
            # Their earlier versions may have come before them, and those of a conflict go together.
            await self._look_again(sorted(edited))

    async def _look_again(self, keys: Sequence[LeafKey]) -> None:
        """Replace the entries of these leaves by what stands there now."""
        again = set(keys)
        self._keys = None
        self._entries = [entry for entry in self._entries if entry[1] not in again]
        while keys:
            raws, taken = await self._store.read(self._context, keys[:BATCH_RECORDS_MAX], bytes_max=_PAGE_BYTES)
            keys = keys[taken:]
            heads = [from_store(raw) for raw in raws]
            fitting = {head.key for head in heads if self._wanted.matches(head)}
            self._entries += [
                (item(head.created_ms // _MS, head.id), head.key, head.id) for head in heads if head.key in fitting
            ]

    async def items(self) -> Items:
        """The set as it is now, as the Negentropy protocol has it: `created` in whole seconds."""
        found = [entry[0] for entry in self._entries]
        return await asyncio.get_running_loop().run_in_executor(None, Items, found)

    def digest(self) -> bytes:
        """32 bytes over all ids: equal on two nodes exactly when their sets are."""
        return id_list_digest(version for _, _, version in self._entries)

    def key_of(self, version: bytes) -> LeafKey | None:
        """Where a version of the set stands."""
        if self._keys is None:
            self._keys = {version: key for _, key, version in self._entries}
        return self._keys.get(VersionId(version))

    def ids(self) -> set[bytes]:
        """All of them."""
        return {version for _, _, version in self._entries}

    def keys(self) -> set[LeafKey]:
        """The leaves of which a version is in the set."""
        return {key for _, key, _ in self._entries}


class FilteredSets:
    """The latest surveys, by context and filter: the next conversation about the same part goes on from there."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, bytes], FilteredSet] = OrderedDict()

    async def of(self, store: Store, context: str, wanted: Filter) -> FilteredSet:
        """What `context` holds of what is wanted, as it is now."""
        which = (context, wanted.digest())
        survey = self._kept.setdefault(which, FilteredSet(store, context, wanted))
        self._kept.move_to_end(which)
        while len(self._kept) > FILTERED_SETS_MAX:
            self._kept.popitem(last=False)
        await survey.refresh()
        return survey

    def clear(self) -> None:
        """Records were let go of, of which no log tells."""
        self._kept.clear()


def id_list_digest(versions: Iterable[bytes]) -> bytes:
    """What two sets of versions are compared by (PROTOCOL.md §3)."""
    return digest(ID_LIST, b"".join(sorted(versions)))


def _entries_of(changes: Sequence[Change], wanted: Filter) -> list[_Entry]:
    entries: list[_Entry] = []
    for change in changes:
        fields: Mapping[int, Any] = fields_of(change.raw)
        if wanted.matches_fields(fields):
            entries.append((item(fields[CREATED] // _MS, change.version), _key_of(fields), change.version))
    return entries


def _key_of(fields: Mapping[int, Any]) -> LeafKey:
    return leaf_key(fields[AUTHOR], fields[NAME])
