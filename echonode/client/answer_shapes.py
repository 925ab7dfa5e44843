"""The shapes of the API's answers: what commands and clients read of each, and no more (shape.py says how they are
written). proto/openapi.yaml describes the whole answers; a test holds these shapes to it.
"""

from typing import Any, Final

from echonode.client.request import Request
from echonode.client.shape import ANY, BASE64, TIME, WORD, Shape

_Object = dict[Any, Any]


def _each(shape: Shape, names: str) -> _Object:
    """Return fields of these names, each of that shape."""
    return dict.fromkeys(names.split(), shape)


_TEXTS: Final = [str]
_MAYBE_TEXT: Final = (str, None)
_MAYBE_TIME: Final = (TIME, None)
_MAYBE_NUMBER: Final = (float, None)
_BODY: Final[_Object] = {"body?": ANY, "body_base64?": BASE64}

_RECORD: Final[_Object] = {
    **_each(str, "id context author name version model model_version type address? etag?"),
    **_each(TIME, "timestamp created"),
    "tags": _TEXTS,
    "deleted": bool,
    "heads?": int,
    **_BODY,
}
_VERSION: Final[_Object] = {
    **_each(str, "version key by type"),
    **_each(bool, "deleted winner? void?"),
    "timestamp": TIME,
    "superseded?": _MAYBE_TIME,
    **_BODY,
}
_WRITTEN: Final[_Object] = {
    **_each(str, "id version context"),
    "cursor": WORD,
    "is_new_context?": bool,
    "beside?": int,
    "covered": [{**_each(str, "version key by"), "timestamp": TIME}],
}
_CONFLICT: Final[_Object] = {**_each(str, "id address? context"), "heads": [_VERSION, ...]}
_CONTEXT: Final[_Object] = {
    **_each(str, "name root"),
    **_each(int, "records bytes conflicts?"),
    "wants?": (_TEXTS, None),
}
_PEER: Final[_Object] = {
    **_each(str, "name label? state address found_by reason"),
    **_each(bool, "in_step? following"),
    **_each(_MAYBE_TIME, "last_sync since?"),
    "id": _MAYBE_TEXT,
    "in_sync": (bool, None),
    "lag": (int, None),
    "models?": ({...: str}, None),
    "unreadable?": _TEXTS,
}
_PAUSE: Final[_Object] = {"until": _MAYBE_TIME}
_STATUS: Final[_Object] = {
    **_each(str, "id name label? instance network version? key_problem?"),
    **_each(_TEXTS, "listen api left_out_by?"),
    "contexts": [_CONTEXT],
    "peers": [_PEER],
    "models?": {...: str},
    "paused?": (_PAUSE, None),
    "joining?": bool,
    "audit?": ({"ended": TIME, **_each(int, "checked problems dropped"), "first": str}, None),
    "history?": (_each(int, "versions bytes"), None),
    "invitation?": _MAYBE_TEXT,
}
_CONVERSATION: Final[_Object] = {
    **_each(str, "context session mode reason outcome"),
    **_each(int, "sent received refused"),
    "duration_s": float,
}
_PEER_SYNC: Final[_Object] = {
    **_each(_MAYBE_TEXT, "id mode"),
    **_each(str, "name status reason error"),
    **_each(int, "sent received bytes_sent bytes_received round_trips attempts?"),
    "verified": bool,
    "duration_s": float,
    "contexts": [_CONVERSATION],
}
_SYNC: Final[_Object] = {
    "status": str,
    "peers": [_PEER_SYNC],
    "conflicts": int,
    "duration_s": float,
    "contested?": [{**_each(str, "record context"), **_each(ANY, "local remote")}],
    "resolved": [{**_each(str, "record how"), "value": ANY}],
}
_NOT_ANSWERED: Final[_Object] = {
    "status": frozenset({"not supported", "error"}),
    "error": str,
    "supported": _TEXTS,
}
_SUCCESS: Final = frozenset({"success"})
_OUTCOMES: Final = [_each(str, "id version outcome reason")]
_POOL: Final[_Object] = {
    **_each(str, "id label kind"),
    **_each(bool, "held writable"),
    "members": [_each(str, "id label key state")],
}
_NODE: Final[_Object] = {
    **_each(str, "node_id name status reason"),
    "is_online": bool,
    "last_sync": _MAYBE_TIME,
    "metrics": {"sync_count": int, "error_rate": float},
}
_OPERATION: Final[_Object] = {
    **_each(str, "operation status"),
    "timestamp": TIME,
    "details": {**_each(int, "sent? received?"), "duration_ms?": float, "error?": str},
}
_LEVELS: Final[_Object] = {
    "level": str,
    "left_s": _MAYBE_NUMBER,
    "first": _MAYBE_TIME,
    "peers": [{**_each(str, "id name level"), "left_s": _MAYBE_NUMBER}],
}
_MESSAGE: Final[_Object] = {
    "time": TIME,
    "way": frozenset({"sent", "received"}),
    **_each(int, "number bytes"),
    **_each(str, "type note"),
}
_TAKEN_CONTEXT: Final[_Object] = {
    **_each(str, "name why"),
    **_each(int, "new had"),
    **_each(bool, "is_kept is_partial"),
    "refused": {...: int},
    "root": _MAYBE_TEXT,
}
_TOKEN: Final[_Object] = {"token": str, "url": _MAYBE_TEXT}

