"""Messages of the mode `snapshot` (PROTOCOL.md §8.3). Credit is in records.py."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class SnapshotInit:
    """Opens `snapshot`. `resume` is (root, last leaf key staged) of an earlier snapshot that was cut off.

    A responder that still serves that root begins with that key: its heads may have been cut apart.
    """

    code: ClassVar[int] = 24
    version: tuple[int, int]
    context: str
    resume: tuple[bytes, bytes] | None


@dataclass(frozen=True, slots=True)
class Page:
    """Records in key order.

    `state` is (root, count, seq, instance) of the read transaction, in the first page only. The last page `is_cut` when
    the responder lost that state and the rest does not come.
    """

    code: ClassVar[int] = 26
    state: tuple[bytes, int, int, bytes] | None
    records: tuple[bytes, ...]
    is_last: bool
    is_cut: bool = False
