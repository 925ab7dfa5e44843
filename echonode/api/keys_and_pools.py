"""The routes of keys and pools: the device keys of this node's identity, its root key, and the pools it knows."""

from typing import Annotated, Literal

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echonode.api import json_forms
from echonode.api.requests import Query, json_body, now_ms
from echonode.api.responses import reply, route
from echonode.api.shutdown import Stop
from echonode.clock import to_ms
from echonode.errors import LocalError
from echonode.model.address import LABEL_MARK, find_label, maybe_id
from echonode.model.identity import IdentityId, PoolKind
from echonode.model.keys import KeyState
from echonode.model.record import Record
from echonode.model.time_text import read_time_ms
from echonode.node.node import Node
from echonode.node.pools import PoolView
from echonode.text import escape, to_base32

_PASSPHRASE = Annotated[str, Meta(min_length=1, max_length=1024)]
_SEALED = Annotated[str, Meta(max_length=4096)]
_STATES = {"retired": KeyState.RETIRED, "compromised": KeyState.COMPROMISED}


class _RootRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """`root` is an exported root key, and `passphrase` opens it; None for the root key that is on this machine."""

    root: _SEALED | None = None
    passphrase: str = ""


class NewKeyRequest(_RootRequest, forbid_unknown_fields=True, kw_only=True):
    """Makes a device key."""


class KeyStateRequest(_RootRequest, forbid_unknown_fields=True, kw_only=True):
    """`key` is a whole key, or the beginning of one of this identity's."""

    key: str
    state: Literal["retired", "compromised"]


class SignAgainRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """`key` is a void key; `until` the last moment of what is to be kept; `trial` writes nothing."""

    key: str
    until: str | None = None
    trial: bool = False


class ExportRootRequest(Struct, forbid_unknown_fields=True):
    """`passphrase` seals the root key."""

    passphrase: _PASSPHRASE


class ImportRootRequest(Struct, forbid_unknown_fields=True):
    """`root` is an exported root key, and `passphrase` opens it."""

    root: _SEALED
    passphrase: str


class PoolRequest(Struct, forbid_unknown_fields=True):
    """`label` is what the pool is called here, `kind` who decides about its members."""

    label: str
    kind: Literal["closed", "common"] = "closed"


class AskPoolRequest(Struct, forbid_unknown_fields=True):
    """`pool` is a whole id, `label` what it is to be called here."""

    pool: str
    label: str


class AddMemberRequest(Struct, forbid_unknown_fields=True):
    """`request` is what `ask` answered on the node that is to be a member."""

    pool: str
    request: str


class RemoveMemberRequest(Struct, forbid_unknown_fields=True):
    """`node` is a node by name, id or the beginning of its id; `void` takes back all that it wrote for the pool."""

    pool: str
    node: str
    void: bool = False


class LeavePoolRequest(Struct, forbid_unknown_fields=True):
    """`for_good` gives up a pool that only this node can manage."""

    pool: str
    for_good: bool = False


