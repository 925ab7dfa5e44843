"""Invitations: codes as people type them, the exchange between two real ends, and the price of guesses."""

from collections.abc import Callable
from hashlib import blake2b
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl.bindings import crypto_aead_chacha20poly1305_ietf_decrypt
from spake2 import SPAKE2_A

from echonode.errors import ConfigError, LocalError, Reason, RemoteError
from echonode.limits import INVITATION_EXCHANGES_MAX, INVITATION_TRIES
from echonode.model.member_secret import MemberSecret
from echonode.wire.pairing import (
    CODE_ENTROPY_BYTES,
    Code,
    Invitation,
    PairingInitiator,
    PairingResponder,
    new_code,
    normalise_code,
    slot_of,
)
from echonode.wire.word_list import THREE_SYLLABLES, TWO_SYLLABLES

CODE = normalise_code("7-crossover-clockwork")
WRONG = normalise_code("7-crossover-cobra")
MEMBER_SECRET = MemberSecret.of_lone_key(bytes(range(32)))
HANDSHAKE_HASH = b"h" * 32


def entropy(seed: int) -> Callable[[int], bytes]:
    return Random(seed).randbytes


def joiner(code: Code = CODE, handshake_hash: bytes = HANDSHAKE_HASH, seed: int = 1) -> PairingInitiator:
    return PairingInitiator(code, handshake_hash=handshake_hash, entropy_f=entropy(seed))


def inviter(
    invitation: Invitation | None = None, handshake_hash: bytes = HANDSHAKE_HASH, seed: int = 2
) -> PairingResponder:
    return PairingResponder(
        invitation or open_invitation(), secret=MEMBER_SECRET, handshake_hash=handshake_hash, entropy_f=entropy(seed)
    )


def open_invitation(uses_left: int = 1) -> Invitation:
    return Invitation(CODE, expires_s=600.0, uses_left=uses_left)


def refuse_pairing(step: Callable[[], object]) -> str:
    with pytest.raises(RemoteError) as caught:
        step()
    assert caught.value.reason is Reason.PAIRING_FAILED
    return caught.value.detail


# -- codes -----------------------------------------------------------------------------------------------------------
def test_the_words_are_two_full_lists_with_nothing_in_common() -> None:
    assert len(set(TWO_SYLLABLES)) == len(set(THREE_SYLLABLES)) == 256
    assert not set(TWO_SYLLABLES) & set(THREE_SYLLABLES)
    assert all(word.isascii() and word.isalpha() and word.islower() for word in TWO_SYLLABLES + THREE_SYLLABLES)
    # Positions in the published list (byte 0x3b is clockwork/councilman, 0x3c cobra/crossover, ..): no word is missing.
    assert [TWO_SYLLABLES[byte] for byte in (0x00, 0x3B, 0x80, 0xB5, 0xFF)] == [
        "aardvark",
        "clockwork",
        "merit",
        "scorecard",
        "zulu",
    ]
    assert [THREE_SYLLABLES[byte] for byte in (0x00, 0x3C, 0x80, 0xB5, 0xFF)] == [
        "adroitness",
        "crossover",
        "intention",
        "positive",
        "yucatan",
    ]


@given(st.binary(min_size=CODE_ENTROPY_BYTES, max_size=CODE_ENTROPY_BYTES))
def test_a_new_code_is_already_normal(entropy_bytes: bytes) -> None:
    code = new_code(entropy_bytes)
    assert normalise_code(code) == code
    assert 1 <= int(slot_of(code)) <= 99


def test_every_word_and_every_slot_can_come_up() -> None:
    codes = [new_code(bytes([byte, byte]) + byte.to_bytes(8, "big")).split("-") for byte in range(256)]
    assert {code[0] for code in codes} == {str(slot) for slot in range(1, 100)}
    assert tuple(code[1] for code in codes) == THREE_SYLLABLES
    assert tuple(code[2] for code in codes) == TWO_SYLLABLES


def test_a_code_takes_its_exact_share_of_entropy() -> None:
    for size in (0, CODE_ENTROPY_BYTES - 1, CODE_ENTROPY_BYTES + 1):
        with pytest.raises(LocalError, match="random bytes"):
            new_code(bytes(size))


