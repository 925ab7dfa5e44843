"""The `Store` port: how versions are kept. One method is one transaction. What a method returned is durable.

Callers pass verified records only (`Record`, never `SignedRecord`). The store decides by its own keyring which versions
are admitted. So the membership of a context is a pure function of version bytes and key statements, whatever the store
runs on.

`SqliteStore` and `MemoryStore` implement the port. One contract suite holds both (tests/contracts/store*.py).
"""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, Protocol

from echonode.clock import Timestamp
from echonode.errors import LocalError, Reason, StoreError
from echonode.model.filter import Filter
from echonode.model.identity import IdentityId, Instance, PublicKey, SigningKey
from echonode.model.keyring import Keyring
from echonode.model.merkle import Digest, Tree
from echonode.model.other_life import Fork
from echonode.model.record import Draft, LeafKey, Record, SignedRecord, VersionId
from echonode.model.usage import UsageTable
from echonode.store.counters import SeenVersion

Tick = Callable[[], Timestamp]
Report = Callable[["Applied"], None]

FILTERED_KEY_BYTES: Final = 8
FILTERED_ROW_BYTES: Final = 48


class SnapshotOverError(StoreError):
    """A snapshot was open for too long, or too much was written meanwhile. Another node may still serve its root."""


class StaleWriterError(LocalError):
    """A head claims a higher counter of this writer than the store ever gave.

    A new version of this writer could not cover that head. A new instance can write one."""


class HeadsMovedError(LocalError):
    """A draft expects other heads than its record has: it was written meanwhile. `place` is the draft's index."""

    def __init__(self, place: int, detail: str) -> None:
        super().__init__(detail)
        self.place = place


@dataclass(frozen=True, slots=True)
class RefusedVersion:
    """A version that the store did not take, with the reason."""

    version: VersionId
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Outranked:
    """Versions of one record that do not fit beside its other heads: they were heads, or have just come."""

    author: IdentityId
    name: str
    versions: Sequence[VersionId]


@dataclass(frozen=True, slots=True)
class VoidedVersion:
    """A version that is no head any more because its key is void. It is in the history."""

    context: str
    author: IdentityId
    name: str
    version: VersionId
    key: PublicKey


@dataclass(frozen=True, slots=True)
class Applied:
    """The outcome of one transaction. `records` became heads, in this order; `had` counts versions that were known
    already, or are superseded or outranked.

    `beside`, of `write` only, has each version that could not cover all heads of its record, with the number of other
    heads there; `seq` is the newest log entry's when the last of its versions was added, 0 for none. `shown`, of
    `promote` only, counts the heads that a context got that was empty; `strangers`, of `apply` only, are signed in this
    store's name, and never were by it (PROTOCOL.md §5.6)."""

    records: tuple[Record, ...] = ()
    had: int = 0
    refused: tuple[RefusedVersion, ...] = ()
    voided: tuple[VoidedVersion, ...] = ()  # what statements took out of the heads and spares
    outranked: tuple[Outranked, ...] = ()
    beside: tuple[tuple[VersionId, int], ...] = ()
    shown: int = 0
    seq: int = 0
    strangers: tuple[Record, ...] = ()

    @property
    def is_gap(self) -> bool:
        """True when a refused version may be admitted later, so that it has to be sent again."""
        return any(refused.reason is Reason.UNKNOWN_KEY for refused in self.refused)


@dataclass(frozen=True, slots=True)
class ContextInfo:
    """The figures of one context as `status` shows them. `bytes` adds up its versions; `seq` is the newest log
    entry's."""

    name: str
    root: Digest
    records: int
    bytes: int
    seq: int


@dataclass(frozen=True, slots=True)
class EarlierVersion:
    """A version that was a head once, or came when a later one was here.

    `superseded_ms`: when it left the heads, in milliseconds since the Unix epoch; None where it is not noted.
    """

    record: Record
    superseded_ms: int | None


@dataclass(frozen=True, slots=True)
class HistoryInfo:
    """The versions that a store keeps beside the heads: their number and bytes; `spare` of them wait for room in a full
    leaf."""

    versions: int = 0
    bytes: int = 0
    spare: int = 0


