"""Rotations: their bytes, what a node does about one (PROTOCOL.md §10.4), and the secrets of the past."""

from dataclasses import replace

import pytest

from echonode import cbor
from echonode.clock import Timestamp
from echonode.errors import RemoteError
from echonode.limits import PAST_NETWORKS_MAX, ROTATION_MEMBERS_MAX, ROTATION_SERVED_MS
from echonode.model.identity import Identity, IdentityId, Instance, writer_of
from echonode.model.keys import KeyState, statement_draft
from echonode.model.member_secret import MemberSecret
from echonode.model.past_networks import (
    PastNetwork,
    chain_to,
    left_for,
    read_past,
    steps_from,
    write_past,
)
from echonode.model.record import Record, sign
from echonode.model.rotation import Rotation, Verdict, judge, read_rotation, sign_rotation
from echonode.wire.channel import NetworkSecret

A, B, C, X = (Identity.from_seeds(bytes([n]) * 32, bytes([n + 100]) * 32) for n in range(1, 5))
ALL = (A, B, C, X)


def secret(number: int) -> MemberSecret:
    return MemberSecret.from_bytes(bytes([number]) * 64)


def statement(who: Identity) -> Record:
    instance = Instance(bytes(8))
    draft = statement_draft(who.id, who.device.public, KeyState.ACTIVE)
    vector = {writer_of(who.root.public, instance): 1}
    return sign(draft, who.root, instance=instance, vector=vector, timestamp=Timestamp(1))


def rotation(parent: int, new: int, by: Identity = A, members: tuple[Identity, ...] = ALL) -> Rotation:
    return sign_rotation(
        secret(parent).netid,
        secret(new),
        rotator=by.id,
        device=by.device,
        statement=statement(by).raw,
        members=[each.id for each in members],
        without=[each.id for each in ALL if each not in members],
    )


def ranked(by: Identity = B, members: tuple[Identity, ...] = ALL, *, above: Rotation | None, of: int = 1) -> Rotation:
    """Return a rotation of secret `of` that ranks above `above`, or below the highest one could."""
    for new in range(10, 250):
        found = rotation(of, new, by, members)
        if above is not None and found.rank > above.rank:
            return found
    raise AssertionError("no rank is as high")


def test_a_rotation_is_read_again_and_its_netid_is_that_of_the_channel() -> None:
    made = rotation(1, 2)
    assert read_rotation(made.signed, made.signature, made.statement) == made
    assert made.members == {each.id for each in ALL}
    assert secret(1).netid == NetworkSecret.private(secret(1).key).netid == made.parent
    assert made.commitment == secret(2).commitment != secret(1).commitment


IDS = sorted(each.id for each in ALL)
FIELDS = cbor.decode(rotation(1, 2).signed)
assert isinstance(FIELDS, list)


@pytest.mark.parametrize(
    "fields",
    [
        ["echonode rotation 2", *FIELDS[1:]],
        FIELDS[:-1],
        [*FIELDS, 1],
        [FIELDS[0], bytes(31), *FIELDS[2:]],
        [*FIELDS[:2], bytes(33), *FIELDS[3:]],
        [*FIELDS[:3], C.id, *FIELDS[4:]],
        [*FIELDS[:4], C.device.public, *FIELDS[5:]],
        [*FIELDS[:5], IDS[::-1], []],
        [*FIELDS[:5], [IDS[0], IDS[0]], []],
        [*FIELDS[:5], [bytes(31)], []],
        [*FIELDS[:5], [1], []],
        [*FIELDS[:5], IDS, [n.to_bytes(32, "big") for n in range(ROTATION_MEMBERS_MAX + 1)]],
        "not a list",
    ],
)
def test_a_malformed_rotation_is_refused_even_when_signed(fields: cbor.Value) -> None:
    signed = cbor.encode(fields)
    with pytest.raises(RemoteError):
        read_rotation(signed, A.device.sign(signed), statement(A).raw)


def test_a_rotation_with_another_signature_or_statement_is_refused() -> None:
    made = rotation(1, 2)
    for signature, about in (
        (B.device.sign(made.signed), made.statement),
        (made.signature, statement(B).raw),
        (made.signature, b"no record"),
    ):
        with pytest.raises(RemoteError):
            read_rotation(made.signed, signature, about)


