"""The routes of records: put, get, delete, list, import, export, forget, conflicts.

A record is named by `?id=`, an address (model/address.py). A name may hold any character, so it never stands in the
path.
"""

import re
from collections.abc import AsyncGenerator
from functools import cache
from typing import Final
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echonode.api import json_forms
from echonode.api.bulk_import import import_lines
from echonode.api.problems import RequestError, not_found
from echonode.api.requests import Query, body, chunks, context_name, context_of, filter_of, now_ms, record_address
from echonode.api.responses import reply, route
from echonode.api.shutdown import Stop
from echonode.api.streams import StreamResponse, json_lines
from echonode.clock import to_ms
from echonode.errors import LocalError
from echonode.model.filter import Filter
from echonode.model.identity import IdentityId
from echonode.model.record import IDENTITIES, MAIN, Draft, Record, winner
from echonode.node.node import Node
from echonode.node.record_book import WrittenRecord
from echonode.text import escape, to_base32
from echonode.wire.messages import version_text

OCTETS: Final = "application/octet-stream"

# A record's media type may be any text. Only one that RFC 9110 §8.3.1 allows becomes a Content-Type header.
_TOKEN: Final = r"[\w!#$&^.+-]+"
_CONTENT_TYPE: Final = re.compile(rf'{_TOKEN}/{_TOKEN}( ?; ?{_TOKEN}=({_TOKEN}|"[ !#-\[\]-~]*"))*', re.ASCII)


