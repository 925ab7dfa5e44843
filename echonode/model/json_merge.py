"""Three-way merge of JSON objects: the bodies of two versions that were written apart, joined field by field.

    base      ours      theirs     merged
    -         x         x          x                             both say the same
    x         x         y          y                             one side changed it
    x         -         x          -                             one side took it away
    x         -         y          y                             an edit stands beside a removal
    x         {..}      {..}       the same rules inside
    x         y         z          {"$conflict": [y, z]}         both changed it: both are kept, ours first

Without a base nothing is known to have been taken away, so every field of either side stands. A number is carried as
it was written. A field that already holds `$conflict` counts as its alternatives, so merging again adds nothing.
"""

import json
from collections.abc import Sequence
from typing import Final, TypeAlias

CONFLICT_FIELD: Final = "$conflict"


class Number(str):
    """A JSON number as it was written: 1.0 and 1 are kept apart, and no digit is lost."""

    __slots__ = ()


Json: TypeAlias = "bool | str | Number | list[Json] | dict[str, Json] | None"
_MISSING: Final = object()


def merge_bodies(ours: bytes, theirs: bytes, base: bytes | None = None) -> bytes | None:
    """Return `ours` and `theirs` joined field by field, as compact JSON in UTF-8. None if one is no JSON object.

    The order of fields is that of `ours`, then the fields that only `theirs` has. A `base` that is no JSON object is
    treated as unknown.
    """
    our_object, their_object = _read_object(ours), _read_object(theirs)
    if our_object is None or their_object is None:
        return None
    return _write(_merge_objects(our_object, their_object, None if base is None else _read_object(base))).encode()


def _merge_objects(ours: dict[str, Json], theirs: dict[str, Json], base: dict[str, Json] | None) -> dict[str, Json]:
    merged: dict[str, Json] = {}
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        before = _MISSING if base is None else base.get(name, _MISSING)
        value = _merge_values(ours.get(name, _MISSING), theirs.get(name, _MISSING), before)
        if value is not _MISSING:
            merged[name] = value  # type: ignore[assignment]
    return merged


def _merge_values(ours: object, theirs: object, base: object) -> object:
    if _same(ours, theirs) or _same(theirs, base):
        return ours
    if _same(ours, base) or ours is _MISSING:
        return theirs
    if theirs is _MISSING:
        return ours
    if _is_plain_object(ours) and _is_plain_object(theirs):
        return _merge_objects(ours, theirs, base if _is_plain_object(base) else None)  # type: ignore[arg-type]
    return {CONFLICT_FIELD: _alternatives([ours, theirs])}


def _alternatives(values: Sequence[object]) -> list[object]:
    found: list[object] = []
    for value in values:
        inner = value.get(CONFLICT_FIELD) if isinstance(value, dict) and len(value) == 1 else None
        for each in inner if isinstance(inner, list) else [value]:
            if not any(_same(each, other) for other in found):
                found.append(each)
    return found


def _is_plain_object(value: object) -> bool:
    return isinstance(value, dict) and set(value) != {CONFLICT_FIELD}


def _same(one: object, other: object) -> bool:
    """Return True if both are the same JSON value; 1 and "1" and true are not."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return one is other or one == other


def _read_object(body: bytes) -> dict[str, Json] | None:
    """Return the object that `body` is, None for another value, for no JSON, and for an object with a field twice."""
    try:
        value = json.loads(
            body, parse_int=Number, parse_float=Number, parse_constant=_refuse, object_pairs_hook=_read_fields
        )
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _read_fields(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a field stands twice")
    return fields


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _write(value: object) -> str:
    match value:
        case Number():
            return str(value)
        case dict():
            return "{" + ",".join(f"{_write_text(name)}:{_write(inner)}" for name, inner in value.items()) + "}"
        case list():
            return "[" + ",".join(map(_write, value)) + "]"
        case str():
            return _write_text(value)
        case _:
            return json.dumps(value)


def _write_text(text: str) -> str:
    # A lone surrogate has no UTF-8: it is written as the escape that it was read from.
    is_unicode = not any("\ud800" <= character <= "\udfff" for character in text)
    return json.dumps(text, ensure_ascii=not is_unicode)
