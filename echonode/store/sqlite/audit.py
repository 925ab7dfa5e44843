"""`verify` on disk: every row read again and compared with what its bytes say, out of one read transaction.

file       SQLite's own integrity check (which sees pages and indexes, and hardly ever a flipped bit in a blob)
log        in the order of its leaves, each index entry with the row it names: context, key and id are those of the
           bytes, the signature holds, the key speaks for the author by the statements on disk, no head supersedes
           another; the tree rebuilt has the root that is shown; the context's bytes add up
history    the same of each row, without a tree
writers    no counter behind what the log holds, or a dot could be given out twice
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, permutations
from typing import Any, Final

from echonode.errors import RemoteError, StoreError
from echonode.limits import VERIFY_CHUNK
from echonode.model.identity import IDENTITY_BYTES, INSTANCE_BYTES, KEY_BYTES, Instance, PublicKey
from echonode.model.keys import Admission, Keyring, read_statement
from echonode.model.merkle import Digest, Tree, state_of
from echonode.model.record import IDENTITIES, LeafKey, Record, VersionId, parse, supersedes, verify
from echonode.store.port import Audit
from echonode.store.sqlite.connection import Database, out_of_order
from echonode.text import escape

_PAGE_ROWS: Final = 8 * VERIFY_CHUNK
_PROBLEMS_MAX: Final = 1000  # of a file this broken nobody reads on


@dataclass(frozen=True, slots=True)
class Shown:
    """What memory says of one context: its row's id, its name, its root and the bytes of its versions. Without a root
    it is the snapshot being received for the context named."""

    shelf_id: int
    context: str
    root: Digest | None
    size: int


@dataclass(frozen=True, slots=True)
class _Row:
    """A stored version, and the columns beside it that should agree with it. `place`: where it stands, in words."""

    place: str
    context: str
    key: LeafKey
    version: VersionId
    raw: bytes


class Auditor:
    """One audit, over a database in a read transaction."""

    def __init__(self, database: Database, shown: Sequence[Shown]) -> None:
        self._database = database
        # Key statements first: admission is judged by those on disk.
        self._shown = sorted(shown, key=lambda one: (one.context != IDENTITIES or one.root is None, one.shelf_id))
        self._keyring = Keyring()
        self._counters: dict[tuple[PublicKey, Instance], int] = {}
        self._visited: dict[int, int] = {}
        self._checked = 0
        self._problems: list[str] = []

    async def run(self) -> AsyncIterator[Audit]:
        """Running totals, the last one the verdict. Raises StoreError when the store is closed meanwhile."""
        for step in (self._file(), *map(self._log, self._shown), self._history(), self._rest()):
            try:
                async for _ in step:
                    yield Audit(self._checked, tuple(self._problems))
            except StoreError as error:
                if not self._database.is_open:
                    raise
                self._note(str(error))  # a part that cannot be read says nothing of the others
        yield Audit(self._checked, tuple(self._problems))

    def _note(self, problem: str) -> None:
        if len(self._problems) < _PROBLEMS_MAX:
            self._problems.append(problem)

    async def _file(self) -> AsyncIterator[None]:
        lines = await self._database.run(lambda connection: connection.execute("PRAGMA integrity_check").fetchall())
        for (line,) in lines:
            if line != "ok":
                self._note(f"file: {line}")
        yield

    async def _log(self, shown: Shown) -> AsyncIterator[None]:
        """One context, in the order of its leaves."""
        entries: list[bytes] = []
        size, after = 0, LeafKey(b"")
        while page := await self._database.run(partial(_leaf_page, shown, after)):
            after = page[-1].key
            self._visited[shown.shelf_id] = self._visited.get(shown.shelf_id, 0) + len(page)
            size += sum(len(row.raw) for row in page)
            found = await self._check(page)
            leaves = bytearray()
            for key, group in groupby(zip(page, found, strict=True), lambda pair: pair[0].key):
                rows = list(group)
                heads = [record for _, record in rows if record is not None]
                if any(supersedes(newer, older) for newer, older in permutations(heads, 2)):
                    self._note(f"{rows[0][0].place}: a head supersedes another")
                if len(key) == KEY_BYTES:
                    leaves += key + state_of(row.version for row, _ in rows)
            entries.append(bytes(leaves))
            yield
        if shown.root is not None:
            if Tree.from_sorted(entries).root != shown.root:
                self._note(f"{shown.context}: the root shown is not that of its records")
            if size != shown.size:
                self._note(f"{shown.context}: it holds {size} bytes, not {shown.size}")

    async def _history(self) -> AsyncIterator[None]:
        names = {shown.shelf_id: shown.context for shown in self._shown if shown.root is not None}
        after = 0
        while True:
            page, after = await self._database.run(partial(_history_page, names, after))
            if not page:
                return
            await self._check(page)
            yield

    async def _rest(self) -> AsyncIterator[None]:
        """What the tables say of each other."""
        for problem in await self._database.run(partial(_cross_check, self._visited, self._counters)):
            self._note(problem)
        yield

    async def _check(self, rows: Sequence[_Row]) -> list[Record | None]:
        """Hash and verify `rows` on threads; the records of those whose bytes hold, whatever else is wrong."""
        chunks = [rows[start : start + VERIFY_CHUNK] for start in range(0, len(rows), VERIFY_CHUNK)]
        results = await asyncio.gather(*(asyncio.to_thread(_verify, chunk) for chunk in chunks))
        self._checked += len(rows)
        records: list[Record | None] = []
        for row, result in zip(rows, (result for chunk in results for result in chunk), strict=True):
            if isinstance(result, str):
                self._note(f"{row.place}: {result}")
                records.append(None)
                continue
            problem = self._belongs(row, result)
            if problem:
                self._note(f"{row.place} ({escape(result.name)}): {problem}")
            which = (result.kid, result.instance)
            self._counters[which] = max(result.counter, self._counters.get(which, 0))
            records.append(result)
        return records

    def _belongs(self, row: _Row, record: Record) -> str:
        """Why `record` should not stand where it does, "" when it should."""
        if record.id != row.version:
            return "its id is not that of its bytes"
        if record.key != row.key:
            return "it stands under another record's key"
        if record.context != row.context:
            return "it belongs to another context"
        if record.context != IDENTITIES:
            is_admitted = self._keyring.admission(record) is Admission.ADMITTED
            return "" if is_admitted else "its key does not speak for its author"
        try:
            self._keyring.add(read_statement(record))
        except RemoteError as error:
            return error.detail
        return ""


def _verify(rows: Sequence[_Row]) -> list[Record | str]:
    results: list[Record | str] = []
    for row in rows:
        try:
            results.append(verify(parse(row.raw)))
        except RemoteError as error:
            results.append(error.detail)
    return results


def _leaf_page(shown: Shown, after: LeafKey, connection: sqlite3.Connection) -> list[_Row]:
    """The next leaves behind `after`, each index entry with the log row that it names. A row that is not there, or is
    another one, shows as one whose bytes are nothing."""
    entries: list[tuple[LeafKey, VersionId, int]] = []
    rows = connection.execute(
        "SELECT key, id, seq FROM log INDEXED BY log_leaf WHERE context = ? AND key > ? ORDER BY key, id",
        (shown.shelf_id, after),
    )
    for entry in rows:
        if entry[0] < after:
            raise out_of_order()
        if len(entries) >= _PAGE_ROWS and entry[0] != after:
            break
        entries.append(entry)
        after = entry[0]
    rows.close()
    logged: dict[int, tuple[int, LeafKey, VersionId, bytes]] = {}
    for start in range(0, len(entries), VERIFY_CHUNK):
        seqs = [seq for _, _, seq in entries[start : start + VERIFY_CHUNK]]
        marks = ", ".join("?" * len(seqs))
        for seq, *row in connection.execute(
            f"SELECT seq, context, key, id, bytes FROM log NOT INDEXED WHERE seq IN ({marks})", seqs
        ):
            logged[seq] = tuple(row)
    page: list[_Row] = []
    for key, version, seq in entries:
        shelf_id, *columns, raw = logged.get(seq, (0, key, version, b""))
        agrees = shelf_id == shown.shelf_id and columns == [key, version]
        page.append(_Row(f"{shown.context}: log entry {seq}", shown.context, key, version, raw if agrees else b""))
    return page


def _history_page(names: dict[int, str], after: int, connection: sqlite3.Connection) -> tuple[list[_Row], int]:
    rows = connection.execute(
        "SELECT n, context, key, id, bytes FROM history WHERE n > ? ORDER BY n LIMIT ?", (after, _PAGE_ROWS)
    ).fetchall()
    page = [
        _Row(f"history entry {n}", names.get(shelf_id, ""), key, version, raw)
        for n, shelf_id, key, version, raw in rows
    ]
    return page, rows[-1][0] if rows else after


def _cross_check(
    visited: dict[int, int], counters: dict[tuple[PublicKey, Instance], int], connection: sqlite3.Connection
) -> list[str]:
    def query(sql: str) -> list[tuple[Any, ...]]:
        return connection.execute(sql).fetchall()

    problems: list[str] = []
    contexts = {shelf_id for (shelf_id,) in query("SELECT id FROM contexts")}
    for shelf_id, rows in query("SELECT context, count(*) FROM log NOT INDEXED GROUP BY context"):
        if shelf_id not in contexts:
            problems.append(f"log: {rows} entries of a context that is not there")
        elif shelf_id in visited and visited[shelf_id] != rows:
            problems.append(f"log: {rows} entries of context {shelf_id}, {visited[shelf_id]} of them in the index")
    known = {
        (key, instance): int.from_bytes(counter, "big") for key, instance, counter in query("SELECT * FROM writers")
    }
    problems += [
        "writers: a counter is behind the log" for which, counter in counters.items() if known.get(which, 0) < counter
    ]
    if query("SELECT 1 FROM log WHERE seq > (SELECT seq FROM sqlite_sequence WHERE name = 'log')"):
        problems.append("log: it is ahead of its own sequence")
    if query(f"SELECT 1 FROM pins WHERE length(identity) <> {IDENTITY_BYTES}"):
        problems.append("pins: an identity is not 32 bytes")
    if not query(f"SELECT 1 FROM meta WHERE name = 'instance' AND length(value) = {INSTANCE_BYTES}"):
        problems.append("meta: it does not say which store it is")
    return problems
