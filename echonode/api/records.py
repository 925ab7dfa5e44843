"""The routes of records: put, get, delete, list, import, export, forget, conflicts.

A record is named by `?id=`, an address (model/address.py). A name may hold any character, so it never stands in the
path.
"""

import re
from collections.abc import AsyncGenerator, Sequence
from functools import cache
from typing import Final, Literal
from urllib.parse import quote

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echonode.api import json_forms
from echonode.api.bulk_import import import_lines
from echonode.api.preconditions import expected_heads, is_conditional, tagged
from echonode.api.problems import RequestError, not_found
from echonode.api.requests import (
    Query,
    body,
    chunks,
    context_name,
    context_of,
    filter_of,
    has_context,
    json_body,
    need_context,
    now_ms,
    record_address,
)
from echonode.api.responses import reply, route
from echonode.api.shutdown import Stop
from echonode.api.streams import StreamResponse, json_lines
from echonode.clock import to_ms
from echonode.errors import LocalError
from echonode.model.filter import Filter
from echonode.model.heads import winner
from echonode.model.identity import IdentityId
from echonode.model.record import IDENTITIES, Draft, Record, VersionId, supersedes
from echonode.node.conflicts import Strategy
from echonode.node.node import Node
from echonode.node.record_book import WrittenRecord
from echonode.text import escape, to_base32
from echonode.wire.messages import version_text

OCTETS: Final = "application/octet-stream"
_HISTORY_SHOWN: Final = 20
_HISTORY_MAX: Final = 1000

# A record's media type may be any text. Only one that RFC 9110 §8.3.1 allows becomes a Content-Type header.
_TOKEN: Final = r"[\w!#$&^.+-]+"
_CONTENT_TYPE: Final = re.compile(rf'{_TOKEN}/{_TOKEN}( ?; ?{_TOKEN}=({_TOKEN}|"[ !#-\[\]-~]*"))*', re.ASCII)


