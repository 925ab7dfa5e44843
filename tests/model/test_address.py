"""Addresses of records: every form, and that no foreign id, label or pool takes a name from this node's records."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode.errors import LocalError
from echonode.model.address import (
    IdAddress,
    LabelAddress,
    OwnAddress,
    SharedAddress,
    author_text,
    distinct_label,
    find_label,
    fitting,
    id_prefixes,
    is_findable,
    maybe_id,
    parse_address,
)
from echonode.model.identity import IdentityId
from echonode.text import to_base32

ONE, TWO, THREE = (IdentityId(bytes((number,)) * 32) for number in (1, 2, 3))
ALIKE = IdentityId(bytes((1,)) * 31 + b"\2")
ID = to_base32(ONE)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("todo", OwnAddress("todo")),
        ("todo/milk", OwnAddress("todo/milk")),
        ("a/b/c", OwnAddress("a/b/c")),
        ("/a", OwnAddress("/a")),
        ("", OwnAddress("")),
        ("me", OwnAddress("me")),
        ("me/", OwnAddress("me/")),
        ("me/todo", OwnAddress("todo")),
        ("me/me/todo", OwnAddress("me/todo")),
        ("me/shared/plan", OwnAddress("shared/plan")),
        ("me/@bob/x", OwnAddress("@bob/x")),
        (f"me/{ID}/x", OwnAddress(f"{ID}/x")),
        ("Me/todo", OwnAddress("Me/todo")),
        ("shared", OwnAddress("shared")),
        ("shared/", OwnAddress("shared/")),
        ("shared/plan", SharedAddress("plan")),
        ("shared/me/x", SharedAddress("me/x")),
        (f"{ID}/x", IdAddress(ONE, "x")),
        (f"{ID}/x/y", IdAddress(ONE, "x/y")),
        (f"{ID}/", OwnAddress(f"{ID}/")),
        (ID, OwnAddress(ID)),
        (f"{ID[:51]}/x", OwnAddress(f"{ID[:51]}/x")),
        (f"{ID.upper()}/x", OwnAddress(f"{ID.upper()}/x")),
        ("@bob/x", LabelAddress("bob", "x")),
        ("@bob/x/y", LabelAddress("bob", "x/y")),
        ("@me/x", LabelAddress("me", "x")),
        ("@two words/x", LabelAddress("two words", "x")),
    ],
)
def test_a_text_has_one_meaning(text: str, address: object) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["@", "@bob", "@/x", "@bob/", "@/"])
def test_a_label_without_a_name_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(LocalError, match=r"write @LABEL/NAME, or me/@"):
        parse_address(text)


@given(st.text(min_size=1))
def test_me_in_front_makes_every_name_an_own_one(name: str) -> None:
    assert parse_address(f"me/{name}") == OwnAddress(name)


LABELS = {ONE: "kitchen", TWO: "attic", THREE: "attic", ALIKE: "me"}


@pytest.mark.parametrize(
    ("text", "identity"), [("kitchen", ONE), (ID[:52], ONE), (to_base32(TWO)[:4], TWO), (to_base32(THREE)[:30], THREE)]
)
def test_an_identity_is_found_by_its_label_or_the_beginning_of_its_id(text: str, identity: IdentityId) -> None:
    assert find_label(text, LABELS) == identity


@pytest.mark.parametrize("text", ["cellar", "me", "shared", ID[:3] + "7", to_base32(TWO)[:3], ""])
def test_what_fits_nothing_is_not_found(text: str) -> None:
    with pytest.raises(LocalError, match="no node or pool is known as"):
        find_label(text, LABELS)


def test_what_fits_several_lists_their_ids() -> None:
    for text, both in (("attic", (TWO, THREE)), (ID[:10], (ONE, ALIKE))):
        with pytest.raises(LocalError) as refused:
            find_label(text, LABELS)
        assert all(to_base32(identity) in str(refused.value) for identity in both)


def test_a_label_that_is_the_beginning_of_another_id_is_ambiguous() -> None:
    with pytest.raises(LocalError, match="2 identities"):
        find_label(ID[:6], {ONE: "", TWO: ID[:6]})


def test_equal_labels_are_told_apart_by_as_much_of_the_ids_as_it_takes() -> None:
    labels = {ONE: "vm", TWO: "vm", ALIKE: "vm", THREE: "vm @abcd"}
    shown = {identity: distinct_label(identity, labels) for identity in labels}
    assert shown[TWO] == f"vm @{to_base32(TWO)[:4]}"
    assert len(shown[ONE]) == len(shown[ALIKE]) > len(shown[TWO])
    assert shown[THREE] == f"vm @abcd @{to_base32(THREE)[:4]}"
    assert {find_label(text, labels) for text in shown.values()} == set(labels)
    assert distinct_label(ONE, {ONE: "vm"}) == "vm"
    assert find_label("vm @abcd", labels) == THREE  # no id of another `vm` begins like that


def test_labels_that_read_like_addresses_are_never_found_by() -> None:
    for label in ("me", "shared", "a/b", "@bob"):
        assert not is_findable(label)
        with pytest.raises(LocalError):
            find_label(label, {ONE: label})
    assert is_findable("kitchen") and is_findable("shared by all") and not is_findable("")


@given(
    labels=st.dictionaries(
        st.sampled_from([ONE, TWO, THREE, ALIKE]),
        st.sampled_from(["", "kitchen", "attic", "me", "a/b", "two words", "@x", ID[:8], "-x", "\x1b"]),
    ),
    author=st.sampled_from([ONE, TWO, THREE, ALIKE]),
)
def test_what_is_written_for_an_author_is_read_as_it(labels: dict[IdentityId, str], author: IdentityId) -> None:
    text = author_text(author, TWO, THREE, labels)
    match parse_address(f"{text}/x"):
        case OwnAddress("x"):
            assert author == TWO
        case SharedAddress("x"):
            assert author == THREE
        case IdAddress(identity, "x"):
            assert author == identity
        case LabelAddress(label, "x"):
            assert find_label(label, labels) == author
            assert label.isprintable() and " " not in label
        case other:
            raise AssertionError(other)


@given(
    labels=st.dictionaries(st.sampled_from([ONE, TWO, THREE, ALIKE]), st.sampled_from(["", "kitchen", ID[:8]])),
    text=st.sampled_from([ID[:3], ID[:4], ID[:8], ID, f"kitchen @{ID[:4]}", f" @{ID[:6]}", "kitchen"]),
)
def test_identities_without_a_label_are_found_by_the_prefixes_in_a_text(
    labels: dict[IdentityId, str], text: str
) -> None:
    prefixes = tuple(id_prefixes(text))
    named = {each: label for each, label in labels.items() if label or to_base32(each).startswith(prefixes)}
    assert fitting(text, named) == fitting(text, labels)


def test_an_author_is_written_as_short_as_is_clear() -> None:
    assert author_text(ONE, ONE, TWO, LABELS) == "me"
    assert author_text(ONE, THREE, ONE, LABELS) == "shared"
    assert author_text(ONE, THREE, None, LABELS) == "@kitchen"
    assert author_text(TWO, ONE, None, LABELS) == f"@{to_base32(TWO)[:8]}"  # another node has its label
    assert author_text(ALIKE, TWO, None, LABELS) == to_base32(ALIKE)  # another id begins like it
    assert author_text(TWO, ONE, None, {}) == to_base32(TWO)
    assert author_text(TWO, ONE, None, {TWO: "two words"}) == f"@{to_base32(TWO)[:8]}"


def test_only_a_whole_id_is_an_id() -> None:
    assert maybe_id(ID) == ONE
    assert maybe_id(ID[:51]) is maybe_id("") is maybe_id("kitchen") is None
