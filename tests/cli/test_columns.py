"""Tables on terminals of several widths: columns line up, no word is broken, and 80 columns are enough."""

from hypothesis import given
from hypothesis import strategies as st

from echonode.cli.columns import columns_of, table, wrap


def test_columns_line_up_whatever_stands_in_them() -> None:
    rows = [("a", "1"), ("日本", "22"), ("e\u0301", "333")]
    lines = list(table(("NAME", "N"), rows, right=(1,)))
    assert lines == ["NAME    N", "a       1", "日本   22", "e\u0301     333"]


WHY = "it does not answer since 10:00 and nobody knows why"
PEERS = [
    ("pantry", "bbbbbbbb", "connected", "yes", "192.168.100.100:22087", ""),
    ("attic", "cccccccc", "other network", "no", "10.0.0.1:22087", WHY),
]


def peers(width: int | None, optional: tuple[int, ...] = (4,)) -> list[str]:
    header = ("PEER", "ID", "STATE", "EQUAL", "ADDRESS", "WHY")
    return list(table(header, PEERS, optional=optional, width=width))


def test_a_table_uses_the_columns_that_there_are() -> None:
    wide, middle, narrow = peers(None), peers(110), peers(80)
    assert len(wide) == 3 and wide[2].endswith(f"10.0.0.1:22087         {WHY}")
    assert max(map(len, middle)) <= 110 and len(middle) == 4
    assert len(middle[3]) - len(middle[3].lstrip()) == middle[2].index("it does")  # a wrapped cell stays in its column
    assert "ADDRESS" not in narrow[0] and max(map(len, narrow)) <= 80
    assert peers(200) == wide


def test_where_even_that_is_too_wide_the_last_cell_stands_below() -> None:
    lines = peers(50)
    assert lines[0].split() == ["PEER", "ID", "STATE", "EQUAL"]
    assert lines[3:] == ["    it does not answer since 10:00 and nobody", "    knows why"]
    assert peers(70)[0].split() == ["PEER", "ID", "STATE", "EQUAL", "WHY"]
    assert peers(71, optional=())[0].split() == ["PEER", "ID", "STATE", "EQUAL", "ADDRESS"]


@given(st.lists(st.text("ab日 ", max_size=9), max_size=12).map(" ".join), st.integers(5, 40))
def test_no_word_is_broken_and_none_is_lost(text: str, space: int) -> None:
    lines = list(wrap(text, space, indent="  ", first="> "))
    assert " ".join(lines).removeprefix(">").split() == text.split()
    for line in lines:
        assert columns_of(line) <= space or len(line.removeprefix(">").split()) == 1
    assert list(wrap(text, None, first="> ")) == [f"> {text}".rstrip()]


def test_a_long_list_starts_before_it_has_ended() -> None:
    def rows():  # type: ignore[no-untyped-def]
        for _ in range(1000):
            yield ("x", "y")
        raise AssertionError("it waited for the end")

    lines = table(("A", "B"), rows())
    assert [next(lines) for _ in range(500)][-1] == "x  y"
