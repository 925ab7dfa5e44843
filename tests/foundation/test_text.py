"""Text forms: an id and a name have one spelling, and no text of a peer controls a terminal."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from echonode.limits import PEER_TEXT_CHARS_MAX
from echonode.text import base32_range, columns_of, escape, from_base32, is_nfc_text, to_base32

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


# -- base32 ----------------------------------------------------------------------------------------------------------


def test_base32_matches_the_examples_of_rfc_4648() -> None:
    assert [to_base32(b"foobar"[:size]) for size in range(7)] == [
        "",
        "my",
        "mzxq",
        "mzxw6",
        "mzxw6yq",
        "mzxw6ytb",
        "mzxw6ytboi",
    ]


@given(st.binary(max_size=64))
def test_ids_survive_their_text_form(data: bytes) -> None:
    text = to_base32(data)
    assert from_base32(text, len(data)) == data
    assert text == text.lower()
    assert "=" not in text


@given(st.binary(min_size=1, max_size=64), st.data())
def test_no_other_text_stands_for_the_same_bytes(data: bytes, draw: st.DataObject) -> None:
    text = to_base32(data)
    other = draw.draw(
        st.sampled_from([text.upper(), text + "=", text.title(), f" {text}", f"{text}\n", text + "a", text[:-1]])
    )
    if other != text:
        with pytest.raises(ValueError, match="base32"):
            from_base32(other, len(data))


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("mz", 1),  # the unused bits of the last character are not zero; a decoder that ignores them reads "f" here too
        ("my", 2),  # another length
        ("my", 0),
        ("m", 0),  # no encoding has that length
        ("m1", 1),  # 0, 1, 8 and 9 are not in the alphabet
        ("mý", 1),
        ("m\u0131", 1),  # a dotless i whose upper case is I
        ("my======", 1),
        ("\x1b[31m", 3),
        ("", 1),
    ],
)
def test_what_to_base32_never_writes_is_refused(text: str, size: int) -> None:
    with pytest.raises(ValueError, match=f"not {size} bytes of lower-case base32") as caught:
        from_base32(text, size)
    assert "\x1b" not in str(caught.value)


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["u+0041", "a", "a" * 200, "é", "水" * 66, "x\u0301", "naïve café", "\u200d", "\U0001f469\u200d\U0001f680"],
)
def test_nfc_text_without_controls_is_a_name(text: str) -> None:
    assert is_nfc_text(text, 200)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a" * 201,
        "é" * 101,
        "水" * 67,
        "e\u0301",  # é, decomposed
        "\u212b",  # the angstrom sign, whose NFC is Å
        "a\nb",
        "a\x00",
        "\x1b[31m",
        "\x7f",
        "ä\x85",
        "ä\ud800",
        "\udfff",
    ],
)
def test_other_text_is_not(text: str) -> None:
    assert not is_nfc_text(text, 200)


@given(st.text(max_size=30), st.integers(1, 60))
def test_a_name_is_its_own_nfc_and_fits_in_utf_8(text: str, bytes_max: int) -> None:
    wanted = (
        0 < len(text.encode("utf-8", "surrogatepass")) <= bytes_max
        and unicodedata.normalize("NFC", text) == text
        and not any(unicodedata.category(char) in ("Cc", "Cs") for char in text)
    )
    assert is_nfc_text(text, bytes_max) == wanted


# -- strings from peers ----------------------------------------------------------------------------------------------


def test_plain_text_of_any_language_is_shown_as_it_is() -> None:
    for text in ("laptop", "Ångström", "水の星", "שלום", "two words"):
        assert escape(text) == text


def test_what_a_terminal_would_obey_is_shown_as_its_number() -> None:
    assert escape("\x1b[2J") == "\\u001b[2J"
    assert escape("a\nb\r\0\x7f\x9b") == "a\\u000ab\\u000d\\u0000\\u007f\\u009b"
    assert escape(BIDI) == "".join(f"\\u{ord(char):04x}" for char in BIDI)
    assert escape("\u2028\ud800\ue000") == "\\u2028\\ud800\\ue000"


@given(st.text(alphabet=st.characters(), max_size=300))
@example("\x1b]0;title\x07" * 30)
@example(BIDI * 20)
def test_no_control_survives_and_no_length_is_a_surprise(text: str) -> None:
    shown = escape(text)
    assert shown.isprintable()
    assert not set(shown) & set(BIDI)
    assert len(shown) <= 10 * PEER_TEXT_CHARS_MAX
    shown.encode()


def test_long_text_is_cut_and_says_so() -> None:
    assert escape("x" * PEER_TEXT_CHARS_MAX) == "x" * PEER_TEXT_CHARS_MAX
    assert escape("x" * 129) == "x" * 127 + "…"
    assert escape("abcdef", 3) == "ab…"


@given(st.binary(min_size=32, max_size=32), st.integers(0, 52), st.binary(min_size=32, max_size=32))
def test_the_ids_that_begin_with_a_text_lie_in_one_range(data: bytes, length: int, other: bytes) -> None:
    prefix = to_base32(data)[:length]
    bounds = base32_range(prefix, 32)
    assert bounds is not None
    for each in (data, other, *bounds):
        assert to_base32(each).startswith(prefix) == (bounds[0] <= each <= bounds[1])


@pytest.mark.parametrize("text", ["A", "0", "a b", "é", "a" * 53, "a" * 51 + "b", "a" * 400])
def test_a_text_with_which_no_id_begins_has_no_range(text: str) -> None:
    assert base32_range(text, 32) is None


# -- columns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "columns"), [("", 0), ("küche", 5), ("ku\u0308che", 5), ("台所", 4), ("a b", 3)])
def test_a_text_takes_so_many_columns_of_a_terminal(text: str, columns: int) -> None:
    assert columns_of(text) == columns
