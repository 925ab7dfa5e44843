"""AUTH between two real channels: the honest proof is accepted, every other is refused (SECURITY.md H3-H6)."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode import cbor
from echonode.clock import Timestamp
from echonode.digest import OFFERS, digest
from echonode.errors import Reason, RemoteError
from echonode.model.identity import (
    Identity,
    Instance,
    Pool,
    PoolKind,
    PublicKey,
    SigningKey,
    identity_of,
    shared_pool,
    writer_of,
)
from echonode.model.keys import KeyState, member_draft, statement_draft
from echonode.model.record import Draft, Record, sign
from echonode.wire.auth import check, offer
from echonode.wire.channel import Channel
from echonode.wire.codec import decode, encode
from echonode.wire.messages import Auth, IdentityOffer
from tests.wire.ends import MEMBER_SECRET, channels, key

INSTANCE = Instance(bytes(8))
POOL = shared_pool(MEMBER_SECRET.pool_seed)
ALICE = Identity.from_seeds(key("alice root"), key("alice device"))
BOB = Identity.from_seeds(key("bob root"), key("bob device"))


def written(draft: Draft, signer: SigningKey) -> Record:
    vector = {writer_of(signer.public, INSTANCE): 1}
    return sign(draft, signer, instance=INSTANCE, vector=vector, timestamp=Timestamp(1 << 16))


def statement(root: SigningKey, device: PublicKey, state: KeyState = KeyState.ACTIVE) -> Record:
    return written(statement_draft(identity_of(root.public), device, state), root)


def own(who: Identity) -> Record:
    return statement(who.root, who.device.public)


def member(who: Identity) -> Record:
    return listed(POOL, who)


def listed(pool: Pool, who: Identity) -> Record:
    return written(member_draft(pool, who.id, who.device), pool.root)


def refused(channel: Channel, auth: Auth, reason: Reason = Reason.PROTOCOL_ERROR) -> str:
    with pytest.raises(RemoteError) as caught:
        check(channel, decode(encode(auth)))  # type: ignore[arg-type]
    assert caught.value.reason is reason
    return caught.value.detail


def by_hand(channel: Channel, who: Identity, statements: Sequence[Record], **changed: Any) -> Auth:
    """Return an Auth built from PROTOCOL.md §5.2, with parts of the signed bytes exchanged."""
    device = who.device.public
    parts = {
        "domain": "echonode auth 1",
        "role": 0 if channel.is_initiator else 1,
        "handshake_hash": channel.handshake_hash,
        "static": channel.own_static,
        "node": statements[0].author,
        "offers": digest(OFFERS, cbor.encode([[each.author, device] for each in statements])),
    }
    signature = who.device.sign(cbor.encode(list((parts | changed).values())))
    return Auth(tuple(IdentityOffer(each.author, device, each.raw, signature) for each in statements))


# -- what is proved ----------------------------------------------------------------------------------------------------
def test_each_end_learns_who_the_other_is() -> None:
    ours, theirs = channels()
    for sender, receiver, who in ((ours, theirs, ALICE), (theirs, ours, BOB)):
        peer = check(receiver, offer(sender, who.device, [own(who)]))
        assert (peer.id, peer.key) == (who.id, who.device.public)
        assert [each.raw for each in peer.statements] == [own(who).raw]


def test_pools_come_behind_the_nodes_own_identity() -> None:
    ours, theirs = channels()
    auth = offer(ours, ALICE.device, [own(ALICE), member(ALICE)])
    peer = check(theirs, auth)
    assert peer.id == ALICE.id
    assert [each.author for each in peer.statements] == [ALICE.id, POOL.id]


def test_what_is_signed_is_what_the_document_says() -> None:
    for channel in channels():
        assert by_hand(channel, ALICE, [own(ALICE), member(ALICE)]) == offer(
            channel, ALICE.device, [own(ALICE), member(ALICE)]
        )


# -- what is not -------------------------------------------------------------------------------------------------------
def test_an_auth_reflected_to_its_maker_proves_nothing() -> None:
    for channel in channels():
        assert "not that of the offered key" in refused(channel, offer(channel, ALICE.device, [own(ALICE)]))


def test_the_role_alone_keeps_two_ends_apart() -> None:
    ours, theirs = channels()
    assert check(theirs, by_hand(ours, ALICE, [own(ALICE)], role=0)).id == ALICE.id
    refused(theirs, by_hand(ours, ALICE, [own(ALICE)], role=1))
    refused(ours, by_hand(theirs, ALICE, [own(ALICE)], role=0))


def test_an_auth_of_another_connection_proves_nothing() -> None:
    earlier, _ = channels(seed="earlier")
    _, theirs = channels(seed="now")
    refused(theirs, offer(earlier, ALICE.device, [own(ALICE)]))


@pytest.mark.parametrize(
    "changed",
    [
        {"domain": "echonode auth 2"},
        {"role": False},
        {"handshake_hash": bytes(32)},
        {"static": bytes(32)},
        {"node": BOB.id},
        {"offers": bytes(32)},
        {"more": b""},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_every_part_of_what_is_signed_counts(changed: dict[str, Any]) -> None:
    ours, theirs = channels()
    refused(theirs, by_hand(ours, ALICE, [own(ALICE)], **changed))


def test_an_offer_list_cannot_be_altered() -> None:
    ours, theirs = channels()
    two = offer(ours, ALICE.device, [own(ALICE), member(ALICE)]).offers
    one = offer(ours, ALICE.device, [own(ALICE)]).offers
    for offers in (two[:1], two[1:], two[::-1], (*two, two[1]), (one[0], two[1]), (two[0], one[0])):
        refused(theirs, Auth(offers))


def test_an_offer_cannot_be_given_another_identity_or_key() -> None:
    ours, theirs = channels()
    (one,) = offer(ours, ALICE.device, [own(ALICE)]).offers
    for changed in (
        replace(one, identity=BOB.id),
        replace(one, key=BOB.device.public),
        replace(one, signature=bytes(64)),
        replace(one, signature=BOB.device.sign(b"")),
    ):
        refused(theirs, Auth((changed,)))


def test_a_key_of_small_order_signs_nothing() -> None:
    ours, theirs = channels()
    (one,) = offer(ours, ALICE.device, [own(ALICE)]).offers
    for point in (bytes(32), b"\x01" + bytes(31)):
        refused(theirs, Auth((replace(one, key=point, signature=b"\x01" + bytes(63)),)))


@given(st.booleans(), st.data())
def test_an_auth_altered_anywhere_is_no_message_or_proves_nothing(by_initiator: bool, change: st.DataObject) -> None:
    sender, checker = channels() if by_initiator else channels()[::-1]
    honest = encode(offer(sender, ALICE.device, [own(ALICE), member(ALICE)]))
    start = change.draw(st.integers(0, len(honest)))
    end = change.draw(st.integers(start, min(start + 64, len(honest))))
    altered = honest[:start] + change.draw(st.binary(max_size=64)) + honest[end:]
    try:
        auth = decode(altered)
        assert isinstance(auth, Auth)
        check(checker, auth)
    except RemoteError:
        assert altered != honest
    else:
        assert altered == honest


# -- statements --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("state", [KeyState.RETIRED, KeyState.COMPROMISED])
def test_a_statement_that_the_key_is_not_active_backs_no_offer(state: KeyState) -> None:
    ours, theirs = channels()
    ended = statement(ALICE.root, ALICE.device.public, state)
    assert "does not state" in refused(theirs, offer(ours, ALICE.device, [ended]))


def test_somebody_elses_statement_backs_no_offer() -> None:
    ours, theirs = channels()
    of_another_key = statement(ALICE.root, BOB.device.public)
    assert "does not state" in refused(theirs, offer(ours, ALICE.device, [of_another_key]))
    (one,) = by_hand(ours, ALICE, [own(ALICE)]).offers
    for foreign in (own(BOB), statement(BOB.root, ALICE.device.public), member(ALICE)):
        assert "does not state" in refused(theirs, Auth((replace(one, statement=foreign.raw),)))


def test_a_pool_offer_needs_the_pools_own_statement() -> None:
    ours, theirs = channels()
    auth = offer(ours, ALICE.device, [own(ALICE), member(ALICE)])
    alien = replace(auth.offers[1], statement=own(ALICE).raw)
    assert "does not state" in refused(theirs, Auth((auth.offers[0], alien)))


def test_a_tombstone_in_place_of_a_statement_backs_no_offer() -> None:
    ours, theirs = channels()
    name = own(ALICE).name
    grave = written(Draft(context="identities", author=ALICE.id, name=name, is_tombstone=True), ALICE.root)
    assert "does not state" in refused(theirs, offer(ours, ALICE.device, [grave]))


def test_a_statement_of_another_context_backs_no_offer() -> None:
    ours, theirs = channels()
    draft = statement_draft(ALICE.id, ALICE.device.public, KeyState.ACTIVE)
    elsewhere = written(replace(draft, context="main"), ALICE.root)
    assert "does not state" in refused(theirs, offer(ours, ALICE.device, [elsewhere]))


def test_a_device_key_cannot_state_itself() -> None:
    ours, theirs = channels()
    draft = statement_draft(ALICE.id, ALICE.device.public, KeyState.ACTIVE)
    detail = refused(theirs, offer(ours, ALICE.device, [written(draft, ALICE.device)]), Reason.BAD_RECORD)
    assert "root key" in detail


def test_a_record_that_is_no_statement_or_no_record_backs_no_offer() -> None:
    ours, theirs = channels()
    note = written(Draft(context="identities", author=ALICE.id, name="note", body=b"hello"), ALICE.root)
    refused(theirs, offer(ours, ALICE.device, [note]), Reason.PROTOCOL_ERROR)
    (one,) = offer(ours, ALICE.device, [own(ALICE)]).offers
    refused(theirs, Auth((replace(one, statement=b"statement"),)), Reason.BAD_RECORD)
    flipped = bytearray(own(ALICE).raw)
    flipped[-1] ^= 1
    refused(theirs, Auth((replace(one, statement=bytes(flipped)),)), Reason.BAD_RECORD)


def test_the_largest_auth_of_a_member_stays_within_its_frame() -> None:
    ours, theirs = channels()
    pools = [POOL, *[Pool(PoolKind.CLOSED, SigningKey(key(f"pool {number}"))) for number in range(3)]]
    auth = offer(ours, ALICE.device, [own(ALICE), *[listed(pool, ALICE) for pool in pools]])
    assert theirs.receive_data(ours.send(encode(auth))) == [encode(auth)]
    assert len(check(theirs, auth).statements) == 5


def test_a_pool_is_no_node_and_lists_nobody_but_the_node_that_offers_it() -> None:
    ours, theirs = channels()
    assert "does not state" in refused(theirs, offer(ours, ALICE.device, [member(ALICE)]))
    somebody = Identity(BOB.root_public, ALICE.device, BOB.root)
    assert "does not state" in refused(theirs, offer(ours, ALICE.device, [own(ALICE), listed(POOL, somebody)]))
    assert "does not state" in refused(
        theirs, offer(ours, ALICE.device, [own(ALICE), statement(BOB.root, ALICE.device.public)])
    )
