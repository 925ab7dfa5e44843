"""A small, strict reader of the part of CDDL (RFC 8610) that echonode.cddl uses. It checks the file beside pycddl.

    rules      name = type                      choices  a / b          ranges  1..4
    controls   .size (a number or a range)  .cbor         literals       numbers, "text", true, null
    arrays     [name: type, 1*4 type, * type]              maps           { 1 => type, ? 2 => type, * key => type }

pycddl (the Rust crate cddl) accepts text in place of bytes of the same size, ignores keys behind `*`, and is content
when one of several arrays in an array fits. So it is trusted for the syntax and for what it refuses. This reader is
trusted for every type. It fails on the rest of the language.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from echonode import cbor
from echonode.errors import RemoteError

_TOKENS = re.compile(
    r"""\s*(?:(?P<text>"[^"]*")|(?P<range>\.\.)|(?P<control>\.[a-z]+)|(?P<number>-?[0-9]+)|(?P<name>[A-Za-z][\w-]*)"""
    r"""|(?P<arrow>=>)|(?P<mark>[=/\[\]{}(),:*?+]))"""
)
_PRELUDE = {
    "uint": lambda value: type(value) is int and 0 <= value < 2**64,
    "bytes": lambda value: type(value) is bytes,
    "tstr": lambda value: type(value) is str,
    "bool": lambda value: type(value) is bool,
    "any": lambda value: True,
}
_CONSTANTS = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class Name:
    name: str


@dataclass(frozen=True)
class Literal:
    value: Any


@dataclass(frozen=True)
class Range:
    low: int
    high: int


@dataclass(frozen=True)
class Choice:
    options: tuple["Type", ...]


@dataclass(frozen=True)
class Control:
    base: "Type"
    operator: str
    operand: "Type"


@dataclass(frozen=True)
class Entry:
    key: "Type | None"  # None in an array
    label: str  # the name of a place in an array, for people
    type: "Type"
    least: int
    most: float


@dataclass(frozen=True)
class Group:
    is_map: bool
    entries: tuple[Entry, ...]


Type: TypeAlias = Name | Literal | Range | Choice | Control | Group


class Schema:
    """The rules of one CDDL text."""

    def __init__(self, text: str) -> None:
        self.rules = dict(_Parser(text).rules())
        unknown = {part.name for part in self.parts() if isinstance(part, Name)} - self.rules.keys() - _PRELUDE.keys()
        assert not unknown, f"no such rules: {unknown}"

    def fits(self, rule: str, value: Any) -> bool:
        """Return True if `value`, as `cbor.decode` returns it, fits the rule `rule`."""
        return self._fits(self.rules[rule], value)

    def parts(self) -> Iterator[Type]:
        """Yield every type written anywhere in the text."""
        return _parts(self.rules.values())

    def _fits(self, kind: Type, value: Any) -> bool:
        match kind:
            case Name(name):
                return self._fits(self.rules[name], value) if name in self.rules else _PRELUDE[name](value)
            case Literal(expected):
                return type(value) is type(expected) and value == expected
            case Range(low, high):
                return type(value) is int and low <= value <= high
            case Choice(options):
                return any(self._fits(option, value) for option in options)
            case Control(base, ".size", operand):
                return self._fits(base, value) and self._fits(operand, _size(value))
            case Control(base, ".cbor", operand):
                return self._fits(base, value) and self._fits_decoded(operand, value)
            case Group(True, entries):
                return type(value) is dict and self._fits_map(entries, value)
            case Group(False, entries):
                return type(value) is list and self._fits_array(entries, value)
        raise AssertionError(f"not read here: {kind}")

    def _fits_decoded(self, kind: Type, data: bytes) -> bool:
        try:
            return self._fits(kind, cbor.decode(data))
        except RemoteError:
            return False

    def _fits_map(self, entries: tuple[Entry, ...], value: dict[Any, Any]) -> bool:
        left = dict(value)
        for entry in entries:
            assert entry.key is not None
            found = [key for key in left if self._fits(entry.key, key)]
            if not entry.least <= len(found) <= entry.most:
                return False
            if not all(self._fits(entry.type, left.pop(key)) for key in found):
                return False
        return not left

    def _fits_array(self, entries: tuple[Entry, ...], values: list[Any]) -> bool:
        at = 0
        for entry in entries:
            begin = at
            while at < len(values) and at - begin < entry.most and self._fits(entry.type, values[at]):
                at += 1
            if at - begin < entry.least:
                return False
        return at == len(values)


def _size(value: str | bytes) -> int:
    return len(value.encode() if isinstance(value, str) else value)


def _parts(kinds: Iterable[Type]) -> Iterator[Type]:
    for kind in kinds:
        yield kind
        match kind:
            case Choice(options):
                yield from _parts(options)
            case Control(base, _, operand):
                yield from _parts((base, operand))
            case Group(_, entries):
                yield from _parts([part for entry in entries for part in (entry.key, entry.type) if part])


class _Parser:
    def __init__(self, text: str) -> None:
        text = "\n".join(line.partition(";")[0] for line in text.splitlines()).rstrip()
        self._tokens: list[str] = []
        at = 0
        while at < len(text):
            found = _TOKENS.match(text, at)
            assert found, f"not CDDL as read here: {text[at : at + 40]!r}"
            self._tokens.append(found[0].strip())
            at = found.end()
        self._at = 0

    def rules(self) -> Iterator[tuple[str, Type]]:
        while self._peek():
            name = self._next()
            self._expect("=")
            yield name, self._type()

    def _peek(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else ""

    def _next(self) -> str:
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, token: str) -> None:
        found = self._next()
        assert found == token, f"{token!r} expected, not {found!r} before {self._tokens[self._at : self._at + 5]}"

    def _type(self) -> Type:
        options = [self._type1()]
        while self._peek() == "/":
            self._next()
            options.append(self._type1())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _type1(self) -> Type:
        base = self._type2()
        if self._peek() == "..":
            self._next()
            high = self._type2()
            assert isinstance(base, Literal) and isinstance(high, Literal)
            return Range(base.value, high.value)
        if self._peek() in (".size", ".cbor"):
            return Control(base, self._next(), self._type2())
        return base

    def _type2(self) -> Type:
        token = self._next()
        if token == "(":
            inner = self._type()
            self._expect(")")
            return inner
        if token in ("[", "{"):
            return self._group(is_map=token == "{")
        if token.startswith('"'):
            return Literal(token[1:-1])
        if re.fullmatch("-?[0-9]+", token):
            return Literal(int(token))
        assert re.fullmatch(r"[A-Za-z][\w-]*", token), f"a type expected, not {token!r}"
        return Literal(_CONSTANTS[token]) if token in _CONSTANTS else Name(token)

    def _group(self, *, is_map: bool) -> Group:
        entries: list[Entry] = []
        end = "}" if is_map else "]"
        while self._peek() != end:
            least, most = self._occurrence()
            key: Type | None = None
            label = ""
            if is_map:
                key = self._type1()
                self._expect("=>")
            elif self._peek(1) == ":":
                label = self._next()
                self._expect(":")
            entries.append(Entry(key, label, self._type(), least, most))
            if self._peek() != end:
                self._expect(",")
        self._next()
        return Group(is_map, tuple(entries))

    def _occurrence(self) -> tuple[int, float]:
        if self._peek() in ("?", "+", "*"):
            return {"?": (0, 1), "+": (1, float("inf")), "*": (0, float("inf"))}[self._next()]
        if self._peek(1) == "*":
            low, _, high = self._next(), self._next(), self._next()
            return int(low), int(high)
        return 1, 1
