"""A check of a version's bytes, written from PROTOCOL.md §4 and independent of the code that it checks."""

from echonode import cbor
from echonode.digest import LEAF_KEY, VERSION, WRITER, digest, digest16
from echonode.model.identity import PublicKey, is_signed
from echonode.model.record import IDENTITIES, Record


def fields_of(record: Record) -> tuple[object, ...]:
    """Return all fields of a version that identify it or decide its place."""
    return (
        *(record.id, record.kid, record.context, record.author, record.name, record.timestamp),
        *(record.instance, dict(record.vector), record.key, record.writer),
    )


def is_authentic(record: Record) -> bool:
    """Return True if the bytes are signed by the version's key and hold the fields that the object shows."""
    match cbor.decode(record.raw):
        case [bytes(protected), {}, bytes(payload), bytes(signature)]:
            header, fields = cbor.decode(protected), cbor.decode(payload)
        case _:
            return False
    assert isinstance(header, dict), "a header is a map"
    assert isinstance(fields, dict), "a payload is a map"
    kind = "statement" if fields[1] == IDENTITIES else "record"
    structure = cbor.encode(["Signature1", protected, cbor.encode(["echonode", kind, 1]), payload])
    kid, context, author, name, instance = header[4], fields[1], fields[2], fields[3], fields[5]
    assert isinstance(kid, bytes) and isinstance(author, bytes), "keys and ids are bytes"
    assert isinstance(name, str) and isinstance(instance, bytes), "a name is text, an instance bytes"
    expected = (
        *(digest(VERSION, structure), kid, context, author, name, fields[4]),
        *(instance, fields[6], digest(LEAF_KEY, author + name.encode()), digest16(WRITER, kid + instance)),
    )
    return is_signed(structure, signature, PublicKey(kid)) and expected == fields_of(record)


class AuthenticVersions:
    """The versions that passed the check, with one object for each."""

    def __init__(self) -> None:
        self._by_raw: dict[bytes, tuple[Record, tuple[object, ...]]] = {}  # by bytes: (version, its fields)

    def find(self, record: Record) -> Record | None:
        """Return the object kept for `record`; None if `record` fails the check."""
        known = self._by_raw.get(record.raw)
        if known is None or (known[0] is not record and known[1] != fields_of(record)):
            if not is_authentic(record):
                return None
            known = self._by_raw[record.raw] = record, fields_of(record)
        return known[0]
