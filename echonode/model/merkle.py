"""The Merkle tree of one context: a 16-ary hash-prefix tree, its shape decided by the set of leaves (PROTOCOL.md §7).

    leaf    key = BLAKE2b(author, name), 32 bytes      state = BLAKE2b(sorted head ids), 32 bytes
    bucket  a subtree of at most 16 leaves             digest = H_bucket(count, key, state, key, state, ..)
    branch  a larger one                               digest = H_node(count, 16 children's digests)

The digest of an empty child is 32 zero bytes; the root of the empty set is the digest of the empty bucket. Counts are 8
bytes, big-endian. Digests are hashes of ordered children: sums and XORs can be forged (SECURITY.md §2).

A prefix has one nibble in each byte. A bucket is kept as plain bytes, 64 for each leaf, sorted by key: a million leaves
take about 100 MB. Digests are computed when they are read. A branch keeps those of its children, and a bit for each
child that has changed since: after a batch only the buckets and branches that changed are hashed again.
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Final, NewType

from echonode.digest import BUCKET, LEAF, NODE, STATE, begun, digest
from echonode.limits import JOURNAL_LEAVES_MAX
from echonode.model.record import LeafKey, VersionId

Digest = NewType("Digest", bytes)  # 32 bytes, or 16 on the wire
State = NewType("State", bytes)  # 32 bytes
Prefix = bytes  # one nibble (0..15) a byte

ARITY: Final = 16
BUCKET_LEAVES_MAX: Final = 16
DEPTH_MAX: Final = 64
EMPTY: Final = Digest(bytes(32))
_KEY: Final = 32
_DIGEST: Final = 32
_ENTRY: Final = 64
_HIGH_NIBBLE: Final = bytes(byte >> 4 for byte in range(256))
_ALL_CHANGED: Final = (1 << ARITY) - 1
_LOW_NIBBLE: Final = bytes(byte & 15 for byte in range(256))


class Journal:
    """The leaves added to and removed from a tree since `Tree.start_journal`, 64 bytes each: key and state.

    A caller that keeps something of all leaves updates it from the journal. The tree drops one that is too long.
    """

    __slots__ = ("added", "removed")

    def __init__(self) -> None:
        self.added = bytearray()
        self.removed = bytearray()

    @property
    def is_too_long(self) -> bool:
        """True when starting anew costs less than applying the journal."""
        return len(self.added) + len(self.removed) > JOURNAL_LEAVES_MAX * _ENTRY

    def clear(self) -> None:
        """Forget the leaves, after the caller has applied them."""
        self.added.clear()
        self.removed.clear()


class _Branch:
    """A subtree of more leaves than a bucket holds. `changed`: a bit for each child whose digest in `digests`, one
    behind the other, does not hold any more; 0 means that `digest` holds."""

    __slots__ = ("changed", "children", "count", "digest", "digests")

    def __init__(self, children: list["_Node"], count: int) -> None:
        self.children = children
        self.count = count
        self.changed = _ALL_CHANGED
        self.digests = bytearray()  # filled with the first digest
        self.digest: bytes = EMPTY


_Node = bytes | _Branch


def state_of(head_ids: Iterable[VersionId]) -> State:
    """Return the state of a leaf: a hash of its heads, which may be given in any order."""
    return State(digest(STATE, b"".join(sorted(head_ids))))


def leaf_digest(key: LeafKey, state: State) -> Digest:
    """Return the digest of a leaf, for comparing leaves on the wire."""
    return Digest(digest(LEAF, key + state))


class Tree:
    """The leaves of a context, with their number and the digest below any prefix."""

    def __init__(self, entries: Iterable[tuple[LeafKey, State]] = ()) -> None:
        """Build the tree of `entries`, each key once, in any order. It costs a tenth of as many `put`s."""
        self._top: _Node = _build(b"".join(key + state for key, state in sorted(entries)), 0)
        self._journal: Journal | None = None

    @classmethod
    def from_sorted(cls, pieces: Iterable[bytes]) -> "Tree":
        """Return the tree of all leaves in `pieces`, in little more memory than the tree itself.

        `pieces`, joined, hold key and state (64 bytes) of every leaf in key order, each key once. They may be cut
        between any two leaves.
        """
        parts = [bytearray() for _ in range(ARITY)]
        for piece in pieces:
            for part, more in zip(parts, _partition(piece, 0), strict=True):
                part += more
        size = sum(map(len, parts))
        tree = cls()
        if size <= BUCKET_LEAVES_MAX * _ENTRY:
            tree._top = b"".join(parts)
        else:
            children = [_build(bytes(parts.pop()), 1) for _ in range(ARITY)]
            tree._top = _Branch(children[::-1], size // _ENTRY)
        return tree

    @property
    def root(self) -> Digest:
        """The digest of the whole set, 32 bytes."""
        top = self._top
        return Digest(_bucket_digest(top) if isinstance(top, bytes) else _digest(top))

    def __len__(self) -> int:
        return _count(self._top)

    def get(self, key: LeafKey) -> State | None:
        """Return the state of the leaf `key`, None if there is none."""
        node, depth = self._top, 0
        while not isinstance(node, bytes):
            byte = key[depth >> 1]  # `_nibble` in place: every version that arrives is looked up
            node = node.children[byte & 15 if depth & 1 else byte >> 4]
            depth += 1
        at = _find(node, key)
        return None if at < 0 else State(node[at + _KEY : at + _ENTRY])

    def put(self, key: LeafKey, state: State) -> None:
        """Insert or replace one leaf."""
        self.put_all(((key, state),))

    def put_all(self, leaves: Collection[tuple[LeafKey, State]]) -> None:
        """Insert or replace `leaves`, each key once. Neighbours, as peers send them, cost a fraction of as many `put`s.
        """
        if self._journal is not None:
            for key, state in leaves:
                before = self.get(key)
                self._note(b"" if before is None else key + before, key + state)
        if leaves:
            self._top = _merged(self._top, b"".join(sorted([key + state for key, state in leaves])), 0)

    def remove(self, key: LeafKey) -> None:
        """Remove one leaf, if it is there."""
        path, bucket = self._descend(key)
        at = _find(bucket, key)
        if at < 0:
            return
        self._note(bucket[at : at + _ENTRY], b"")
        self._replace(path, key, bucket[:at] + bucket[at + _ENTRY :], -1)
        for depth, branch in enumerate(path):
            if branch.count <= BUCKET_LEAVES_MAX:
                # Where all its leaves share the next nibble, a child is a branch of as few leaves.
                self._replace(path[:depth], key, b"".join(_buckets(branch, depth, None)), 0)
                return

    def digest_at(self, prefix: Prefix) -> Digest:
        """Return the digest of the leaves below `prefix`: EMPTY for none, the root for the empty prefix."""
        return Digest(_digest(self._node_at(prefix))) if prefix else self.root

    def count_at(self, prefix: Prefix) -> int:
        """Return the number of leaves below `prefix`."""
        return _count(self._node_at(prefix))

    def children_at(self, prefix: Prefix) -> tuple[Digest, ...]:
        """Return the 16 digests one level below `prefix`."""
        node = self._node_at(prefix)
        if isinstance(node, bytes):
            return tuple(Digest(_digest(part)) for part in _partition(node, len(prefix)))
        _digest(node)
        return tuple(Digest(bytes(node.digests[at : at + _DIGEST])) for at in range(0, ARITY * _DIGEST, _DIGEST))

    def leaves_at(self, prefix: Prefix, after: LeafKey | None = None) -> Iterator[tuple[LeafKey, State]]:
        """Yield the leaves below `prefix` in key order, from behind `after`."""
        for bucket in _buckets(self._node_at(prefix), len(prefix), after):
            for at in range(0, len(bucket), _ENTRY):
                key = LeafKey(bucket[at : at + _KEY])
                if after is None or key > after:
                    yield key, State(bucket[at + _KEY : at + _ENTRY])

    def entries_around(self, prefix: Prefix) -> Iterator[bytes]:
        """Yield whole buckets, 64 bytes a leaf, that together hold every leaf below `prefix` and perhaps others."""
        node, depth = self._top, 0
        while depth < len(prefix) and not isinstance(node, bytes):
            node = node.children[prefix[depth]]
            depth += 1
        yield from _buckets(node, depth, None)

    def start_journal(self) -> Journal:
        """Return a new journal, which from now on notes all changes. The tree drops the journal before it."""
        self._journal = Journal()
        return self._journal

    def writes_to(self, journal: Journal) -> bool:
        """Return True if `journal` still notes all changes."""
        return self._journal is journal

    def _note(self, before: bytes, after: bytes) -> None:
        if self._journal is not None:
            self._journal.removed += before
            self._journal.added += after
            if self._journal.is_too_long:
                self._journal = None

    def _descend(self, key: LeafKey) -> tuple[list[_Branch], bytes]:
        path: list[_Branch] = []
        node, depth = self._top, 0
        while not isinstance(node, bytes):
            path.append(node)
            node = node.children[_nibble(key, depth)]
            depth += 1
        return path, node

    def _replace(self, path: list[_Branch], key: LeafKey, node: _Node, added: int) -> None:
        """Replace the node behind `path`, towards `key`, and mark the path dirty. `added` is the change in leaves."""
        nibble = 0
        for depth, branch in enumerate(path):
            nibble = _nibble(key, depth)
            branch.changed |= 1 << nibble
            branch.count += added
        if path:
            path[-1].children[nibble] = node
        else:
            self._top = node

    def _node_at(self, prefix: Prefix) -> _Node:
        node = self._top
        for nibble in prefix:
            if isinstance(node, bytes):
                # A bucket above the prefix: its leaves below the prefix are the subtree.
                return _below(node, prefix)
            node = node.children[nibble]
        return node


def _nibble(key: bytes, depth: int) -> int:
    byte = key[depth >> 1]
    return byte & 15 if depth & 1 else byte >> 4


def _find(bucket: bytes, key: LeafKey) -> int:
    at = bucket.find(key)
    while at >= 0 and at % _ENTRY:
        at = bucket.find(key, at + 1)
    return at


def _count(node: _Node) -> int:
    return len(node) // _ENTRY if isinstance(node, bytes) else node.count


def _bucket_digest(bucket: bytes) -> bytes:
    state = _BUCKETS[len(bucket) // _ENTRY]()
    state.update(bucket)
    return state.digest()


# By the number of leaves: begins the hash of a bucket, its count included.
_BUCKETS: Final = tuple(begun(BUCKET, count.to_bytes(8, "big")) for count in range(BUCKET_LEAVES_MAX + 1))


def _digest(node: _Node) -> bytes:
    if isinstance(node, bytes):
        return _bucket_digest(node) if node else EMPTY
    changed = node.changed
    if changed:
        children = node.children
        digests = node.digests = node.digests or bytearray(ARITY * _DIGEST)
        while changed:
            nibble = changed.bit_length() - 1
            changed ^= 1 << nibble
            digests[nibble * _DIGEST : (nibble + 1) * _DIGEST] = _digest(children[nibble])
        node.digest = digest(NODE, node.count.to_bytes(8, "big") + node.digests)
        node.changed = 0
    return node.digest


def _build(entries: bytes, depth: int) -> _Node:
    """Return the subtree of `entries`: sorted, 64 bytes each, with equal first `depth` nibbles."""
    if len(entries) <= BUCKET_LEAVES_MAX * _ENTRY:
        return entries
    children = [_build(part, depth + 1) for part in _partition(entries, depth)]
    return _Branch(children, len(entries) // _ENTRY)


def _merged(node: _Node, entries: bytes, depth: int) -> _Node:
    """Return `node`, a subtree at `depth`, with `entries`, at least one, inserted or replaced. A branch stays the same
    object."""
    if isinstance(node, bytes):
        return _build(_united(node, entries), depth)
    if len(entries) < ARITY * _ENTRY:
        for at in range(0, len(entries), _ENTRY):
            _merge_one(node, entries[at : at + _ENTRY], depth)
        return node
    for nibble, part in enumerate(_partition(entries, depth)):
        if not part:
            continue
        before = node.children[nibble]
        count = _count(before)
        after = _merged(before, part, depth + 1)
        node.children[nibble] = after
        node.count += _count(after) - count
        node.changed |= 1 << nibble
    return node


def _merge_one(branch: _Branch, entry: bytes, depth: int) -> None:
    """Insert or replace one `entry` below `branch`, in one loop down and one back."""
    path: list[_Branch] = []
    node: _Node = branch
    while not isinstance(node, bytes):
        byte = entry[depth >> 1]  # `_nibble` in place
        nibble = byte & 15 if depth & 1 else byte >> 4
        node.changed |= 1 << nibble
        path.append(node)
        node = node.children[nibble]
        depth += 1
    united = _with_entry(node, entry)
    is_bucket = len(united) <= BUCKET_LEAVES_MAX * _ENTRY
    path[-1].children[nibble] = united if is_bucket else _build(united, depth)
    if len(united) > len(node):
        for passed in path:
            passed.count += 1


def _with_entry(bucket: bytes, entry: bytes) -> bytes:
    """Return the sorted `bucket` with `entry`, in place of the one with its key if there is one."""
    key = entry[:_KEY]
    low, high = 0, len(bucket)
    while low < high:
        middle = (low + high) // (2 * _ENTRY) * _ENTRY
        if bucket[middle : middle + _KEY] < key:
            low = middle + _ENTRY
        else:
            high = middle
    return bucket[:low] + entry + bucket[low + _ENTRY * bucket.startswith(key, low) :]


def _united(bucket: bytes, entries: bytes) -> bytes:
    """Return the sorted entries of both; of two with one key that in `entries`."""
    if len(entries) == _ENTRY:
        return _with_entry(bucket, entries)
    if not bucket or bucket[-_ENTRY:-_KEY] < entries[:_KEY]:
        return bucket + entries
    states: dict[bytes, bytes] = {}
    for each in (bucket, entries):
        for at in range(0, len(each), _ENTRY):
            states[each[at : at + _KEY]] = each[at + _KEY : at + _ENTRY]
    return b"".join([key + states[key] for key in sorted(states)])


def _partition(entries: bytes, depth: int) -> list[bytes]:
    """Return the sorted `entries`, cut in 16 by the nibble at `depth`. Counting in a slice runs at C speed."""
    table = _LOW_NIBBLE if depth & 1 else _HIGH_NIBBLE
    column = entries[depth >> 1 :: _ENTRY].translate(table)
    parts, start = [], 0
    for nibble in range(ARITY):
        end = start + column.count(nibble) * _ENTRY
        parts.append(entries[start:end])
        start = end
    return parts


def _below(bucket: bytes, prefix: Prefix) -> bytes:
    """Return the entries of `bucket` with keys that begin with `prefix`."""
    whole, is_odd = divmod(len(prefix), 2)
    head = bytes(prefix[at] << 4 | prefix[at + 1] for at in range(0, 2 * whole, 2))
    entries = (bucket[at : at + _ENTRY] for at in range(0, len(bucket), _ENTRY))
    return b"".join(
        [each for each in entries if each.startswith(head) and (not is_odd or each[whole] >> 4 == prefix[-1])]
    )


def _buckets(node: _Node, depth: int, after: LeafKey | None) -> Iterator[bytes]:
    if isinstance(node, bytes):
        yield node
        return
    first = 0 if after is None else _nibble(after, depth)
    for nibble in range(first, ARITY):
        yield from _buckets(node.children[nibble], depth + 1, after if nibble == first else None)
