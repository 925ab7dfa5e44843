"""The self-test of signature verification, against libsodium and against verifiers that judge otherwise."""

import json
from hashlib import sha512
from pathlib import Path

import pytest
from nacl import bindings

from echonode.errors import LocalError
from echonode.model.identity import PublicKey, is_signed
from echonode.model.self_test import CASES, SignatureCase, check_signatures

VECTORS = Path(__file__).parents[1] / "vectors"

_ORDER = 2**252 + 27742317777372353535851937790883648493  # L of RFC 8032 §5.1
_SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")  # of its test 1
_NONCE = 12345678901234567890
_OF_ORDER_8 = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")


def scalar() -> int:
    """Return the secret scalar of the key (RFC 8032 §5.1.5)."""
    cut = int.from_bytes(sha512(_SEED).digest()[:32], "little")
    return cut & ((1 << 254) - 8) | 1 << 254


def times_base(number: int) -> bytes:
    return bindings.crypto_scalarmult_ed25519_base_noclamp((number % _ORDER).to_bytes(32, "little"))


def challenge(point: bytes, key: bytes, message: bytes) -> int:
    return int.from_bytes(sha512(point + key + message).digest(), "little") % _ORDER


def named(name: str) -> SignatureCase:
    return next(case for case in CASES if case.name.startswith(name))


def test_the_libsodium_of_this_machine_passes() -> None:
    check_signatures()


def test_there_are_good_signatures_and_bad_ones_and_each_has_a_name_of_its_own() -> None:
    assert len({case.name for case in CASES}) == len(CASES)
    assert {case.is_good for case in CASES} == {True, False}


@pytest.mark.parametrize("odd", CASES, ids=lambda case: case.name)
def test_a_verifier_that_judges_one_case_otherwise_is_named_with_it(odd: SignatureCase) -> None:
    def verdict(message: bytes, signature: bytes, key: PublicKey) -> bool:
        is_odd = (message, signature, key) == (odd.message, odd.signature, odd.key)
        return is_signed(message, signature, key) != is_odd

    with pytest.raises(LocalError, match="split the network") as raised:
        check_signatures(verdict)
    assert odd.name in str(raised.value)
    assert "\n" not in str(raised.value)


def test_r_with_torsion_satisfies_the_equation_with_the_cofactor_alone() -> None:
    case = named("R with torsion")
    point = bindings.crypto_core_ed25519_add(times_base(_NONCE), _OF_ORDER_8)
    last = (_NONCE + challenge(point, case.key, case.message) * scalar()) % _ORDER
    assert case.signature == point + last.to_bytes(32, "little")


def test_r_of_small_order_satisfies_the_equation_without_the_cofactor() -> None:
    case = named("R of small order")
    neutral = bytes([1]) + bytes(31)
    last = challenge(neutral, case.key, case.message) * scalar() % _ORDER
    assert case.signature == neutral + last.to_bytes(32, "little")
    assert times_base(last) == times_base(challenge(neutral, case.key, case.message) * scalar())


def test_a_key_with_torsion_satisfies_the_equation_and_libsodium_alone_would_accept_it() -> None:
    case = named("a key with torsion")
    assert bindings.crypto_sign_open(case.signature + case.message, case.key) == case.message
    assert not bindings.crypto_core_ed25519_is_valid_point(case.key)


def test_s_plus_l_is_that_of_a_good_signature() -> None:
    good, bad = named("test 1 of RFC 8032"), named("S + L")
    assert bad.signature[:32] == good.signature[:32]
    sums = [int.from_bytes(case.signature[32:], "little") for case in (good, bad)]
    assert sums[1] - sums[0] == _ORDER


def test_numbered_cases_are_those_of_the_paper() -> None:
    published = json.loads((VECTORS / "ed25519_speccheck.json").read_text())
    numbered = [case for case in CASES if case.name.endswith(")")]
    assert len(numbered) == 5
    for case in numbered:
        vector = published[int(case.name[-2])]
        assert [case.message.hex(), case.key.hex(), case.signature.hex()] == [
            vector[name] for name in ("message", "pub_key", "signature")
        ]