class RecordRoutes:
    """Serves requests about the records of `node`."""

    def __init__(self, node: Node, stop: Stop) -> None:
        self._node = node
        self._stop = stop

    def routes(self) -> list[Route]:
        """Return the routes, as openapi.yaml describes them."""
        path = "/v1/records/{context}"
        return [
            route(path, GET=self._get, PUT=self._put, DELETE=self._delete),
            route(path + "/list", GET=self._list),
            route(path + "/import", POST=self._import),
            route(path + "/export", GET=self._export),
            route(path + "/forget", POST=self._forget),
            route("/v1/conflicts", GET=self._conflicts),
        ]

    async def _put(self, request: Request) -> Response:
        context = context_of(request)
        query = Query(request, ("id", "tag", "model", "type", "timestamp"))
        author, name = record_address(self._node, query)
        model, model_version = json_forms.read_model(query.one("model") or json_forms.MODEL)
        timestamp = query.one("timestamp")
        draft = Draft(
            context=context,
            author=author,
            name=name,
            tags=tuple(json_forms.nfc(tag) for tag in query.all("tag")),
            model=model,
            model_version=model_version,
            media_type=query.one("type") or "",
            created_ms=None if timestamp is None else json_forms.read_time(timestamp),
            body=await body(request, self._stop),
        )
        is_new = not self._has_context(context)
        return self._written(await self._node.records.write(draft), is_new_context=is_new)

    async def _get(self, request: Request) -> Response:
        context = context_of(request)
        query = Query(request, ("id", "whole", "any_model"))
        is_whole = query.flag("whole")
        author, name = record_address(self._node, query)
        heads = await self._node.records.heads(context, author, name)
        if not heads or winner(heads).is_tombstone:
            raise self._unknown(context, author, name)
        record = winner(heads)
        if not query.flag("any_model"):
            self._check_model(record)
        if is_whole:
            return reply(
                json_forms.record_form(
                    record,
                    self._node.records.label,
                    address_label=self._node.addresses.author_text,
                    heads=len(heads),
                    with_body=True,
                )
            )
        return Response(
            record.body,
            headers={
                "content-type": record.media_type if _CONTENT_TYPE.fullmatch(record.media_type) else OCTETS,
                "echo-id": quote(json_forms.record_id(record, self._node.records.label)),
                "echo-version": to_base32(record.id),
            },
        )

    def _check_model(self, record: Record) -> None:
        """Raise RequestError if this node reads another major of the record's model. Every node keeps and relays all
        models; only a reader has to know them (PROTOCOL.md §11)."""
        version, known = record.model_version, self._node.models.get(record.model)
        if known is not None and known[0] != version[0]:
            model = escape(record.model)
            raise RequestError(
                f"it is of the model {model} {version_text(version)}, and here {model} {version_text(known)} is read",
                status=409,
                code="unsupported_model",
            )

    async def _delete(self, request: Request) -> Response:
        context = context_of(request)
        author, name = record_address(self._node, Query(request, ("id",)))
        heads = await self._node.records.heads(context, author, name)
        if not heads or winner(heads).is_tombstone:
            raise self._unknown(context, author, name)
        draft = Draft(context=context, author=author, name=name, is_tombstone=True)
        return self._written(await self._node.records.write(draft), is_new_context=False)

    async def _list(self, request: Request) -> Response:
        context = context_of(request)
        self._need_context(context)
        query = Query(request, ("author", "tag", "since", "filter", "limit", "body"))
        author, tag, since = query.one("author"), query.one("tag"), query.one("since")
        pages = self._pages(
            context,
            author=None if author is None else self._author(author),
            tag=None if tag is None else json_forms.nfc(tag),
            since_ms=None if since is None else json_forms.read_time(since, now_ms()),
            wanted=filter_of(
                self._node, query.all("filter"), why_no_sender="a record does not say which peer it came from"
            ),
            limit=query.count("limit"),
        )
        with_body = query.flag("body")

        author_text = cache(self._node.addresses.author_text)

        async def shown() -> AsyncGenerator[list[json_forms.RecordForm]]:
            async for page in pages:
                yield [await self._listed(record, author_text, with_body=with_body) for record in page]

        return StreamResponse(json_lines(shown(), self._stop))

    async def _import(self, request: Request) -> Response:
        context = context_of(request)
        Query(request, ())
        if context == IDENTITIES:
            raise RequestError(f"the context {IDENTITIES} is kept by the nodes themselves")
        lines = import_lines(self._node.records, self._node.addresses, context, chunks(request, self._stop))
        return StreamResponse(lines, is_watched=False)

    async def _export(self, request: Request) -> Response:
        context = context_of(request)
        self._need_context(context)
        author = self._author(Query(request, ("author",)).one("author") or "me")

        async def shown() -> AsyncGenerator[list[json_forms.ExportLine]]:
            async for page in self._pages(context, author=author):
                yield [json_forms.export_line(record, self._node.records.label) for record in page]

        return StreamResponse(json_lines(shown(), self._stop))

    async def _forget(self, request: Request) -> Response:
        context = context_of(request)
        Query(request, ())
        return reply({"forgotten": await self._node.subscriptions.forget(context, self._node.records.is_own)})

    async def _conflicts(self, request: Request) -> Response:
        chosen = Query(request, ("context",)).one("context")
        if chosen is not None:
            self._need_context(context_name(chosen))
        contexts = self._node.store.contexts() if chosen is None else (context_name(chosen),)
        found = [heads for context in contexts for heads in await self._node.records.conflicts(context)]
        return reply(
            {
                "conflicts": [
                    {
                        "id": json_forms.record_id(heads[0], self._node.records.label),
                        "address": json_forms.record_id(heads[0], self._node.addresses.author_text),
                        "context": heads[0].context,
                        "heads": [json_forms.head_form(record, is_winner=record is heads[0]) for record in heads],
                    }
                    for heads in found
                ]
            }
        )

    # -- shared by the routes ----------------------------------------------------------------------------------------

    async def _pages(
        self,
        context: str,
        *,
        author: IdentityId | None,
        tag: str | None = None,
        since_ms: int | None = None,
        wanted: Filter | None = None,
        limit: int | None = None,
    ) -> AsyncGenerator[list[Record]]:
        """Yield live records in pages, at most `limit` in all."""
        remaining = limit
        async for page in self._node.records.scan(context, author=author, tag=tag, since_ms=since_ms):
            if wanted is not None:
                page = [record for record in page if wanted.matches(record)]
            if remaining is not None:
                page = page[:remaining]
                remaining -= len(page)
            yield page
            if remaining == 0:
                return

    async def _listed(
        self, record: Record, author_text: json_forms.Label, *, with_body: bool
    ) -> json_forms.RecordForm:
        heads = 1
        if record.key in self._node.store.conflicts(record.context):
            heads = len(await self._node.records.heads(record.context, record.author, record.name))
        return json_forms.record_form(
            record, self._node.records.label, address_label=author_text, heads=heads, with_body=with_body
        )

    def _has_context(self, context: str) -> bool:
        """Return True if the context holds anything, is kept on every node, or has a subscription."""
        return context in (MAIN, IDENTITIES, *self._node.store.contexts(), *self._node.subscriptions.terms)

    def _need_context(self, context: str) -> None:
        """Raise RequestError unless the context exists here: most unknown names are misspelt ones."""
        if not self._has_context(context):
            there = ", ".join(escape(name) for name in sorted({MAIN, *self._node.store.contexts()}))
            raise not_found(f"there is no context {escape(context)} here; there are: {there}")

    def _written(self, written: WrittenRecord, *, is_new_context: bool) -> Response:
        record = written.record
        return reply(
            {
                "id": json_forms.record_id(record, self._node.records.label),
                "version": to_base32(record.id),
                "context": record.context,
                "is_new_context": is_new_context,
                "beside": written.beside,
                "timestamp": json_forms.rfc3339(to_ms(record.timestamp)),
            }
        )

    def _author(self, text: str) -> IdentityId:
        try:
            return self._node.addresses.resolve_author(text)
        except LocalError as error:
            raise not_found(str(error)) from None

    def _unknown(self, context: str, author: IdentityId, name: str) -> RequestError:
        return not_found(f"there is no record {self._node.records.label(author)}/{escape(name)} in {escape(context)}")