_BY_ROUTE: Final[dict[str, Shape]] = {
    "GET /v1/status": _STATUS,
    "GET /v1/peers": {"peers": [_PEER]},
    "POST /v1/peers/forget": {"peer": str},
    "POST /v1/peers/approve": {"peer": str},
    "POST /v1/peers/reject": {"peer": str},
    "POST /v1/deny": {"peer": str},
    "POST /v1/allow": {"peer": str},
    "GET /v1/trust": {"denied": [{**_each(str, "id label"), "configured": bool}]},
    "PUT /v1/name": {"name": str},
    "POST /v1/pause": _PAUSE,
    "GET /v1/contexts": {"contexts": [_CONTEXT]},
    "POST /v1/contexts/*/forget": {"forgotten": int},
    # records
    "PUT /v1/records/*": _WRITTEN,
    "DELETE /v1/records/*": _WRITTEN,
    "GET /v1/records/*": _RECORD,
    "GET /v1/records/*/list": _RECORD,
    "POST /v1/records/*/put": {"cursor": WORD},
    "GET /v1/records/*/history": {"versions": [_VERSION]},
    "POST /v1/records/*/import": {
        **_each(int, "lines written unchanged"),
        "done?": bool,
        "error?": {"message": str, "line?": int},
    },
    "GET /v1/records/*/export": {"name": str},
    "POST /v1/record-file": {
        **_each(int, "versions new had refused"),
        "done?": bool,
        "by?": (_each(str, "id name"), None),
        "contexts?": [_TAKEN_CONTEXT],
        "error?": _each(str, "code message"),
    },
    "POST /v1/records/*/forget": {"forgotten": int},
    "GET /v1/changes": {"cursor": WORD},
    "GET /v1/conflicts": {"conflicts": [_CONFLICT]},
    "GET /v1/conflicts/*": {**_CONFLICT, "base": (_VERSION, None)},
    "POST /v1/conflicts/*/resolve": {**_each(str, "id version how"), "covered": _TEXTS},
    "POST /v1/verify": {"checked": int, "problems": _TEXTS, **_each(bool, "ok? done?")},
    # other nodes
    "POST /v1/sync": _SYNC,
    "POST /v1/pull": (
        {"status": _SUCCESS, "ids": [_each(str, "id address? version")], "after": int, "done": bool},
        _NOT_ANSWERED,
    ),
    "POST /v1/get": ({"status": _SUCCESS, "records": _OUTCOMES, "missing": _TEXTS}, _NOT_ANSWERED),
    "POST /v1/put": ({"status": _SUCCESS, "records": _OUTCOMES}, _NOT_ANSWERED),
    "GET /api/v1/echo-sync/nodes": [_each(str, "id name status")],
    "GET /api/v1/echo-sync/nodes/*/status": _NODE,
    "GET /api/v1/echo-sync/nodes/*/history": [_OPERATION],
    "POST /v1/invitations": {"code": str, "expires": TIME},
    "POST /v1/join": {"network": str},
    "GET /v1/network": {"network": str, "secret": _MAYBE_TEXT},
    "PUT /v1/network": {"network": str, "left": ({**_each(str, "network past_pool"), "peers": int}, None)},
    "POST /v1/network/rotate": {
        **_each(str, "network past_pool"),
        **_each(_TEXTS, "members without"),
        "copied": int,
    },
    # keys and pools
    "GET /v1/keys": {**_each(str, "root problem"), "keys": [{**_each(str, "key state"), "this_device": bool}]},
    "POST /v1/keys": _each(str, "key before"),
    "POST /v1/keys/state": {"key": str},
    "POST /v1/keys/sign_again": {
        "records": [{**_each(str, "id context"), "timestamp": TIME, "deleted": bool}],
        **_each(int, "superseded too_late not_ours"),
    },
    "POST /v1/keys/root/export": {"root": str},
    "POST /v1/keys/root/import": {"id": str},
    "GET /v1/pools": {"pools": [_POOL]},
    "POST /v1/pools": _POOL,
    "POST /v1/pools/ask": {"request": str},
    "POST /v1/pools/add": _POOL,
    "POST /v1/pools/remove": _POOL,
    "POST /v1/pools/leave": _POOL,
    # a look into the node
    "GET /v1/logs": {"event": str},
    "GET /v1/log-level": _LEVELS,
    "PUT /v1/log-level": _LEVELS,
    "GET /v1/trace": {
        **_each(str, "node peer peer_name"),
        "sessions": [{**_each(str, "session address role why"), "messages": [_MESSAGE]}],
    },
    "GET /v1/why": {"about": str, "findings": [_each(str, "reason text what_to_do"), ...]},
    "GET /v1/token": _TOKEN,
    "POST /v1/token": _TOKEN,
    "POST /v1/page": {"url": str, "expires_s": float},
}

