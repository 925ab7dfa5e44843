"""AsyncClient: a running node, for programs on an event loop. The same calls as Client's, awaited.

It sends requests through a Transport: sockets here, a node in this process in embed.py.
"""

import asyncio
import os
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from echonode.client import calls
from echonode.client.answers import Lines, refused, value_of
from echonode.client.calls import Action, Body, Call, Filter, Follow, Strategy, Stream
from echonode.client.connection import cannot_connect
from echonode.client.errors import ClientError, ConnectionLost, NotRunning, TimedOut
from echonode.client.exchange import Exchange
from echonode.client.location import Location, TcpPlace, UnixPlace, locate
from echonode.client.request import MAIN, Request
from echonode.client.retry import Retry
from echonode.client.values import Change, Conflict, Record, SyncResult, Version, Written

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_OK: Final = 200
_READ_BYTES: Final = 65_536
_CONNECT_TIMEOUT_S: Final = 5.0
_QUIET_S: Final = 60.0  # a stream says that it lives every 15 s; one that is silent for so long is dead


class AsyncAnswer(Protocol):
    """The answer to a request. It has begun: `status` is there."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    async def piece(self) -> bytes:
        """Return the next piece of the body, b"" at its end. Raises ConnectionLost when it is cut short."""
        ...

    def close(self) -> None:
        """End the answer, wherever it is."""
        ...


class Transport(Protocol):
    """Carries requests to a node."""

    async def open(self, request: Request, timeout_s: float) -> AsyncAnswer:
        """Send a request and return once its answer begins. Raises ClientError."""
        ...


class Source(Protocol[T_co]):
    """The items of an AsyncItems, in portions."""

    async def more(self) -> Iterable[T_co] | None:
        """Wait for the next items and return them; None at the end."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


