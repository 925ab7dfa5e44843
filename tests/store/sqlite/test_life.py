"""The decision whether a store goes on with its life, row by row of the table in life.py."""

from dataclasses import replace

import pytest

from echonode.cbor import encode
from echonode.store.sqlite.life import Found, Marks, SecondLife, Stamp, SymbolicLink, read_marks, second_life

SECOND_NS = 1_000_000_000
BORN_NS = 1_700_000_000 * SECOND_NS

LIFE = SymbolicLink("token", Stamp(11, BORN_NS, BORN_NS))
EARLIER = SymbolicLink("earlier", Stamp(10, BORN_NS - 5, BORN_NS - 5))
WROTE = SymbolicLink("7", Stamp(12, BORN_NS, BORN_NS))
MARKS = Marks("machine", "volume", (EARLIER, LIFE), 7, WROTE.stamp)
FOUND = Found("machine", "volume", LIFE, WROTE)


def stamped(link: SymbolicLink, **times: int) -> SymbolicLink:
    return replace(link, stamp=replace(link.stamp, **times))


def unborn(link: SymbolicLink, changed_ns: int) -> SymbolicLink:
    """Return `link` as a file system without birth times shows it."""
    return stamped(link, born_ns=0, changed_ns=changed_ns)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        pytest.param(FOUND, None, id="all as it was"),
        pytest.param(replace(FOUND, life=EARLIER), None, id="a crash before the next link was put in place"),
        pytest.param(replace(FOUND, life=None), SecondLife.NO_LINK, id="the database alone was restored"),
        pytest.param(replace(FOUND, life=SymbolicLink("x", LIFE.stamp)), SecondLife.OTHER_LINK, id="another token"),
        pytest.param(replace(FOUND, life=stamped(LIFE, inode=99)), SecondLife.NEW_LINK, id="a copy"),
        pytest.param(
            replace(FOUND, life=stamped(LIFE, born_ns=BORN_NS + 1)), SecondLife.NEW_LINK, id="a copy in a reused inode"
        ),
        pytest.param(
            replace(FOUND, life=SymbolicLink("token", EARLIER.stamp)), SecondLife.NEW_LINK, id="of two links"
        ),
        pytest.param(
            replace(FOUND, life=stamped(LIFE, changed_ns=BORN_NS + 10**18)), None, id="chown, chmod, a hard link"
        ),
        pytest.param(replace(FOUND, wrote=None), None, id="no link wrote after a power failure"),
        pytest.param(replace(FOUND, wrote=SymbolicLink("6", WROTE.stamp)), None, id="a crash before wrote was made"),
        pytest.param(replace(FOUND, wrote=SymbolicLink("8", WROTE.stamp)), SecondLife.OLDER, id="an older database"),
        pytest.param(replace(FOUND, wrote=stamped(WROTE, inode=99)), SecondLife.PUT_BACK, id="wrote was put back"),
        pytest.param(
            replace(FOUND, wrote=stamped(WROTE, born_ns=BORN_NS + 1)), SecondLife.PUT_BACK, id="put back, inode reused"
        ),
        pytest.param(replace(FOUND, wrote=SymbolicLink("junk", WROTE.stamp)), None, id="wrote without a number"),
        pytest.param(replace(FOUND, wrote=SymbolicLink("²", WROTE.stamp)), None, id="a digit that is no number"),
        pytest.param(replace(FOUND, machine="another"), SecondLife.OTHER_MACHINE, id="another machine"),
        pytest.param(replace(FOUND, machine=""), None, id="into a container"),
        pytest.param(replace(FOUND, volume="snapshot"), SecondLife.OTHER_VOLUME, id="a snapshot"),
        pytest.param(replace(FOUND, volume=""), None, id="a kernel that names no volumes"),
    ],
)
def test_the_decision_is_that_of_the_table(found: Found, expected: SecondLife | None) -> None:
    assert second_life(MARKS, found) is expected


def test_a_store_without_marks_begins_a_second_life() -> None:
    assert second_life(None, FOUND) is SecondLife.UNMARKED


def test_an_unknown_machine_or_volume_in_the_marks_says_nothing() -> None:
    assert second_life(replace(MARKS, machine=""), replace(FOUND, machine="another")) is None
    assert second_life(replace(MARKS, volume=""), replace(FOUND, volume="another")) is None


def test_where_no_link_could_be_made_none_is_missed_and_one_is_suspect() -> None:
    marks = replace(MARKS, links=(), wrote=None)
    assert second_life(marks, replace(FOUND, life=None, wrote=None)) is None
    assert second_life(marks, replace(FOUND, wrote=None)) is SecondLife.OTHER_LINK
    assert second_life(marks, replace(FOUND, life=None)) is SecondLife.PUT_BACK


@pytest.mark.parametrize(
    ("changed_ns", "expected"),
    [(0, None), (60 * SECOND_NS, None), (-60 * SECOND_NS, None), (61 * SECOND_NS, SecondLife.NEW_LINK)],
)
def test_without_birth_times_the_time_of_the_last_change_tells(changed_ns: int, expected: SecondLife | None) -> None:
    """A link is renamed soon after it was made, and renaming it is a change."""
    marks = replace(MARKS, links=(unborn(LIFE, BORN_NS),))
    assert second_life(marks, replace(FOUND, life=unborn(LIFE, BORN_NS + changed_ns))) is expected
    assert second_life(MARKS, replace(FOUND, life=unborn(LIFE, BORN_NS + changed_ns))) is expected, "a kernel without"
    wrote = unborn(WROTE, BORN_NS + changed_ns)
    put_back = SecondLife.PUT_BACK if expected else None
    assert second_life(replace(MARKS, wrote=unborn(WROTE, BORN_NS).stamp), replace(FOUND, wrote=wrote)) is put_back
    assert second_life(marks, replace(FOUND, life=unborn(stamped(LIFE, inode=99), BORN_NS))) is SecondLife.NEW_LINK


@pytest.mark.parametrize("marks", [MARKS, Marks("", "", (), 0, None), replace(MARKS, links=(LIFE,), wrote=None)])
def test_marks_are_read_as_they_were_saved(marks: Marks) -> None:
    rows = dict(marks.rows())
    assert read_marks(rows["life"], rows["wrote"]) == marks


@pytest.mark.parametrize(
    "damaged",
    [
        None,
        b"",
        b"\xff",
        encode([]),
        encode(["machine", "volume"]),
        encode(["machine", "volume", [["token", 1, 2]]]),
        encode(["machine", "volume", [["token"]]]),
        encode(["machine", "volume", [7]]),
        encode([7, 1, 2]),
        encode(["7"]),
        encode({}),
    ],
)
def test_a_damaged_mark_is_none(damaged: bytes | None) -> None:
    rows = dict(MARKS.rows())
    assert read_marks(damaged, rows["wrote"]) is None
    assert read_marks(rows["life"], damaged) is None
