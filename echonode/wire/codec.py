"""The codec: a message to bytes and back (PROTOCOL.md §6).

One table, `_SHAPES`, gives for each message the shape of every field; `decode` refuses what does not fit. `decode` is
total: any bytes give a Message or a RemoteError, in time and memory bounded by the size of the frame.
"""

from collections.abc import Callable
from dataclasses import fields
from typing import Any, Final, TypeAlias

from echonode import cbor
from echonode.errors import Reason, RemoteError
from echonode.limits import (
    BATCH_RECORDS_MAX,
    CONTEXT_BYTES_MAX,
    CONTEXTS_TOLD_MAX,
    DIGESTS_PER_MESSAGE_MAX,
    FOLLOW_WINDOW_BYTES,
    HASH_COMPARISON_DEPTH,
    MODELS_MAX,
    NAME_BYTES_MAX,
    NEGENTROPY_BYTES_MAX,
    NODE_NAME_BYTES_MAX,
    POOL_OFFER_BYTES_MAX,
    PREFIXES_PER_MESSAGE_MAX,
    RECORD_BYTES_MAX,
    ROTATION_BYTES_MAX,
    SEEN_BYTES_MAX,
    SEEN_INSTANCES_MAX,
    SKETCH_COUNTS_MAX,
    SKETCH_SYMBOLS_MAX,
    TEXT_FIELD_BYTES_MAX,
    VERSION_NUMBER_MAX,
    WINDOW,
)
from echonode.model.filter import Filter
from echonode.text import is_plain_text
from echonode.wire import messages as m
from echonode.wire.messages.sketch import COUNTS_SIZE_BYTES, ID_PREFIX_BYTES, ROOT_TAG_BYTES, SYMBOL_BYTES

Shape: TypeAlias = Callable[[Any], Any]  # returns the value, checked, in its decoded form; raises _bad otherwise

_U64: Final = 2**64 - 1
_U63: Final = 2**63 - 1  # the greatest seq of a log: databases number rows with 63 bits
_DEPTH_MAX: Final = 64
_SPAKE2_SHARE_BYTES: Final = 33
_SEALED_SECRET_BYTES: Final = 80


def encode(message: m.Message) -> bytes:
    """Return the payload of the frame that carries `message`."""
    return cbor.encode([message.code, *(_plain(getattr(message, field.name)) for field in fields(message))])


def decode(payload: bytes) -> m.Message:
    """Return the message in `payload`.

    Raises RemoteError: UnknownMessage for a code of no message known here, PROTOCOL_ERROR for everything else.
    """
    value = cbor.decode(payload)
    if type(value) is not list or not value or type(value[0]) is not int:
        raise _bad("a message is an array that begins with its code")
    entry = _TABLE.get(value[0])
    if entry is None:
        raise UnknownMessage(f"there is no message {value[0]}")
    kind, shapes = entry
    return _build(kind, shapes, value[1:])  # type: ignore[no-any-return]


class UnknownMessage(RemoteError):
    """A well-formed message of an unknown kind, perhaps the InitPayload of a later mode. Refused answers it."""

    def __init__(self, detail: str) -> None:
        super().__init__(Reason.UNSUPPORTED_MODE, detail)


def _bad(detail: str) -> RemoteError:
    return RemoteError(Reason.PROTOCOL_ERROR, detail)


def _build(kind: type[Any], shapes: tuple[Shape, ...], values: list[Any]) -> Any:
    if len(values) != len(shapes):
        raise _bad(f"{kind.__name__} has {len(shapes)} fields")
    try:
        return kind(*[shape(value) for shape, value in zip(shapes, values, strict=True)])
    except RemoteError as error:
        raise _bad(f"{kind.__name__}: {error.detail}") from None


_PARTS: Final = (
    m.IdentityOffer,
    m.Summary,
    m.Seen,
    m.LeafRequest,
    m.Refusal,
    m.RecordId,
    m.RecordRequest,
    m.ContextCursor,
    m.ContextRoot,
)