class ResolveRequest(Struct, forbid_unknown_fields=True):
    """The way to end a conflict: with the head that `keep` names by the beginning of its id, or by a strategy."""

    keep: str | None = None
    strategy: Literal["merge", "prefer_local", "prefer_remote"] | None = None


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
            route(path + "/history", GET=self._history),
            route("/v1/conflicts", GET=self._conflicts),
            route("/v1/conflicts/{context}", GET=self._conflict),
            route("/v1/conflicts/{context}/resolve", POST=self._resolve),
        ]

    async def _put(self, request: Request) -> Response:
        context = context_of(request)
        query = Query(request, ("id", "tag", "model", "type", "timestamp"))
        author, name = record_address(self._node, query)
        covered = await self._node.records.all_heads(context, author, name) if is_conditional(request) else []
        expects = expected_heads(request, self._node.records.denials.shown(covered), covered)
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
            expects=expects,
        )
        is_new = not has_context(self._node, context)
        if expects is None:
            covered = await self._node.records.all_heads(context, author, name)
        return self._written(await self._node.records.write(draft), covered, is_new_context=is_new)

    async def _get(self, request: Request) -> Response:
        context = context_of(request)
        query = Query(request, ("id", "whole", "any_model", "version", "body"))
        is_whole = query.flag("whole")
        body_form = query.choice("body", json_forms.BODY_FORMS[1:])
        author, name = record_address(self._node, query)
        heads = await self._node.records.heads(context, author, name)
        version = query.one("version")
        if version is not None:
            record = await self._version(context, author, name, heads, version)
        elif not heads or winner(heads).is_tombstone:
            raise await self._unknown(context, author, name)
        else:
            record = winner(heads)
        if not query.flag("any_model"):
            self._check_model(record)
        if is_whole:
            form = json_forms.record_form(
                record,
                self._node.records.label,
                address_label=self._node.addresses.author_text,
                heads=heads,
                body=body_form,
            )
            return reply(form, headers=tagged(heads))
        return Response(
            record.body,
            headers={
                **tagged(heads),
                "content-type": record.media_type if _CONTENT_TYPE.fullmatch(record.media_type) else OCTETS,
                "echo-id": quote(json_forms.record_id(record, self._node.records.label)),
                "echo-version": to_base32(record.id),
                "echo-heads": str(len(heads)),
            },
        )

    async def _version(self, context: str, author: IdentityId, name: str, heads: Sequence[Record], text: str) -> Record:
        """Return the head or earlier version whose id begins with `text`. Raise RequestError for none or several."""
        earlier = await self._node.records.earlier(context, author, name, limit=_HISTORY_MAX)
        known = [*heads, *(each.record for each in earlier)]
        found = [record for record in known if text and to_base32(record.id).startswith(text)]
        if len(found) == 1:
            return found[0]
        if found:
            several = f"{escape(text)} could be {len(found)} versions: type more of it"
            raise RequestError(several, status=409, code="conflict")
        raise not_found(f"no version {escape(text)} of that record is held here")

    async def _history(self, request: Request) -> Response:
        context = context_of(request)
        query = Query(request, ("id", "limit"))
        author, name = record_address(self._node, query)
        limit = query.count("limit") or _HISTORY_SHOWN
        heads = await self._node.records.heads(context, author, name)
        earlier = await self._node.records.earlier(context, author, name, limit=min(limit, _HISTORY_MAX))
        if not heads and not earlier:
            raise await self._unknown(context, author, name)
        writer, best = self._node.addresses.writer_text, winner(heads).id if heads else None
        forms = [json_forms.head_form(head, writer, is_winner=head.id == best) for head in heads]
        for each in earlier:
            is_void = not self._node.records.is_admitted(each.record)
            forms.append(json_forms.head_form(each.record, writer, superseded_ms=each.superseded_ms, is_void=is_void))
        return reply({"versions": forms})

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
        standing = await self._node.records.all_heads(context, author, name)
        heads = self._node.records.denials.shown(standing)
        if not heads or winner(heads).is_tombstone:
            raise await self._unknown(context, author, name)
        expects = expected_heads(request, heads, standing)
        draft = Draft(context=context, author=author, name=name, is_tombstone=True, expects=expects)
        return self._written(await self._node.records.write(draft), standing, is_new_context=False)

    async def _list(self, request: Request) -> Response:
        context = context_of(request)
        need_context(self._node, context)
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
        body_form = query.choice("body", json_forms.BODY_FORMS)
        # A change that comes while the list is sent is told behind this cursor, whether it is in the list or not.
        headers = {"echo-cursor": self._node.changes.cursor(context)}

        author_text = cache(self._node.addresses.author_text)

        async def shown() -> AsyncGenerator[list[json_forms.RecordForm]]:
            async for page in pages:
                yield [await self._listed(record, author_text, body_form) for record in page]

        return StreamResponse(json_lines(shown(), self._stop), headers=headers)

    async def _import(self, request: Request) -> Response:
        context = context_of(request)
        Query(request, ())
        if context == IDENTITIES:
            raise RequestError(f"the context {IDENTITIES} is kept by the nodes themselves")
        lines = import_lines(self._node.records, self._node.addresses, context, chunks(request, self._stop))
        return StreamResponse(lines, is_watched=False)

    async def _export(self, request: Request) -> Response:
        context = context_of(request)
        need_context(self._node, context)
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
            need_context(self._node, context_name(chosen))
        contexts = self._node.store.contexts() if chosen is None else (context_name(chosen),)
        found = [heads for context in contexts for heads in await self._node.records.conflicts(context)]
        return reply({"conflicts": [self._conflict_form(heads) for heads in found]})

    async def _conflict(self, request: Request) -> Response:
        context = context_of(request)
        author, name = record_address(self._node, Query(request, ("id",)))
        if not await self._node.records.heads(context, author, name):
            raise await self._unknown(context, author, name)
        conflict = await self._node.conflicts.of(context, author, name)
        writer, base = self._node.addresses.writer_text, conflict.base
        return reply(
            {
                **self._conflict_form(conflict.heads),
                "base": None if base is None else json_forms.head_form(base, writer),
            }
        )

    async def _resolve(self, request: Request) -> Response:
        context = context_of(request)
        query = Query(request, ("id",))
        author, name = record_address(self._node, query)
        wish = await json_body(request, self._stop, ResolveRequest)
        if (wish.keep is None) == (wish.strategy is None):
            raise RequestError("either keep, a version, or strategy: merge, prefer_local or prefer_remote")
        choice: VersionId | Strategy
        if wish.keep is not None:
            heads = await self._node.records.heads(context, author, name)
            choice = (await self._version(context, author, name, heads, wish.keep)).id
        else:
            assert wish.strategy is not None
            choice = Strategy(wish.strategy)
        resolution = await self._node.conflicts.resolve(context, author, name, choice)
        return reply(
            {
                "id": json_forms.record_id(resolution.record, self._node.records.label),
                "version": to_base32(resolution.record.id),
                "context": context,
                "covered": [to_base32(head.id) for head in resolution.covered],
                "how": resolution.how,
            }
        )

    def _conflict_form(self, heads: Sequence[Record]) -> dict[str, object]:
        writer = self._node.addresses.writer_text
        return {
            "id": json_forms.record_id(heads[0], self._node.records.label),
            "address": json_forms.record_id(heads[0], self._node.addresses.author_text),
            "context": heads[0].context,
            "heads": [json_forms.head_form(head, writer, is_winner=head is heads[0]) for head in heads],
        }

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

    async def _listed(self, record: Record, author_text: json_forms.Label, body_form: str) -> json_forms.RecordForm:
        heads = [record]
        if record.key in self._node.store.conflicts(record.context):
            heads = await self._node.records.heads(record.context, record.author, record.name) or heads
        return json_forms.record_form(
            record, self._node.records.label, address_label=author_text, heads=heads, body=body_form
        )

    def _written(self, written: WrittenRecord, heads: Sequence[Record], *, is_new_context: bool) -> Response:
        """Return the answer to a write. It names those of the earlier `heads` that it covers and other nodes wrote."""
        record = written.record
        writer, own = self._node.addresses.writer_text, self._node.records.identity.device.public
        return reply(
            {
                "id": json_forms.record_id(record, self._node.records.label),
                "version": to_base32(record.id),
                "context": record.context,
                "is_new_context": is_new_context,
                "beside": written.beside,
                "covered": [
                    {
                        "version": to_base32(head.id),
                        "key": to_base32(head.kid),
                        "by": writer(head),
                        "timestamp": json_forms.rfc3339(to_ms(head.timestamp)),
                    }
                    for head in heads
                    if head.kid != own and supersedes(record, head)
                ],
                "timestamp": json_forms.rfc3339(to_ms(record.timestamp)),
                "cursor": self._node.changes.cursor(record.context, written.seq),
            }
        )

    def _author(self, text: str) -> IdentityId:
        try:
            return self._node.addresses.resolve_author(text)
        except LocalError as error:
            raise not_found(str(error)) from None

    async def _unknown(self, context: str, author: IdentityId, name: str) -> RequestError:
        """Return the error of a request for a record that readers do not get."""
        book, author_text = self._node.records, self._node.addresses.author_text
        there = f"{escape(f'{author_text(author)}/{name}')} in {escape(context)}"
        standing = await book.all_heads(context, author, name)
        owner = next((owner for head in standing if (owner := book.denials.owner(head)) is not None), None)
        if owner is None or any(head.is_tombstone for head in book.denials.shown(standing)):
            return not_found(f"there is no record {there}")
        denied = escape(author_text(owner))
        return not_found(f"{there} is hidden: {denied} is denied here; to see it, type: echonode allow {denied}")
