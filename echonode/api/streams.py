"""Answers without a known end: NDJSON (one JSON object a line) and server-sent events.

The status cannot change once the first byte is out. A later error is sent in the stream: as the NDJSON line {"error":
{"code", "message"}}, or as the event `end` with its reason. A stream without such an end was cut. Events are in
recent_events.py, changes in changes.py.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from echonode.api.json_forms import encode
from echonode.api.problems import problem_of
from echonode.api.shutdown import Stop
from echonode.limits import KIB

NDJSON: Final = "application/x-ndjson"
EVENT_STREAM: Final = "text/event-stream"

KEEP_ALIVE_S: Final = 15.0  # proxies and clients with a read timeout usually wait longer
_CHUNK_BYTES: Final = 64 * KIB


class StreamResponse(Response):
    """Sends what `chunks` yields, as it comes. `chunks` reports its own errors in the stream and does not raise.

    With `is_watched` the response ends when the client leaves. Without it `chunks` reads the request, and so notices by
    itself.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes],
        *,
        media_type: str = NDJSON,
        is_watched: bool = True,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.init_headers({**(headers or {}), "content-type": media_type, "cache-control": "no-store"})
        self._chunks = chunks
        self._is_watched = is_watched

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._is_watched:
            await self._send_all(send)
            return
        sending = asyncio.create_task(self._send_all(send))
        leaving = asyncio.create_task(_client_gone(receive))
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


async def _client_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def json_lines(pages: AsyncIterator[Iterable[object]], stop: Stop) -> AsyncGenerator[bytes]:
    """Yield one line for each object of each page, in chunks of moderate size. An error becomes the last line."""
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
        yield bytes(chunk) + encode(problem_of(error).as_json()) + b"\n"