@pytest.mark.parametrize(
    "text",
    [
        "7-crossover-clockwork",
        "  7 Crossover clockwork\n",
        "7_CROSSOVER_CLOCKWORK",
        "07 - crossover - clockwork",
        "7--crossover--clockwork",
        "7\u2013crossover\u2014clockwork",
        "7\u2011crossover\u2012clockwork.",
        "\u201c7-crossover-clockwork\u201d",
        "\u00ab 7\u00a0crossover\u3000clockwork \u00bb",
        "\ufeff7-cross\u00adover-clockwork\u200b",
        "`7-crossover-clockwork`,",
        "- 7\u2212crossover\u2212clockwork!",
        "\uff17-\uff23rossover-clockwork",
    ],
)
def test_a_code_is_understood_however_it_is_typed(text: str) -> None:
    assert normalise_code(text) == "7-crossover-clockwork"
    assert slot_of(normalise_code(text)) == "7"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "7",
        "crossover-clockwork",
        "7-crossover",
        "7-crossover-clockwork-cobra",
        "0-crossover-clockwork",
        "100-crossover-clockwork",
        "x-crossover-clockwork",
        "٧-crossover-clockwork",
        "7-clockwork-crossover",
        "7-crossover-klockwork",
        "7-\x1b[31m-clockwork",
    ],
)
def test_what_is_no_code_is_refused_in_one_plain_sentence(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        normalise_code(text)
    sentence = str(caught.value)
    assert sentence.endswith(".") and sentence.count(".") == 1 and sentence.isprintable()


# -- the exchange ----------------------------------------------------------------------------------------------------
def test_a_joiner_with_the_code_gets_the_network_secret() -> None:
    invitation = open_invitation()
    theirs, ours = joiner(), inviter(invitation)
    share = ours.answer(theirs.start())
    confirmation, sealed = ours.finish(theirs.confirm(share), now_s=0.0)
    assert MEMBER_SECRET.key not in sealed
    assert theirs.accept(confirmation, sealed) == (MEMBER_SECRET, None)
    assert (invitation.uses_left, invitation.tries_left) == (0, INVITATION_TRIES)


class _NoPool:
    """Stands for what an inviter that keeps to no rule may seal in the place of a pool."""

    def to_bytes(self) -> bytes:
        return b"no pool"


def test_an_offer_that_is_no_pool_fails_the_pairing() -> None:
    invitation = Invitation(CODE, expires_s=600.0, uses_left=1, pool=_NoPool())  # type: ignore[arg-type]
    theirs, ours = joiner(), inviter(invitation)
    confirmation, sealed = ours.finish(theirs.confirm(ours.answer(theirs.start())), now_s=0.0)
    with pytest.raises(RemoteError, match="no pool") as refused:
        theirs.accept(confirmation, sealed)
    assert refused.value.reason is Reason.PAIRING_FAILED


def test_another_joiner_written_from_the_module_text_alone_gets_the_network_secret() -> None:
    def keyed(key: bytes, data: bytes) -> bytes:
        return blake2b(data, digest_size=32, key=key, person=b"echonode pairing").digest()

    theirs = SPAKE2_A(
        b"7-crossover-clockwork",
        idA=b"echonode pairing joiner" + HANDSHAKE_HASH,
        idB=b"echonode pairing inviter" + HANDSHAKE_HASH,
    )
    ours = inviter()
    first = theirs.start()
    second = ours.answer(first)
    key = theirs.finish(second)
    confirmation, sealed = ours.finish(keyed(key, b"joiner"), now_s=0.0)
    assert confirmation == keyed(key, b"inviter")
    opened = crypto_aead_chacha20poly1305_ietf_decrypt(sealed, HANDSHAKE_HASH, bytes(12), keyed(key, b"network secret"))
    assert opened == MEMBER_SECRET.to_bytes()


def test_each_step_has_its_one_size() -> None:
    theirs, ours = joiner(), inviter()
    first = theirs.start()
    second = ours.answer(first)
    third = theirs.confirm(second)
    confirmation, sealed = ours.finish(third, now_s=0.0)
    assert [len(part) for part in (first, second, third, confirmation, sealed)] == [33, 33, 32, 32, 80]


def test_a_joiner_with_another_code_gets_nothing_and_costs_a_try() -> None:
    invitation = open_invitation()
    theirs, ours = joiner(WRONG), inviter(invitation)
    confirmation = theirs.confirm(ours.answer(theirs.start()))
    refuse_pairing(lambda: ours.finish(confirmation, now_s=0.0))
    assert (invitation.uses_left, invitation.tries_left) == (1, INVITATION_TRIES - 1)


def test_an_inviter_with_another_code_is_not_believed() -> None:
    theirs = joiner()
    impostor = inviter(Invitation(WRONG, expires_s=600.0))
    theirs.confirm(impostor.answer(theirs.start()))
    refuse_pairing(lambda: theirs.accept(bytes(32), bytes(48)))


def test_the_exchange_is_bound_to_its_channel() -> None:
    theirs, ours = joiner(handshake_hash=b"1" * 32), inviter(handshake_hash=b"2" * 32)
    confirmation = theirs.confirm(ours.answer(theirs.start()))
    refuse_pairing(lambda: ours.finish(confirmation, now_s=0.0))


def test_a_confirmation_cannot_be_passed_back_as_the_other_sides() -> None:
    theirs, ours = joiner(), inviter()
    confirmation = theirs.confirm(ours.answer(theirs.start()))
    _, sealed = ours.finish(confirmation, now_s=0.0)
    refuse_pairing(lambda: theirs.accept(confirmation, sealed))


def test_an_altered_network_secret_is_refused() -> None:
    for sealed_as in (lambda sealed: bytes([sealed[0] ^ 1]) + sealed[1:], lambda sealed: sealed[:-1], lambda _: b""):
        theirs, ours = joiner(), inviter()
        confirmation, sealed = ours.finish(theirs.confirm(ours.answer(theirs.start())), now_s=0.0)
        refuse_pairing(lambda: theirs.accept(confirmation, sealed_as(sealed)))  # noqa: B023 - called at once


def test_a_reflected_share_is_refused_on_both_sides() -> None:
    theirs = joiner()
    share = theirs.start()
    refuse_pairing(lambda: theirs.confirm(share))
    theirs = joiner()
    share = theirs.start()
    refuse_pairing(lambda: theirs.confirm(b"B" + share[1:]))
    ours = inviter(seed=3)
    share = inviter(seed=3).answer(joiner().start())  # the share that this inviter is about to send
    refuse_pairing(lambda: ours.answer(b"A" + share[1:]))


Q = 2**255 - 19


@pytest.mark.parametrize(
    "share",
    [
        b"",
        b"A",
        b"A" + bytes(31),
        joiner().start() + b"\0",
        b"C" + joiner().start()[1:],
        b"B" + joiner().start()[1:],
        b"A" + bytes(32),
        b"A" + (1).to_bytes(32, "little"),
        b"A" + (1 | 1 << 255).to_bytes(32, "little"),
        b"A" + (2).to_bytes(32, "little"),
        b"A" + (Q - 1).to_bytes(32, "little"),
        b"A" + (Q + 1).to_bytes(32, "little"),
        b"A" + b"\xff" * 32,
        b"A" + bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        b"A" + bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
    ],
    ids=lambda share: share.hex()[:16] or "empty",
)
def test_a_share_that_is_no_point_of_the_group_is_refused(share: bytes) -> None:
    refuse_pairing(lambda: inviter().answer(share))


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.sampled_from([b"A", b"B"]))
def test_a_random_share_is_refused_or_leads_nowhere(point: bytes, side: bytes) -> None:
    ours = inviter()
    try:
        ours.answer(side + point)
    except RemoteError as error:
        assert error.reason is Reason.PAIRING_FAILED
    else:
        refuse_pairing(lambda: ours.finish(bytes(32), now_s=0.0))


