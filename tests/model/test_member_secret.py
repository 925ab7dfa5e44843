"""The network secret: one text for key and pool seed, and plain sentences for what is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode.errors import ConfigError
from echonode.model.member_secret import MemberSecret
from echonode.text import to_base32

SECRETS = st.binary(min_size=64, max_size=64).map(MemberSecret.from_bytes)
TEXT = MemberSecret.from_bytes(bytes(range(64))).to_text()


@given(SECRETS)
def test_a_secret_comes_back_from_its_text_and_from_its_bytes(secret: MemberSecret) -> None:
    text = secret.to_text()
    assert len(text) == 112
    assert MemberSecret.from_text(text) == MemberSecret.from_text(f"  {text[:50].upper()}\n {text[50:]}\n") == secret
    assert MemberSecret.from_bytes(secret.to_bytes()) == secret


@given(SECRETS, st.integers(0, 111), st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_one_mistyped_letter_is_noticed(secret: MemberSecret, at: int, letter: str) -> None:
    text = secret.to_text()
    mistyped = text[:at] + letter + text[at + 1 :]
    if mistyped != text:
        with pytest.raises(ConfigError, match="mistyped"):
            MemberSecret.from_text(mistyped)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "112 letters and digits are expected"),
        (TEXT[:-1], "not 111"),
        (TEXT + "a", "not 113"),
        (TEXT[:51] + "1", "not a network key"),
        (TEXT[:-1] + "1", "only the letters"),
        (TEXT[:-1] + "é", "only the letters"),
    ],
)
def test_less_than_a_whole_secret_is_refused_in_a_sentence_that_does_not_repeat_it(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as refused:
        MemberSecret.from_text(text)
    assert len(text) < 2 or text not in str(refused.value)


def test_a_key_alone_replaces_that_of_the_present_secret_and_has_a_derived_seed_without_one() -> None:
    present, key = MemberSecret.from_bytes(bytes(range(64))), b"k" * 32
    text = f" {to_base32(key).upper()}\n"
    assert MemberSecret.from_text(text) == MemberSecret.of_lone_key(key)
    assert MemberSecret.from_text(text, present) == MemberSecret(key, present.pool_seed)
    assert MemberSecret.from_text(present.to_text(), MemberSecret.of_lone_key(key)) == present


def test_a_lone_key_gives_one_seed_and_another_key_another() -> None:
    one, two = MemberSecret.of_lone_key(b"k" * 32), MemberSecret.of_lone_key(b"l" * 32)
    assert one == MemberSecret.of_lone_key(b"k" * 32)
    assert one.pool_seed != two.pool_seed


def test_a_secret_is_not_shown_by_a_log_line() -> None:
    assert repr(MemberSecret.from_bytes(b"s" * 64)) == "MemberSecret()"
