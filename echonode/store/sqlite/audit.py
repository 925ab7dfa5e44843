"""`verify` on disk: every row is read again and compared with its bytes, in one read transaction.

file       SQLite's own integrity check (it checks pages and indexes, and hardly ever finds a flipped bit in a blob)
log        in the order of its leaves, each index entry with the row it names: context, key, id and `created` are those
           of the bytes, the signature holds, the key speaks for the author by the statements on disk, no version stands
           there twice, no head supersedes another; the rebuilt tree has the root in memory; the bytes add up
spare      the same for each row, without a tree; the heads of its leaf are those that the rule of heads takes
history    the same for each row, without a tree
claims     they are those of the key statements in the log
writers    no counter is behind the log, or a dot could be given twice
sums       they are those of the rows in history and spare
"""

import asyncio
import sqlite3
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, Final

from echonode.errors import RemoteError, StoreError
from echonode.limits import MIB, VERIFY_CHUNK
from echonode.model.heads import LeafBounds, select
from echonode.model.identity import IDENTITY_BYTES, INSTANCE_BYTES, KEY_BYTES, Instance, PublicKey
from echonode.model.keyring import ClaimsInMemory, Keyring
from echonode.model.keys import Admission, read_statement
from echonode.model.merkle import Digest, Tree, state_of
from echonode.model.record import IDENTITIES, LeafKey, Record, VersionId, parse, verify
from echonode.store.leaf import Place
from echonode.store.port import Audit
from echonode.store.sqlite.claim_rows import claim_row
from echonode.store.sqlite.connection import order_error
from echonode.store.sqlite.leaves import read_whole_leaf
from echonode.store.sqlite.log_columns import LEAF_PREFIX, PREFIX_BYTES, created_column
from echonode.store.sqlite.snapshot_read import ReadTransaction
from echonode.text import escape

_PAGE_ROWS: Final = 8 * VERIFY_CHUNK
_PAGE_BYTES: Final = 8 * MIB  # a page ends behind it: its rows may be large
_ROWS_PER_QUERY: Final = 32
_PROBLEMS_MAX: Final = 1000  # a longer list tells a person nothing more


@dataclass(frozen=True, slots=True)
class ExpectedContext:
    """One context as memory shows it: the id of its row, its name, its root and the bytes of its versions.

    Without a root it is the snapshot being received for the named context."""

    context_id: int
    context: str
    root: Digest | None
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _StoredRow:
    """A stored version with the columns beside it. `place` says in words where it is stored; `created` is that of the
    log."""

    place: str
    context: str
    key: LeafKey
    version: VersionId
    raw: bytes
    is_history: bool = False
    is_staged: bool = False
    created: bytes | None = None


