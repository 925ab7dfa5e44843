"""Import: lines of one JSON object each become records of this node, in batches that are written whole or not at all.

    {"name": .., "body" or "body_base64": .., "tags": [..], "model": NAME[@MAJOR.MINOR], "type": .., "timestamp": ..}

Only `name` is required. It is an address (model/address.py): NAME and me/NAME of this node, shared/NAME of the pool. A
`body` that is text is written as UTF-8 (text/plain when no type is given), unless the type says JSON. Any other value,
and text of a JSON type, is written byte for byte as it stands in the line (application/json); an object with a key
twice is refused. `timestamp` becomes the signed `created` time, never the clock's. `later` holds the fields of a later
minor version, as exports write them. `id` is allowed, since exports have it, and is ignored. Empty lines are counted
and ignored.

Each batch is answered with a line of progress: {"lines": n, "written": n, "unchanged": n}. The last line has "done":
true, or "error": {"code", "message", "line"?}; its figures then count what was written before the error.
"""

import asyncio
import binascii
from base64 import b64decode
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from echonode.api.json_forms import (
    JSON_TYPE,
    MODEL,
    TEXT_TYPE,
    check_json,
    encode,
    is_json,
    nfc,
    read_model,
    read_time,
)
from echonode.api.problems import RequestError, problem_of, too_large
from echonode.errors import LocalError
from echonode.limits import BATCH_RECORDS_MAX, BODY_BYTES_MAX, IMPORT_SHARED_RECORDS, KIB, MIB
from echonode.model.identity import IdentityId
from echonode.model.record import Draft
from echonode.node.addresses import Addresses
from echonode.node.record_book import RecordBook
from echonode.store.draft_signing import DraftError
from echonode.text import escape

# JSON may write one byte as six (\u0001), and the other fields need room too.
LINE_BYTES_MAX: Final = 6 * BODY_BYTES_MAX + 128 * KIB
# A batch of long lines ends early, so that the length of the lines does not decide how much memory is used.
BATCH_BYTES_MAX: Final = 8 * MIB
_LINES_AT_ONCE: Final = 50  # then others have the event loop: 1 ms
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class _Line(Struct, forbid_unknown_fields=True):
    name: str
    id: str = ""
    body: Raw | UnsetType = UNSET
    body_base64: str | UnsetType = UNSET
    tags: tuple[str, ...] = ()
    model: str = MODEL
    type: str | UnsetType = UNSET
    timestamp: str | float | None = None
    later: str = ""


class ImportProgress(Struct):
    """The progress of an import: lines handled, records written, records that were there unchanged."""

    lines: int = 0
    written: int = 0
    unchanged: int = 0


@dataclass(frozen=True, slots=True)
class _Batch:
    """The drafts of one batch, each with its line's number. `lines`: how many there were; of several with one name the
    last one counts."""

    drafts: list[tuple[int, Draft]]
    lines: int
    last_line: int


class LineError(LocalError):
    """A line that holds no valid record. `line` counts from 1."""

    def __init__(self, line: int, error: LocalError) -> None:
        super().__init__(str(error))
        self.line = line
        self.error = error


_NumberedLines = list[tuple[int, bytes]]
_decode: Final = msgspec.json.Decoder(_Line).decode


async def import_lines(
    book: RecordBook, addresses: Addresses, context: str, chunks: AsyncIterator[bytes]
) -> AsyncGenerator[bytes]:
    """Write the records in `chunks`, which may be cut anywhere, and yield the lines of the answer. Never raises."""
    progress = ImportProgress()
    try:
        batches = _batches(chunks, lambda: _records_at_once(book))
        async with aclosing(_one_ahead(_drafts(addresses, context, batches))) as parsed:
            async for batch in parsed:
                await _write(book, batch, progress)
                yield encode(progress) + b"\n"
        last: dict[str, object] = {"done": True}
    except LineError as error:
        problem = problem_of(error.error)
        last = problem.as_json(line=error.line)
    except Exception as error:
        last = problem_of(error).as_json()
    yield encode({**msgspec.structs.asdict(progress), **last}) + b"\n"


async def _drafts(
    addresses: Addresses, context: str, batches: AsyncGenerator[_NumberedLines]
) -> AsyncGenerator[_Batch]:
    """Yield the drafts that each batch of lines describes. Raises LineError."""
    async with aclosing(batches):
        async for lines in batches:
            drafts: dict[tuple[IdentityId, str], tuple[int, Draft]] = {}
            for at, (number, line) in enumerate(lines, 1):
                if at % _LINES_AT_ONCE == 0:
                    await asyncio.sleep(0)
                try:
                    draft = read_line(context, addresses, line)
                except LocalError as error:
                    raise LineError(number, error) from None
                drafts[draft.author, draft.name] = (number, draft)
            yield _Batch(list(drafts.values()), len(lines), lines[-1][0])


