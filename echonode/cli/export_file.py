"""ExportFile: the results of a command in a file that is at every moment the earlier or the whole new one.

The new file is begun beside the old one before the command does anything, so that a folder that is not there, or may
not be written, is said at once. Whatever way the command ends, the file then holds one JSON object with a `status`.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from echonode.cli.exit_codes import ExitCode, Failure
from echonode.text import escape


class ExportFile:
    """The file to be written at `path`. Raises Failure when it cannot be begun."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        if self._path.is_dir():
            raise Failure(f"--export {escape(path)} is a folder, and a file is expected", ExitCode.USAGE)
        try:
            self._descriptor, self._temporary = tempfile.mkstemp(
                dir=self._path.parent, prefix=f".{self._path.name[:100]}."
            )
        except (OSError, ValueError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise Failure(f"--export {escape(path)} cannot be written: {why.lower()}", ExitCode.USAGE) from None

    def write(self, value: Mapping[str, object]) -> None:
        """Put the file in its place, with `value` as JSON. Raises Failure; then the earlier file is as it was."""
        try:
            with os.fdopen(self._descriptor, "w", encoding="ascii") as file:
                file.write(json.dumps(value, indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
                os.fchmod(file.fileno(), 0o666 & ~_umask())
            os.replace(self._temporary, self._path)
        except OSError as error:
            with suppress(OSError):
                os.unlink(self._temporary)
            raise Failure(
                f"--export {escape(str(self._path))} cannot be written: {(error.strerror or str(error)).lower()}; "
                "what the command did stays done"
            ) from None


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
