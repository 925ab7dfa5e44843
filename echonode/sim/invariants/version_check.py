"""What the bytes of a version say, read by PROTOCOL.md §4 and not by the code that is judged."""

from echonode import cbor
from echonode.digest import LEAF_KEY, VERSION, WRITER, digest, digest16
from echonode.model.identity import PublicKey, is_signed
from echonode.model.record import IDENTITIES, Record


def what_it_says(record: Record) -> tuple[object, ...]:
    """All of a version that decides where it stands, and for what it stands."""
    return (
        *(record.id, record.kid, record.context, record.author, record.name, record.timestamp),
        *(record.instance, dict(record.vector), record.key, record.writer),
    )


def is_sound(record: Record) -> bool:
    """Whether its bytes are signed by its kid and say what it says."""
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
    said = (
        *(digest(VERSION, structure), kid, context, author, name, fields[4]),
        *(instance, fields[6], digest(LEAF_KEY, author + name.encode()), digest16(WRITER, kid + instance)),
    )
    return is_signed(structure, signature, PublicKey(kid)) and said == what_it_says(record)


class SoundOnes:
    """Versions that were found to be sound, one object for each."""

    def __init__(self) -> None:
        self._by_raw: dict[bytes, tuple[Record, tuple[object, ...]]] = {}  # and what it says

    def find(self, record: Record) -> Record | None:
        """The one that is `record`; None when it is not sound."""
        known = self._by_raw.get(record.raw)
        if known is None or (known[0] is not record and known[1] != what_it_says(record)):
            if not is_sound(record):
                return None
            known = self._by_raw[record.raw] = record, what_it_says(record)
        return known[0]
