"""The decision whether a store goes on with the life in which it was last open, or begins a second one. Pure.

A store that was restored, copied, cloned or moved must not write under its old instance: it would give out counters
that its first life gave out too (PROTOCOL.md §4.3). Times and modes of the database file do not tell, because a copy
into place keeps its inode and its birth time. Two symbolic links beside it do. No tool writes into a symbolic link:
whatever puts one back makes a new inode with a birth time of its own.

    life     its target is a random token; a new link at each opening, at each clean close and every OWN_WRITES_PER_LIFE
    wrote    its target is the number of own versions ever written; a new link after each commit of some

    store.db says                    the folder shows                                     decision
    no marks                         anything                                             second life: UNMARKED
    a machine, a volume              another one; an unknown one says nothing             OTHER_MACHINE, OTHER_VOLUME
    the links `life` that may stand  none / another token / that token in another inode   NO_LINK, OTHER_LINK, NEW_LINK
    that no link could be made       a link `life`                                        OTHER_LINK
    n own versions written           `wrote` is above n / is n, in another inode          OLDER, PUT_BACK
    all of it                        all of it                                            the same life

A crash leaves `wrote` behind the database, and a power failure may take back some links: both are the same life. Two
links `life` may stand, the last one and the next, because the next is committed before it is put in place. A false
alarm costs one vector entry.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from echonode.cbor import decode, encode
from echonode.errors import RemoteError

OWN_WRITES_PER_LIFE: Final = 1000  # a copy older than so many own writes shows another token
_CHANGE_NS_MAX: Final = 60_000_000_000  # from making a link to renaming it; a slow disk commits in between


class SecondLife(StrEnum):
    """The reason for a new instance, in words for the log."""

    UNMARKED = "nothing in the database says when and where it was last open"
    OTHER_MACHINE = "the database was last open on another machine"
    OTHER_VOLUME = "the database is in a snapshot, or in another volume than last time"
    NO_LINK = "the link `life` is not beside the database any more"
    OTHER_LINK = "the link `life` beside the database is of another time than the database"
    NEW_LINK = "the link `life` beside the database is a copy"
    OLDER = "the database is older than what was last written here"
    PUT_BACK = "the link `wrote` beside the database is a copy"


@dataclass(frozen=True, slots=True)
class Stamp:
    """The inode and times that tell a link from its copies. Times are nanoseconds since the Unix epoch.

    `born_ns` is 0 where the file system or the kernel keeps no birth time. Then `changed_ns`, which no tool can set
    either, stands in for it."""

    inode: int
    born_ns: int
    changed_ns: int

    def is_of(self, other: "Stamp") -> bool:
        """Return True if both are stamps of one link, taken before and after it was renamed."""
        if self.inode != other.inode:
            return False
        if self.born_ns and other.born_ns:
            return self.born_ns == other.born_ns
        return abs(self.changed_ns - other.changed_ns) <= _CHANGE_NS_MAX


@dataclass(frozen=True, slots=True)
class SymbolicLink:
    """A symbolic link: its target and its stamp."""

    target: str
    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks in the database. An empty `machine` or `volume` is unknown.

    `links`: the links `life` that may stand, none where no link can be made. `written`: the number of own versions;
    `wrote`: the stamp of the link made for it."""

    machine: str
    volume: str
    links: tuple[SymbolicLink, ...]
    written: int
    wrote: Stamp | None

    def rows(self) -> Sequence[tuple[str, bytes]]:
        """Return the rows of the table `meta`: name and value."""
        links = [[link.target, *_numbers(link.stamp)] for link in self.links]
        return (
            ("life", encode([self.machine, self.volume, links])),
            ("wrote", encode([self.written, *(_numbers(self.wrote) if self.wrote else ())])),
        )


@dataclass(frozen=True, slots=True)
class Found:
    """The marks around the database. None: there is no such link."""

    machine: str
    volume: str
    life: SymbolicLink | None
    wrote: SymbolicLink | None


def second_life(marks: Marks | None, found: Found) -> SecondLife | None:
    """Return the reason why a store with these marks begins a second life, None when it goes on with its own."""
    if marks is None:
        return SecondLife.UNMARKED
    if marks.machine and found.machine and marks.machine != found.machine:
        return SecondLife.OTHER_MACHINE
    if marks.volume and found.volume and marks.volume != found.volume:
        return SecondLife.OTHER_VOLUME
    return _judge_life(marks, found.life) or _judge_wrote(marks, found.wrote)


def _judge_life(marks: Marks, life: SymbolicLink | None) -> SecondLife | None:
    if life is None:
        return SecondLife.NO_LINK if marks.links else None
    stamps = [link.stamp for link in marks.links if link.target == life.target]
    if not stamps:
        return SecondLife.OTHER_LINK
    return None if any(stamp.is_of(life.stamp) for stamp in stamps) else SecondLife.NEW_LINK


def _judge_wrote(marks: Marks, wrote: SymbolicLink | None) -> SecondLife | None:
    count = int(wrote.target) if wrote is not None and wrote.target.isdecimal() and wrote.target.isascii() else 0
    if count > marks.written:
        return SecondLife.OLDER
    if wrote is None or count < marks.written:
        return None
    return None if marks.wrote is not None and marks.wrote.is_of(wrote.stamp) else SecondLife.PUT_BACK


_Value: TypeAlias = object


def read_marks(life: bytes | None, wrote: bytes | None) -> Marks | None:
    """Return the marks of these rows of the table `meta`, None when a row is missing or damaged."""
    if life is None or wrote is None:
        return None
    try:
        match decode(life), decode(wrote):
            case [str(machine), str(volume), list(links)], [int(written), *numbers]:
                return Marks(machine, volume, tuple(map(_read_link, links)), written, _read_stamp(numbers))
    except (RemoteError, ValueError):
        pass
    return None


def _read_link(row: _Value) -> SymbolicLink:
    match row:
        case [str(target), *numbers] if (stamp := _read_stamp(numbers)) is not None:
            return SymbolicLink(target, stamp)
    raise ValueError("not a link")


def _read_stamp(numbers: Sequence[_Value]) -> Stamp | None:
    match numbers:
        case []:
            return None
        case [int(inode), int(born_ns), int(changed_ns)]:
            return Stamp(inode, born_ns, changed_ns)
    raise ValueError("not a stamp")


def _numbers(stamp: Stamp) -> tuple[int, int, int]:
    return stamp.inode, stamp.born_ns, stamp.changed_ns