class Auditor:
    """One audit, in one read transaction."""

    def __init__(self, transaction: ReadTransaction, expected: Sequence[ExpectedContext], bounds: LeafBounds) -> None:
        self._transaction = transaction
        self._bounds = bounds
        # Key statements first: the audit judges admission by those on disk.
        self._expected = sorted(
            expected, key=lambda one: (one.context != IDENTITIES or one.root is None, one.context_id)
        )
        self._claims = ClaimsInMemory()
        self._keyring = Keyring(self._claims)
        self._counters: dict[tuple[PublicKey, Instance], int] = {}
        self._row_counts: dict[int, int] = {}
        self._checked = 0
        self._problems: list[str] = []
        self._damaged: dict[tuple[str, LeafKey], None] = {}  # in order

    async def run(self) -> AsyncGenerator[Audit, None]:
        """Yield running totals; the last one is the verdict. Raises StoreError when the transaction ends meanwhile."""
        for step in (
            self._check_file(),
            *map(self._check_log, self._expected),
            self._check_kept(Place.SPARE),
            self._check_kept(Place.HISTORY),
            self._check_full_leaves(),
            self._check_tables(),
        ):
            try:
                async with aclosing(step):
                    async for _ in step:
                        yield self._found()
            except StoreError as error:
                if not self._transaction.is_open:
                    raise
                self._add_problem(str(error))  # the other parts can still be checked
        yield self._found()

    def _found(self) -> Audit:
        return Audit(self._checked, tuple(self._problems), tuple(self._damaged))

    def _add_problem(self, problem: str) -> None:
        if len(self._problems) < _PROBLEMS_MAX:
            self._problems.append(problem)

    async def _check_file(self) -> AsyncGenerator[None, None]:
        lines = await self._transaction.run(lambda connection: connection.execute("PRAGMA integrity_check").fetchall())
        for (line,) in lines:
            if line != "ok":
                self._add_problem(f"file: {line}")
        yield

    async def _check_log(self, expected: ExpectedContext) -> AsyncGenerator[None, None]:
        """Check one context in the order of its leaves."""
        entries: list[bytes] = []
        size, after = 0, LeafKey(b"")
        while page := await self._transaction.run(partial(_leaf_page, expected, after)):
            after = page[-1].key
            self._row_counts[expected.context_id] = self._row_counts.get(expected.context_id, 0) + len(page)
            size += sum(len(row.raw) for row in page)
            found = await self._verify_rows(page)
            if expected.root is not None and expected.context != IDENTITIES:
                self._note_damaged(page, found)
            leaves = bytearray()
            for key, group in groupby(zip(page, found, strict=True), lambda pair: pair[0].key):
                rows = list(group)
                heads = [record for _, record in rows if record is not None]
                if len(heads) > 1 and (problem := await asyncio.to_thread(self._judge_heads, heads)):
                    self._add_problem(f"{rows[0][0].place}: {problem}")
                if len({row.version for row, _ in rows}) < len(rows):
                    self._add_problem(f"{rows[0][0].place}: a version stands there twice")
                if len(key) == KEY_BYTES:
                    leaves += key + state_of(row.version for row, _ in rows)
            entries.append(bytes(leaves))
            yield
        if expected.root is not None:
            if Tree.from_sorted(entries).root != expected.root:
                self._add_problem(f"{expected.context}: the root shown is not that of its records")
            if size != expected.size_bytes:
                self._add_problem(f"{expected.context}: it holds {size} bytes, not {expected.size_bytes}")

    def _note_damaged(self, page: Sequence[_StoredRow], found: Sequence[Record | None]) -> None:
        """Note each leaf with a head whose bytes do not hold. A row that is missing is another matter: its bytes are
        empty here."""
        for row, record in zip(page, found, strict=True):
            is_damaged = row.raw and (record is None or record.id != row.version)
            if is_damaged and len(self._damaged) < _PROBLEMS_MAX:
                self._damaged[row.context, row.key] = None

    def _judge_heads(self, heads: Sequence[Record]) -> str:
        """Return what contradicts the rule of heads in one leaf, "" if nothing does."""
        selection = select(heads, self._bounds)
        if selection.superseded:
            return "a head supersedes another"
        return "there are more heads than a leaf may have" if len(selection.heads) < len(heads) else ""

    async def _check_kept(self, place: Place) -> AsyncGenerator[None, None]:
        """Check what is kept beside the heads."""
        names = {expected.context_id: expected.context for expected in self._expected if expected.root is not None}
        after = 0
        while True:
            page, after = await self._transaction.run(partial(_kept_page, place, names, after))
            if not page:
                return
            await self._verify_rows(page)
            yield

    async def _check_full_leaves(self) -> AsyncGenerator[None, None]:
        """Check the heads of every leaf with a spare against all that is kept of it."""
        names = {expected.context_id: expected.context for expected in self._expected if expected.root is not None}
        for context_id, key in await self._transaction.run(
            lambda connection: connection.execute(
                "SELECT DISTINCT context, key FROM spare WHERE typeof(key) = 'blob'"
            ).fetchall()
        ):
            if await self._transaction.run(partial(_is_other_than_the_rule, context_id, key, self._bounds)):
                self._add_problem(f"{names.get(context_id, '')}: a full leaf has other heads than those of the rule")
            yield

    async def _check_tables(self) -> AsyncGenerator[None, None]:
        """Compare the tables with each other."""
        check = partial(_cross_check, self._row_counts, self._claims, self._counters)
        for problem in await self._transaction.run(check):
            self._add_problem(problem)
        yield

    async def _verify_rows(self, rows: Sequence[_StoredRow]) -> list[Record | None]:
        """Hash and verify `rows` on threads; return the record of each row whose bytes hold, None for the others."""
        chunks = [rows[start : start + VERIFY_CHUNK] for start in range(0, len(rows), VERIFY_CHUNK)]
        results = await asyncio.gather(*(asyncio.to_thread(_verify, chunk) for chunk in chunks))
        self._checked += len(rows)
        records: list[Record | None] = []
        for row, result in zip(rows, (result for chunk in results for result in chunk), strict=True):
            if isinstance(result, str):
                self._add_problem(f"{row.place}: {result}")
                records.append(None)
                continue
            problem = self._misplacement(row, result)
            if problem:
                self._add_problem(f"{row.place} ({escape(result.name)}): {problem}")
            writer_key = (result.kid, result.instance)
            self._counters[writer_key] = max(result.counter, self._counters.get(writer_key, 0))
            records.append(result)
        return records

    def _misplacement(self, row: _StoredRow, record: Record) -> str:
        """Return the reason why `record` should not be stored in `row`, "" when it should."""
        if record.id != row.version:
            return "its id is not that of its bytes"
        if record.key != row.key:
            return "it stands under another record's key"
        if row.created is not None and row.created != created_column(record.created_ms):
            return "its time of creation is not that of its bytes"
        if record.context != row.context:
            return "it belongs to another context"
        if record.context != IDENTITIES:
            admission = self._keyring.admission(record)
            # The history keeps what a key signed before it became void.
            is_admitted = admission is Admission.ADMITTED or (row.is_history and admission is Admission.VOID)
            return "" if is_admitted else "its key does not speak for its author"
        try:
            claim = read_statement(record)
        except RemoteError as error:
            return error.detail
        if not row.is_staged:
            self._claims.add((claim,))
        return ""


