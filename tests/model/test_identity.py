"""Keys, signatures and identities, against published vectors."""

import json
from pathlib import Path
from typing import Any

import pytest
from nacl import bindings
from nacl.exceptions import BadSignatureError

from echonode.limits import POOL_KIND_MAX
from echonode.model.identity import (
    Identity,
    Instance,
    PoolKind,
    PublicKey,
    SigningKey,
    identity_of,
    is_admissible,
    is_signed,
    pool_identity,
    shared_pool,
    writer_of,
)

VECTORS = Path(__file__).parents[1] / "vectors"

# The eight points of small order, including their non-canonical encodings (libsodium, ed25519_ref10.c).
SMALL_ORDER = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
]


def wycheproof() -> list[Any]:
    groups = json.loads((VECTORS / "ed25519_wycheproof.json").read_text())["testGroups"]
    cases = [(group["publicKey"]["pk"], case) for group in groups for case in group["tests"]]
    return [pytest.param(key, case, id=f"{case['tcId']} {case['comment']}") for key, case in cases]


def speccheck() -> list[Any]:
    return list(enumerate(json.loads((VECTORS / "ed25519_speccheck.json").read_text())))


@pytest.mark.parametrize(("key", "case"), wycheproof())
def test_signatures_are_judged_as_wycheproof_says(key: str, case: dict[str, str]) -> None:
    message, signature = bytes.fromhex(case["msg"]), bytes.fromhex(case["sig"])
    assert is_signed(message, signature, PublicKey(bytes.fromhex(key))) == (case["result"] == "valid")


@pytest.mark.parametrize(("number", "case"), speccheck())
def test_signatures_that_verifiers_disagree_about_are_all_refused(number: int, case: dict[str, str]) -> None:
    """The cases are those of "Taming the many EdDSAs" (Chalkias and others, 2020).

    libsodium accepts case 3, whose key is of mixed order. Such a key is not admissible here.
    """
    message, signature, key = (bytes.fromhex(case[name]) for name in ("message", "signature", "pub_key"))
    assert not is_signed(message, signature, PublicKey(key))
    try:
        bindings.crypto_sign_open(signature + message, key)
        is_libsodium_content = True
    except BadSignatureError:
        is_libsodium_content = False
    assert is_libsodium_content == (number == 3)


def test_keys_and_signatures_are_those_of_rfc_8032() -> None:
    """The values are tests 1 and 2 of RFC 8032 §7.1."""
    for seed, public, message, signature in (
        (
            "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
            "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ):
        key = SigningKey(bytes.fromhex(seed))
        assert key.public.hex() == public
        assert key.sign(bytes.fromhex(message)).hex() == signature
        assert is_signed(bytes.fromhex(message), bytes.fromhex(signature), key.public)


@pytest.mark.parametrize("encoding", SMALL_ORDER)
@pytest.mark.parametrize("sign", [0x00, 0x80])
def test_keys_of_small_order_are_never_admitted(encoding: str, sign: int) -> None:
    key = bytearray.fromhex(encoding)
    key[31] |= sign
    assert not is_admissible(PublicKey(bytes(key)))
    identity_point = bytes([1]) + bytes(31)
    assert not is_signed(b"anything", identity_point + bytes(32), PublicKey(bytes(key)))


def test_keys_and_signatures_of_another_length_are_refused() -> None:
    key = SigningKey(bytes(32))
    signature = key.sign(b"message")
    assert not is_admissible(PublicKey(key.public[:31]))
    assert not is_admissible(PublicKey(key.public + b"\0"))
    assert not is_signed(b"message", signature[:63], key.public)
    assert not is_signed(b"message", signature + b"\0", key.public)
    assert not is_signed(b"message", signature, PublicKey(b""))


def test_an_identity_is_that_of_its_root_key() -> None:
    identity = Identity.from_seeds(b"r" * 32, b"d" * 32)
    assert identity.id == identity_of(identity.root.public) != identity_of(identity.device.public)
    assert len(identity.id) == 32
    assert identity.id == Identity.from_seeds(b"r" * 32, b"another device".ljust(32)).id


def test_a_writer_is_one_key_in_one_life() -> None:
    one, two = SigningKey(b"1" * 32).public, SigningKey(b"2" * 32).public
    writers = {writer_of(key, Instance(life)) for key in (one, two) for life in (b"life one", b"life two")}
    assert len(writers) == 4
    assert {len(writer) for writer in writers} == {16}


def test_the_kind_is_part_of_an_id() -> None:
    root = SigningKey(b"r" * 32).public
    ids = [identity_of(root), *[pool_identity(kind, root) for kind in range(1, POOL_KIND_MAX + 1)]]
    assert len(set(ids)) == len(ids)
    assert pool_identity(PoolKind.COMMON, root) == shared_pool(b"r" * 32).id
