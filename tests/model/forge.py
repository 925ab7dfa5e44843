"""Versions of any shape with a valid signature, such as a peer with a key of its own can send."""

from collections.abc import Mapping
from typing import Any

from echonode import cbor
from echonode.clock import Timestamp
from echonode.model.identity import Identity, Instance, SigningKey, writer_of
from echonode.model.record import MAIN, Draft, Record, Vector, sign

PERSON = Identity.from_seeds(b"root".ljust(32), b"device".ljust(32))
LIFE = Instance(b"instance")
WRITER = writer_of(PERSON.device.public, LIFE)
NOW = Timestamp(1_700_000_000_000 << 16)

# The required fields, by their numbers in PROTOCOL.md §4.2.
PLAIN: Mapping[Any, Any] = {
    1: MAIN,
    2: PERSON.id,
    3: "name",
    4: NOW,
    5: LIFE,
    6: {WRITER: 1},
    7: "note",
    8: [1, 0],
    9: 0,
}


def written(
    draft: Draft | None = None, *, vector: Vector | None = None, key: SigningKey = PERSON.device, at: Timestamp = NOW
) -> Record:
    """Return `draft`, or a plain one, as a version."""
    draft = draft or Draft(context=MAIN, author=PERSON.id, name="name", body=b"body")
    own = writer_of(key.public, LIFE)
    return sign(draft, key, instance=LIFE, vector=vector or {own: 1}, timestamp=at)


def without(*numbers: int) -> dict[Any, Any]:
    """Return the plain fields without some of them."""
    return {number: value for number, value in PLAIN.items() if number not in numbers}


def signed_over(payload: bytes, key: SigningKey = PERSON.device, kind: str = "record") -> bytes:
    """Return the COSE_Sign1 (RFC 9052 §4.2, §4.4) of `payload`, built from the structures of the standard."""
    protected = cbor.encode({1: -8, 4: key.public})
    structure = cbor.encode(["Signature1", protected, cbor.encode(["echonode", kind, 1]), payload])
    return cbor.encode([protected, {}, payload, key.sign(structure)])


def forged(fields: Mapping[Any, Any]) -> bytes:
    """Return a version with these fields."""
    return signed_over(cbor.encode(dict(fields)))