def _plain(value: Any) -> Any:
    """Return `value` with its parts as arrays. cbor2 itself writes tuples as arrays and IntEnums as numbers."""
    if type(value) is tuple and value and isinstance(value[0], _PARTS):
        return [[getattr(part, field.name) for field in fields(part)] for part in value]
    return value


# -- shapes ----------------------------------------------------------------------------------------------------------


def _uint(high: int = _U64, low: int = 0) -> Shape:
    def shape(value: Any) -> int:
        if type(value) is not int or not low <= value <= high:
            raise _bad(f"not a number from {low} to {high}")
        return value

    return shape


def _data(*sizes: int) -> Shape:
    def shape(value: Any) -> bytes:
        if type(value) is not bytes or len(value) not in sizes:
            raise _bad(f"not {' or '.join(map(str, sizes))} bytes")
        return value

    return shape


def _data_up_to(high: int, low: int = 0, *, unit: int = 1) -> Shape:
    def shape(value: Any) -> bytes:
        if type(value) is not bytes or not low <= len(value) <= high or len(value) % unit:
            raise _bad(f"not {low} to {high} bytes")
        return value

    return shape


def _text(high: int) -> Shape:
    def shape(value: Any) -> str:
        if type(value) is not str or not is_plain_text(value, high):
            raise _bad(f"not 1 to {high} bytes of text")
        return value

    return shape


