"""Inputs kept in the repository: a file of hexadecimal lines for each target.

    corpus/TARGET.hex      inputs that reached new code in long runs, smallest first
    regressions.txt        TARGET HEX  inputs that once broke a promise, with the cause; every change runs them
"""

from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_CORPUS: Final = _HERE / "corpus"
_REGRESSIONS: Final = _HERE / "regressions.txt"


def kept(target: str) -> list[bytes]:
    """Return the corpus of a target."""
    path = _CORPUS / f"{target}.hex"
    return [bytes.fromhex(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(target: str, inputs: list[bytes], *, bytes_max: int) -> int:
    """Write the smallest of `inputs`, up to `bytes_max` in all, as the corpus of a target. Return their number."""
    lines, size = [], 0
    for data in sorted(set(inputs), key=lambda each: (len(each), each)):
        size += len(data)
        if size > bytes_max:
            break
        lines.append(data.hex() + "\n")
    _CORPUS.mkdir(exist_ok=True)
    (_CORPUS / f"{target}.hex").write_text("".join(lines))
    return len(lines)


def regressions(target: str) -> list[bytes]:
    """Return the inputs that once broke a promise of this target."""
    if not _REGRESSIONS.exists():
        return []
    entries = [line.split(maxsplit=2) for line in _REGRESSIONS.read_text().splitlines() if line[:1] not in ("", "#")]
    return [bytes.fromhex(data) for name, data, _ in entries if name == target]
