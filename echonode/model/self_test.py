"""The self-test of signature verification: known signatures, each with the verdict that every node must reach.

Verifiers disagree about some Ed25519 signatures ("Taming the many EdDSAs", Chalkias and others, 2020). A node that
accepts what others refuse would hold records that never reach them. PyNaCl may be built against any libsodium, so each
process tries these cases before it opens anything (PROTOCOL.md §4.1). They take about a millisecond.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from echonode.errors import LocalError
from echonode.model.identity import PublicKey, is_signed


@dataclass(frozen=True, slots=True)
class SignatureCase:
    """One signature and its verdict. `name` says what is special about it."""

    name: str
    key: PublicKey
    message: bytes
    signature: bytes
    is_good: bool


def _case(name: str, key: str, message: bytes, signature: str, *, is_good: bool = False) -> SignatureCase:
    return SignatureCase(name, PublicKey(bytes.fromhex(key)), message, bytes.fromhex(signature), is_good)


_KEY: Final = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"  # of RFC 8032 §7.1, test 1
_MIXED: Final = "cdb267ce40c5cd45306fa5d2f29731459387dbf9eb933b7bd5aed9a765b88d4d"
_LARGE_S: Final = "442aad9f089ad9e14647b1ef9099a1ff4798d78589e66f28eca69c11f582a623"
_SMALL: Final = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"

# The numbers are those of the paper's vectors (github.com/novifinancial/ed25519-speccheck). The paper has no key of
# prime order beside an unusual R; tests/model/test_self_test.py derives those signatures.
CASES: Final = (
    _case(
        "test 1 of RFC 8032",
        _KEY,
        b"",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        is_good=True,
    ),
    _case(
        "test 2 of RFC 8032",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        b"\x72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        is_good=True,
    ),
    _case(
        "test 1 of RFC 8032 for another message",
        _KEY,
        b"\x72",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    _case(
        "S + L, which test 1 of RFC 8032 gives",
        _KEY,
        b"",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "4c8c7872aa064e049dbb3013fbf29380d25bf5f0595bbe24655141438e7a101b",
    ),
    _case(
        "R with torsion",
        _KEY,
        b"a torsion in R",
        "6a84d583f06569edb3f5ed77df65544b27d6948b4f0b2cb76f33dd8413b20719"
        "7a3c05b5140a79589fece6b2b7ae572570a00bc587c4b14b2f2f6f95a5aabb03",
    ),
    _case(
        "R of small order",
        _KEY,
        b"R of small order",
        "0100000000000000000000000000000000000000000000000000000000000000"
        "6cab6be9a4ad0f3c674de2b01e53bcf41e6f4b267315434146bc8e44ea241502",
    ),
    _case(
        "a key with torsion",
        "9158312a9a8d6e3b34c891d6d61444f8b8211c5117ebad15bdb0bd68b07e0245",
        b"A torsion 13",
        "7767a3242dc9b58bbc68488c1265cc6cc5f26c6f3c88a5d55e901b0734dca572"
        "323f323215282f049a5f6753688ead771a4ab590639ac0532823c5bbe3e0140d",
    ),
    _case(
        "a key of small order (0)",
        _SMALL,
        bytes.fromhex("8c93255d71dcab10e8f379c26200f3c7bd5f09d9bc3068d3ef4edeb4853022b6"),
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a" + 32 * "00",
    ),
    _case(
        "a key of small order, R with torsion (1)",
        _SMALL,
        bytes.fromhex("9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79"),
        "f7badec5b8abeaf699583992219b7b223f1df3fbbea919844e3f7c554a43dd43"
        "a5bb704786be79fc476f91d3f3f89b03984d8068dcf1bb7dfc6637b45450ac04",
    ),
    _case(
        "key and R with torsion (3)",
        _MIXED,
        bytes.fromhex("9bd9f44f4dcc75bd531b56b2cd280b0bb38fc1cd6d1230e14861d861de092e79"),
        "9046a64750444938de19f227bb80485e92b83fdb4b6506c160484c016cc1852f"
        "87909e14428a7a1d62e9f22f3d3ad7802db02eb2e688b6c52fcd6648a98bd009",
    ),
    _case(
        "key and R with torsion, equal with the cofactor only (4)",
        _MIXED,
        bytes.fromhex("e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec4011eaccd55b53f56c"),
        "160a1cb0dc9c0258cd0a7d23e94d8fa878bcb1925f2c64246b2dee1796bed512"
        "5ec6bc982a269b723e0668e540911a9a6a58921d6925e434ab10aa7940551a09",
    ),
    _case(
        "S > L (6)",
        _LARGE_S,
        bytes.fromhex("85e241a07d148b41e47d62c63f830dc7a6851a0b1f33ae4bb2f507fb6cffec40"),
        "e96f66be976d82e60150baecff9906684aebb1ef181f67a7189ac78ea23b6c0e"
        "547f7690a0e2ddcd04d87dbc3490dc19b3b3052f7ff0538cb68afb369ba3a514",
    ),
)


def check_signatures(
    verdict: Callable[[bytes, bytes, PublicKey], bool] = is_signed, cases: Iterable[SignatureCase] = CASES
) -> None:
    """Raise LocalError, with one sentence for a person, unless `verdict` judges every case as all nodes must."""
    for case in cases:
        if verdict(case.message, case.signature, case.key) != case.is_good:
            wrong, right = ("refuses", "accept") if case.is_good else ("accepts", "refuse")
            raise LocalError(
                f"the libsodium of this Python {wrong} a signature that all nodes must {right} ({case.name}): it would"
                " split the network, so nothing was opened; install PyNaCl with the libsodium that it brings"
            )
