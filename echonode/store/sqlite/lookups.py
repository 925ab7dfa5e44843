"""Lookups of single rows from any thread, on a connection of their own that cannot write.

The keyring and the counters of writers are asked in the midst of rules, on the event loop and on the writer's thread.
Such a question reads a few pages, which are in memory nearly always: some 10 us, less than a hop to another thread
costs. Every lookup ends with its call, and shows what is durable.
"""

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

from echonode.errors import StoreError
from echonode.store.sqlite.connection import BUSY_TIMEOUT_S, set_pragmas, to_store_error

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

_CACHE_KIB: Final = 1024


class Lookups:
    """The connection. One lookup runs at a time."""

    def __init__(self, path: Path) -> None:
        """Connect to the existing store `path`. Raises sqlite3.Error."""
        uri = f"file:{quote(str(path))}?mode=rw"
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = sqlite3.connect(
            uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT_S, check_same_thread=False
        )
        set_pragmas(self._connection, query_only=True, cache_kib=_CACHE_KIB)

    def rows(self, sql: str, *values: bytes | int) -> list[tuple[Any, ...]]:
        """Return the rows that `sql` selects. Raises StoreError."""
        with self._lock:
            if self._connection is None:
                raise StoreError("the store is closed")
            try:
                return self._connection.execute(sql, values).fetchall()
            except sqlite3.Error as error:
                raise to_store_error(error, self._path) from error

    def close(self) -> None:
        """Close the connection; lookups raise StoreError from now on. Safe to call twice."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None


class RecentAnswers(Generic[K, V]):
    """The answers to the latest questions, at most `size` of them. Safe to use from any thread."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._answers: OrderedDict[K, V] = OrderedDict()

    def get(self, question: K) -> V | None:
        """Return the answer kept, None for none."""
        with self._lock:
            answer = self._answers.get(question)
            if answer is not None:
                self._answers.move_to_end(question)
            return answer

    def keep(self, question: K, answer: V) -> None:
        """Keep an answer. The one that was asked for longest ago goes."""
        with self._lock:
            self._answers[question] = answer
            self._answers.move_to_end(question)
            if len(self._answers) > self._size:
                self._answers.popitem(last=False)

    def questions(self) -> list[K]:
        """Return the questions whose answers are kept."""
        with self._lock:
            return list(self._answers)

    def drop(self, question: K) -> None:
        """Forget an answer."""
        with self._lock:
            self._answers.pop(question, None)
