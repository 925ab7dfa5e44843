"""Two lives of one store: the versions of a record that are signed again (PROTOCOL.md §5.6)."""

from collections.abc import Collection, Sequence
from itertools import permutations

import pytest

from echonode.clock import Timestamp
from echonode.model.heads import select
from echonode.model.identity import IdentityId, Instance, SigningKey, writer_of
from echonode.model.other_life import Fork, signed_again, to_sign_again
from echonode.model.record import MAIN, Draft, Record, VersionId, sign, supersedes

KEY, PEER = SigningKey(bytes(31) + b"\x01"), SigningKey(bytes(31) + b"\x02")
SHARED, NEW, THEIRS = Instance(b"two life"), Instance(b"new life"), Instance(b"of peer.")
OWN, RENEWED, OTHER = writer_of(KEY.public, SHARED), writer_of(KEY.public, NEW), writer_of(PEER.public, THEIRS)
AUTHOR = IdentityId(bytes(32))


def version(
    counter: int,
    at: int,
    body: bytes = b"",
    over: Sequence[Record] = (),
    *,
    by: tuple[SigningKey, Instance] = (KEY, SHARED),
) -> Record:
    """Return a version with that counter and time, that has seen `over`; by the store with two lives unless said."""
    key, instance = by
    vector = {writer: seen for head in over for writer, seen in head.vector.items()}
    for head in over:
        for writer, seen in head.vector.items():
            vector[writer] = max(seen, vector[writer])
    vector[writer_of(key.public, instance)] = counter
    draft = Draft(context=MAIN, author=AUTHOR, name="a", body=body or f"{counter} at {at}".encode())
    return sign(draft, key, instance=instance, vector=vector, timestamp=Timestamp(at << 16))


def by_peer(counter: int, at: int, over: Sequence[Record]) -> Record:
    return version(counter, at, b"", over, by=(PEER, THEIRS))


# Both lives know BEFORE. Then the other life wrote LOST and LATER, and after the disk went back this one wrote OURS.
BEFORE = version(10, 1)
LOST = version(12, 2, b"lost", [BEFORE])
LATER = version(20, 3, b"later", [LOST])
OURS = version(15, 5, b"ours", [BEFORE])
FORK = Fork.proven_by(LATER)


def due(
    held: Collection[Record], ours: Collection[Record], lost: Collection[Record], fork: Fork = FORK
) -> set[VersionId]:
    """Return the ids of what is signed again of `held`, in whatever order it stands."""
    lives = {each.id: True for each in ours} | {each.id: False for each in lost}
    found = {
        frozenset(each.id for each in to_sign_again(order, {OWN: fork}, lambda one: lives.get(one.id)))
        for order in permutations(held)
    }
    (result,) = found
    return set(result)


def test_the_fork_is_before_what_has_a_counter_or_a_time_behind_it():
    assert not FORK.is_before(BEFORE)
    assert FORK.is_before(OURS), "by its time"
    assert FORK.is_before(version(20, 1)), "by its counter"
    assert not FORK.is_before(version(19, 3))
    earlier = FORK.joined(Fork(SHARED, 12, Timestamp(9 << 16)))
    assert earlier == Fork(SHARED, 12, FORK.timestamp)
    assert earlier.is_before(version(12, 1)) and not earlier.is_before(version(11, 3))


def test_a_version_of_ours_that_the_other_life_supersedes_unseen_is_due():
    assert supersedes(LATER, OURS)
    assert due([BEFORE, LATER, OURS], [BEFORE, OURS], [LATER]) == {OURS.id}


def test_a_version_of_the_other_life_that_ours_supersede_unseen_is_due():
    assert supersedes(OURS, LOST)
    assert due([BEFORE, LOST, OURS], [BEFORE, OURS], [LOST]) == {LOST.id}


def test_nothing_is_due_after_a_rollback_of_a_node_that_did_not_write_since():
    edited = by_peer(1, 4, [LATER])
    assert due([BEFORE, LOST, LATER, edited], [BEFORE], [LOST, LATER]) == set()


def test_a_version_that_a_peer_made_over_the_other_life_hides_ours_too():
    for at in (4, 9):
        edited = by_peer(1, at, [LATER])
        assert due([BEFORE, OURS, edited], [BEFORE, OURS], []) == {OURS.id}


def test_a_version_that_a_peer_made_over_ours_is_a_plain_edit():
    edited = by_peer(1, 9, [OURS])
    assert due([BEFORE, OURS, edited], [BEFORE, OURS], []) == set()
    assert due([BEFORE, LOST, OURS, edited], [BEFORE, OURS], [LOST]) == {LOST.id}


def test_what_each_life_wrote_over_its_own_is_not_due():
    ours = version(16, 6, b"again", [OURS])
    assert due([BEFORE, OURS, ours], [BEFORE, OURS, ours], []) == set()
    assert due([BEFORE, LOST, LATER], [BEFORE], [LOST, LATER]) == set()
    assert due([BEFORE, OURS, ours, LATER], [BEFORE, OURS, ours], [LATER]) == {ours.id}, "it stands for the earlier one"


def test_a_version_of_the_other_life_that_is_superseded_by_one_not_held_is_not_due():
    edited = by_peer(1, 9, [LATER])
    assert due([LOST, edited], [], [LOST]) == set()


def test_a_version_under_the_same_dot_is_due_if_what_supersedes_it_is_earlier():
    ours = version(12, 5, b"ours", [BEFORE])
    assert due([BEFORE, ours, by_peer(1, 4, [LOST])], [BEFORE, ours], []) == {ours.id}
    assert due([BEFORE, ours, by_peer(1, 9, [LOST])], [BEFORE, ours], []) == set()
    assert due([BEFORE, ours, LOST], [BEFORE, ours], [LOST]) == set(), "both are heads"


def test_what_was_signed_again_is_not_due_again():
    again = signed_again(OURS, KEY)
    assert due([BEFORE, LATER, OURS, again], [BEFORE, OURS], [LATER]) == set()
    for other in (signed_again(LATER, KEY), signed_again(OURS, PEER), version(1, 5, b"ours", by=(KEY, NEW))):
        assert due([BEFORE, LATER, OURS, other], [BEFORE, OURS], [LATER]) == {OURS.id}


def test_what_is_signed_again_says_the_same_and_stands_beside_both_lives():
    base = by_peer(3, 1, [])
    ours, lost = version(15, 5, b"ours", [BEFORE, base]), version(12, 2, b"lost", [BEFORE, base])
    again = [signed_again(each, KEY) for each in (ours, lost)]
    for new, old in zip(again, (ours, lost), strict=True):
        assert old.draft().is_same_as(new)
        assert (new.timestamp, new.created_ms, new.kid) == (old.timestamp, old.created_ms, old.kid)
        assert new.vector == {OTHER: 3, new.writer: 1}
        assert signed_again(old, KEY).raw == new.raw, "whoever does it"
    held = [ours, lost, *again]
    assert {each.id for each in select(held).heads} == {ours.id, *(each.id for each in again)}
    assert supersedes(again[0], base)


@pytest.mark.parametrize("who", ["nobody knows", "no fork"])
def test_what_is_of_no_known_life_is_left_alone(who: str):
    if who == "nobody knows":
        assert due([BEFORE, LATER, OURS], [], []) == set()
    else:
        assert to_sign_again([BEFORE, LATER, OURS], {RENEWED: FORK}, lambda one: one.id == OURS.id) == []
