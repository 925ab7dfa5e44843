"""The bytes of a version: a COSE_Sign1 (RFC 9052 §4.2) without its tag, in exactly one layout (PROTOCOL.md §4.1).

    84  58 26 <protected header: a2 01 27 04 58 20 kid>  a0  <head> <payload>  58 40 <signature>
"""

from functools import lru_cache
from typing import Final

from echonode import cbor
from echonode.model.fields import bad_record
from echonode.model.identity import SIGNATURE_BYTES, PublicKey

_FORMAT_MAJOR: Final = 1
_AAD_RECORD: Final = cbor.encode(["echonode", "record", _FORMAT_MAJOR])
_AAD_STATEMENT: Final = cbor.encode(["echonode", "statement", _FORMAT_MAJOR])
_PROTECTED_HEAD: Final = bytes.fromhex("a201270458 20")  # {1: -8 (EdDSA), 4: 32 bytes of kid}
_COSE_HEAD: Final = bytes.fromhex("845826") + _PROTECTED_HEAD  # array(4), bstr(38), the protected header
KID_AT: Final = len(_COSE_HEAD)  # the position of the 32-byte signing key in a version's bytes
_KID_END: Final = KID_AT + 32
PAYLOAD_AT: Final = _KID_END + 1  # the position of the payload's CBOR head
_UNPROTECTED: Final = b"\xa0"  # always the empty map: nothing in a version is unsigned
_BSTR_HEAD_BYTES: Final = {0x58: 2, 0x59: 3, 0x5A: 5}  # by its first byte
_SIGNATURE_HEAD: Final = bytes.fromhex("5840")
_SIG_STRUCTURE_HEAD: Final = bytes.fromhex("846a") + b"Signature1" + bytes.fromhex("5826")


def assemble(kid: PublicKey, payload_bstr: bytes) -> bytes:
    """Return the bytes of a version up to its signature. `payload_bstr` includes its CBOR head."""
    return b"".join((_COSE_HEAD, kid, _UNPROTECTED, payload_bstr, _SIGNATURE_HEAD))


def sig_structure(kid: PublicKey, payload_bstr: bytes, *, is_statement: bool) -> bytes:
    """Return the Sig_structure of a version by `kid`: it is signed, and its hash is the version id."""
    return _sig_head(kid, is_statement) + payload_bstr


@lru_cache(maxsize=1024)  # most versions come in rows that one key signed
def _sig_head(kid: PublicKey, is_statement: bool) -> bytes:
    aad = _AAD_STATEMENT if is_statement else _AAD_RECORD
    return b"".join((_SIG_STRUCTURE_HEAD, _PROTECTED_HEAD, kid, bytes((0x40 + len(aad),)), aad))


def split(raw: bytes) -> tuple[PublicKey, bytes, bytes]:
    """Return kid, the payload with its CBOR head, and the payload. Raises RemoteError (BAD_RECORD)."""
    kid, payload_bstr = open_envelope(raw)
    head = _BSTR_HEAD_BYTES.get(payload_bstr[0], 0)
    payload = payload_bstr[head:]
    if not head or payload_bstr[:head] != bstr_head(len(payload)):
        raise bad_record("the payload is not one byte string")
    return kid, payload_bstr, payload


def open_envelope(raw: bytes) -> tuple[PublicKey, bytes]:
    """Return kid and the payload with its CBOR head, which is not checked. Raises RemoteError (BAD_RECORD).

    Only the length of the payload varies in the layout, so comparing bytes checks the outer CBOR.
    """
    end = len(raw) - SIGNATURE_BYTES - len(_SIGNATURE_HEAD)
    if end <= PAYLOAD_AT or not raw.startswith(_COSE_HEAD) or raw[_KID_END:PAYLOAD_AT] != _UNPROTECTED:
        raise bad_record("not a COSE_Sign1 of the one form in use")
    if raw[end : end + 2] != _SIGNATURE_HEAD:
        raise bad_record("the signature is not 64 bytes")
    return PublicKey(raw[KID_AT:_KID_END]), raw[PAYLOAD_AT:end]


@lru_cache(maxsize=1024)
def bstr_head(length: int) -> bytes:
    """Return the CBOR head of a payload of `length` bytes."""
    if length < 24:
        return b""  # no payload is this short: the required fields take more
    if length < 1 << 8:
        return b"\x58" + length.to_bytes(1, "big")
    if length < 1 << 16:
        return b"\x59" + length.to_bytes(2, "big")
    return b"\x5a" + length.to_bytes(4, "big")
