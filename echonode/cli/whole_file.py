"""A file that appears when it is complete, and not before."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from echonode.cli.exit_codes import Failure
from echonode.cli.output import safe


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file to write to, which is at `path` once the block has ended well. Raises Failure when it cannot be
    begun, OSError when it cannot be written.

    A link is followed, not replaced; a pipe or a device is written to, not replaced.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        with _opened(path, "wb", path) as special:
            yield special
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    target = _opened(unfinished, "xb", path)
    try:
        with target:
            yield target
            target.flush()
            os.fsync(target.fileno())
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise


def _opened(path: Path, mode: str, named: Path) -> IO[bytes]:
    try:
        opened: IO[bytes] = path.open(mode)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise Failure(f"{safe(str(named))} cannot be written: {why}") from None
    return opened