class AsyncItems(Generic[T]):
    """An asynchronous iterator. It may be left at any moment, by `break` too: its connection is closed then."""

    def __init__(self, source: Source[T]) -> None:
        self._source = source
        self._ready: deque[T] = deque()

    def __aiter__(self) -> "AsyncItems[T]":
        return self

    async def __anext__(self) -> T:
        while not self._ready:
            try:
                more = await self._source.more()
            except BaseException:
                self._source.close()
                raise
            if more is None:
                self._source.close()
                raise StopAsyncIteration
            self._ready.extend(more)
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Close the connection, as `contextlib.aclosing` wants it."""
        self._source.close()

    def __del__(self) -> None:
        with suppress(RuntimeError):  # the loop is closed, and the connection with it
            self._source.close()


class AsyncClient:
    """A running node. It finds that of this machine by itself, or takes `url` and `token`, or `home`.

    The parameters are those of `Client`.

    >>> from echonode import AsyncClient
    >>> node = AsyncClient()
    >>> written = await node.put("shopping", "milk", tags=["home"])
    >>> (await node.get("shopping")).body
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
        transport: Transport | None = None,
    ) -> None:
        self._transport = transport or SocketTransport(locate(url, token, home, os.environ))
        self._context = context
        self._timeout_s = timeout
        self._retry_s = retry

    # -- records -----------------------------------------------------------------------------------------------------

    async def put(
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
        """Write a record, as `Client.put` does.

        >>> seen = await node.get("shopping")
        >>> again = await node.put("shopping", seen.text + ", tea", over=seen)
        """
        wanted = context or self._context
        return await self._do(
            calls.put(id, body, context=wanted, tags=tags, type=type, model=model, over=over, new=new)
        )

    async def put_all(
        self,
        bodies: Mapping[str, Body],
        *,
        tags: Sequence[str] = (),
        model: str | None = None,
        context: str | None = None,
    ) -> str:
        """Write up to 1,000 records in one transaction, all or none. Return the cursor behind them."""
        return await self._do(calls.put_all(bodies, context=context or self._context, tags=tags, model=model))

    async def get(self, id: str, *, version: str | None = None, context: str | None = None) -> Record:
        """Read a record, or one `version` of it. Raises NotFound."""
        return await self._do(calls.get(id, context=context or self._context, version=version))

    async def delete(
        self, id: str, *, over: Record | Written | str | None = None, context: str | None = None
    ) -> Written:
        """Delete a record, on every node in time. Raises NotFound; Moved as `put` does."""
        return await self._do(calls.delete(id, context=context or self._context, over=over))

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
    ) -> AsyncItems[Record]:
        """Yield the records that fit, in the order in which they came.

        >>> [record.text async for record in node.list(tag="home")]
        []
        """
        wanted = Filter(author=author, tag=tag, name=name, model=model, terms=tuple(terms))
        stream = calls.records(context=context or self._context, wanted=wanted, since=since, limit=limit)
        return AsyncItems(_Listing(self._begin, stream, Retry(self._retry_s)))

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
    ) -> AsyncItems[Change]:
        """Yield every change behind the cursor `since`, then each as it comes, for ever, as `Client.changes` does.

        >>> async for change in node.changes("main"):
        ...     print(change.record.text)
        ...     break
        milk, tea
        """
        wanted = Filter(author=author, tag=tag, name=name, model=model, terms=tuple(terms))
        follow = Follow(context=context or self._context, wanted=wanted, since=since)
        return AsyncItems(_Following(self._begin, follow, self._retry_s))

    async def cursor(self, context: str | None = None) -> str:
        """Return the cursor behind all that is held now: changes after it are those to come."""
        return await self._do(calls.cursor(context=context or self._context))

    async def history(self, id: str, *, limit: int = 20, context: str | None = None) -> tuple[Version, ...]:
        """Return the versions of a record that this node holds, that which readers get first."""
        return await self._do(calls.history(id, context=context or self._context, limit=limit))

    # -- other nodes -------------------------------------------------------------------------------------------------

    async def conflicts(self, context: str | None = None) -> tuple[Conflict, ...]:
        """Return the records with several versions, of every context unless one is given."""
        return await self._do(calls.conflicts(context=context))

    async def resolve(
        self,
        id: str,
        *,
        keep: str | None = None,
        strategy: Strategy | None = None,
        context: str | None = None,
    ) -> str:
        """End a conflict with the version `keep`, or by a strategy. Return the version that stands then."""
        return await self._do(calls.resolve(id, context=context or self._context, keep=keep, strategy=strategy))

    async def sync(
        self, peers: Sequence[str] | None = None, *, action: Action = "both", timeout: float = 30.0
    ) -> SyncResult:
        """Sync now, with these peers or all that can be reached, and wait for the result."""
        return await self._do(calls.sync(peers=peers, action=action, timeout_s=timeout))

    async def status(self) -> dict[str, Any]:
        """Return this node, its contexts and its peers, as `echonode status --json` shows them."""
        return await self._do(calls.status())

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _do(self, call: Call[T]) -> T:
        retry = Retry(self._retry_s)
        while True:
            try:
                answer = await self._begin(call.request)
                try:
                    return call.read(value_of(call.request, await _whole(answer)))
                finally:
                    answer.close()
            except ClientError as error:
                await asyncio.sleep(retry.wait_s(error, call.request))

    async def _begin(self, request: Request, *, timeout_s: float | None = None) -> AsyncAnswer:
        """Return the answer to a request once it has begun well. Raises Refused for a refusal."""
        answer = await self._transport.open(request, timeout_s or request.timeout_s or self._timeout_s)
        if answer.status >= 300:
            try:
                raise refused(answer.status, await _whole(answer))
            finally:
                answer.close()
        return answer


class Begin(Protocol):
    """Sends a request, and returns its answer once that has begun well."""

    async def __call__(self, request: Request, *, timeout_s: float | None = None) -> AsyncAnswer: ...


