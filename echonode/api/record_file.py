"""The routes of record files (PROTOCOL.md §14): whole contexts of signed versions, in both directions.

    GET  /v1/record-file?context=NAME     the file, as it is written
    POST /v1/record-file?context=NAME     a file is taken in: {"versions": n, "new": n, "had": n, "refused": n}, ..

Without `context` all of them are meant. An intake is answered with a line of progress for each batch of versions. Its
last line has "done": true or "error", and in both cases `contexts` with the figures of each.
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from echonode.api.json_forms import encode
from echonode.api.problems import Problem, problem_of
from echonode.api.requests import Query, chunks, context_name, need_context
from echonode.api.responses import route
from echonode.api.shutdown import Stop
from echonode.api.streams import StreamResponse
from echonode.errors import EchonodeError
from echonode.node.node import Node
from echonode.node.record_files import FileDamagedError, TakenContext, TakenFile
from echonode.text import to_base32

CBOR_SEQUENCE: Final = "application/cbor-seq"  # RFC 8742 §5

_log: Final = logging.getLogger("echonode.api")


class RecordFileRoutes:
    """Serves the record files of `node`."""

    def __init__(self, node: Node, stop: Stop) -> None:
        self._node = node
        self._stop = stop

    def routes(self) -> list[Route]:
        """Return the routes, as openapi.yaml describes them."""
        return [route("/v1/record-file", GET=self._write, POST=self._take)]

    async def _write(self, request: Request) -> Response:
        contexts = self._contexts(request)
        for context in contexts or ():
            need_context(self._node, context)
        return StreamResponse(self._file(contexts), media_type=CBOR_SEQUENCE)

    async def _file(self, contexts: list[str] | None) -> AsyncGenerator[bytes]:
        """Yield the file. It breaks off before its end when something goes wrong: who reads it sees that."""
        try:
            async with aclosing(self._node.files.write(contexts)) as parts:
                async for part in parts:
                    yield part
        except EchonodeError as error:
            _log.error("a record file was not written to its end: %s", error)

    async def _take(self, request: Request) -> Response:
        only = self._contexts(request)
        return StreamResponse(self._progress(chunks(request, self._stop), only), is_watched=False)

    async def _progress(self, data: AsyncIterator[bytes], only: list[str] | None) -> AsyncGenerator[bytes]:
        """Yield the lines of the answer. Never raises."""
        taken = TakenFile()
        last: dict[str, object] = {"done": True}
        try:
            async with aclosing(self._node.files.take(data, only)) as steps:
                async for taken in steps:
                    if taken.header is not None:
                        yield encode(_figures(taken)) + b"\n"
        except FileDamagedError as error:
            last = Problem(422, "damaged", str(error)).as_json()
        except Exception as error:
            last = problem_of(error).as_json()
        yield encode({**_figures(taken), **self._whole(taken), **last}) + b"\n"

    def _whole(self, taken: TakenFile) -> dict[str, object]:
        header = taken.header
        return {
            "by": None if header is None else {"id": to_base32(header.node), "name": header.name},
            "contexts": [_context_form(each) for each in taken.contexts],
        }

    def _contexts(self, request: Request) -> list[str] | None:
        self._node.network_secret()  # raises while this node has no network yet
        return [context_name(each) for each in Query(request, ("context",)).all("context")] or None


def _figures(taken: TakenFile) -> dict[str, object]:
    return {
        "versions": sum(each.versions for each in taken.contexts),
        "new": sum(each.new for each in taken.contexts),
        "had": sum(each.had for each in taken.contexts),
        "refused": sum(each.refused.total() for each in taken.contexts),
    }


def _context_form(taken: TakenContext) -> dict[str, object]:
    return {
        "name": taken.name,
        "versions": taken.versions,
        "new": taken.new,
        "had": taken.had,
        "refused": {reason.text: number for reason, number in sorted(taken.refused.items())},
        "why": taken.why,
        "is_kept": taken.is_kept,
        "is_partial": taken.is_partial,
        "root": None if taken.root is None else to_base32(taken.root),
        "is_equal": taken.is_equal,
    }
