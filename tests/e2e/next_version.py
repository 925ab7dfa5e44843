"""The package as a later version might be: a copy of it, changed in a few places, that runs as a node of its own.

A change replaces a piece of text that must stand in the file exactly once. Whoever changes that text in the package
changes it here too.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import echonode

_MINOR_INIT = '''

import json
import sys
from dataclasses import dataclass
from typing import ClassVar

from echonode.wire.messages import Refused


@dataclass(frozen=True, slots=True)
class HologramInit:
    """Opens a mode that version 1.0 has never heard of."""

    code: ClassVar[int] = 110
    version: tuple[int, int]
    context: str
    depth: int


async def ask(session):
    """Open the mode although the peer's hello does not list it, and log the answer."""
    said = {"hello": session.hello.version, "modes": session.hello.modes}
    await session.transport.send(HologramInit((1, 1), "main", 3))
    answer = await session.transport.recv()
    assert isinstance(answer, Refused), answer
    line = {"event": "hologram.refused", "reason": answer.reason, "supported": answer.supported, **said}
    print(json.dumps(line), file=sys.stderr, flush=True)
'''

# Version 1.1 adds a record field and a mode with messages of its own, and uses both at once.
NEXT_MINOR: Mapping[str, Sequence[tuple[str, str]]] = {
    "wire/messages/version.py": [("PROTOCOL_VERSION: Final = (1, 0)\n", "PROTOCOL_VERSION: Final = (1, 1)\n")],
    "model/fields.py": [("LATER: Final = 14 ", "LATER: Final = 15 ")],
    "model/record.py": [
        (
            "    if payload is None:\n        payload = _encode(",
            "    if True:\n        payload = _encode(",
        ),
        (
            "        check_fields(fields)\n    except RemoteError as error:\n        raise LocalError",
            '        fields[14] = {"of": [draft.name, 1]}\n'
            "        check_fields(fields)\n    except RemoteError as error:\n        raise LocalError",
        )
    ],
    "node/hello.py": [("NAMES: Final = (*NAMES_IN", 'NAMES: Final = ("hologram", *NAMES_IN')],
    "node/conversations.py": [
        (
            "        report.is_one_way = direction is not Direction.BOTH\n        left",
            "        report.is_one_way = direction is not Direction.BOTH\n"
            "        from echonode.wire.hologram import ask\n\n        await ask(session)\n        left",
        )
    ],
    "wire/hologram.py": [("", _MINOR_INIT)],
}
NEXT_MAJOR: Mapping[str, Sequence[tuple[str, str]]] = {
    "wire/messages/version.py": [("PROTOCOL_VERSION: Final = (1, 0)\n", "PROTOCOL_VERSION: Final = (2, 0)\n")],
}


def environment(folder: Path, changes: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, str]:
    """Return an environment in which `python -m echonode` runs a copy of the package with these changes."""
    package = folder / "echonode"
    shutil.copytree(Path(echonode.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, pairs in changes.items():
        file = package / name
        text = file.read_text() if file.exists() else ""
        for old, new in pairs:
            assert not old or text.count(old) == 1, f"{name} has changed: {old!r}"
            text = text.replace(old, new, 1) if old else new
        file.write_text(text)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ECHO_")}
    # Without the safe path `-m` would find the package in the folder in which the tests run.
    return {**kept, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1"}
