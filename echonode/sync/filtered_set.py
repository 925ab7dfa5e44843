"""The part of a context that a filter takes here: the set that `reconcile` compares.

The set holds all heads of each record of which the filter takes one head: no node is to hold a part of a conflict.

    filtered = await sets.of(store, context, wanted)      reads the log in pages: all of it, or what was written since
    await filtered.refresh()                              reads what was written since
    filtered.items()   await filtered.digest()   filtered.keys_of(id)

Writers go on meanwhile. A version that is written during the pass is read at its end, and replaces what it superseded.

A set is packed: for each head `created`, the id, and the first 8 bytes of the leaf key, from which the tree tells the
rest. Sets are kept for the next conversation about the same part, and shared by all that run. All of them together hold
a bounded number of heads; what peers ask for beyond that has to wait.
"""

import asyncio
from array import array
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from weakref import WeakValueDictionary

from echonode.digest import ID_LIST, digest
from echonode.errors import Reason, RemoteError
from echonode.limits import BATCH_RECORDS_MAX, FILTERED_ITEMS_MAX, FILTERED_SETS_MAX, MIB
from echonode.model.fields import AUTHOR, NAME
from echonode.model.filter import Filter
from echonode.model.merkle import Digest
from echonode.model.record import IDENTITIES, LeafKey, Record, fields_of, from_store, leaf_key
from echonode.store.port import FILTERED_KEY_BYTES, FILTERED_ROW_BYTES, Change, Store
from echonode.sync.work import RECORD_FILTERED_S, RECORD_SEEN_S, Charge
from echonode.wire.ranges import Items, item

_PAGE_BYTES: Final = 4 * MIB
_MS: Final = 1000


class FilteredSetsFullError(RemoteError):
    """The sets of all sessions together would hold too many heads."""

    def __init__(self) -> None:
        super().__init__(Reason.BUSY, "what all peers compare by filters is too much")


class FilteredSet:
    """The heads of `context` that the filter `wanted` takes. FilteredSets makes them."""

    def __init__(self, store: Store, context: str, wanted: Filter, sets: "FilteredSets") -> None:
        self._store = store
        self._context = context
        self._wanted = wanted
        self._sets = sets
        self._items = Items(())
        self._order: array[int] | None = None  # the indexes of all items by their ids
        self._digest: bytes | None = None
        self._seq = 0  # of the log: entries up to it are in the set
        self._statements = Digest(b"")  # root of the key statements as of then
        self._refreshing = asyncio.Lock()
        self.coming = 0  # items of a refresh that runs

    def __len__(self) -> int:
        return len(self._items)

    async def refresh(self, charge: Charge | None = None) -> None:
        """Read what was written since the last refresh. After an error the set is as it was.

        `charge`: of the peer that asks, None for this node itself. Raises FilteredSetsFullError when a peer's set would
        be too large."""
        work_s = 0.0
        async with self._refreshing:
            try:
                work_s = await self._refresh(is_own=charge is None)
            finally:
                self.coming = 0
        if charge is not None and work_s:  # not before: another peer may wait for the same set
            await charge(work_s)

    async def _refresh(self, *, is_own: bool) -> float:
        """Refresh, and return how many seconds of work that was, by the estimates of sync/work.py."""
        statements = self._store.tree(IDENTITIES).root
        # A compromised key takes versions out of the log, and the log does not say so.
        seq = self._seq if statements == self._statements else 0
        is_whole = seq == 0
        pages: list[bytes] = []
        work_s = 0.0
        if is_whole:
            pages, seq, work_s = await self._read_all(is_own=is_own)
        edited: set[LeafKey] = set()
        loop = asyncio.get_running_loop()
        while True:
            changes, seq = await self._store.changes(
                self._context, seq, records_max=BATCH_RECORDS_MAX, bytes_max=_PAGE_BYTES
            )
            if not changes:
                break
            work_s += RECORD_SEEN_S * len(changes)
            edited.update(await loop.run_in_executor(None, _keys_of, changes))
        if is_whole:
            edited.update(self._store.conflicts(self._context))
        if edited or is_whole:
            # The set may hold superseded versions of these leaves, or only some heads of a conflict.
            prefixes = {key[:FILTERED_KEY_BYTES] for key in edited}
            keys = {key for prefix in prefixes for key in self._leaves_below(prefix)}
            heads = await self._read_leaves(sorted(keys))
            before = Items(()) if is_whole else self._items
            self._items = await loop.run_in_executor(None, _replaced, before, prefixes, pages, heads)
            self._order = self._digest = None
        self._seq, self._statements = seq, statements
        return work_s

    async def _read_all(self, *, is_own: bool) -> tuple[list[bytes], int, float]:
        """Return pages of rows of what is in the log by now, the seq up to which that is, and the seconds of work."""
        until = self._store.seq(self._context)
        pages: list[bytes] = []
        after, seen = 0, 0
        while (page := await self._store.filtered(self._context, self._wanted, after, until=until)).seen:
            after = page.seq
            seen += page.seen
            pages.append(page.rows)
            self.coming += len(page.rows) // FILTERED_ROW_BYTES
            if not is_own:
                self._sets.make_room_for(self)
        return pages, until, RECORD_FILTERED_S * seen

    async def _read_leaves(self, keys: Sequence[LeafKey]) -> list[bytes]:
        """Return the rows of the present heads of these leaves."""
        rows: list[bytes] = []
        while keys:
            raws, read = await self._store.read(self._context, keys[:BATCH_RECORDS_MAX], bytes_max=_PAGE_BYTES)
            keys = keys[read:]
            heads = [from_store(raw) for raw in raws]
            fitting = {head.key for head in heads if self._wanted.matches(head)}
            rows += [_row_of(head) for head in heads if head.key in fitting]
        return rows

    def _leaves_below(self, prefix: bytes) -> list[LeafKey]:
        """Return the leaf keys that begin with `prefix`: one, unless somebody sought for two such records."""
        nibbles = bytes(nibble for byte in prefix for nibble in (byte >> 4, byte & 15))
        return [key for key, _ in self._store.tree(self._context).leaves_at(nibbles)]

    def items(self) -> Items:
        """Return the set as it is now, in the form of the Negentropy protocol: `created` in whole seconds, and id."""
        return self._items

    async def digest(self) -> bytes:
        """Return 32 bytes over all ids: equal on two nodes exactly when their sets are."""
        if self._digest is None:
            items = self._items
            found = await asyncio.get_running_loop().run_in_executor(None, _digest_of, items)
            if items is not self._items:
                return found  # of what it was at the call
            self._digest = found
        return self._digest

    def keys_of(self, version: bytes) -> list[LeafKey]:
        """Return the keys of the records that a version of the set may belong to; none when it is not in the set."""
        if self._order is None:
            self._order = self._items.order_of_ids()
        lower, upper = 0, len(self._order)
        while lower < upper:
            middle = (lower + upper) // 2
            if self._items.id_at(self._order[middle]) < version:
                lower = middle + 1
            else:
                upper = middle
        if lower == len(self._order) or self._items.id_at(self._order[lower]) != version:
            return []
        return self._leaves_below(self._items.tail_at(self._order[lower]))

    def ids(self) -> set[bytes]:
        """Return the ids of all versions."""
        return set(self._items.ids(0, len(self._items)))

    def others(self) -> set[LeafKey]:
        """Return the leaves of the context of which no version is in the set."""
        inside = {self._items.tail_at(index) for index in range(len(self._items))}
        leaves = self._store.tree(self._context).leaves_at(b"")
        return {key for key, _ in leaves if key[:FILTERED_KEY_BYTES] not in inside}


