"""Samples of answers: values that a shape allows, and values that it does not."""

from collections.abc import Iterator
from typing import Any

from echonode.client.shape import ANY, BASE64, TIME, WORD, Shape

_LEAVES: dict[object, object] = {
    str: "x",
    int: 1,
    float: 1.5,
    bool: True,
    None: None,
    ANY: {"any": [None]},
    TIME: "2026-11-22T12:00:00.000Z",
    BASE64: "/w==",
    WORD: "a.1",
}


def sample(shape: Shape, *, is_least: bool = False) -> Any:
    """Return a value of that shape: with every field that may be there, or with no more than must be."""
    match shape:
        case dict() if ... in shape:
            return {} if is_least else {"x": sample(shape[...])}
        case dict():
            return {
                key.removesuffix("?"): sample(inner, is_least=is_least)
                for key, inner in shape.items()
                if not (is_least and key.endswith("?"))
            }
        case list():
            return [] if is_least and shape[-1] is not ... else [sample(shape[0], is_least=is_least)]
        case tuple():
            return sample(shape[-1 if is_least else 0], is_least=is_least)
        case frozenset():
            return max(shape)
        case _:
            return _LEAVES[shape]


def misfits(shape: Shape) -> Iterator[tuple[str, Any]]:
    """Yield values that differ from the shape in one place, each with words for the place."""
    match shape:
        case dict() if ... in shape:
            yield from (("x", {"x": value}) for _, value in misfits(shape[...]))
            yield "", []
        case dict():
            whole = sample(shape)
            for key, inner in shape.items():
                name = key.removesuffix("?")
                if name == key:
                    yield name, {other: value for other, value in whole.items() if other != name}
                yield from ((name, {**whole, name: value}) for _, value in misfits(inner))
            yield "", [whole]
        case list():
            yield from (("[1]", [sample(shape[0]), value]) for _, value in misfits(shape[0]))
            yield "", {}
            if shape[-1] is ...:
                yield "", []
        case tuple() if None in shape:
            (inner,) = (each for each in shape if each is not None)
            yield from ((place, value) for place, value in misfits(inner) if value is not None)
        case tuple():
            yield "", {}
        case _:
            yield from (("", value) for value in _wrong(shape))


def _wrong(shape: Shape) -> list[object]:
    if shape is ANY:
        return []
    wrong: list[object] = [[], {}, "", 1 << 64, -1.5, False, None, "\0", "\ud800", "9999999-99-99", float("inf")]
    fitting: dict[object, tuple[type, ...]] = {str: (str,), float: (float,), bool: (bool,), None: (type(None),)}
    kept = [value for value in wrong if not isinstance(value, fitting.get(shape, ()))]
    return [*kept, *{str: ["\0", "\ud800"], float: [float("inf")]}.get(shape, [])]


def _wrong(shape: Shape) -> list[object]:
    if isinstance(shape, frozenset):
        return [None, [], "another"]
    return _WRONG[shape]


_TEXT: list[object] = ["\0", "\ud800"]
_NUMBER: list[object] = ["1", True, None, [], 1 << 64, -(1 << 64), float("inf"), float("nan")]
_WRONG: dict[object, list[object]] = {
    str: [None, 1, [], *_TEXT],
    int: [1.0, *_NUMBER],
    float: _NUMBER,
    bool: [0, None, "true"],
    ANY: [],
    TIME: [None, 0, "", "2026-11-22", "2026-11-22T12:00:00", "2026-02-30T00:00:00Z", *_TEXT],
    BASE64: [None, 0, "/w=", "ü", *_TEXT],
    WORD: [None, 0, "", "a b", "a\n", "ü", *_TEXT],
}