class _Listing(Generic[T]):
    """The items of one answer."""

    def __init__(self, begin: Begin, stream: Stream[T], retry: Retry) -> None:
        self._begin = begin
        self._stream = stream
        self._retry = retry
        self._answer: AsyncAnswer | None = None
        self._is_over = False
        self._lines = Lines(stream.request, _OK)

    async def more(self) -> Iterable[T] | None:
        while self._answer is None:
            try:
                self._answer = await self._begin(self._stream.request)
            except ClientError as error:
                await asyncio.sleep(self._retry.wait_s(error, self._stream.request))
        if piece := await self._answer.piece():
            return [self._stream.read(value) for _, value in self._lines.feed(piece)]
        if self._is_over:
            return None
        self._is_over = True
        return [self._stream.read(value) for _, value in self._lines.finish()]

    def close(self) -> None:
        if self._answer is not None:
            self._answer.close()


class _Following:
    """The changes of a context, over as many connections as it takes."""

    def __init__(self, begin: Begin, follow: Follow, retry_s: float) -> None:
        self._begin = begin
        self._follow = follow
        self._retry_s = retry_s
        self._retry = Retry(retry_s)
        self._is_known = False  # a node that was never there is said so; one that was there is waited for
        self._answer: AsyncAnswer | None = None

    async def more(self) -> Iterable[Change] | None:
        request = self._follow.request() if self._answer is None else None
        try:
            if request is not None:
                self._answer = await self._begin(request, timeout_s=_QUIET_S)
                self._is_known, self._retry = True, Retry(self._retry_s)
            assert self._answer is not None, "it was begun, now or before"
            piece = await self._answer.piece()
            if piece:
                return list(self._follow.feed(piece))
            error: ClientError = ConnectionLost("the node ended the stream")
        except ClientError as problem:
            error = problem
        self.close()
        if self._is_known and isinstance(error, NotRunning):
            self._retry = Retry(self._retry_s)
        await asyncio.sleep(self._retry.wait_s(error, self._follow.request()))
        return ()

    def close(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None


class SocketTransport:
    """Sends each request over a connection of its own, to the first place at which a node answers."""

    def __init__(self, location: Location) -> None:
        self._location = location

    async def open(self, request: Request, timeout_s: float) -> AsyncAnswer:
        """Send a request and return once its answer begins."""
        reader, writer, host = await self._connect()
        exchange = Exchange(request, host=host, token=self._location.token)
        answer = _SocketAnswer(reader, writer, exchange, timeout_s)
        try:
            await answer.begin()
        except BaseException:
            answer.close()
            raise
        return answer

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, str]:
        for place in self._location.places:
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                    match place:
                        case UnixPlace(path=path):
                            return *await asyncio.open_unix_connection(str(path)), place.host
                        case TcpPlace(name=name, port=port):
                            return *await asyncio.open_connection(name, port), place.host
            except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
                continue
            except (OSError, UnicodeError) as error:
                raise cannot_connect(place, error) from error
        raise NotRunning(self._location.absence())


class _SocketAnswer:
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, exchange: Exchange, timeout_s: float
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._exchange = exchange
        self._timeout_s = timeout_s

    async def begin(self) -> None:
        self._writer.write(self._exchange.outgoing)
        with suppress(ConnectionError):  # the node may refuse a body before it has read all of it, and say why
            await self._writer.drain()
        while not self.status:
            await self._receive()

    @property
    def status(self) -> int:
        return self._exchange.status

    async def piece(self) -> bytes:
        while not (piece := self._exchange.take()) and not self._exchange.is_complete:
            await self._receive()
        return piece

    def close(self) -> None:
        self._writer.transport.abort()

    async def _receive(self) -> None:
        data = b""
        try:
            async with asyncio.timeout(self._timeout_s):
                data = await self._reader.read(_READ_BYTES)
        except TimeoutError:
            raise TimedOut(f"the node did not answer within {self._timeout_s:g} s") from None
        except ConnectionError:
            pass  # counts as the end: the exchange knows whether it came too early
        self._exchange.receive(data)


async def _whole(answer: AsyncAnswer) -> bytes:
    pieces = []
    while piece := await answer.piece():
        pieces.append(piece)
    return b"".join(pieces)