# The data of server-sent events, by their names.
EVENTS: Final[dict[str, Shape]] = {
    "change": {"cursor": WORD, "record": _RECORD},
    "gap": {"reason": str, "lost?": (int, None)},
    "records.applied": {
        **_each(str, "context source"),
        "records": [{**_each(str, "id address? context"), "timestamp": TIME, "deleted": bool}],
    },
    "sync.progress": {**_each(str, "session peer context mode"), **_each(int, "received sent total")},
    "sync.completed": {
        **_each(str, "session peer context mode reason role outcome"),
        **_each(int, "sent received bytes_sent bytes_received round_trips"),
        "duration_s": float,
    },
    "record.conflict": _each(str, "context record"),
    "record.conflict_resolved": _each(str, "context record"),
    "peer.connected": {"peer_name": str},
    "peer.absent": _each(str, "peer_name why"),
}

# Method, path and shape; a * in a path is any text without slashes.
ROUTES: Final = tuple((*_route.partition(" ")[::2], _shape) for _route, _shape in _BY_ROUTE.items())


def shape_of(request: Request) -> Shape:
    """Return the shape of the answer to a request; ANY for one of which nothing is read."""
    parts = request.target.partition("?")[0].split("/")
    for method, path, shape in ROUTES:
        if method == request.method and _fits(parts, path.split("/")):
            return shape
    return ANY


def _fits(parts: list[str], pattern: list[str]) -> bool:
    return len(parts) == len(pattern) and all(
        wanted in (part, "*") for part, wanted in zip(parts, pattern, strict=True)
    )
