"""sync --path DIR: nodes that never meet exchange their records through a folder that people carry, or that is shared.

    DIR/<node id>.echo           the record file (PROTOCOL.md §14) of each node that was there; each writes only its own
    DIR/.<node id>.taken.json    this node's notes: which files it took in, and the state in which it wrote its own

A file that is as it was when all of it was taken in is not read again: its size and time say so, or else its content.
Of what this node did not want, it may want more the next time. Notes count for one life of the store: a node that was
restored from a backup takes in everything, its own file too.
"""

import json
import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from echonode.cli.columns import table
from echonode.cli.exit_codes import ExitCode, Failure
from echonode.cli.output import count, print_json, print_line, print_note, safe, short_id, size
from echonode.cli.progress import bytes_bar
from echonode.cli.record_file import (
    content_hash,
    download,
    fault_of,
    is_all_wanted,
    is_equal,
    refused_of,
    upload,
    why_of,
)
from echonode.cli.whole_file import whole_file
from echonode.client.shape import checker
from echonode.limits import MIB

if TYPE_CHECKING:
    from echonode.cli.client import ApiClient

# Others may write to the folder too: notes are read like an answer of a stranger.
_NOTE: Final[dict[str, Any]] = {"size": int, "mtime_ns": int, "hash": str, "writer": str, "roots": {...: (str, None)}}
_NOTES: Final[dict[str, Any]] = {"instance": str, "files": {...: _NOTE}}
_NOTES_BYTES_MAX: Final = 4 * MIB
_SUFFIX: Final = ".echo"
_RACY_S: Final = 3.0  # FAT keeps times in steps of 2 s: a younger file may change and keep its time
_ROUND_S: Final = 3.0  # between two looks at a watched folder
_OURS: Final = "(this node)"
_OTHER: Final = "unusable"  # the API's word for a file that is not for this node


@dataclass(slots=True)
class _Note:
    """A file as it was when it was taken in, or written. `roots`: by context; None: not known, or of a part."""

    size: int
    mtime_ns: int  # 0: too young to be trusted
    hash: str
    writer: str
    roots: dict[str, str | None]

    def is_of(self, info: os.stat_result) -> bool:
        """Return True if the size and the time are still these."""
        return self.mtime_ns > 0 and (self.size, self.mtime_ns) == (info.st_size, info.st_mtime_ns)


@dataclass(slots=True)
class _Taken:
    """The outcome of one file. `problem`: why not all of it is here; `is_ours` False: it is of another network;
    `is_whole` False: a part of it was not wanted here."""

    file: str
    writer: str
    size: int
    new: int = 0
    had: int = 0
    refused: int = 0
    is_unchanged: bool = False
    is_equal: bool | None = None  # None: not known, because only a part is in it, or wanted here
    why: str = ""
    problem: str = ""
    is_ours: bool = True
    is_whole: bool = True
    roots: dict[str, str | None] = field(default_factory=dict)


