"""Inputs kept in the repository: one file of hexadecimal lines for each target.

    corpus/TARGET.hex      what reached new code in long runs, smallest first: seeds beside those that are generated
    regressions.txt        TARGET HEX  what it found: run on every change, for ever
"""

from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_CORPUS: Final = _HERE / "corpus"
_REGRESSIONS: Final = _HERE / "regressions.txt"


def kept(target: str) -> list[bytes]:
    """The corpus of a target."""
    path = _CORPUS / f"{target}.hex"
    return [bytes.fromhex(line) for line in path.read_text().splitlines()] if path.exists() else []


def keep(target: str, inputs: list[bytes], *, bytes_max: int) -> int:
    """Make `inputs` the corpus of a target, the smallest of them up to `bytes_max` in all; how many that were."""
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
    """Inputs that once broke a promise of this target."""
    if not _REGRESSIONS.exists():
        return []
    entries = [line.split(maxsplit=2) for line in _REGRESSIONS.read_text().splitlines() if line[:1] not in ("", "#")]
    return [bytes.fromhex(data) for name, data, _ in entries if name == target]
