"""Client: a running node, for programs that wait for each answer."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from echonode.client import calls
from echonode.client.calls import Action, Body, Call, Filter, Follow, Strategy, Stream
from echonode.client.connection import Answer, Connector
from echonode.client.errors import ClientError, ConnectionLost, NotRunning
from echonode.client.location import Location, locate
from echonode.client.request import MAIN, Request
from echonode.client.retry import Retry
from echonode.client.values import Change, Conflict, Record, SyncResult, Version, Written

T = TypeVar("T")

_QUIET_S: Final = 60.0  # a stream says that it lives every 15 s; one that is silent for so long is dead


class Client:
    """A running node. It finds that of this machine by itself, or takes `url` and `token`, or `home`.

    `context`: the records that calls are about unless they say another; `timeout`: seconds for the node to answer;
    `retry`: seconds for which a request is tried again while no node answers. `location`, for who looks for the node
    himself, stands for the first three. One client may serve several threads.

    >>> from echonode import Client
    >>> node = Client()
    >>> written = node.put("shopping", "milk", tags=["home"])
    >>> node.get("shopping").body
    b'milk'
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        home: str | Path | None = None,
        context: str = MAIN,
        timeout: float = 30.0,
        retry: float = 5.0,
        location: Location | None = None,
    ) -> None:
        self._connector = Connector(location or locate(url, token, home, os.environ))
        self._context = context
        self._timeout_s = timeout
        self._retry_s = retry

    # -- records -----------------------------------------------------------------------------------------------------

    def put(
        self,
        id: str,
        body: Body,
        *,
        tags: Sequence[str] = (),
        type: str | None = None,
        model: str | None = None,
        over: Record | Written | str | None = None,
        new: bool = False,
        context: str | None = None,
    ) -> Written:
        """Write a record. Text is written as UTF-8, bytes as they are, other values as JSON.

        `over`: write only while this, which was read or written before, is what stands. `new`: only where there is no
        record. Raises Moved where that does not hold.

        >>> first = node.put("shared/todo", {"tea": 2}, new=True)
        >>> seen = node.get("shared/todo")
        >>> again = node.put("shared/todo", {"tea": seen.json()["tea"] + 1}, over=seen)
        >>> node.put("shared/todo", {}, over=seen)
        Traceback (most recent call last):
        echonode.client.errors.Moved: the record was written since it was read: read it again, then write over that
        """
        wanted = context or self._context
        return self._do(calls.put(id, body, context=wanted, tags=tags, type=type, model=model, over=over, new=new))

    def put_all(
        self,
        bodies: Mapping[str, Body],
        *,
        tags: Sequence[str] = (),
        model: str | None = None,
        context: str | None = None,
    ) -> str:
        """Write up to 1,000 records in one transaction, all or none. Return the cursor behind them.

        >>> cursor = node.put_all({"a/1": "one", "a/2": "two"})
        >>> [record.text for record in node.list(name="a/*")]
        ['one', 'two']
        """
        return self._do(calls.put_all(bodies, context=context or self._context, tags=tags, model=model))

    def get(self, id: str, *, version: str | None = None, context: str | None = None) -> Record:
        """Read a record, or one `version` of it. Raises NotFound.

        >>> node.get("shopping").tags
        ('home',)
        """
        return self._do(calls.get(id, context=context or self._context, version=version))

    def delete(self, id: str, *, over: Record | Written | str | None = None, context: str | None = None) -> Written:
        """Delete a record, on every node in time. Raises NotFound; Moved as `put` does."""
        return self._do(calls.delete(id, context=context or self._context, over=over))

    def list(
        self,
        *,
        author: str | None = None,
        tag: str | None = None,
        name: str | None = None,
        model: str | None = None,
        terms: Sequence[str] = (),
        since: str | None = None,
        limit: int | None = None,
        context: str | None = None,
    ) -> Iterator[Record]:
        """Yield the records that fit, in the order in which they came. `since`: created then or later, such as "2h".

        >>> [record.name for record in node.list(tag="home")]
        ['shopping']
        """
        wanted = Filter(author=author, tag=tag, name=name, model=model, terms=tuple(terms))
        return self._stream(calls.records(context=context or self._context, wanted=wanted, since=since, limit=limit))

    def changes(
        self,
        context: str | None = None,
        *,
        since: str | None = None,
        author: str | None = None,
        tag: str | None = None,
        name: str | None = None,
        model: str | None = None,
        terms: Sequence[str] = (),
    ) -> Iterator[Change]:
        """Yield every change behind the cursor `since`, then each as it comes, for ever.

        Without `since` it begins with everything that is held, with "now" behind that. A connection that breaks is
        made again. To go on after a restart, keep the cursor of the last change that was dealt with. Where `gap` of a
        change says that some may have been missed, all records are told anew.

        >>> cursor = node.put("shopping", "milk, tea", tags=["home"]).cursor
        >>> removed = node.delete("shopping")
        >>> for change in node.changes(since=cursor):
        ...     print(change.record.name, change.record.deleted)
        ...     break
        shopping True
        """
        wanted = Filter(author=author, tag=tag, name=name, model=model, terms=tuple(terms))
        return self._follow(Follow(context=context or self._context, wanted=wanted, since=since))

    def cursor(self, context: str | None = None) -> str:
        """Return the cursor behind all that is held now: changes after it are those to come."""
        return self._do(calls.cursor(context=context or self._context))

    def history(self, id: str, *, limit: int = 20, context: str | None = None) -> tuple[Version, ...]:
        """Return the versions of a record that this node holds, that which readers get first."""
        return self._do(calls.history(id, context=context or self._context, limit=limit))

    # -- other nodes -------------------------------------------------------------------------------------------------

    def conflicts(self, context: str | None = None) -> tuple[Conflict, ...]:
        """Return the records with several versions, of every context unless one is given.

        >>> node.conflicts()
        ()
        """
        return self._do(calls.conflicts(context=context))

    def resolve(
        self,
        id: str,
        *,
        keep: str | None = None,
        strategy: Strategy | None = None,
        context: str | None = None,
    ) -> str:
        """End a conflict with the version `keep`, or by a strategy. Return the version that stands then."""
        return self._do(calls.resolve(id, context=context or self._context, keep=keep, strategy=strategy))

    def sync(self, peers: Sequence[str] | None = None, *, action: Action = "both", timeout: float = 30.0) -> SyncResult:
        """Sync now, with these peers or all that can be reached, and wait for the result.

        >>> node.sync().status
        'no peers'
        """
        return self._do(calls.sync(peers=peers, action=action, timeout_s=timeout))

    def status(self) -> dict[str, Any]:
        """Return this node, its contexts and its peers, as `echonode status --json` shows them."""
        return self._do(calls.status())

    # -- inside ------------------------------------------------------------------------------------------------------

    def _do(self, call: Call[T]) -> T:
        retry = Retry(self._retry_s)
        while True:
            try:
                with self._open(call.request) as answer:
                    return call.read(answer.value())
            except ClientError as error:
                time.sleep(retry.wait_s(error, call.request))

    def _stream(self, stream: Stream[T]) -> Iterator[T]:
        with self._begin(stream.request) as answer:
            yield from map(stream.read, answer.values())

    def _follow(self, follow: Follow) -> Iterator[Change]:
        is_known = False  # a node that was never there is said so; one that was there is waited for
        retry = Retry(self._retry_s)
        while True:
            request = follow.request()
            try:
                with self._open(request, timeout_s=_QUIET_S) as answer:
                    is_known, retry = True, Retry(self._retry_s)
                    for piece in answer.pieces():
                        yield from follow.feed(piece)
                error: ClientError = ConnectionLost("the node ended the stream")
            except ClientError as problem:
                error = problem
            if is_known and isinstance(error, NotRunning):
                retry = Retry(self._retry_s)
            time.sleep(retry.wait_s(error, request))

    def _begin(self, request: Request) -> Answer:
        """Return the answer to a safe request once it has begun well."""
        retry = Retry(self._retry_s)
        while True:
            try:
                return self._open(request)
            except ClientError as error:
                time.sleep(retry.wait_s(error, request))

    def _open(self, request: Request, *, timeout_s: float | None = None) -> Answer:
        return self._connector.open(request, timeout_s or request.timeout_s or self._timeout_s)
