"""Record files (PROTOCOL.md §14) between a disk and a node: what `import --signed`, `export --signed` and `sync --path`
share.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import IO, TYPE_CHECKING, Any, Final

from echonode.cli.columns import table
from echonode.cli.exit_codes import ExitCode, Failure
from echonode.cli.output import count, safe, short_id
from echonode.cli.progress import Bar
from echonode.errors import Reason, RemoteError
from echonode.limits import KIB
from echonode.wire.record_file import ContextEnd, FileReader

if TYPE_CHECKING:
    from echonode.cli.client import ApiClient

_PATH: Final = "/v1/record-file"
_READ_BYTES: Final = 64 * KIB
_BATCH_TIMEOUT_S: Final = 300.0  # for one batch of versions to be verified and stored, on a slow disk
_HASH_BYTES: Final = 32
_NOT_WANTED: Final = Reason.NOT_ACCEPTED.text  # a part that this node does not subscribe to is no failure


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """A record file that a node wrote: its versions, bytes and content hash, and the roots of its contexts, if known.
    """

    versions: int
    size: int
    hash: str
    roots: dict[str, str | None]


def download(client: "ApiClient", target: IO[bytes], contexts: Sequence[str] = ()) -> WrittenFile:
    """Write the record file of `contexts`, none for all, to `target`. Raises Failure unless it is whole."""
    from echonode.text import to_base32

    reader, roots, versions, size = FileReader(), dict[str, str | None](), 0, 0
    digest = blake2b(digest_size=_HASH_BYTES)
    with client.open("GET", _PATH, query=[("context", each) for each in contexts]) as response:
        try:
            for part in response.pieces():
                target.write(part)
                digest.update(part)
                size += len(part)
                reader.receive_data(part)
                context = reader.context
                while (item := reader.next_item()) is not None:
                    if isinstance(item, ContextEnd):
                        versions += item.count
                        roots[str(context)] = None if item.root is None else to_base32(item.root)
                    context = reader.context
            reader.finish()
        except RemoteError as error:
            raise Failure("the node ended before all was written; `echonode logs --level error` says why") from error
    target.flush()
    return WrittenFile(versions, size, digest.hexdigest(), roots)


def upload(
    client: "ApiClient", source: IO[bytes], bar: Bar, contexts: Sequence[str] = ()
) -> tuple[dict[str, Any], str]:
    """Have the node take in the record file `source`; `contexts` only, none for all. Return its last words, and the
    hash of what was read. Raises Failure when the node ends in between."""
    digest, last = blake2b(digest_size=_HASH_BYTES), dict[str, Any]()
    with client.open(
        "POST",
        _PATH,
        query=[("context", each) for each in contexts],
        headers={"Content-Type": "application/cbor-seq"},
        body=_parts(source, bar, digest),
        timeout_s=_BATCH_TIMEOUT_S,
    ) as response:
        for last in response.values():
            bar.set_text(count(last.get("versions", 0), "version"))
    is_last = last.get("done") or "error" in last
    if not is_last or not {"by", "contexts"} <= last.keys():
        raise Failure("the node ended before all was taken in; type the same again to go on")
    return last, digest.hexdigest()


def content_hash(source: IO[bytes]) -> str:
    """Return the hash that `upload` returns of the same bytes."""
    digest = blake2b(digest_size=_HASH_BYTES)
    while part := source.read(_READ_BYTES):
        digest.update(part)
    return digest.hexdigest()


def _parts(source: IO[bytes], bar: Bar, digest: "blake2b") -> Iterator[bytes]:
    read = getattr(source, "read1", source.read)  # read1 returns what a pipe has, and does not wait for more
    while part := read(_READ_BYTES):
        digest.update(part)
        yield part
        bar.add_bytes(len(part))


def refused_of(figures: dict[str, Any]) -> int:
    """Return how many versions of a context were refused, without those that this node does not want."""
    return sum(number for reason, number in figures["refused"].items() if reason != _NOT_WANTED)


def is_all_wanted(figures: dict[str, Any]) -> bool:
    """Return True unless this node does not take a context, or wants only a part of it."""
    return bool(figures["is_kept"]) and _NOT_WANTED not in figures["refused"]


def why_of(figures: dict[str, Any]) -> str:
    """Return why versions of a context are not here, in words; "" when all are."""
    if not figures["is_kept"]:
        return "passed over: this context is not taken here"
    refused = {reason: number for reason, number in figures["refused"].items() if reason != _NOT_WANTED}
    parts = [f"{number:,} {reason}" for reason, number in refused.items()]
    if refused and figures["why"]:
        parts[0] += f": {safe(figures['why'])}"
    left_out = figures["refused"].get(_NOT_WANTED, 0)
    return "; ".join([*parts, *([f"{left_out:,} not wanted here"] if left_out else [])])


def context_lines(answer: dict[str, Any], only: str | None = None) -> Iterator[str]:
    """Yield a table of the contexts of a file; with `only`, of that one and what was taken with it."""
    rows = [
        (safe(each["name"]), f"{each['new']:,}", f"{each['had']:,}", f"{refused_of(each):,}", why_of(each))
        for each in answer["contexts"]
        if only is None or each["name"] == only or each["is_kept"]
    ]
    return table(("CONTEXT", "NEW", "HAD", "REFUSED", "WHY"), rows, right=(1, 2, 3)) if rows else iter(())


def summary(answer: dict[str, Any]) -> str:
    """Return the figures of a file in a sentence."""
    refused = sum(map(refused_of, answer["contexts"]))
    return f"{count(answer['new'], 'version')} new, {answer['had']:,} here already, {refused:,} refused"


def writer_of(answer: dict[str, Any]) -> str:
    """Return who wrote a file, as it says itself."""
    by = answer["by"]
    return f"{safe(by['name'])} @{short_id(by['id'])}" if by else "nobody known"


def fault_of(answer: dict[str, Any]) -> Failure | None:
    """Return the Failure that an answer reports, None when all of the file is here now."""
    error = answer.get("error")
    if error is None:
        if any(map(refused_of, answer["contexts"])):
            return Failure(f"not all of it was taken in: {summary(answer)}", ExitCode.PARTIAL)
        return None
    if error["code"] == "damaged":
        kept = "what was verified before that is kept"
        return Failure(f"{safe(error['message'])} ({kept}: {summary(answer)})", ExitCode.PARTIAL)
    return Failure(safe(error["message"]))


def is_equal(roots: dict[str, str | None], contexts: Iterable[dict[str, Any]]) -> bool:
    """Return True if every context of a file has the root that it has here."""
    ours = {each["name"]: each["root"] for each in contexts}
    return all(root is not None and ours.get(name) == root for name, root in roots.items())