async def _one_ahead(batches: AsyncGenerator[_Batch]) -> AsyncGenerator[_Batch]:
    """Yield `batches`; the next one is read while the caller writes one: signing and the disk leave a core free."""
    async with aclosing(batches):
        following = asyncio.create_task(_next(batches))
        try:
            while (batch := await following) is not None:
                following = asyncio.create_task(_next(batches))
                yield batch
        finally:
            following.cancel()
            await asyncio.wait([following])
            if not following.cancelled():
                following.exception()  # it was told already, or nobody waits for it any more


async def _next(batches: AsyncGenerator[_Batch]) -> _Batch | None:
    return await anext(batches, None)


async def _write(book: RecordBook, batch: _Batch, progress: ImportProgress) -> None:
    """Write one batch in one transaction."""
    try:
        records = await book.put_all([draft for _, draft in batch.drafts], skip_unchanged=True)
    except DraftError as error:
        raise LineError(batch.drafts[error.place][0], error) from None
    written = sum(record is not None for record in records)
    progress.lines = batch.last_line
    progress.written += written
    progress.unchanged += batch.lines - written


def read_line(context: str, addresses: Addresses, line: bytes) -> Draft:
    """Return the draft that one line describes. Raises LocalError, a RequestError for what is no line."""
    try:
        fields = _decode(line)
        check_json(line)
        return _draft(context, addresses.resolve(nfc(fields.name)), fields)
    except RecursionError:
        raise RequestError("nested too deeply") from None
    except ValueError as error:
        raise RequestError(f"not a record: {escape(str(error))}") from None


def _records_at_once(book: RecordBook) -> int:
    """Return how many lines to write together: other writes wait for them."""
    return IMPORT_SHARED_RECORDS if book.is_shared else BATCH_RECORDS_MAX


async def _batches(chunks: AsyncIterator[bytes], limit: Callable[[], int]) -> AsyncGenerator[_NumberedLines]:
    """Yield the lines with their numbers, grouped into batches bounded in lines, by `limit`, and in bytes."""
    batch: _NumberedLines = []
    size = number = 0
    async with aclosing(_lines(chunks)) as pieces:
        async for lines in pieces:
            for line in lines:
                number += 1
                if number == 1:
                    line = line.removeprefix(_BYTE_ORDER_MARK)
                if not line or line.isspace():
                    continue
                batch.append((number, line))
                size += len(line)
                if len(batch) >= limit() or size >= BATCH_BYTES_MAX:
                    yield batch
                    batch, size = [], 0
    if batch:
        yield batch


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncGenerator[list[bytes]]:
    """Yield the lines of a text that comes in pieces, as many at a time as a piece completes."""
    rest = bytearray()
    number = 1
    async for chunk in chunks:
        rest += chunk
        if b"\n" in chunk:
            *lines, last = bytes(rest).split(b"\n")
            rest = bytearray(last)
            number += len(lines)
            yield lines
        if len(rest) > LINE_BYTES_MAX:
            raise LineError(number, too_large(f"a line is at most {LINE_BYTES_MAX} bytes"))
    if rest:
        yield [bytes(rest)]


def _draft(context: str, address: tuple[IdentityId, str], line: _Line) -> Draft:
    author, name = address
    body, media_type = _body(line)
    model, model_version = read_model(line.model)
    return Draft(
        context=context,
        author=author,
        name=name,
        body=body,
        tags=tuple(nfc(tag) for tag in line.tags),
        model=model,
        model_version=model_version,
        media_type=media_type,
        created_ms=None if line.timestamp is None else read_time(line.timestamp),
        later=_from_base64("later", line.later),
    )


def _body(line: _Line) -> tuple[bytes, str]:
    """Return the body's bytes and its media type."""
    if line.body_base64 is not UNSET:
        if line.body is not UNSET:
            raise RequestError("a record has one body: body or body_base64")
        return _from_base64("body_base64", line.body_base64), line.type or ""
    if line.body is UNSET:
        return b"", line.type or ""
    body = bytes(line.body)
    if body.startswith(b'"') and (line.type is UNSET or not is_json(line.type)):
        return msgspec.json.decode(body, type=str).encode(), TEXT_TYPE if line.type is UNSET else line.type
    return body, JSON_TYPE if line.type is UNSET else line.type


def _from_base64(field: str, text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except binascii.Error:
        raise RequestError(f"{field} is not base64") from None