class KeyAndPoolRoutes:
    """Serves requests about the keys and the pools of `node`."""

    def __init__(self, node: Node, stop: Stop) -> None:
        self._node = node
        self._stop = stop

    def routes(self) -> list[Route]:
        """Return the routes, as openapi.yaml describes them."""
        return [
            route("/v1/keys", GET=self._keys, POST=self._new_key),
            route("/v1/keys/state", POST=self._state_key),
            route("/v1/keys/sign_again", POST=self._sign_again),
            route("/v1/keys/root/export", POST=self._export_root),
            route("/v1/keys/root/remove", POST=self._remove_root),
            route("/v1/keys/root/import", POST=self._import_root),
            route("/v1/pools", GET=self._pools, POST=self._create_pool),
            route("/v1/pools/ask", POST=self._ask_pool),
            route("/v1/pools/add", POST=self._add_member),
            route("/v1/pools/remove", POST=self._remove_member),
            route("/v1/pools/leave", POST=self._leave_pool),
        ]

    # -- keys --------------------------------------------------------------------------------------------------------

    async def _keys(self, request: Request) -> Response:
        Query(request, ())
        keys = self._node.device_keys
        return reply(
            {
                "id": to_base32(self._node.id),
                "root": "here" if keys.has_root else "elsewhere",
                "keys": [
                    {"key": to_base32(each.key), "state": each.state.name.lower(), "this_device": each.is_here}
                    for each in keys.listed()
                ],
                "problem": keys.problem(),
            }
        )

    async def _new_key(self, request: Request) -> Response:
        body = await json_body(request, self._stop, NewKeyRequest)
        before = self._node.records.identity.device.public
        key = await self._node.device_keys.new_key(body.root, body.passphrase)
        return reply({"key": to_base32(key), "before": to_base32(before)})

    async def _state_key(self, request: Request) -> Response:
        body = await json_body(request, self._stop, KeyStateRequest)
        keys = self._node.device_keys
        key = keys.resolve(body.key, body.root)
        identity = await keys.state(key, _STATES[body.state], body.root, body.passphrase)
        return reply({"key": to_base32(key), "id": to_base32(identity), "state": body.state})

    async def _sign_again(self, request: Request) -> Response:
        body = await json_body(request, self._stop, SignAgainRequest)
        until_ms = None if body.until is None else read_time_ms(body.until, now_ms=now_ms())
        keys = self._node.device_keys
        outcome = await keys.sign_again(keys.resolve(body.key), until_ms=until_ms, is_trial=body.trial)
        return reply(
            {
                "records": [self._record_form(record) for record in outcome.records],
                "superseded": outcome.superseded,
                "too_late": outcome.too_late,
                "not_ours": outcome.not_ours,
            }
        )

    def _record_form(self, record: Record) -> dict[str, object]:
        return {
            "context": record.context,
            "id": f"{self._node.records.label(record.author)}/{record.name}",
            "version": to_base32(record.id),
            "timestamp": json_forms.rfc3339(to_ms(record.timestamp)),
            "deleted": record.is_tombstone,
        }

    async def _export_root(self, request: Request) -> Response:
        body = await json_body(request, self._stop, ExportRootRequest)
        return reply({"root": await self._node.device_keys.export_root(body.passphrase)})

    async def _remove_root(self, request: Request) -> Response:
        body = await json_body(request, self._stop, ImportRootRequest)
        await self._node.device_keys.remove_root(body.root, body.passphrase)
        return await self._root_is("elsewhere")

    async def _import_root(self, request: Request) -> Response:
        body = await json_body(request, self._stop, ImportRootRequest)
        await self._node.device_keys.put_root_back(body.root, body.passphrase)
        return await self._root_is("here")

    async def _root_is(self, where: str) -> Response:
        return reply({"id": to_base32(self._node.id), "root": where})

    # -- pools -------------------------------------------------------------------------------------------------------

    async def _pools(self, request: Request) -> Response:
        Query(request, ())
        return reply({"pools": [self._pool_form(view) for view in self._node.pools.views()]})

    async def _create_pool(self, request: Request) -> Response:
        body = await json_body(request, self._stop, PoolRequest)
        known = await self._node.pools.create(body.label, PoolKind[body.kind.upper()])
        return reply(self._shown(known.id))

    async def _ask_pool(self, request: Request) -> Response:
        body = await json_body(request, self._stop, AskPoolRequest)
        pool = maybe_id(body.pool)
        if pool is None:
            raise LocalError(f"{escape(body.pool)} is no pool's id: its maker sees it in `echonode pool list`")
        return reply({"request": self._node.pools.request(pool, body.label)})

    async def _add_member(self, request: Request) -> Response:
        body = await json_body(request, self._stop, AddMemberRequest)
        known = self._node.pools.resolve(body.pool)
        await self._node.pools.add(known, body.request)
        return reply(self._shown(known.id))

    async def _remove_member(self, request: Request) -> Response:
        body = await json_body(request, self._stop, RemoveMemberRequest)
        known = self._node.pools.resolve(body.pool)
        await self._node.pools.remove(known, self._member(known.id, body.node), is_void=body.void)
        return reply(self._shown(known.id))

    def _member(self, pool: IdentityId, text: str) -> IdentityId:
        """Return the member that `text` means: by name, id, or the beginning of its id. Raises LocalError."""
        view = next(view for view in self._node.pools.views() if view.id == pool)
        names = self._node.addresses.node_labels()
        members = {each.owner: names.get(each.owner, "") for each in view.members}
        return maybe_id(text) or find_label(text.removeprefix(LABEL_MARK), members)

    async def _leave_pool(self, request: Request) -> Response:
        body = await json_body(request, self._stop, LeavePoolRequest)
        known = self._node.pools.resolve(body.pool)
        left = self._shown(known.id)
        self._node.pools.leave(known, for_good=body.for_good)
        return reply(left)

    def _shown(self, pool: IdentityId) -> dict[str, object]:
        return next(self._pool_form(view) for view in self._node.pools.views() if view.id == pool)

    def _pool_form(self, view: PoolView) -> dict[str, object]:
        labels = self._node.addresses.node_labels()
        return {
            "id": to_base32(view.id),
            "label": view.label,
            "kind": view.kind,
            "held": view.is_held,
            "writable": view.can_write,
            "members": [
                {
                    "id": to_base32(member.owner),
                    "label": labels.get(member.owner, ""),
                    "key": to_base32(member.key),
                    "state": member.state,
                }
                for member in view.members
            ],
        }