LOW = min((rotation(1, new) for new in range(10, 60)), key=lambda each: each.rank)
HIGH = ranked(above=LOW)
WITHOUT_X = min((rotation(1, new, A, (A, B, C)) for new in range(10, 60)), key=lambda each: each.rank)
LATER_WITHOUT_X = rotation(2, 3, B, (A, B, C))
LOW_TO_2, HIGH_TO_2 = (replace(each, commitment=secret(2).commitment) for each in (LOW, HIGH))
LATER = rotation(2, 3, B)

# (row of the table in PROTOCOL.md §10.4, offered, the netid of the node, the rotations by which it came there, verdict)
TABLE = [
    ("the parent is the present network", LOW, 1, [], Verdict.TAKE),
    ("the same, after an earlier rotation", rotation(2, 3), 2, [LOW], Verdict.TAKE),
    ("the present network, and it does not name me", rotation(1, 2, A, (A, B, X)), 1, [], Verdict.LEFT_OUT),
    ("a rotation that I follow already", LOW, 2, [LOW], Verdict.KEEP),
    ("a greater rank than mine", HIGH, 2, [LOW], Verdict.TAKE),
    ("a smaller rank than mine", LOW, 2, [HIGH], Verdict.KEEP),
    ("a greater rank, without me", ranked(B, (A, B, X), above=LOW), 2, [LOW], Verdict.KEEP),
    ("a greater rank, by one left out", ranked(X, above=WITHOUT_X), 2, [WITHOUT_X], Verdict.KEEP),
    ("a greater rank, by one left out later", ranked(X, above=LOW), 3, [LOW_TO_2, LATER_WITHOUT_X], Verdict.KEEP),
    ("a greater rank at an earlier place", HIGH, 3, [LOW_TO_2, LATER], Verdict.TAKE),
    ("a greater rank, where mine leaves somebody out", HIGH, 2, [WITHOUT_X], Verdict.KEEP),
    ("a greater rank, where mine does so later", HIGH, 3, [LOW_TO_2, LATER_WITHOUT_X], Verdict.KEEP),
    ("a smaller rank that leaves somebody out", WITHOUT_X, 2, [HIGH], Verdict.TAKE),
    ("the same, and I leave somebody out later", WITHOUT_X, 3, [HIGH_TO_2, LATER_WITHOUT_X], Verdict.KEEP),
    ("another network", rotation(7, 8), 1, [], Verdict.FOREIGN),
    ("another network, after a rotation", rotation(7, 8), 2, [LOW], Verdict.FOREIGN),
]


@pytest.mark.parametrize(("row", "offered", "network", "chain", "verdict"), TABLE, ids=[row[0] for row in TABLE])
def test_what_a_node_does_about_a_rotation(row, offered, network, chain, verdict) -> None:
    assert judge(offered, me=C.id, network=secret(network).netid, chain=chain) is verdict


def test_what_was_told_behind_a_rotation_counts_as_far_as_it_names_me() -> None:
    behind, without_me = rotation(9, 3, B, (A, B, C)), rotation(9, 3, B, (A, B))

    def verdict(*later: Rotation, offered: Rotation = LOW) -> Verdict:
        return judge(offered, later=later, me=C.id, network=secret(2).netid, chain=[HIGH_TO_2])

    assert verdict() is verdict(LATER) is verdict(without_me) is verdict(LATER, without_me) is Verdict.KEEP
    assert verdict(behind) is verdict(LATER, behind) is Verdict.TAKE
    assert verdict(behind, offered=HIGH_TO_2) is Verdict.KEEP, "it is followed: what is behind it is judged next"


def test_who_was_left_out_gets_back_by_no_rotation_behind_that_of_a_member() -> None:
    """B rotated before it heard that X is left out. X follows B, and then leaves out somebody itself."""
    by_b = replace(ranked(above=WITHOUT_X), commitment=secret(2).commitment)

    def by_x(*members: Identity) -> Rotation:
        return rotation(2, 3, X, members)

    def verdict(offered: Rotation, *later: Rotation, chain: list[Rotation], network: int) -> Verdict:
        return judge(offered, later=later, me=C.id, network=secret(network).netid, chain=chain)

    for behind in (by_x(A, C, X), by_x(B, C, X)):
        assert verdict(by_b, behind, chain=[WITHOUT_X], network=9) is Verdict.KEEP
    assert verdict(WITHOUT_X, chain=[by_b, by_x(A, C, X)], network=3) is Verdict.TAKE
    assert verdict(WITHOUT_X, chain=[by_b, by_x(B, C, X)], network=3) is Verdict.KEEP, "the one who left X out is out"


def moved(present: int, past: tuple[PastNetwork, ...], by: Rotation | None, new: int, now_ms: int = 5):
    return left_for(secret(new), by, present=secret(present), past=past, now_ms=now_ms)


