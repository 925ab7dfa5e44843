"""The routes of many records at once: a page of them, and a set that is written whole or not at all.

    GET  /v1/records/{context}/page?since=CURSOR&limit=100    {"records": [..], "cursor": .., "more": ..}
    POST /v1/records/{context}/put    {"records": [LINE, ..]}      {"written": [..], "cursor": ..}

A page ends in a cursor of the change log. The next page begins there, and so does /v1/changes once `more` is false: no
record that is written meanwhile is missed, and none that stays as it is comes twice.
"""

from functools import cache
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Raw, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echonode.api import json_forms
from echonode.api.bulk_import import BATCH_BYTES_MAX, read_line
from echonode.api.problems import RequestError
from echonode.api.requests import Query, body, context_of, filter_of
from echonode.api.responses import reply, route
from echonode.api.shutdown import Stop
from echonode.errors import LocalError
from echonode.limits import BATCH_RECORDS_MAX
from echonode.node.node import Node
from echonode.store.draft_signing import DraftError
from echonode.text import escape, to_base32

_PAGE_RECORDS: Final = 100
_WHY_NO_SENDER: Final = "a record does not say which peer it came from"


class PutAllRequest(Struct, forbid_unknown_fields=True):
    """`records` holds lines as an import takes them, each name once."""

    records: Annotated[list[Raw], Meta(min_length=1, max_length=BATCH_RECORDS_MAX)]


class RecordSetRoutes:
    """Serves requests about many records of `node`."""

    def __init__(self, node: Node, stop: Stop) -> None:
        self._node = node
        self._stop = stop

    def routes(self) -> list[Route]:
        """Return the routes, as openapi.yaml describes them."""
        path = "/v1/records/{context}"
        return [route(path + "/page", GET=self._page), route(path + "/put", POST=self._put_all)]

    async def _page(self, request: Request) -> Response:
        context = context_of(request)
        query = Query(request, ("since", "limit", "filter", "body"))
        wanted = filter_of(self._node, query.all("filter"), why_no_sender=_WHY_NO_SENDER)
        body_form = query.choice("body", json_forms.BODY_FORMS)
        limit = query.count("limit") or _PAGE_RECORDS
        try:
            start = self._node.changes.start(context, query.one("since"))
        except LocalError as error:
            raise RequestError(str(error)) from None
        page = await self._node.changes.page(context, start.seq, wanted=wanted, limit=limit)
        label, author_text = self._node.records.label, cache(self._node.addresses.author_text)
        records = [
            json_forms.record_form(
                change.record, label, address_label=author_text, heads=change.heads, body=body_form
            )
            for change in page.changes
            if not change.record.is_tombstone
        ]
        return reply(
            {"records": records, "cursor": page.cursor, "more": not page.is_end, "gap": start.gap or None}
        )

    async def _put_all(self, request: Request) -> Response:
        context = context_of(request)
        Query(request, ())
        data = await body(request, self._stop, bytes_max=BATCH_BYTES_MAX)
        try:
            lines = msgspec.json.decode(data, type=PutAllRequest).records
        except (ValueError, RecursionError) as error:
            raise RequestError(f"the body is not what this takes: {escape(str(error))}") from None
        drafts = []
        for number, line in enumerate(lines):
            try:
                drafts.append(read_line(context, self._node.addresses, bytes(line)))
            except LocalError as error:
                raise _at(number, str(error)) from None
        if len({(draft.author, draft.name) for draft in drafts}) < len(drafts):
            raise RequestError("one record stands there twice: name each once")
        try:
            records, seq = await self._node.records.write_all(drafts)
        except DraftError as error:
            raise _at(error.place, str(error)) from None
        written = [
            {"id": json_forms.record_id(record, self._node.records.label), "version": to_base32(record.id)}
            for record in records
            if record is not None
        ]
        return reply({"written": written, "cursor": self._node.changes.cursor(context, seq)})


def _at(number: int, message: str) -> RequestError:
    return RequestError(f"records[{number}]: {message}")
