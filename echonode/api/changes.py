"""The route of changes: the log of a context from a cursor on, as one answer, as a long poll, or as a stream.

    GET /v1/changes?context=main&since=CURSOR            what changed since, at once
    GET /v1/changes?context=main&since=CURSOR&wait=30    the same, but wait for something up to 30 s
    Accept: text/event-stream                            server-sent events, and `Last-Event-ID` for `since`

Without `since` it begins with everything that is held; `since=now` begins behind that. The answer's cursor is where the
next request goes on. A cursor that means nothing here any more is answered with a `gap` and everything from the
beginning (node/changes.py); so is a reader in whose time a person denied or allowed a node.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from functools import cache
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echonode.api import json_forms
from echonode.api.problems import RequestError, problem_of
from echonode.api.requests import Query, context_name, filter_of
from echonode.api.responses import reply, route
from echonode.api.shutdown import Stop, Stopping
from echonode.api.streams import EVENT_STREAM, KEEP_ALIVE_S, StreamResponse
from echonode.errors import LocalError
from echonode.limits import BATCH_RECORDS_MAX, CHANGES_BYTES_MAX, CHANGES_WAIT_S_MAX
from echonode.model.filter import Filter
from echonode.model.record import MAIN
from echonode.node.changes import ChangePage, RecordChange, Start
from echonode.node.node import Node

_NOW: Final = "now"
_RETRY_MS: Final = 1000  # after which a browser whose stream broke off connects again
_TERMS: Final = ("author", "tag", "name", "model")
_WHY_NO_SENDER: Final = "a record does not say which peer it came from"


class ChangeRoutes:
    """Serves the change log of `node`."""

    def __init__(self, node: Node, stop: Stop) -> None:
        self._node = node
        self._stop = stop

    def routes(self) -> list[Route]:
        """Return the routes, as openapi.yaml describes them."""
        return [route("/v1/changes", GET=self._changes)]

    async def _changes(self, request: Request) -> Response:
        query = Query(request, ("context", "since", "wait", "limit", "body", "filter", *_TERMS))
        context = context_name(query.one("context") or MAIN)
        terms = [*query.all("filter"), *(f"{term}={value}" for term in _TERMS for value in query.all(term))]
        wanted = filter_of(self._node, terms, why_no_sender=_WHY_NO_SENDER)
        body = query.choice("body", json_forms.BODY_FORMS)
        wait_s = query.count("wait") or 0
        if wait_s > CHANGES_WAIT_S_MAX:
            raise RequestError(f"wait is at most {CHANGES_WAIT_S_MAX} seconds: ask again for more")
        limit = query.count("limit")
        if limit == 0:
            raise RequestError("limit is 1 or more")
        start = self._start(context, request.headers.get("last-event-id") or query.one("since"))
        if EVENT_STREAM in request.headers.get("accept", ""):
            return StreamResponse(self._stream(context, start, wanted, body), media_type=EVENT_STREAM)
        start, page = await self._page(context, start, wanted, limit or BATCH_RECORDS_MAX, wait_s)
        form = self._form(body)
        return reply(
            {
                "changes": [form(change) for change in page.changes],
                "cursor": page.cursor,
                "more": not page.is_end,
                "gap": start.gap or None,
            }
        )

    def _start(self, context: str, since: str | None) -> Start:
        try:
            return self._node.changes.start(context, self._node.changes.cursor(context) if since == _NOW else since)
        except LocalError as error:
            raise RequestError(str(error)) from None

    async def _page(
        self, context: str, start: Start, wanted: Filter, limit: int, wait_s: int
    ) -> tuple[Start, ChangePage]:
        """Return the next page with a wanted change, after `wait_s` seconds one without, and where it was begun."""
        log = self._node.changes
        view = log.view
        page = await log.page(context, start.seq, wanted=wanted, limit=limit)
        if not wait_s or start.gap:
            return start, page
        try:
            with self._stop.ends_waiting():
                async with asyncio.timeout(wait_s):
                    while not page.changes and log.view == view:
                        if page.is_end:
                            await log.wait(context, page.seq)
                        page = await log.page(context, page.seq, wanted=wanted, limit=limit)
        except TimeoutError:
            pass
        if log.view != view:
            start = log.start_anew()
            page = await log.page(context, start.seq, wanted=wanted, limit=limit)
        return start, page

    async def _stream(self, context: str, start: Start, wanted: Filter, body: str) -> AsyncGenerator[bytes]:
        """Yield the log as server-sent events (WHATWG HTML §9.2), each with the cursor behind it as its id.

        An id without data moves the place of a reader whose filter takes nothing for a while. The last event is `end`.
        """
        log, form, seq = self._node.changes, self._form(body), start.seq
        view = log.view
        yield b"retry: %d\n%s" % (_RETRY_MS, _place(log.cursor(context, seq)))
        if start.gap:
            yield _gap(start)
        try:
            while True:
                if log.view != view:
                    view, start = log.view, log.start_anew()
                    seq = start.seq
                    yield _gap(start)
                page = await log.page(context, seq, wanted=wanted, bytes_max=CHANGES_BYTES_MAX)
                seq = page.seq
                for change in page.changes:
                    yield b"id: %s\nevent: change\ndata: %s\n\n" % (
                        change.cursor.encode(),
                        json_forms.encode(form(change)),
                    )
                if not page.is_end:
                    continue
                try:
                    with self._stop.ends_waiting():
                        async with asyncio.timeout(KEEP_ALIVE_S):
                            await log.wait(context, seq)
                except TimeoutError:
                    yield b": still listening\n" + _place(page.cursor)
        except Stopping:
            end: dict[str, object] = {"reason": "stopping"}
        except Exception as error:
            end = {"reason": problem_of(error).message}
        yield b"event: end\ndata: " + json_forms.encode(end) + b"\n\n"

    def _form(self, body: str) -> Callable[[RecordChange], dict[str, object]]:
        label, author_text = self._node.records.label, cache(self._node.addresses.author_text)

        def form(change: RecordChange) -> dict[str, object]:
            return {
                "cursor": change.cursor,
                "record": json_forms.record_form(
                    change.record, label, address_label=author_text, heads=change.heads, body=body
                ),
            }

        return form


def _gap(start: Start) -> bytes:
    return b"event: gap\ndata: " + json_forms.encode({"reason": start.gap}) + b"\n\n"


def _place(cursor: str) -> bytes:
    return b"id: " + cursor.encode() + b"\n\n"