class FolderSync:
    """One exchange with the folder `path`. `takes`: take in what others wrote; `offers`: write this node's own."""

    def __init__(self, client: "ApiClient", path: str, *, takes: bool, offers: bool) -> None:
        self._client = client
        self._folder = Path(path)
        self._takes = takes
        self._offers = offers
        self._me: dict[str, Any] = {}
        self._notes: dict[str, _Note] = {}
        self._failed: dict[str, tuple[int, int]] = {}  # size and time of files that were not taken whole by this object

    def run(self, *, as_json: bool) -> ExitCode:
        """Exchange once, and report. Raises Failure unless all of every file is here now."""
        taken, offered = self._exchange()
        if as_json:
            print_json({"taken": [_json_form(each) for each in taken], "offered": offered})
        else:
            self._print(taken, offered)
        conflicts = len(self._client.call("GET", "/v1/conflicts")["conflicts"])
        failed = sum(bool(each.problem) for each in taken if each.is_ours)
        if failed:
            raise Failure(f"not all of {count(failed, 'file')} was taken in", ExitCode.PARTIAL)
        if conflicts:
            raise Failure(
                f"{count(conflicts, 'record')} in conflict; to see them, type: echonode conflicts", ExitCode.PARTIAL
            )
        return ExitCode.DONE

    def watch(self) -> None:
        """Exchange whenever a file or a record changed, until Ctrl-C. Print what moved."""
        print_note(f"watching {safe(self._folder)}; Ctrl-C ends it")
        while True:
            taken, offered = self._exchange()
            moved = [each for each in taken if not each.is_unchanged]
            if moved or (offered and offered["is_new"]):
                self._print(moved, offered)
            time.sleep(_ROUND_S)

    # -- the exchange ------------------------------------------------------------------------------------------------

    def _exchange(self) -> tuple[list[_Taken], dict[str, Any] | None]:
        self._me = self._client.call("GET", "/v1/status")
        self._read_notes()
        try:
            taken = [each for path in self._files() if (each := self._look_at(path)) is not None]
            taken = [each for each in taken if not (each.file == self._own and each.is_unchanged)]
            offered = self._offer() if self._offers else None
        except OSError as error:
            raise Failure(f"the folder {safe(self._folder)} cannot be used: {_why(error)}") from None
        finally:
            self._write_notes()
        contexts = self._client.call("GET", "/v1/contexts")["contexts"]
        for each in taken:
            if each.writer != _OURS and each.roots and None not in each.roots.values():
                each.is_equal = is_equal(each.roots, contexts)
        return taken, offered

    @property
    def _own(self) -> str:
        return f"{self._me['id']}{_SUFFIX}"

    def _files(self) -> list[Path]:
        """Return the files to look at: those of other nodes, and our own unless it is as we wrote it."""
        found = sorted(path for path in self._folder.iterdir() if _is_record_file(path))
        others = [path for path in found if path.name != self._own] if self._takes else []
        own = self._folder / self._own
        if own in found and not self._is_noted(own):
            others.append(own)
        return others

    def _is_noted(self, path: Path) -> bool:
        note = self._notes.get(path.name)
        return note is not None and note.is_of(path.stat())

    def _has_failed(self, path: Path) -> bool:
        """Return True for a file that was not taken whole, and is as it was: a watched one is not tried all the time.
        """
        info = path.stat()
        return self._failed.get(path.name) == (info.st_size, info.st_mtime_ns)

    def _look_at(self, path: Path) -> _Taken | None:
        """Take in a file; None for one that failed and is as it was, and for one that was taken away meanwhile."""
        try:
            return None if self._has_failed(path) else self._take(path)
        except FileNotFoundError:
            if self._folder.is_dir():
                return None
            raise

    def _take(self, path: Path) -> _Taken:
        info, note = path.stat(), self._notes.get(path.name)
        if note is not None and (note.is_of(info) or _has_content(path, note)):
            note.mtime_ns = _trusted_time(info)
            return _Taken(path.name, note.writer, info.st_size, is_unchanged=True, roots=note.roots)
        with path.open("rb") as source, bytes_bar(info.st_size) as bar:
            answer, digest = upload(self._client, source, bar)
        taken = _taken_of(path.name, info.st_size, answer)
        if answer["by"] and answer["by"]["id"] == self._me["id"]:
            taken.writer = _OURS
        self._notes.pop(path.name, None)
        if taken.problem or not taken.is_whole:
            self._failed[path.name] = (info.st_size, info.st_mtime_ns)
        else:
            self._notes[path.name] = _Note(info.st_size, _trusted_time(info), digest, taken.writer, taken.roots)
        return taken

    def _offer(self) -> dict[str, Any]:
        """Write our own file, unless it is there and says all that there is to say."""
        path = self._folder / self._own
        roots = {each["name"]: each["root"] for each in self._client.call("GET", "/v1/contexts")["contexts"]}
        note = self._notes.get(self._own)
        is_said = note is not None and note.roots == roots and note.writer == self._me["name"]
        if is_said and path.is_file() and self._is_noted(path):
            return {"file": path.name, "size": path.stat().st_size, "is_new": False, "versions": None}
        with whole_file(path) as target:
            done = download(self._client, target)
        info = path.stat()
        said = {**roots, **done.roots}  # a context that is not kept here is in no file, and news only if it moves
        self._notes[self._own] = _Note(info.st_size, info.st_mtime_ns, done.hash, self._me["name"], said)
        return {"file": path.name, "size": info.st_size, "is_new": True, "versions": done.versions}

    # -- notes -------------------------------------------------------------------------------------------------------

    @property
    def _notes_path(self) -> Path:
        return self._folder / f".{self._me['id']}.taken.json"

    def _read_notes(self) -> None:
        """Read the notes. Those that are damaged, or of another life of the store, count for nothing."""
        self._notes = {}
        try:
            with self._notes_path.open("rb") as file:
                kept = json.loads(file.read(_NOTES_BYTES_MAX))
        except (OSError, ValueError, RecursionError):
            return
        if checker(_NOTES)(kept) and kept["instance"] == self._me["instance"]:
            self._notes = {name: _Note(**{key: note[key] for key in _NOTE}) for name, note in kept["files"].items()}

    def _write_notes(self) -> None:
        """Write the notes; a folder that takes none only costs time at the next exchange."""
        try:
            # A name in notes may be one that no file can have: others may have written them.
            here = {path.name for path in self._folder.iterdir()}
            files = {name: asdict(note) for name, note in self._notes.items() if name in here}
            kept = {"instance": self._me["instance"], "files": files}
            with whole_file(self._notes_path) as target:
                target.write(json.dumps(kept).encode())
        except (OSError, Failure):
            print_note(f"{safe(self._folder)} cannot be written: its files are read anew the next time")

    # -- the report --------------------------------------------------------------------------------------------------

    def _print(self, taken: list[_Taken], offered: Mapping[str, Any] | None) -> None:
        for line in _lines(taken):
            print_line(line)
        if not taken and self._takes:
            print_note(f"no other node has written to {safe(self._folder)} yet: type the same there")
        if offered and offered["is_new"]:
            written = f"{count(offered['versions'], 'version')}, {size(offered['size'])}"
            print_note(f"offered {written}, in {safe(offered['file'])}")
        elif offered:
            print_note(f"nothing new to offer: {safe(offered['file'])} has it all")
        if any(each.is_equal is False for each in taken):
            print_note("who is not equal has yet to take in what is offered here: type the same there, then here again")