@dataclass(frozen=True, slots=True)
class StateStamp:
    """The state that a snapshot shows."""

    root: Digest
    count: int
    seq: int
    instance: Instance


@dataclass(frozen=True, slots=True)
class Staged:
    """A snapshot being received: its root, the last key staged, and how many records are staged."""

    root: Digest
    last_key: LeafKey
    count: int


@dataclass(frozen=True, slots=True)
class Audit:
    """The findings of `verify`: how many versions were hashed and verified again, and each contradiction in words.

    `damaged`: context and key of each leaf with a head whose bytes are not what was written, but for key statements."""

    checked: int
    problems: tuple[str, ...] = field(default=())
    damaged: tuple[tuple[str, LeafKey], ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Cursor:
    """The point up to which a peer's change log has been followed in one context.

    This store holds every entry up to `seq` of that log, in that life of the peer's store, or a version that supersedes
    it."""

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


@dataclass(frozen=True, slots=True)
class FilteredPage:
    """The heads that a filter takes in a piece of the change log: a row of FILTERED_ROW_BYTES for each, in any order.

    A row is `created` in whole seconds (8 bytes, big-endian), the version's id, and the first FILTERED_KEY_BYTES of its
    leaf key. `seen`: how many entries were looked at, none at the end; `seq`: the last one's."""

    rows: bytes
    seen: int
    seq: int


@dataclass(frozen=True, slots=True)
class KnownPeer:
    """A peer that was met: its name, the addresses at which it was last reached (HOST:PORT, the latest first), and
    when it was last seen, in ms since 1970."""

    id: IdentityId
    name: str
    addresses: tuple[str, ...]
    seen_ms: int


@dataclass(frozen=True, slots=True)
class ContextOrigin:
    """The identity that introduced `context` here: the node's own for a context that was written here.

    `is_forgotten`: a person let go of it, and it is not to come again."""

    context: str
    identity: IdentityId
    is_forgotten: bool = False


class SnapshotReader(Protocol):
    """One context as one read transaction shows it."""

    @property
    def stamp(self) -> StateStamp:
        """The state that this snapshot shows."""
        ...

    async def page(self, after: LeafKey | None, *, records_max: int, bytes_max: int) -> tuple[list[bytes], bool]:
        """Return the heads of the next leaves behind `after` in key order, and True when no leaf follows.

        The heads of one leaf are never split over two pages. A page may pass both bounds by the heads of one leaf.
        Raises SnapshotOverError when the snapshot has been open for longer than READ_TRANSACTION_S_MAX, or when the
        write-ahead log that it holds up has grown by more than WAL_BYTES_MAX."""
        ...


class Store(Protocol):
    """The methods that the rest of the program may call on a store."""

    @property
    def instance(self) -> Instance:
        """The life of this store."""
        ...

    @property
    def second_life(self) -> str | None:
        """The reason why opening this store gave it a new instance, in words; None when it kept its instance."""
        ...

    @property
    def keyring(self) -> Keyring:
        """Every key statement applied so far; read only."""
        ...

    def contexts(self) -> tuple[str, ...]:
        """Return the names of the contexts that hold anything: `identities` first, the others sorted."""
        ...

    def tree(self, context: str) -> Tree:
        """Return the live tree of `context`, an empty one when the context is unknown; read only.

        It changes only inside `apply`, `write`, `forget` and `promote`, so it stands still between two awaits."""
        ...

    def seq(self, context: str) -> int:
        """Return the newest log entry's seq in `context`, 0 when there is none."""
        ...

    def seen(self, key: PublicKey) -> Mapping[Instance, int]:
        """Return the highest counter held of `key`'s dots, by instance."""
        ...

    @property
    def usage(self) -> UsageTable:
        """The room that the heads of each author take; read only. Key statements are not counted."""
        ...

    async def info(self, context: str) -> ContextInfo:
        """Return the figures of one context."""
        ...

    def history(self) -> HistoryInfo:
        """Return how much is kept beside the heads: for HISTORY_DAYS, within HISTORY_ROWS_MAX and HISTORY_BYTES_MAX."""
        ...

    async def apply(
        self, context: str, records: Sequence[Record], cursor: Cursor | None = None, *, report: Report | None = None
    ) -> Applied:
        """Merge `records` into `context` in one durable transaction, and keep `cursor`. It is saved in the same
        transaction when it is CURSOR_STEP ahead of the saved one, else with a later one or by `close`.

        `report` is called with what is returned once that is durable and shown, before the caller goes on, whether or
        not it was cancelled meanwhile: what is stored is told.

        Refuses, one by one, records of other contexts and records whose key is unknown or void. Versions of a key that
        becomes void leave the heads for the history, and older versions become heads again. The cursor is
        not saved when a key was unknown: then the record has to come again. When nothing changes, the cursor is only
        noted."""
        ...

    def cursor(self, peer: IdentityId, context: str) -> Cursor | None:
        """Return how far `peer` has been followed in `context`, None when it never was. The cursor of the peer's latest
        instance counts."""
        ...

    def note(self, cursor: Cursor) -> None:
        """Keep `cursor`, whose records are held and durable already; a transaction saves it when it is CURSOR_STEP
        ahead of the saved one, or `close` does.

        A cursor that goes back within the same instance is ignored."""
        ...

    def set_back(self, peer: IdentityId, seqs: Mapping[str, int]) -> None:
        """Forget the cursors of `peer` that lie beyond `seqs`, the state of its log by context (0 for a context not
        named)."""
        ...

    async def write(
        self,
        drafts: Sequence[Draft],
        key: SigningKey,
        tick: Tick,
        *,
        created_ms: int | None = None,
        skip_unchanged: bool = False,
        report: Report | None = None,
    ) -> tuple[list[Record | None], Applied]:
        """Sign `drafts`, all of one context, as versions that cover the known heads, with fresh counters, and apply
        them. Heads that fit into no vector any more stay beside them (PROTOCOL.md §4.3): see `Applied.beside`.
        `created_ms` is the wall time, for drafts that name no `created` of their own; None takes that of `tick`.
        `report` is as that of `apply`.

        Returns one version per draft, None for a draft that `skip_unchanged` left out. Raises LocalError, with nothing
        written, when a draft is outside the limits; HeadsMovedError when its record has other heads than it expects."""
        ...

    async def forget(self, context: str, keys: Sequence[LeafKey], keeps: Callable[[Record], bool]) -> int:
        """Drop each leaf in `keys` of which `keeps` takes no head, with its spare and history; return how many went.

        Counters stay. The cursors of the context are dropped too, because they would vouch for records that are not
        held."""
        ...

    async def read(self, context: str, keys: Sequence[LeafKey], *, bytes_max: int) -> tuple[list[bytes], int]:
        """Return the heads, as stored, of as many of `keys` as fit into `bytes_max`, and how many keys these are: at
        least one."""
        ...

    async def heads(self, context: str, author: IdentityId, name: str) -> list[Record]:
        """Return the heads of one record, sorted by id; a conflict has several."""
        ...

    async def earlier(self, context: str, author: IdentityId, name: str, *, limit: int) -> list[EarlierVersion]:
        """Return up to `limit` versions of one record from the local history, the one superseded last first."""
        ...

    async def earlier_by(self, key: PublicKey, after: int, *, limit: int) -> tuple[list[Record], int]:
        """Return up to `limit` versions of the local history that `key` signed, the earliest to come there first, from
        behind the place `after`, and the last one's place (`after` at the end)."""
        ...

    async def scan(self, context: str, after: int, *, limit: int) -> tuple[list[Record], int]:
        """Return up to `limit` heads in log order from behind the seq `after`, and the last one's seq (`after` at the
        end)."""
        ...

    async def changes(self, context: str, after: int, *, records_max: int, bytes_max: int) -> tuple[list[Change], int]:
        """Return the log entries of `context` behind the seq `after`: as many as fit, at least one.

        The second value is the seq up to which no entry is missing: the newest seq of the log when these were all."""
        ...

    async def filtered(self, context: str, wanted: Filter, after: int, *, until: int) -> FilteredPage:
        """Return the heads of `context` that `wanted` takes among the next log entries behind the seq `after`, up to
        `until`: at most FILTERED_PAGE_MAX entries are looked at.

        No version's bytes are hashed again, unlike in `read` and `changes`, since none is given out."""
        ...

    def conflicts(self, context: str) -> Collection[LeafKey]:
        """Return the leaves with more than one head."""
        ...

    def forked(self) -> Collection[VersionId]:
        """Return heads applied since the store was opened that share their dot with another head, at most
        FORKS_REMEMBERED.

        Their writer's store was put back without its knowledge, or the writer lies."""
        ...

    def snapshot(self, context: str) -> AbstractAsyncContextManager[SnapshotReader]:
        """Open one read transaction over `context`. Writes go on meanwhile and are not seen in it."""
        ...

    async def stage(self, context: str, root: Digest, records: Sequence[Record]) -> tuple[RefusedVersion, ...]:
        """Keep `records`, which follow those staged before in key order, of a snapshot of `root`; return those refused.

        No reader sees staged records. Another root starts over. A compromise of a key that signed a staged record drops
        all that is staged, because its root cannot be reached any more."""
        ...

    def staged(self, context: str) -> Staged | None:
        """Return what an unfinished snapshot of `context` left behind, None when there is nothing."""
        ...

    async def promote(self, context: str, *, expected: Digest | None) -> Applied | None:
        """Make the staged records of `context` visible. Return None, with all of them dropped, when the root differs.

        Swaps them in when their recomputed root is `expected` and `context` is still empty, and says how many were
        `shown`; merges them when it is not empty any more. `expected` None stands for a snapshot that nobody will
        finish: whatever was staged is shown, as each record of it is verified. `Applied.records` stays empty, however
        many there are: `scan` from behind the earlier `seq` gives them."""
        ...

    def latest(self, key: PublicKey) -> list[SeenVersion]:
        """Return, for each instance, which version of `key` has the highest counter held."""
        ...

    def bytes_of_latest(self, key: PublicKey, instance: Instance) -> bytes | None:
        """Return the version that `latest` names for that instance, as stored; None where it is not kept any more."""
        ...

    @property
    def forks(self) -> Mapping[Instance, Fork]:
        """The instances of this store under which another life of it wrote too, with what is known of when."""
        ...

    def has_signed(self, version: SignedRecord) -> bool | None:
        """Return whether this store signed `version`, of its instance or of one of `forks`; None where it cannot know.
        """
        ...

    async def save_fork(self, fork: Fork) -> None:
        """Keep `fork` over a restart, joined with what is known of its instance. The latest SEEN_INSTANCES_MAX stay."""
        ...

    async def renew_instance(self, instance: Instance) -> None:
        """Begin a new life: counters start anew under a writer that no node has seen."""
        ...

    async def peers(self) -> list[KnownPeer]:
        """Return every peer that was saved and not forgotten, the latest seen first."""
        ...

    async def save_peer(self, peer: KnownPeer) -> None:
        """Keep `peer` over a restart, in place of what was kept of it. Beyond CANDIDATES_MAX the longest unseen go."""
        ...

    async def forget_peer(self, peer: IdentityId) -> None:
        """Delete what is kept of `peer`. Its records stay."""
        ...

    async def origins(self) -> list[ContextOrigin]:
        """Return what was saved of the origins of contexts, in the order in which they were saved first."""
        ...

    async def save_origin(self, origin: ContextOrigin) -> None:
        """Keep `origin` over a restart, in place of what was kept of its context."""
        ...

    def audit(self) -> AsyncGenerator[Audit, None]:
        """Hash and verify everything again: versions, signatures, admission, heads, tree, log.

        Yields running totals; the last one is the verdict."""
        ...

    async def drop_damaged(self, context: str, keys: Sequence[LeafKey]) -> list[VersionId]:
        """Drop each leaf in `keys` that has a damaged head; return the ids of these heads. Its whole versions stand
        again, older ones too.

        Cursors of the context are dropped, as `forget` does. Key statements are not touched."""
        ...

    async def close(self) -> None:
        """Finish what was begun and close the files."""
        ...
