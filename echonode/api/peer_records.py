"""The routes that speak to one peer: list its records, fetch some of them, put some of this node's there.

Every answer of the peer is a 200 whose `status` is success, not supported (with what is supported) or error (with a
sentence).
"""

from collections.abc import Awaitable, Iterable
from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echonode.api.json_forms import nfc
from echonode.api.problems import RequestError, not_found
from echonode.api.requests import GetRequest, PullRequest, PutRequest, context_name, filter_of, json_body, peer_of
from echonode.api.responses import reply, route
from echonode.api.shutdown import Stop
from echonode.errors import LocalError, PeerRefused, Reason, RemoteError, TransportError
from echonode.model.identity import IdentityId
from echonode.model.record import LeafKey, VersionId, leaf_key
from echonode.node.node import Node
from echonode.sync.modes.get import Got
from echonode.sync.modes.pull import Pulled
from echonode.sync.modes.put import Answer
from echonode.text import escape, from_base32, to_base32
from echonode.wire.messages import RecordRequest

_ID_BYTES = 32
_NOT_SUPPORTED = (Reason.UNSUPPORTED_MODE, Reason.UNKNOWN_CONTEXT, Reason.UNSUPPORTED_PROTOCOL)


class PeerRecordRoutes:
    """Serves requests that `node` sends on to one peer."""

    def __init__(self, node: Node, stop: Stop) -> None:
        self._node = node
        self._stop = stop

    def routes(self) -> list[Route]:
        """Return the routes, as openapi.yaml describes them."""
        return [
            route("/v1/pull", POST=self._pull),
            route("/v1/get", POST=self._get),
            route("/v1/put", POST=self._put),
        ]

    async def _pull(self, request: Request) -> Response:
        body = await json_body(request, self._stop, PullRequest)
        peer, context = peer_of(self._node, body.peer), context_name(body.context)
        wanted = filter_of(self._node, body.filter, why_no_sender="PEER says already which node is asked")
        return await self._answered(
            self._node.on_demand.pull(
                peer, context, wanted, after=body.after, limit=body.limit, timeout_s=body.timeout
            ),
            self._pull_form,
        )

    async def _get(self, request: Request) -> Response:
        body = await json_body(request, self._stop, GetRequest)
        peer, context = peer_of(self._node, body.peer), context_name(body.context)
        keys = {item.id: self._key(item.id) for item in body.records}
        wanted = [RecordRequest(keys[item.id], _version(item.version)) for item in body.records]
        return await self._answered(
            self._node.on_demand.get(peer, context, wanted, body.timeout), lambda got: _get_form(got, keys)
        )

    async def _put(self, request: Request) -> Response:
        body = await json_body(request, self._stop, PutRequest)
        peer, context = peer_of(self._node, body.peer), context_name(body.context)
        keys = {text: self._key(text) for text in body.records}
        tree = self._node.store.tree(context)
        for text, key in keys.items():
            if tree.get(key) is None:
                raise not_found(f"there is no record {escape(text)} in {escape(context)}")
        return await self._answered(
            self._node.on_demand.put(peer, context, list(keys.values()), body.timeout),
            lambda answers: _put_form(answers, keys),
        )

    async def _answered(self, question: Awaitable[Any], form: Any) -> Response:
        """Return the peer's answer, or the reason why there is none, under one of the three statuses."""
        answer: dict[str, object] = {"status": "success", "error": "", "supported": ()}
        try:
            with self._stop.ends_waiting():
                answer |= form(await question)
        except PeerRefused as refused:
            is_unsupported = refused.reason in _NOT_SUPPORTED
            is_beyond = refused.reason is Reason.STALE_CURSOR
            sentence = "its log does not go as far as that: begin again from 0" if is_beyond else str(refused)
            answer |= {"status": "not supported" if is_unsupported else "error", "error": sentence}
            answer["supported"] = [escape(each) for each in refused.supported]
        except (RemoteError, TransportError) as error:
            answer |= {"status": "error", "error": str(error)}
        return reply(answer)

    # -- names in requests -------------------------------------------------------------------------------------------

    def _key(self, text: str) -> LeafKey:
        """Return the leaf of the record that is addressed. Its author need not be known here if the id is whole."""
        try:
            return leaf_key(*self._node.addresses.resolve(nfc(text)))
        except LocalError as error:
            raise RequestError(str(error)) from None

    def _pull_form(self, pulled: Pulled) -> dict[str, object]:
        author_text = cache(self._node.addresses.author_text)
        ids = [
            {
                "id": f"{self._node.records.label(IdentityId(one.author))}/{one.name}",
                "address": f"{author_text(IdentityId(one.author))}/{one.name}",
                "version": to_base32(one.version),
            }
            for one in pulled.ids
        ]
        return {"ids": ids, "after": pulled.after, "done": pulled.is_last}


def _version(text: str | None) -> VersionId | None:
    try:
        return None if text is None else VersionId(from_base32(text, _ID_BYTES))
    except ValueError:
        raise RequestError(f"'{escape(text or '')}' is no version: 52 characters of base32 are expected") from None


def _get_form(got: Got, keys: dict[str, LeafKey]) -> dict[str, object]:
    names = {key: text for text, key in keys.items()}
    present = set(got.versions.values())
    return {
        "records": [
            {
                "id": names[key],
                "version": to_base32(version),
                "outcome": "refused" if version in got.refused else "taken",
                "reason": got.refused[version].text if version in got.refused else "",
            }
            for version, key in got.versions.items()
        ],
        "missing": [text for text, key in keys.items() if key not in present],
    }


def _put_form(answers: Iterable[Answer], keys: dict[str, LeafKey]) -> dict[str, object]:
    names = {key: text for text, key in keys.items()}
    return {
        "records": [
            {
                "id": names[answer.key],
                "version": to_base32(answer.version),
                "outcome": answer.outcome.value,
                "reason": "" if answer.reason is None else answer.reason.text,
            }
            for answer in answers
        ]
    }
