"""The Store port: how versions are kept. One method is one transaction; what returned is durable.

Only verified records come in (`Record`, never `SignedRecord`), and the store itself decides admission by its keyring:
membership of a context is a pure function of version bytes and key statements, whatever the store runs on.

Two implementations, one contract suite: `SqliteStore` and `MemoryStore`.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from echonode.clock import Timestamp
from echonode.errors import LocalError, Reason, StoreError
from echonode.model.identity import IdentityId, Instance, PublicKey, SigningKey
from echonode.model.keys import Keyring
from echonode.model.merkle import Digest, Tree
from echonode.model.record import Draft, LeafKey, Record, VersionId

Tick = Callable[[], Timestamp]


class SnapshotOverError(StoreError):
    """A snapshot was read from for too long, or too much was written meanwhile. What it showed may still be there."""


class StaleWriterError(LocalError):
    """A head claims to have seen more of this writer than can be: what it writes next would not cover that head. A new
    instance can write it."""


@dataclass(frozen=True, slots=True)
class RefusedVersion:
    """A version that was not taken, and why."""

    version: VersionId
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Applied:
    """What one transaction did. `records` became heads, in order; `had` were known or superseded already."""

    records: tuple[Record, ...] = ()
    had: int = 0
    refused: tuple[RefusedVersion, ...] = ()
    voided: int = 0  # versions that a compromise statement took out

    @property
    def is_gap(self) -> bool:
        """Whether something was refused that may be admitted later, and has to come again."""
        return any(refused.reason is Reason.UNKNOWN_KEY for refused in self.refused)


@dataclass(frozen=True, slots=True)
class ContextInfo:
    """One context as `status` shows it. `seq`: of its newest log entry; `bytes`: of its versions."""

    name: str
    root: Digest
    records: int
    bytes: int
    seq: int


@dataclass(frozen=True, slots=True)
class StateStamp:
    """Which state a snapshot shows."""

    root: Digest
    count: int
    seq: int
    instance: Instance


@dataclass(frozen=True, slots=True)
class Staged:
    """A snapshot being received: of which root, up to which key, how many records so far."""

    root: Digest
    last_key: LeafKey
    count: int


@dataclass(frozen=True, slots=True)
class Audit:
    """What `verify` found: how many versions were re-hashed and re-verified, and every contradiction in words."""

    checked: int
    problems: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a peer's change log has been followed in one context: all that stood in it up to `seq`, in that life of
    its store, is held here, or what superseded it."""

    peer: IdentityId
    instance: Instance
    context: str
    seq: int


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the change log: a head, as stored."""

    seq: int
    version: VersionId
    raw: bytes


class SnapshotReader(Protocol):
    """One context as it stood in one read transaction."""

    @property
    def stamp(self) -> StateStamp:
        """Which state this is."""
        ...

    async def page(self, after: LeafKey | None, *, records_max: int, bytes_max: int) -> tuple[list[bytes], bool]:
        """All heads of the next leaves behind `after`, in key order, a leaf's heads never split over two pages;
        True when nothing follows. May pass both bounds by the heads of one leaf. Raises SnapshotOverError when it has
        been open for longer than READ_TRANSACTION_S_MAX, or the log of writes it holds up is past WAL_BYTES_MAX."""
        ...


class Store(Protocol):
    """What the rest of the program may ask of a store."""

    @property
    def instance(self) -> Instance:
        """This store's life."""
        ...

    @property
    def keyring(self) -> Keyring:
        """Every key statement applied so far; read only."""
        ...

    def contexts(self) -> tuple[str, ...]:
        """Names of the contexts that hold anything, `identities` first, then sorted."""
        ...

    def tree(self, context: str) -> Tree:
        """The live tree of `context` (an empty one when it is unknown); read only. It changes only inside `apply`,
        `write` and `promote`, so it stands still between two awaits."""
        ...

    def seq(self, context: str) -> int:
        """The newest log entry's seq in `context`, 0 when there is none."""
        ...

    def seen(self, key: PublicKey) -> Mapping[Instance, int]:
        """Per instance, the highest counter held of `key`'s dots."""
        ...

    async def info(self, context: str) -> ContextInfo:
        """The figures of one context."""
        ...

    async def apply(self, context: str, records: Sequence[Record], cursor: Cursor | None = None) -> Applied:
        """Merge `records` into `context`. Those of other contexts, unknown or compromised keys are refused, one by one;
        the rest is stored in one durable transaction, and `cursor` with it, unless a key was unknown: then it has to
        come again. (When nothing changes, the cursor is noted.)"""
        ...

    def cursor(self, peer: IdentityId, context: str) -> Cursor | None:
        """How far `peer` has been followed, None when it never was. Of several of its instances the last one counts."""
        ...

    def note(self, cursor: Cursor) -> None:
        """Keep `cursor`, all that it covers being held and durable; it is saved with the next transaction, or at the
        end. One that goes back in the same instance is passed over."""
        ...

    def set_back(self, peer: IdentityId, seqs: Mapping[str, int]) -> None:
        """The log of `peer` stands at `seqs`, by context (0 where none is given): cursors beyond that are forgotten."""
        ...

    async def write(
        self, drafts: Sequence[Draft], key: SigningKey, tick: Tick, *, skip_unchanged: bool = False
    ) -> tuple[list[Record | None], Applied]:
        """Sign `drafts` (of one context) as versions covering all heads known, with fresh counters, and apply them.
        None stands for a draft that `skip_unchanged` left out. Raises LocalError, with nothing written, when a draft
        is outside the limits."""
        ...

    async def forget(self, context: str, keys: Sequence[LeafKey], keeps: Callable[[Record], bool]) -> int:
        """Let go of those of these leaves of which `keeps` takes no head: heads and history, but not counters. Cursors
        of the context go with them, as they would vouch for what is not held. How many leaves went."""
        ...

    async def read(self, context: str, keys: Sequence[LeafKey], *, bytes_max: int) -> tuple[list[bytes], int]:
        """The heads of as many of `keys` as fit, as stored, and how many keys that were: all, or at least one."""
        ...

    async def heads(self, context: str, author: IdentityId, name: str) -> list[Record]:
        """The heads of one record, sorted by id; a conflict has several."""
        ...

    async def scan(self, context: str, after: int, *, limit: int) -> tuple[list[Record], int]:
        """Up to `limit` heads in log order from behind the seq `after`, and the last one's seq (`after` at the end)."""
        ...

    async def changes(
        self, context: str, after: int, *, records_max: int, bytes_max: int
    ) -> tuple[list[Change], int]:
        """The log of `context` from behind the seq `after`: as many entries as fit, or at least one; and up to which
        seq nothing is missing (the newest of the log when these were all)."""
        ...

    def conflicts(self, context: str) -> Collection[LeafKey]:
        """The leaves with more than one head."""
        ...

    def forked(self) -> Collection[VersionId]:
        """Heads that came since the store was opened and share their dot with another head: their writer's store was
        put back without its knowledge, or it lies. At most FORKS_REMEMBERED."""
        ...

    def authors(self) -> Collection[IdentityId]:
        """Everybody whose records are held."""
        ...

    def snapshot(self, context: str) -> AbstractAsyncContextManager[SnapshotReader]:
        """Open one read transaction over `context`. Writers go on meanwhile and are not seen."""
        ...

    async def stage(self, context: str, root: Digest, records: Sequence[Record]) -> tuple[RefusedVersion, ...]:
        """Keep `records` (in key order, behind those staged before) of a snapshot of `root`, visible to nobody yet.
        Another root starts over. Refused ones are not kept. A compromise of a key that signed anything staged drops
        all that is staged, as its root cannot be reached any more."""
        ...

    def staged(self, context: str) -> Staged | None:
        """What an unfinished snapshot left behind, None when that is nothing."""
        ...

    async def promote(self, context: str, *, expected: Digest | None) -> Applied | None:
        """Make what is staged visible: swapped in when the staged leaves' recomputed root is `expected` and `context`
        is still empty, merged when it is not empty any more. None, and all staged is dropped, when the root differs.
        `expected` None: whatever came, of a snapshot that nobody will finish; every record of it is verified.
        `Applied.records` stays empty, however many there are: `scan` from behind the earlier `seq` gives them."""
        ...

    async def renew_instance(self, instance: Instance) -> None:
        """Begin a new life: counters start anew under a writer nobody has seen."""
        ...

    async def pins(self) -> dict[tuple[str, str], IdentityId]:
        """(kind, value) -> identity; kinds are "name" and "address"."""
        ...

    async def pin(self, kind: str, value: str, identity: IdentityId) -> None:
        """Tie a name or address to an identity, replacing what stood there."""
        ...

    def audit(self) -> AsyncIterator[Audit]:
        """Re-hash and re-verify everything: versions, signatures, admission, heads, tree, log. Running totals; the last
        one is the verdict."""
        ...

    async def close(self) -> None:
        """Finish what was begun and let go of the files."""
        ...
