"""The part of a context that a filter takes here: the set that `reconcile` compares.

The set holds all heads of each record of which the filter takes one head: no node is to hold a part of a conflict.

    filtered = await sets.of(store, context, wanted)      reads the log in pages: all of it, or what was written since
    await filtered.refresh()                              reads what was written since
    await filtered.items()   filtered.digest()   filtered.key_of(id)

Writers go on meanwhile. A version that is written during the pass is read at its end, and replaces what it superseded.
The latest sets are kept, and shared by the conversations about the same part.
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

_Entry: TypeAlias = tuple[bytes, LeafKey, VersionId]  # the item, and the record and version it stands for


class FilteredSet:
    """The heads of `context` that the filter `wanted` takes. FilteredSets makes them."""

    def __init__(self, store: Store, context: str, wanted: Filter) -> None:
        self._store = store
        self._context = context
        self._wanted = wanted
        self._entries: list[_Entry] = []
        self._seq = 0  # of the log: entries up to it are in the set
        self._statements = Digest(b"")  # root of the key statements as of then
        self._keys: dict[VersionId, LeafKey] | None = None
        self._refreshing = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    async def refresh(self) -> None:
        """Read what was written since the last refresh. After an error the next refresh begins anew."""
        async with self._refreshing:
            try:
                await self._refresh()
            except BaseException:
                self._begin(Digest(b""))  # the set may be incomplete
                raise

    def _begin(self, statements: Digest) -> None:
        self._entries, self._seq, self._statements, self._keys = [], 0, statements, None

    async def _refresh(self) -> None:
        statements = self._store.tree(IDENTITIES).root
        if statements != self._statements:
            # A compromised key takes versions out of the log, and the log does not say so.
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
            old = [change for change in changes if change.seq <= began]
            self._entries += await loop.run_in_executor(None, _entries_of, old, self._wanted)
            edited.update(_key_of(fields_of(change.raw)) for change in changes[len(old) :])
        if is_whole:
            edited.update(self._store.conflicts(self._context))
        if edited:
            # The set may hold superseded versions of these leaves, or only some heads of a conflict.
            await self._read_leaves(sorted(edited))

    async def _read_leaves(self, keys: Sequence[LeafKey]) -> None:
        """Replace the entries of these leaves by their present heads."""
        again = set(keys)
        self._keys = None
        self._entries = [entry for entry in self._entries if entry[1] not in again]
        while keys:
            raws, read = await self._store.read(self._context, keys[:BATCH_RECORDS_MAX], bytes_max=_PAGE_BYTES)
            keys = keys[read:]
            heads = [from_store(raw) for raw in raws]
            fitting = {head.key for head in heads if self._wanted.matches(head)}
            self._entries += [
                (item(head.created_ms // _MS, head.id), head.key, head.id) for head in heads if head.key in fitting
            ]

    async def items(self) -> Items:
        """Return the set as it is now, in the form of the Negentropy protocol: `created` in whole seconds, and id."""
        found = [entry[0] for entry in self._entries]
        return await asyncio.get_running_loop().run_in_executor(None, Items, found)

    def digest(self) -> bytes:
        """Return 32 bytes over all ids: equal on two nodes exactly when their sets are."""
        return id_list_digest(version for _, _, version in self._entries)

    def key_of(self, version: bytes) -> LeafKey | None:
        """Return the key of the record that a version of the set belongs to, None when it is not in the set."""
        if self._keys is None:
            self._keys = {version: key for _, key, version in self._entries}
        return self._keys.get(VersionId(version))

    def ids(self) -> set[bytes]:
        """Return the ids of all versions."""
        return {version for _, _, version in self._entries}

    def keys(self) -> set[LeafKey]:
        """Return the leaves of which a version is in the set."""
        return {key for _, key, _ in self._entries}


class FilteredSets:
    """The latest filtered sets, by context and filter. The next conversation about the same part goes on from there."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, bytes], FilteredSet] = OrderedDict()

    async def of(self, store: Store, context: str, wanted: Filter) -> FilteredSet:
        """Return the set of the heads in `context` that `wanted` takes, as it is now."""
        part = (context, wanted.digest())
        filtered = self._kept.setdefault(part, FilteredSet(store, context, wanted))
        self._kept.move_to_end(part)
        while len(self._kept) > FILTERED_SETS_MAX:
            self._kept.popitem(last=False)
        await filtered.refresh()
        return filtered

    def clear(self) -> None:
        """Drop all sets: records were deleted from the store, and no log says so."""
        self._kept.clear()


def id_list_digest(versions: Iterable[bytes]) -> bytes:
    """Return the digest by which two sets of versions are compared: 32 bytes over the sorted ids (PROTOCOL.md §3)."""
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
