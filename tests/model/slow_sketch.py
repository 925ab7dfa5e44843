"""The sketch of PROTOCOL.md §7.1 in plain Python, one leaf and one symbol at a time, to test the fast one against."""

from collections.abc import Iterable
from math import ceil, sqrt

from nacl.bindings import crypto_shorthash_siphash24

Leaf = tuple[bytes, bytes]  # (key, state)
Symbol = tuple[int, int, int]  # sum of ids, sum of checks, number of ids

_64 = 2**64
_48 = 2**48
_24 = 2**24


def short_id(leaf: Leaf, key: bytes) -> int:
    hashed = int.from_bytes(crypto_shorthash_siphash24(leaf[1], key), "little")
    return int.from_bytes(leaf[0][:3], "big") >> 4 << 28 | hashed % 2**28


def scrambled(number: int) -> int:
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 % _64
    number = (number ^ number >> 27) * 0x94D049BB133111EB % _64
    return number ^ number >> 31


def check(number: int) -> int:
    return scrambled(number) >> 40


def walk(number: int, count: int) -> list[int]:
    """Return the symbols below `count` that the id falls into."""
    at, state, found = 0, scrambled(number) | 1, []
    while at < count:
        found.append(at)
        state = state * 0xDA942042E4DD58B5 % _64
        at += max(1, ceil((65536.0 / sqrt(float((state >> 32) + 1)) - 1.0) * (at + 1.5)))
    return found


def symbols(ids: Iterable[int], count: int) -> list[Symbol]:
    found = [(0, 0, 0)] * count
    for number in ids:
        for at in walk(number, count):
            ids_sum, checks, held = found[at]
            found[at] = ((ids_sum + number) % _48, (checks + check(number)) % _24, held + 1)
    return found


def read(theirs: list[Symbol], ours: list[Symbol]) -> tuple[set[int], set[int]] | None:
    """Return the ids of the difference: (only in theirs, only in ours)."""
    left = [((a - c) % _48, (b - d) % _24) for (a, b, _), (c, d, _) in zip(theirs, ours, strict=True)]
    only: tuple[set[int], set[int]] = (set(), set())
    progressed = True
    while progressed:
        progressed = False
        for place, (ids_sum, checks) in enumerate(list(left)):
            for side, (number, checked) in enumerate([(ids_sum, checks), (-ids_sum % _48, -checks % _24)]):
                is_shown = number and check(number) == checked and place in walk(number, place + 1)
                if is_shown and number not in only[side]:
                    only[side].add(number)
                    sign = 1 if side else -1
                    for at in walk(number, len(left)):
                        a, b = left[at]
                        left[at] = ((a + sign * number) % _48, (b + sign * check(number)) % _24)
                    progressed = True
    return None if any(a or b for a, b in left) else only


def encoded(found: Iterable[Symbol]) -> bytes:
    return b"".join(ids_sum.to_bytes(6, "big") + checks.to_bytes(3, "big") for ids_sum, checks, _ in found)


def counts(found: Iterable[Symbol]) -> bytes:
    (_, _, size), *others = found
    return size.to_bytes(8, "big") + bytes(held % 256 for _, _, held in others)
