"""Answers without a known end: NDJSON, one JSON object a line, and server-sent events.

Once the first byte is out the status cannot change, so what goes wrong later is said in the stream: an NDJSON line
{"error": {"code", "message"}}, or the event `end` with its reason. A stream that just breaks off was cut.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from echonode.api.json_forms import encode, event_form
from echonode.api.problems import fault_of
from echonode.api.shutdown import Stop, Stopping
from echonode.limits import KIB
from echonode.node.events import NodeStopped
from echonode.node.node import Node

NDJSON: Final = "application/x-ndjson"
EVENT_STREAM: Final = "text/event-stream"

_KEEP_ALIVE_S: Final = 15.0  # what proxies and clients with a read timeout can be expected to wait
_CHUNK_BYTES: Final = 64 * KIB


class Lines(Response):
    """Sends what `chunks` yields as it comes. `chunks` says itself what goes wrong in it, and does not raise.

    With `is_watched`, the client's leaving ends it; without, `chunks` reads the request and finds out by itself.
    """

    def __init__(self, chunks: AsyncGenerator[bytes], *, media_type: str = NDJSON, is_watched: bool = True) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({"content-type": media_type, "cache-control": "no-store"})
        self._chunks = chunks
        self._is_watched = is_watched

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._is_watched:
            await self._send_all(send)
            return
        sending = asyncio.create_task(self._send_all(send))
        leaving = asyncio.create_task(_until_gone(receive))
        try:
            await asyncio.wait((sending, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sending.cancel()
            leaving.cancel()
            await asyncio.wait((sending, leaving))
        if not sending.cancelled():
            sending.result()

    async def _send_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async with aclosing(self._chunks) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def json_lines(pages: AsyncIterator[Iterable[object]], stop: Stop) -> AsyncGenerator[bytes]:
    """One line for every object of every page, in chunks of moderate size. An error becomes the last line."""
    chunk = bytearray()
    try:
        while True:
            with stop.ends_waiting():
                page = await anext(pages, None)
            if page is None:
                break
            for item in page:
                chunk += encode(item)
                chunk += b"\n"
                if len(chunk) >= _CHUNK_BYTES:
                    yield bytes(chunk)
                    chunk.clear()
            if chunk:
                yield bytes(chunk)
                chunk.clear()
    except Exception as error:
        yield bytes(chunk) + encode(fault_of(error).form()) + b"\n"


async def events(node: Node, types: frozenset[str], stop: Stop) -> AsyncGenerator[bytes]:
    """Server-sent events (WHATWG HTML §9.2) of the given `types`, from now on; all of them when none is given.

    A comment says that listening has begun, and one every 15 s that it goes on. The last event is `end`, whose data is
    {"reason": "stopping" | "slow reader"}: in the second case events were lost, and the reader should look anew.
    """
    reason = "slow reader"
    with node.subscribe() as queue:
        yield b": listening\n\n"
        while True:
            try:
                with stop.ends_waiting():
                    async with asyncio.timeout(_KEEP_ALIVE_S):
                        event = await queue.get()
            except TimeoutError:
                yield b": still listening\n\n"
                continue
            except Stopping:
                reason = "stopping"
                break
            if event is None:
                break
            if isinstance(event, NodeStopped):
                reason = "stopping"
            if not types or event.name in types:
                yield _sse(event.name, event_form(event, node.records.label))
    yield _sse("end", {"reason": reason})


def _sse(name: str, data: object) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + encode(data) + b"\n\n"