def _verify(rows: Sequence[_StoredRow]) -> list[Record | str]:
    results: list[Record | str] = []
    for row in rows:
        try:
            results.append(verify(parse(row.raw)))
        except RemoteError as error:
            results.append(error.detail)
    return results


def _leaf_page(expected: ExpectedContext, after: LeafKey, connection: sqlite3.Connection) -> list[_StoredRow]:
    """Return the next leaves behind `after`, each index entry with the log row that it names.

    A row that is missing, or is another one, is returned with empty bytes."""
    entries: list[tuple[bytes, int]] = []
    last = after[:PREFIX_BYTES]
    rows = connection.execute(
        f"SELECT {LEAF_PREFIX}, seq FROM log INDEXED BY log_leaf WHERE context = ? AND {LEAF_PREFIX} > ?"
        f" ORDER BY {LEAF_PREFIX}",
        (expected.context_id, last),
    )
    for entry in rows:
        # A flipped bit may make it longer too: a page that begins behind a part of it would have it again, for ever.
        if not _are_blobs(entry[0]) or len(entry[0]) > PREFIX_BYTES or entry[0] < last:
            raise order_error()
        if len(entries) >= _PAGE_ROWS and entry[0] != last:
            break
        entries.append(entry)
        last = entry[0]
    rows.close()
    logged: dict[int, tuple[Any, ...]] = {}
    size = at = 0
    while at < len(entries) and (size < _PAGE_BYTES or entries[at][0] == entries[at - 1][0]):
        seqs = [seq for _, seq in entries[at : at + _ROWS_PER_QUERY]]
        marks = ", ".join("?" * len(seqs))
        for seq, *row in connection.execute(
            f"SELECT seq, context, key, id, created, bytes FROM log NOT INDEXED WHERE seq IN ({marks})", seqs
        ):
            if _are_blobs(*row[1:]):
                logged[seq] = tuple(row)
                size += len(row[-1])
        at += len(seqs)
    page: list[_StoredRow] = []
    for prefix, seq in entries[:at]:
        context_id, key, version, created, raw = logged.get(seq, (0, prefix, b"", b"", b""))
        agrees = context_id == expected.context_id and key[:PREFIX_BYTES] == prefix
        key, raw = (key, raw) if agrees else (LeafKey(prefix.ljust(KEY_BYTES, b"\0")), b"")
        where, is_staged = f"{expected.context}: log entry {seq}", expected.root is None
        page.append(_StoredRow(where, expected.context, key, version, raw, is_staged=is_staged, created=created))
    return sorted(page, key=lambda row: (row.key, row.version))