def _lines(taken: list[_Taken]) -> Iterator[str]:
    rows = [
        (
            safe(each.writer),
            f"{each.new:,}",
            f"{each.had:,}",
            f"{each.refused:,}",
            size(each.size),
            {True: "yes", False: "no", None: "-"}[each.is_equal],
            each.problem or each.why,
        )
        for each in taken
    ]
    header = ("FROM", "NEW", "HAD", "REFUSED", "SIZE", "EQUAL", "WHY")
    return table(header, rows, right=(1, 2, 3, 4), optional=(4, 2)) if rows else iter(())


def _taken_of(file: str, size_bytes: int, answer: dict[str, Any]) -> _Taken:
    """Return what the node's answer says of a file."""
    by, contexts = answer["by"], answer["contexts"]
    fault = fault_of(answer)
    error = answer.get("error")
    whys = (f"{safe(each['name'])}: {why}" for each in contexts if (why := why_of(each)))
    why = safe(error["message"]) if error else "; ".join(whys)
    return _Taken(
        file,
        f"{safe(by['name'])} @{short_id(by['id'])}" if by else safe(file),
        size_bytes,
        new=answer["new"],
        had=answer["had"],
        refused=sum(map(refused_of, contexts)),
        why=why,
        problem=why if fault is not None else "",
        is_ours=error is None or error["code"] != _OTHER,
        is_whole=all(map(is_all_wanted, contexts)),
        roots={
            each["name"]: each["root"] if is_all_wanted(each) and not each["is_partial"] else None for each in contexts
        },
    )


def _json_form(taken: _Taken) -> dict[str, Any]:
    names = ("file", "size", "new", "had", "refused", "is_unchanged", "is_equal", "why")
    return {"from": taken.writer, **{name: getattr(taken, name) for name in names}}


def _is_record_file(path: Path) -> bool:
    if path.suffix != _SUFFIX or path.name.startswith("."):
        return False
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _has_content(path: Path, note: _Note) -> bool:
    """Return True if the content of a file is that of the note."""
    if path.stat().st_size != note.size:
        return False
    with path.open("rb") as source:
        return content_hash(source) == note.hash


def _trusted_time(info: os.stat_result) -> int:
    return info.st_mtime_ns if time.time() - info.st_mtime > _RACY_S else 0


def _why(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
