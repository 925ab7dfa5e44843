"""The routes that ask one peer: which records it has, for some of them, to take some of ours.

Whatever the peer says, the answer is a 200 whose `status` is one of the founding words: success, not supported (with
what is supported instead), or error (with a sentence).
"""

from collections.abc import Awaitable, Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echonode.api.json_forms import nfc
from echonode.api.problems import RequestError, not_found
from echonode.api.requests import GetRequest, OfferRequest, PullRequest, context_name, json_body
from echonode.api.responses import reply, route
from echonode.api.shutdown import Stop
from echonode.errors import LocalError, PeerRefused, Reason, RemoteError, TransportError
from echonode.model.filter_text import full_id, read_filter
from echonode.model.identity import IdentityId
from echonode.model.record import LeafKey, VersionId, leaf_key
from echonode.node.node import Node
from echonode.sync.modes.get import Got
from echonode.sync.modes.pull import Pulled
from echonode.sync.modes.put import Answer
from echonode.text import escape, from_base32, to_base32
from echonode.wire.messages import Asked

_ID_BYTES = 32
_NOT_SUPPORTED = (Reason.UNSUPPORTED_MODE, Reason.UNKNOWN_CONTEXT, Reason.UNSUPPORTED_PROTOCOL)


class AskingRoutes:
    """What `node` can ask a peer."""

    def __init__(self, node: Node, stop: Stop) -> None:
        self._node = node
        self._stop = stop

    def routes(self) -> list[Route]:
        """The paths, as openapi.yaml has them."""
        return [
            route("/v1/pull", POST=self._pull),
            route("/v1/get", POST=self._get),
            route("/v1/offer", POST=self._offer),
        ]

    async def _pull(self, request: Request) -> Response:
        asked = await json_body(request, self._stop, PullRequest)
        peer, context = self._peer(asked.peer), context_name(asked.context)
        try:
            wanted = read_filter(asked.filter, self._who_is)
        except LocalError as error:
            raise RequestError(str(error)) from None
        if wanted.senders or wanted.not_senders:
            raise RequestError("sender is for subscriptions: whom to ask is said already")
        return await self._answered(
            self._node.on_demand.pull(
                peer, context, wanted, after=asked.after, limit=asked.limit, timeout_s=asked.timeout
            ),
            self._pulled,
        )

    async def _get(self, request: Request) -> Response:
        asked = await json_body(request, self._stop, GetRequest)
        peer, context = self._peer(asked.peer), context_name(asked.context)
        meant = {item.id: self._key(item.id) for item in asked.records}
        wanted = [Asked(meant[item.id], _version(item.version)) for item in asked.records]
        return await self._answered(
            self._node.on_demand.get(peer, context, wanted, asked.timeout), lambda got: _got(got, meant)
        )

    async def _offer(self, request: Request) -> Response:
        asked = await json_body(request, self._stop, OfferRequest)
        peer, context = self._peer(asked.peer), context_name(asked.context)
        meant = {text: self._key(text) for text in asked.records}
        tree = self._node.store.tree(context)
        for text, key in meant.items():
            if tree.get(key) is None:
                raise not_found(f"there is no record {escape(text)} in {escape(context)}")
        return await self._answered(
            self._node.on_demand.put(peer, context, list(meant.values()), asked.timeout),
            lambda answers: _offered(answers, meant),
        )

    async def _answered(self, question: Awaitable[Any], form: Any) -> Response:
        """The peer's answer, or why there is none, in the founding words."""
        said: dict[str, object] = {"status": "success", "error": "", "supported": ()}
        try:
            with self._stop.ends_waiting():
                said |= form(await question)
        except PeerRefused as refused:
            is_word = refused.reason in _NOT_SUPPORTED
            is_behind = refused.reason is Reason.STALE_CURSOR
            why = "its log does not go as far as that: begin again from 0" if is_behind else str(refused)
            said |= {"status": "not supported" if is_word else "error", "error": why}
            said["supported"] = [escape(each) for each in refused.supported]
        except (RemoteError, TransportError) as error:
            said |= {"status": "error", "error": str(error)}
        return reply(said)

    # -- who and what is meant ---------------------------------------------------------------------------------------

    def _peer(self, text: str) -> IdentityId:
        try:
            return self._node.resolve_peer(text)
        except LocalError as error:
            raise not_found(str(error)) from None

    def _who_is(self, text: str) -> IdentityId:
        """Whom a term of a filter means: a whole id, or whoever is known here by that."""
        try:
            return full_id(text)
        except LocalError:
            return self._node.resolve_author(text)

    def _key(self, text: str) -> LeafKey:
        """The leaf of `author/name`, whether it is known here or not; a bare name is ours."""
        author, slash, name = nfc(text).partition("/")
        try:
            if slash and name:
                return leaf_key(self._who_is(author), name)
            return leaf_key(*self._node.records.resolve(nfc(text)))
        except LocalError as error:
            raise RequestError(str(error)) from None

    def _pulled(self, pulled: Pulled) -> dict[str, object]:
        ids = [
            {"id": f"{self._node.records.label(IdentityId(one.author))}/{one.name}", "version": to_base32(one.version)}
            for one in pulled.ids
        ]
        return {"ids": ids, "after": pulled.after, "done": pulled.is_last}


def _version(text: str | None) -> VersionId | None:
    try:
        return None if text is None else VersionId(from_base32(text, _ID_BYTES))
    except ValueError:
        raise RequestError(f"'{escape(text or '')}' is no version: 52 characters of base32 are expected") from None


def _got(got: Got, meant: dict[str, LeafKey]) -> dict[str, object]:
    names = {key: text for text, key in meant.items()}
    came = set(got.versions.values())
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
        "missing": [text for text, key in meant.items() if key not in came],
    }


def _offered(answers: Iterable[Answer], meant: dict[str, LeafKey]) -> dict[str, object]:
    names = {key: text for text, key in meant.items()}
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