def test_the_steps_cannot_be_taken_out_of_order_or_twice() -> None:
    with pytest.raises(LocalError, match="nothing was answered"):
        inviter().finish(bytes(32), now_s=0.0)
    with pytest.raises(LocalError, match="nothing was confirmed"):
        joiner().accept(bytes(32), bytes(48))
    theirs, ours = joiner(), inviter()
    confirmation = theirs.confirm(ours.answer(theirs.start()))
    refuse_pairing(lambda: ours.finish(bytes(32), now_s=0.0))
    with pytest.raises(LocalError, match="nothing was answered"):
        ours.finish(confirmation, now_s=0.0)


# -- invitations -----------------------------------------------------------------------------------------------------
def test_an_invitation_closes_when_it_is_used_up_guessed_at_or_expired() -> None:
    used, guessed, expired = open_invitation(uses_left=2), open_invitation(), open_invitation()
    used.count_use()
    assert used.is_open(0.0)
    used.count_use()
    assert not used.is_open(0.0)
    for _ in range(INVITATION_TRIES):
        assert guessed.is_open(0.0)
        guessed.count_failure()
    assert not guessed.is_open(0.0)
    assert expired.is_open(599.9)
    assert not expired.is_open(600.0)


def test_exchanges_side_by_side_have_no_more_tries_than_one_after_the_other() -> None:
    invitation = open_invitation()
    exchanges = []
    for seed in range(INVITATION_TRIES + 1):
        theirs, ours = (
            joiner(CODE if seed == INVITATION_TRIES else WRONG, seed=seed),
            inviter(invitation, seed=100 + seed),
        )
        exchanges.append((ours, theirs.confirm(ours.answer(theirs.start()))))
    details = [
        refuse_pairing(lambda: ours.finish(confirmation, now_s=0.0))  # noqa: B023 - called at once
        for ours, confirmation in exchanges
    ]
    assert details == ["the joiner does not know the code"] * INVITATION_TRIES + ["the invitation is closed"]


def test_two_joiners_cannot_share_one_use() -> None:
    invitation = open_invitation()
    exchanges = []
    for seed in (1, 2):
        theirs, ours = joiner(seed=seed), inviter(invitation, seed=100 + seed)
        exchanges.append((ours, theirs.confirm(ours.answer(theirs.start()))))
    exchanges[0][0].finish(exchanges[0][1], now_s=0.0)
    assert refuse_pairing(lambda: exchanges[1][0].finish(exchanges[1][1], now_s=0.0)) == "the invitation is closed"


def test_an_invitation_that_expires_during_the_exchange_is_closed() -> None:
    theirs, ours = joiner(), inviter()
    confirmation = theirs.confirm(ours.answer(theirs.start()))
    assert refuse_pairing(lambda: ours.finish(confirmation, now_s=600.0)) == "the invitation is closed"


def test_an_invitation_does_not_show_its_code() -> None:
    assert CODE not in repr(open_invitation())


def test_exchanges_that_are_begun_and_abandoned_close_the_invitation_too() -> None:
    invitation = Invitation(CODE, expires_s=100.0)
    for _ in range(INVITATION_EXCHANGES_MAX):
        assert invitation.is_open(0.0)
        invitation.count_exchange()
    assert not invitation.is_open(0.0)
