"""Shapes of JSON values: what a reader of an answer relies on. Pure.

    str int float bool None    a value of that type; numbers fit 64 bits; float takes whole numbers too, bool is no int
    TIME BASE64 WORD           a text of that form
    frozenset({"sent", ..})    one of these texts
    {"id": str, "tags?": ..}   an object with these fields; one that ends in ? may be missing; others may be there
    [str] [str, ...]           a list of such values; one that is not empty
    {...: int}                 an object with any names and such values
    (str, None)                one of several shapes
    ANY                        every value

A shape names no more than what is read: nodes of other versions say more, or less of what nobody needs. `checker` makes
a fast test of a shape, for listings of a million records; `mismatch` says in words what is wrong with a value.
"""

import math
import re
from binascii import a2b_base64
from collections.abc import Callable, Iterable
from datetime import datetime
from enum import Enum
from typing import Any, Final


class Form(Enum):
    """A form of value that is no JSON type."""

    ANY = "any value"
    TIME = "an RFC 3339 time"
    BASE64 = "base64"
    WORD = "a word of letters, digits, dots and dashes"


ANY: Final = Form.ANY
TIME: Final = Form.TIME
BASE64: Final = Form.BASE64
WORD: Final = Form.WORD

Shape = Form | type[object] | None | frozenset[str] | dict[Any, Any] | list[Any] | tuple[Any, ...]

Check = Callable[[Any], bool]

_MISSING: Final = object()
_INT_END: Final = 1 << 64
_NAMES: Final[dict[object, str]] = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def checker(shape: Shape) -> Check:
    """Return a function that says whether a value has that shape."""
    match shape:
        case dict() if ... in shape:
            inner = checker(shape[...])
            return lambda value: type(value) is dict and all(map(inner, value.values()))
        case dict():
            return _object_checker(shape)
        case list():
            inner, is_filled = checker(shape[0]), shape[-1] is ...
            return lambda value: type(value) is list and (bool(value) or not is_filled) and all(map(inner, value))
        case tuple():
            checks = tuple(map(checker, shape))
            return lambda value: any(check(value) for check in checks)
        case frozenset():
            return lambda value: type(value) is str and value in shape
        case _:
            return _LEAVES[shape]


def _object_checker(shape: dict[Any, Any]) -> Check:
    needed = tuple((key, checker(inner)) for key, inner in shape.items() if not key.endswith("?"))
    other = tuple((key[:-1], checker(inner)) for key, inner in shape.items() if key.endswith("?"))

    def check(value: Any) -> bool:
        if type(value) is not dict:
            return False
        for name, inner in needed:
            if not inner(value.get(name, _MISSING)):
                return False
        return all(inner(value[name]) for name, inner in other if name in value)

    return check


def mismatch(value: Any, shape: Shape, where: str = "") -> str:
    """Return in words where `value` differs from `shape`; "" where it does not. `where`: the path to the value."""
    match shape:
        case dict() if not isinstance(value, dict):
            return f"{where or 'it'} is not an object"
        case dict() if ... in shape:
            return _first(mismatch(each, shape[...], _path(where, key)) for key, each in value.items())
        case dict():
            return _first(_field_mismatch(value, key, inner, where) for key, inner in shape.items())
        case list() if not isinstance(value, list):
            return f"{where or 'it'} is not a list"
        case list() if not value and shape[-1] is ...:
            return f"{where or 'it'} is empty"
        case list():
            return _first(mismatch(each, shape[0], f"{where}[{number}]") for number, each in enumerate(value))
        case tuple():
            found = [mismatch(value, each, where) for each in shape]
            return "" if "" in found else found[0]
        case _:
            return "" if checker(shape)(value) else f"{where or 'it'} is not {_words(shape)}"


def _field_mismatch(value: dict[str, Any], key: str, shape: Shape, where: str) -> str:
    name = key.removesuffix("?")
    if name in value:
        return mismatch(value[name], shape, _path(where, name))
    return f"{_path(where, name)} is missing" if name == key else ""


def _first(problems: Iterable[str]) -> str:
    return next(filter(None, problems), "")


def _path(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _words(shape: Any) -> str:
    match shape:
        case frozenset():
            return " or ".join(sorted(shape))
        case Form():
            return shape.value
        case _:
            return _NAMES.get(shape, "null")


def _is_text(value: Any) -> bool:
    """Return True for a text that an environment variable and a file can hold."""
    return (
        type(value) is str
        and "\0" not in value
        and (value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value))
    )


def _is_int(value: Any) -> bool:
    return type(value) is int and -_INT_END < value < _INT_END


def _is_float(value: Any) -> bool:
    return _is_int(value) or (type(value) is float and math.isfinite(value))


def _is_time(value: Any) -> bool:
    if type(value) is not str:
        return False
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _is_base64(value: Any) -> bool:
    if type(value) is not str:
        return False
    try:
        a2b_base64(value, strict_mode=True)
    except ValueError:  # binascii.Error is one, and so is what is not ASCII
        return False
    return True


_LEAVES: Final[dict[object, Check]] = {
    str: _is_text,
    int: _is_int,
    float: _is_float,
    bool: lambda value: type(value) is bool,
    None: lambda value: value is None,
    ANY: lambda value: value is not _MISSING,
    TIME: _is_time,
    BASE64: _is_base64,
    WORD: lambda value: type(value) is str and re.fullmatch(r"[\w.-]+", value, re.ASCII) is not None,
}