def test_steps_lead_from_every_past_secret_to_the_present_one() -> None:
    one, two = rotation(1, 2), rotation(2, 3)
    past = moved(2, moved(1, (), one, 2), two, 3)
    assert chain_to(secret(3), past) == [one, two]
    assert [step.rotation for step in steps_from(secret(1).netid, secret(3), past)] == [one, two]
    assert [step.secret for step in steps_from(secret(1).netid, secret(3), past)] == [secret(2), secret(3)]
    assert [step.secret for step in steps_from(secret(2).netid, secret(3), past)] == [secret(3)]
    assert steps_from(secret(3).netid, secret(3), past) == steps_from(secret(9).netid, secret(3), past) == []


def test_a_beaten_branch_leads_to_the_rotation_that_counts() -> None:
    ours, later, theirs = rotation(1, 2), rotation(2, 3), rotation(1, 4, B)
    past = moved(2, moved(1, (), ours, 2), later, 3)
    past = moved(3, past, theirs, 4)
    assert chain_to(secret(4), past) == [theirs]
    for number in (1, 2, 3):
        assert [step.secret for step in steps_from(secret(number).netid, secret(4), past)] == [secret(4)]


def test_a_branch_that_was_beaten_before_leads_to_the_rotation_that_counts_now() -> None:
    first, second, third = (rotation(1, new, B) for new in (2, 3, 4))
    past = moved(3, moved(2, moved(1, (), first, 2), second, 3), third, 4)
    assert chain_to(secret(4), past) == [third]
    for number in (1, 2, 3):
        assert [step.rotation for step in steps_from(secret(number).netid, secret(4), past)] == [third]


def test_a_rotation_without_what_it_led_to_leads_nowhere_and_an_unknown_beginning_ends_the_chain() -> None:
    away = PastNetwork(secret(1), 0, rotation(1, 2))
    assert steps_from(secret(1).netid, secret(3), (away,)) == []
    late = PastNetwork(secret(9), 0, rotation(1, 2))
    assert chain_to(secret(2), (late,)) == [late.rotation]


def test_a_network_that_a_person_left_is_kept_and_not_served() -> None:
    past = moved(1, (), None, 9)
    assert [(each.secret, each.is_served(5)) for each in past] == [(secret(1), False)]
    assert chain_to(secret(9), past) == steps_from(secret(1).netid, secret(9), past) == []
    assert [each.secret for each in moved(9, past, None, 1)] == [secret(9)], "the one that is taken again is not past"


def test_a_past_secret_is_served_for_ninety_days() -> None:
    (each,) = moved(1, (), rotation(1, 2), 2, now_ms=1000)
    assert each.is_served(1000 + ROTATION_SERVED_MS - 1)
    assert not each.is_served(1000 + ROTATION_SERVED_MS)


def test_past_networks_come_back_from_their_bytes_and_the_oldest_are_dropped() -> None:
    past: tuple[PastNetwork, ...] = ()
    for number in range(1, PAST_NETWORKS_MAX + 3):
        by = rotation(number, number + 1) if number % 2 else None
        past = moved(number, past, by, number + 1, now_ms=number)
    assert [each.left_ms for each in past] == list(range(3, PAST_NETWORKS_MAX + 3))
    assert read_past(write_past(past)) == past
    for damaged in (b"", b"\x80x", write_past(past)[:-1], cbor.encode([[b"short", 1, None]]), cbor.encode(1)):
        with pytest.raises(ValueError):
            read_past(damaged)


def test_what_is_to_be_copied_is_kept_until_another_rotation_counts_in_place_of_ours() -> None:
    ours = rotation(1, 2, members=(A, B, C))
    past = left_for(secret(2), ours, present=secret(1), past=(), now_ms=1, is_copied=False)
    assert [each.is_copied for each in past] == [False]
    assert read_past(write_past(past)) == past
    assert [each.is_copied for each in moved(2, past, rotation(2, 3), 3)] == [False, True]
    assert [each.is_copied for each in moved(2, past, rotation(1, 4, B), 4)] == [True, True]
    for damaged in ([[secret(1).to_bytes(), 1, None, True]], [[secret(1).to_bytes(), 1, None, False, False]]):
        with pytest.raises(ValueError):
            read_past(cbor.encode(damaged))


def test_an_unnamed_identity_is_in_no_list() -> None:
    assert IdentityId(bytes(32)) not in rotation(1, 2).members | rotation(1, 2).without