class FilteredSets:
    """Filtered sets by context and filter: those that run, and the latest others, for the next conversation about the
    same part."""

    def __init__(self, items_max: int = FILTERED_ITEMS_MAX) -> None:
        self._items_max = items_max
        self._kept: OrderedDict[tuple[str, bytes], FilteredSet] = OrderedDict()
        self._there: WeakValueDictionary[tuple[str, bytes], FilteredSet] = WeakValueDictionary()

    async def of(self, store: Store, context: str, wanted: Filter, charge: Charge | None = None) -> FilteredSet:
        """Return the set of the heads in `context` that `wanted` takes, as it is now.

        `charge`: of the peer that asks, None for this node itself. Raises FilteredSetsFullError when a peer asks and
        there is no room for its set."""
        part = (context, wanted.digest())
        filtered = self._there.get(part)
        if filtered is None:
            filtered = self._there[part] = FilteredSet(store, context, wanted, self)
        await filtered.refresh(charge)
        self._kept[part] = filtered
        self._kept.move_to_end(part)
        while len(self._kept) > FILTERED_SETS_MAX:
            self._kept.popitem(last=False)
        self.make_room_for(filtered, is_own=True)
        return filtered

    def make_room_for(self, filtered: FilteredSet, *, is_own: bool = False) -> None:
        """Drop kept sets that no conversation needs until all sets fit. Raises FilteredSetsFullError when they do not,
        unless `is_own`."""
        while self._total() > self._items_max:
            part = next((part for part, kept in self._kept.items() if kept is not filtered), None)
            if part is not None:
                del self._kept[part]
            elif is_own:
                return
            else:
                raise FilteredSetsFullError

    def _total(self) -> int:
        return sum(max(len(each), each.coming) for each in self._there.values())

    def clear(self) -> None:
        """Drop all sets: records were deleted from the store, and no log says so."""
        self._kept.clear()
        self._there.clear()


def id_list_digest(versions: Iterable[bytes]) -> bytes:
    """Return the digest by which two sets of versions are compared: 32 bytes over the sorted ids (PROTOCOL.md §3)."""
    return digest(ID_LIST, b"".join(sorted(versions)))


def _digest_of(items: Items) -> bytes:
    return id_list_digest(items.ids(0, len(items)))


def _replaced(before: Items, prefixes: set[bytes], pages: Sequence[bytes], heads: list[bytes]) -> Items:
    """Return the items of `before` and of `pages` but for leaves that begin with one of `prefixes`, and `heads`."""
    kept: Iterable[bytes] = [*pages, before.rows()]
    if prefixes:
        rows = (
            page[start : start + FILTERED_ROW_BYTES]
            for page in kept
            for start in range(0, len(page), FILTERED_ROW_BYTES)
        )
        kept = (row for row in rows if row[-FILTERED_KEY_BYTES:] not in prefixes)
    return Items([*kept, *heads], FILTERED_KEY_BYTES)


def _keys_of(changes: Sequence[Change]) -> list[LeafKey]:
    return [_key_of(fields_of(change.raw)) for change in changes]


def _row_of(head: Record) -> bytes:
    return item(head.created_ms // _MS, head.id) + head.key[:FILTERED_KEY_BYTES]


def _key_of(fields: Mapping[int, Any]) -> LeafKey:
    return leaf_key(fields[AUTHOR], fields[NAME])