def _list(shape_of_one: Shape, high: int, low: int = 0) -> Shape:
    def shape(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or not low <= len(value) <= high:
            raise _bad(f"not a list of {low} to {high}")
        return tuple([shape_of_one(item) for item in value])

    return shape


def _tuple(*shapes: Shape) -> Shape:
    def shape(value: Any) -> tuple[Any, ...]:
        if type(value) is not list or len(value) != len(shapes):
            raise _bad(f"not a list of {len(shapes)}")
        return tuple([one(item) for one, item in zip(shapes, value, strict=True)])

    return shape


def _map(key_shape: Shape, value_shape: Shape, high: int) -> Shape:
    def shape(value: Any) -> dict[Any, Any]:
        if type(value) is not dict or len(value) > high:
            raise _bad(f"not a map of at most {high}")
        return {key_shape(key): value_shape(item) for key, item in value.items()}

    return shape


def _maybe(one: Shape) -> Shape:
    def shape(value: Any) -> Any:
        return None if value is None else one(value)

    return shape


def _part_of(kind: type[Any], *shapes: Shape) -> Shape:
    def shape(value: Any) -> Any:
        if type(value) is not list:
            raise _bad(f"not a {kind.__name__}")
        return _build(kind, shapes, value)

    return shape


def _flag(value: Any) -> bool:
    if type(value) is not bool:
        raise _bad("not true or false")
    return value


def _prefix(value: Any) -> bytes:
    if type(value) is not bytes or len(value) > _DEPTH_MAX or (value and max(value) > 15):
        raise _bad("not a prefix: bytes of one nibble each")
    return value


def _width(value: Any) -> int:
    if type(value) is not int or value not in (16, 32):
        raise _bad("a digest is 16 or 32 bytes wide")
    return value


def _filter(value: Any) -> dict[int, Any]:
    return Filter.from_fields(value).fields()


_VERSION: Final = _tuple(_uint(VERSION_NUMBER_MAX), _uint(VERSION_NUMBER_MAX))
_SEQ: Final = _uint(_U63)
_ROOT: Final = _data(32)
_KEY: Final = _data(32)
_CONTEXT: Final = _text(CONTEXT_BYTES_MAX)
_DIRECTION: Final = _uint(max(m.Direction))
_NODE_PART: Final = _data_up_to(1 + 2 + 64 * 32, 1)
_NAMES: Final = _list(_text(TEXT_FIELD_BYTES_MAX), 32)
_RECORDS: Final = _list(_data_up_to(RECORD_BYTES_MAX, 1), BATCH_RECORDS_MAX)
_OFFER: Final = _part_of(m.IdentityOffer, _data(32), _data(32), _data_up_to(1024, 1), _data(64))
_SUMMARY: Final = _part_of(
    m.Summary, _CONTEXT, _ROOT, _uint(), _SEQ, _data_up_to(1 + 2 + 16 * 16, 1), _flag, _flag
)
_SEEN: Final = _part_of(m.Seen, _data(8), _uint(), _ROOT, _data_up_to(SEEN_BYTES_MAX))
_LEAF_REQUEST: Final = _part_of(
    m.LeafRequest, _prefix, _maybe(_data_up_to(DIGESTS_PER_MESSAGE_MAX * 32, 16, unit=16)), _maybe(_KEY)
)
_LEAF_REQUESTS: Final = _list(_LEAF_REQUEST, PREFIXES_PER_MESSAGE_MAX)
_CURSORS: Final = _list(_part_of(m.ContextCursor, _CONTEXT, _maybe(_SEQ)), CONTEXTS_TOLD_MAX)
_REFUSAL: Final = _part_of(m.Refusal, _data(32), _uint(255))

_LEAVES: Final = _list(_tuple(_KEY, _data(m.OFFERED_STATE_BYTES)), BATCH_RECORDS_MAX, 1)
_NEGENTROPY: Final = _data_up_to(NEGENTROPY_BYTES_MAX, 1)
_RECORD_ID: Final = _part_of(m.RecordId, _KEY, _text(NAME_BYTES_MAX), _ROOT)
_RECORD_REQUESTS: Final = _list(_part_of(m.RecordRequest, _KEY, _maybe(_ROOT)), BATCH_RECORDS_MAX, 1)
_COUNTS: Final = _data_up_to(COUNTS_SIZE_BYTES + SKETCH_COUNTS_MAX - 1)
_SYMBOLS: Final = _data_up_to(SKETCH_SYMBOLS_MAX * SYMBOL_BYTES)  # sync/modes/sketch.py refuses a cut symbol

_SHAPES: Final[dict[type[Any], tuple[Shape, ...]]] = {
    m.Auth: (_list(_OFFER, 4, 1),),
    m.Hello: (
        _VERSION,
        _data(16),
        _text(NODE_NAME_BYTES_MAX),
        _data(8),
        _data(8),
        _uint(65_535),
        _map(_text(TEXT_FIELD_BYTES_MAX), _VERSION, MODELS_MAX),
        _NAMES,
        _list(_SUMMARY, CONTEXTS_TOLD_MAX),
        _list(_SEEN, SEEN_INSTANCES_MAX),
    ),
    m.Close: (_uint(255), _NAMES),
    m.Done: (_ROOT, _uint(), _SEQ, _flag),
    m.Refused: (_uint(255), _NAMES),
    m.Ping: (),
    m.Pong: (),
    m.Rotated: (_data_up_to(ROTATION_BYTES_MAX, 1), _data(64), _data_up_to(1024, 1), _data(64), _flag),
    m.Turn: (_list(_CONTEXT, CONTEXTS_TOLD_MAX),),
    m.LevelWiseInit: (_VERSION, _CONTEXT, _DIRECTION, _width, _list(_prefix, PREFIXES_PER_MESSAGE_MAX, 1)),
    m.NodesRequest: (_list(_prefix, PREFIXES_PER_MESSAGE_MAX, 1),),
    m.Nodes: (_ROOT, _list(_NODE_PART, PREFIXES_PER_MESSAGE_MAX)),
    m.HashComparisonInit: (
        _VERSION,
        _CONTEXT,
        _DIRECTION,
        _width,
        _uint(HASH_COMPARISON_DEPTH[-1], HASH_COMPARISON_DEPTH[0]),
        _NODE_PART,
    ),
    m.CompareRequest: (_prefix, _NODE_PART),
    m.Differences: (_ROOT, _list(_tuple(_prefix, _NODE_PART), PREFIXES_PER_MESSAGE_MAX)),
    m.SnapshotInit: (_VERSION, _CONTEXT, _maybe(_tuple(_ROOT, _KEY))),
    m.Credit: (_uint(WINDOW, 1),),
    m.Page: (_maybe(_tuple(_ROOT, _uint(), _SEQ, _data(8))), _RECORDS, _flag, _flag),
    m.SketchInit: (_VERSION, _CONTEXT, _data(ROOT_TAG_BYTES), _uint(SKETCH_SYMBOLS_MAX), _COUNTS),
    m.SketchMore: (_flag, _uint(SKETCH_SYMBOLS_MAX), _COUNTS),
    m.SketchAnswer: (_uint(), _uint(SKETCH_SYMBOLS_MAX), _SYMBOLS),
    m.SketchEqual: (),
    m.SketchWant: (_data_up_to(SKETCH_SYMBOLS_MAX * ID_PREFIX_BYTES),),
    m.Fetch: (_list(_LEAF_REQUEST, PREFIXES_PER_MESSAGE_MAX, 1),),
    m.Records: (_RECORDS, _LEAF_REQUESTS, _flag),
    m.Put: (_list(_data_up_to(RECORD_BYTES_MAX, 1), BATCH_RECORDS_MAX, 1),),
    m.Stored: (_uint(BATCH_RECORDS_MAX), _uint(BATCH_RECORDS_MAX), _list(_REFUSAL, BATCH_RECORDS_MAX)),
    m.DeltaInit: (_VERSION, _CONTEXT, _DIRECTION, _data(8), _SEQ),
    m.Changes: (_SEQ, _RECORDS, _flag, _maybe(_SEQ)),
    m.ReconcileInit: (_VERSION, _CONTEXT, _DIRECTION, _filter, _NEGENTROPY),
    m.Reconcile: (_NEGENTROPY,),
    m.Want: (_list(_ROOT, BATCH_RECORDS_MAX, 1),),
    m.Offers: (_LEAVES,),
    m.Heads: (_list(_uint(BATCH_RECORDS_MAX - 1), BATCH_RECORDS_MAX), _RECORDS, _flag),
    m.PullInit: (_VERSION, _CONTEXT, _filter, _SEQ),
    m.PullMore: (_SEQ,),
    m.Ids: (_list(_RECORD_ID, BATCH_RECORDS_MAX), _SEQ, _flag),
    m.GetInit: (_VERSION, _CONTEXT, _RECORD_REQUESTS),
    m.GetMore: (_RECORD_REQUESTS,),
    m.PutInit: (_VERSION, _CONTEXT, _LEAVES),
    m.FollowInit: (_VERSION, _data(8), _CURSORS),
    m.Follow: (_CURSORS,),
    m.Commits: (_CONTEXT, _SEQ, _RECORDS, _list(_tuple(_SEQ, _data(16)), BATCH_RECORDS_MAX)),
    m.Missing: (_CONTEXT, _list(_SEQ, BATCH_RECORDS_MAX, 1)),
    m.Bodies: (_CONTEXT, _list(_SEQ, BATCH_RECORDS_MAX, 1), _RECORDS),
    m.Roots: (_list(_part_of(m.ContextRoot, _CONTEXT, _ROOT, _SEQ), CONTEXTS_TOLD_MAX, 1),),
    m.Taken: (_uint(FOLLOW_WINDOW_BYTES, 1),),
    m.Lazy: (),
    m.PairStart: (_data(_SPAKE2_SHARE_BYTES),),
    m.PairAnswer: (_data(_SPAKE2_SHARE_BYTES),),
    m.PairConfirm: (_data(32),),
    m.PairFinish: (_data(32), _data_up_to(_SEALED_SECRET_BYTES + POOL_OFFER_BYTES_MAX, _SEALED_SECRET_BYTES)),
    m.PairMember: (_KEY, _KEY, _data(64)),
}
_TABLE: Final = {kind.code: (kind, shapes) for kind, shapes in _SHAPES.items()}
