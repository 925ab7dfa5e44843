"""Scheduled backups: one file a span of time in one folder, and the oldest deleted beyond a number.

A backup is due a span after the newest file of this node was written, whenever the node was started. It is made by a
process of its own, `echonode backup`: the node never waits for it, and its memory goes back when it ends. The name of a
file has the beginning of the node's id, so that several nodes may use one folder. Names of the first versions had none:
these are the node's in its own home, and nobody's elsewhere.
"""

import asyncio
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from echonode.errors import LocalError
from echonode.host.config import BackupConfig
from echonode.host.files import NodeFiles
from echonode.host.home import Home
from echonode.host.logs import Logs
from echonode.model.time_text import maybe_span_s
from echonode.text import to_base32

_SUFFIX: Final = ".backup"
_STAMP_PATTERN: Final = "????????T??????Z"  # 20261130T030000Z
_LOOK_S: Final = 3600.0  # between two looks at the clock of the wall, which a sleep of the machine moves on
_RETRY_S: Final = 600.0  # after a failure
_OUTPUT_CHARS_MAX: Final = 500


async def keep_backups(settings: BackupConfig, files: NodeFiles, environ: Mapping[str, str], logs: Logs) -> None:
    """Make the backups that the configuration asks for, for ever."""
    every_s = maybe_span_s(settings.every) if settings.every else None
    if every_s is None:
        await asyncio.Event().wait()  # none are wanted
        return
    identity = files.root_identity()
    assert identity is not None, "a node that started has its keys"
    schedule = BackupSchedule(
        home=files.home,
        node=to_base32(identity)[:8],
        folder=Path(settings.folder) if settings.folder else files.root / "backups",
        every_s=every_s,
        keep=settings.keep,
        environ=environ,
    )
    await schedule.run(logs)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupSchedule:
    """The backups of one home: one every `every_s` seconds, in `folder`, of which the newest `keep` are kept.

    `node`: what tells this node's files from those of others.
    """

    home: Home
    node: str
    folder: Path
    every_s: float
    keep: int
    environ: Mapping[str, str]

    async def run(self, logs: Logs) -> None:
        """Make backups for ever. A failure is logged, and tried again."""
        while True:
            wait_s = self.due_in_s(time.time())
            if wait_s > 0:
                await asyncio.sleep(min(wait_s, _LOOK_S))
                continue
            try:
                path = await self.make(time.time())
            except LocalError as error:
                logs.log("backup.failed", "error", reason=str(error))
                await asyncio.sleep(_RETRY_S)
            else:
                size = next((status.st_size for each, status in self._files() if each == path), 0)
                logs.log("backup.written", "info", path=str(path), bytes=size, deleted=self.prune())

    def due_in_s(self, now_s: float) -> float:
        """Return how long to wait for the next backup; nothing or less when it is due."""
        written = [status.st_mtime for _, status in self._files()]
        newest_s = max((at_s for at_s in written if at_s <= now_s), default=float("-inf"))
        return newest_s + self.every_s - now_s

    async def make(self, now_s: float) -> Path:
        """Make a backup now, and return its path. Raises LocalError."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_s))
        path = self.folder / f"echonode-{self.node}-{stamp}{_SUFFIX}"
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            process = await asyncio.create_subprocess_exec(
                *self._command(path),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env=dict(self.environ),
            )
        except OSError as error:
            raise LocalError(f"{self.folder}: {error.strerror}") from None
        try:
            _, said = await process.communicate()
        finally:
            if process.returncode is None:  # this node stops
                process.terminate()
                await process.wait()
        if process.returncode != 0:
            words = " ".join(said.decode("utf-8", "replace").split()).removeprefix("echonode: ")
            raise LocalError(words[:_OUTPUT_CHARS_MAX] or f"exit code {process.returncode}")
        return path

    def prune(self) -> int:
        """Delete all but the newest `keep` backups; return how many went."""
        newest_first = sorted(self._files(), key=lambda file: file[1].st_mtime, reverse=True)
        deleted = 0
        for path, _ in newest_first[self.keep :]:
            with suppress(OSError):
                path.unlink()
                deleted += 1
        return deleted

    def _files(self) -> Sequence[tuple[Path, os.stat_result]]:
        """Return this node's backups in the folder. Others may take them away at any time."""
        found = []
        names = [f"echonode-{self.node}-*{_SUFFIX}"]
        if self.folder.parent == self.home.folder:
            names.append(f"echonode-{_STAMP_PATTERN}{_SUFFIX}")
        for path in sorted(path for name in names for path in self.folder.glob(name)):
            with suppress(OSError):
                found.append((path, path.stat()))
        return found

    def _command(self, path: Path) -> Sequence[str]:
        is_found = Home.find(None, self.environ) == self.home
        named = [] if is_found else ["--home", os.fspath(self.home.folder)]
        return [sys.executable, "-m", "echonode", *named, "backup", os.fspath(path)]
