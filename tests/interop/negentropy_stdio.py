"""Our Negentropy as a line-oriented program, as hoytech/negentropy's cross-language tests expect (test/fuzz.pl there).

    in                              out
    item,<timestamp>,<hex id>
    seal                                                        end of the items
    initiate                        msg,<hex>
    msg,<hex>                       have,<hex> .. need,<hex> ..  from an initiator, as it learns ids
                                    msg,<hex>  or  done

FRAMESIZELIMIT in the environment limits the size of messages. Run it as `python -m tests.interop.negentropy_stdio`. Bad
input ends it with a sentence on stderr and exit code 1.
"""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TextIO

from echonode.errors import EchonodeError, LocalError
from echonode.wire.negentropy import Negentropy
from echonode.wire.ranges import Items, item


class Harness:
    """One side of a reconciliation, driven line by line."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: list[bytes] = []
        self._side: Negentropy | None = None
        self._printed = (0, 0)

    def take(self, line: str) -> Iterator[str]:
        """Yield the lines that answer `line`. Raises EchonodeError, and ValueError for a bad number or bad hex."""
        match line.split(","):
            case ["item", timestamp, id]:
                self._items.append(item(int(timestamp), bytes.fromhex(id)))
            case ["seal"]:
                self._side = Negentropy(Items(self._items), limit=self._limit)
            case ["initiate"]:
                yield self._message(self._sealed().initiate())
            case ["msg", *message]:
                yield from self._answer(bytes.fromhex("".join(message)))
            case _:
                raise LocalError(f"unknown line: {line!r}")

    def _answer(self, message: bytes) -> Iterator[str]:
        side = self._sealed()
        answer = side.answer(message)
        have, need = self._printed
        self._printed = len(side.have), len(side.need)
        yield from (f"have,{id.hex()}" for id in side.have[have:])
        yield from (f"need,{id.hex()}" for id in side.need[need:])
        yield "done" if answer is None else self._message(answer)

    def _message(self, message: bytes) -> str:
        if self._limit and len(message) > self._limit:
            raise LocalError(f"a message of {len(message)} bytes, where {self._limit} are the limit")
        return f"msg,{message.hex()}"

    def _sealed(self) -> Negentropy:
        if self._side is None:
            raise LocalError("seal comes first")
        return self._side


def main(lines: TextIO, out: TextIO, environ: Mapping[str, str]) -> int:
    """Answer every line. Return the exit code."""
    try:
        harness = Harness(int(environ.get("FRAMESIZELIMIT") or 0))
        for line in lines:
            answers: Sequence[str] = list(harness.take(line.strip())) if line.strip() else ()
            for answer in answers:
                print(answer, file=out, flush=True)
    except (EchonodeError, ValueError) as error:
        print(f"negentropy_stdio: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.stdin, sys.stdout, os.environ))