def _kept_page(
    place: Place, names: dict[int, str], after: int, connection: sqlite3.Connection
) -> tuple[list[_StoredRow], int]:
    page: list[_StoredRow] = []
    size = 0
    rows = connection.execute(
        f"SELECT n, context, key, id, bytes FROM {place.value} WHERE n > ? ORDER BY n LIMIT ?", (after, _PAGE_ROWS)
    )
    for n, context_id, key, version, raw in rows:
        if n <= after:  # a flipped bit: the next page would begin before this one
            raise order_error()
        after = n
        where = f"{place.value} entry {after}"
        if not _are_blobs(key, version, raw):
            key, version, raw = LeafKey(b""), VersionId(b""), b""
        page.append(_StoredRow(where, names.get(context_id, ""), key, version, raw, place is Place.HISTORY))
        size += len(raw)
        if size >= _PAGE_BYTES:
            break
    rows.close()
    return page, after


def _are_blobs(*values: object) -> bool:
    """Return False for a row of which a flipped bit made a column another type, or NULL."""
    return all(isinstance(value, bytes) for value in values)


def _is_other_than_the_rule(context_id: int, key: LeafKey, bounds: LeafBounds, connection: sqlite3.Connection) -> bool:
    leaf = read_whole_leaf(connection, context_id, key, lambda _: False)
    merge = leaf.merge((), bounds)
    return bool(merge.moves)


def _cross_check(
    row_counts: dict[int, int],
    claims: ClaimsInMemory,
    counters: dict[tuple[PublicKey, Instance], int],
    connection: sqlite3.Connection,
) -> list[str]:
    def query(sql: str) -> list[tuple[Any, ...]]:
        return connection.execute(sql).fetchall()

    problems: list[str] = []
    contexts = {context_id for (context_id,) in query("SELECT id FROM contexts")}
    for context_id, rows in query("SELECT context, count(*) FROM log NOT INDEXED GROUP BY context"):
        if context_id not in contexts:
            problems.append(f"log: {rows} entries of a context that is not there")
        elif context_id in row_counts and row_counts[context_id] != rows:
            problems.append(
                f"log: {rows} entries of context {context_id}, {row_counts[context_id]} of them in the index"
            )
    if set(map(claim_row, claims.claims())) != set(query("SELECT key, owner, author, kind, state FROM claims")):
        problems.append("claims: they are not those of the key statements in the log")
    known = {
        (key, instance): int.from_bytes(counter, "big")
        for key, instance, counter in query("SELECT key, instance, counter FROM writers WHERE typeof(counter) = 'blob'")
    }
    problems += [
        "writers: a counter is behind the log"
        for writer_key, counter in counters.items()
        if known.get(writer_key, 0) < counter
    ]
    for place in ("history", "spare"):
        ((versions, size),) = query(f"SELECT count(*), ifnull(sum(length(bytes)), 0) FROM {place}")
        if query(f"SELECT versions, bytes FROM sums WHERE place = '{place}'") != [(versions, size)]:
            problems.append(f"sums: {place} holds {versions} versions of {size} bytes, and they say otherwise")
    if query(f"SELECT 1 FROM peers WHERE length(id) <> {IDENTITY_BYTES}"):
        problems.append("peers: an identity is not 32 bytes")
    if not query(f"SELECT 1 FROM meta WHERE name = 'instance' AND length(value) = {INSTANCE_BYTES}"):
        problems.append("meta: it does not say which store it is")
    return problems
