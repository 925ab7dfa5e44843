"""Import: one JSON object a line in, records of ours out, in batches that are written whole or not at all.

    {"name": .., "body" or "body_base64": .., "tags": [..], "model": NAME[@MAJOR.MINOR], "type": .., "timestamp": ..}

Only `name` must stand: `shared/NAME` is a record of the pool, as for `put`, any other name is one of ours. A `body`
that is text is written as UTF-8 (text/plain when no type is given), unless the type says JSON; any other value, and
text of a JSON type, is written as compact JSON (application/json). `timestamp` becomes the signed `created` time, never
the clock. `later` is what exports have of records with fields of a later minor version, and becomes these fields again.
`id` may stand, since exports have it, and is not read. Empty lines count as lines and are passed over.

After every batch a line of progress comes back: {"lines": n, "written": n, "unchanged": n}. The last one has
"done": true, or "error": {"code", "message", "line"?}, and then what those figures count is what was written.
"""

import binascii
from base64 import b64decode
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from echonode.api.json_forms import JSON_TYPE, MODEL, TEXT_TYPE, encode, is_json, nfc, read_model, read_time
from echonode.api.problems import RequestError, fault_of, too_large
from echonode.errors import LocalError
from echonode.limits import BATCH_RECORDS_MAX, BODY_BYTES_MAX, KIB, MIB
from echonode.model.identity import IdentityId
from echonode.model.record import Draft
from echonode.node.record_book import ME, SHARED, RecordBook
from echonode.store.draft_signing import DraftError
from echonode.text import escape

# JSON may spend six bytes on one (\u0001), and the other fields need room too.
LINE_BYTES_MAX: Final = 6 * BODY_BYTES_MAX + 128 * KIB
# A batch of long lines is closed early, so that memory does not depend on what is imported.
BATCH_BYTES_MAX: Final = 8 * MIB
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class _Line(Struct, forbid_unknown_fields=True):
    name: str
    id: str = ""
    body: Any = UNSET
    body_base64: str | UnsetType = UNSET
    tags: tuple[str, ...] = ()
    model: str = MODEL
    type: str | UnsetType = UNSET
    timestamp: str | float | None = None
    later: str = ""


class Progress(Struct):
    """What an import has come to: lines read and dealt with, records written, records that needed no writing."""

    lines: int = 0
    written: int = 0
    unchanged: int = 0


class LineError(LocalError):
    """A line that is no record, and why. `line` counts from 1."""

    def __init__(self, line: int, error: LocalError) -> None:
        super().__init__(str(error))
        self.line = line
        self.error = error


_Numbered = list[tuple[int, bytes]]
_decode: Final = msgspec.json.Decoder(_Line).decode


async def import_lines(book: RecordBook, context: str, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    """Write what comes in `chunks`, in pieces of any size; yields the lines to answer with. Never raises."""
    progress = Progress()
    try:
        async with aclosing(_batches(chunks)) as batches:
            async for batch in batches:
                await _write(book, context, batch, progress)
                yield encode(progress) + b"\n"
        last: dict[str, object] = {"done": True}
    except LineError as error:
        fault = fault_of(error.error)
        last = fault.form(line=error.line)
    except Exception as error:
        last = fault_of(error).form()
    yield encode({**msgspec.structs.asdict(progress), **last}) + b"\n"


async def _write(book: RecordBook, context: str, batch: _Numbered, progress: Progress) -> None:
    """One batch, one transaction. Of lines with the same name the last one counts."""
    drafts: dict[tuple[IdentityId, str], tuple[int, Draft]] = {}
    for number, line in batch:
        try:
            fields = _decode(line)
            draft = _draft(context, _address(book, nfc(fields.name)), fields)
        except RecursionError:
            raise LineError(number, RequestError("nested too deeply")) from None
        except LocalError as error:
            raise LineError(number, error) from None
        except ValueError as error:
            raise LineError(number, RequestError(f"not a record: {escape(str(error))}")) from None
        drafts[draft.author, draft.name] = (number, draft)
    try:
        records = await book.put_all([draft for _, draft in drafts.values()], skip_unchanged=True)
    except DraftError as error:
        raise LineError([number for number, _ in drafts.values()][error.place], error) from None
    written = sum(record is not None for record in records)
    progress.lines = batch[-1][0]
    progress.written += written
    progress.unchanged += len(batch) - written


async def _batches(chunks: AsyncIterator[bytes]) -> AsyncGenerator[_Numbered]:
    batch: _Numbered = []
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
                if len(batch) == BATCH_RECORDS_MAX or size >= BATCH_BYTES_MAX:
                    yield batch
                    batch, size = [], 0
    if batch:
        yield batch


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncGenerator[list[bytes]]:
    """The lines of a text that comes in pieces, as many at a time as a piece completes."""
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


def _address(book: RecordBook, name: str) -> tuple[IdentityId, str]:
    return book.resolve(name) if name.startswith((f"{SHARED}/", f"{ME}/")) else (book.id, name)


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
    """The bytes, and their media type."""
    if line.body_base64 is not UNSET:
        if line.body is not UNSET:
            raise RequestError("a record has one body: body or body_base64")
        return _from_base64("body_base64", line.body_base64), line.type or ""
    if line.body is UNSET:
        return b"", line.type or ""
    if isinstance(line.body, str) and (line.type is UNSET or not is_json(line.type)):
        return line.body.encode(), TEXT_TYPE if line.type is UNSET else line.type
    return encode(line.body), JSON_TYPE if line.type is UNSET else line.type


def _from_base64(field: str, text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except binascii.Error:
        raise RequestError(f"{field} is not base64") from None
