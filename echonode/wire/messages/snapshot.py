"""Messages of the mode `snapshot` (PROTOCOL.md §8.3)."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class SnapshotInit:
    """Opens `snapshot`. `resume`: the root of an earlier, cut-off snapshot and the last key staged from it, from which
    (that key included, its heads may have been cut apart) the pages go on if the root is still served."""

    code: ClassVar[int] = 24
    version: tuple[int, int]
    context: str
    resume: tuple[bytes, bytes] | None


@dataclass(frozen=True, slots=True)
class Page:
    """Records in key order. The first page says of which state: root, count, seq and instance of one transaction. The
    last one `is_cut` when that state is not to be had any more and the rest will not come."""

    code: ClassVar[int] = 26
    state: tuple[bytes, int, int, bytes] | None
    records: tuple[bytes, ...]
    is_last: bool
    is_cut: bool = False
