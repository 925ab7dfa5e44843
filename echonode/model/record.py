"""Records: addressed by (context, author, name). Each version is a COSE_Sign1 over deterministic CBOR (PROTOCOL.md §4).

    bytes --parse--> SignedRecord --verify--> Record          a version of a peer
    Draft --prepare--> UnsignedVersion --sign--> Record       a version of our own
    bytes --from_store--> Record                              a version that was verified before it was stored

A version is kept and forwarded as the bytes received, so unknown fields survive. The payload's fields are in
model/fields.py, the layout around it in model/cose.py; model/common_layout.py reads the usual payload fast.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter, le
from typing import Any, Final, NewType, Protocol
from unicodedata import is_normalized

from echonode import cbor
from echonode.clock import Timestamp, to_ms
from echonode.digest import LEAF_KEY, VERSION, digest
from echonode.errors import LocalError, RemoteError
from echonode.limits import RECORD_BYTES_MAX
from echonode.model.common_layout import Heading, read_heading, write_payload
from echonode.model.cose import KID_AT as KID_AT
from echonode.model.cose import assemble, bstr_head, open_envelope, sig_structure, split
from echonode.model.fields import (
    AUTHOR,
    BODY,
    CONTEXT,
    CREATED,
    INSTANCE,
    LATER,
    MEDIA_TYPE,
    MODEL,
    MODEL_VERSION,
    NAME,
    TAGS,
    TIMESTAMP,
    TOMBSTONE,
    VECTOR,
    bad_record,
    check_fields,
    later_fields,
)
from echonode.model.identity import (
    SIGNATURE_BYTES,
    IdentityId,
    Instance,
    PublicKey,
    SigningKey,
    Writer,
    is_signed,
    writer_of,
)

VersionId = NewType("VersionId", bytes)  # 32 bytes
LeafKey = NewType("LeafKey", bytes)  # 32 bytes
Vector = Mapping[Writer, int]

class Version(Protocol):
    """A version as the rule of heads (model/heads.py) sees it: a record, or the outline of a stored one."""

    @property
    def id(self) -> VersionId: ...

    @property
    def kid(self) -> PublicKey: ...

    @property
    def vector(self) -> Vector: ...

    @property
    def timestamp(self) -> Timestamp: ...

    @property
    def writer(self) -> Writer: ...

    @property
    def counter(self) -> int: ...

    @property
    def size(self) -> int: ...

    @property
    def author(self) -> IdentityId: ...

    @property
    def is_tombstone(self) -> bool: ...


_HEADING: Final = (CONTEXT, AUTHOR, NAME, TIMESTAMP, INSTANCE, VECTOR, CREATED)
_required_heading: Final = itemgetter(*_HEADING)

IDENTITIES: Final = "identities"  # the reserved context of key statements
MAIN: Final = "main"


class SignedRecord:
    """A version with a checked shape and an unchecked signature. Only `verify` may act on it."""

    __slots__ = (
        "_kept_fields",
        "_sig_structure",
        "author",  # the identity, a node or a pool, that the record belongs to
        "context",  # the name of its context
        "created_ms",  # the time of creation that the author claims, in ms since the Unix epoch; it decides nothing
        "id",
        "instance",  # the life of the store that wrote it
        "is_tombstone",  # True if it deletes the record
        "key",
        "kid",
        "name",  # the record's name, unique for each context and author
        "raw",
        "timestamp",  # the hybrid logical time of writing (clock.py)
        "vector",  # the highest counter of each writer that it has seen, its own dot included (PROTOCOL.md §4.3)
        "writer",
    )

    def __init__(
        self,
        raw: bytes,
        kid: PublicKey,
        payload_bstr: bytes,
        heading: Heading,
        fields: dict[int, cbor.Value] | None = None,
        key: LeafKey | None = None,
    ) -> None:
        """Take `fields` where they were read already; else they are read when one is asked for."""
        self.raw = raw
        self.kid = kid
        (
            self.context,
            self.author,
            self.name,
            self.timestamp,
            self.instance,
            self.vector,
            self.created_ms,
            self.is_tombstone,
        ) = heading
        self._kept_fields = fields
        self._sig_structure = sig_structure(kid, payload_bstr, is_statement=self.context == IDENTITIES)
        self.id = VersionId(digest(VERSION, self._sig_structure))
        self.key = leaf_key(self.author, self.name) if key is None else key
        self.writer = writer_of(kid, self.instance)

    @property
    def _fields(self) -> dict[int, cbor.Value]:
        if self._kept_fields is None:
            self._kept_fields = cbor.decode_trusted(split(self.raw)[2])  # type: ignore[assignment]
        return self._kept_fields  # type: ignore[return-value]

    @property
    def model(self) -> str:
        """The name of its model."""
        return self._fields[MODEL]  # type: ignore[return-value]

    @property
    def model_version(self) -> tuple[int, int]:
        """The version of its model: major, minor."""
        return tuple(self._fields[MODEL_VERSION])  # type: ignore[arg-type, return-value]

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags, sorted, each once."""
        return tuple(self._fields.get(TAGS, ()))  # type: ignore[arg-type]

    @property
    def media_type(self) -> str:
        """The media type of the body, "" if it is not given."""
        return self._fields.get(MEDIA_TYPE, "")  # type: ignore[return-value]

    @property
    def body(self) -> bytes:
        """The contents, b"" for a tombstone."""
        return self._fields.get(BODY, b"")  # type: ignore[return-value]

    @property
    def later(self) -> bytes:
        """The fields from `LATER` on, which this protocol version does not know: an encoded map, b"" for none."""
        fields = {number: value for number, value in self._fields.items() if number >= LATER}
        return cbor.encode_ordered(fields) if fields else b""

    @property
    def counter(self) -> int:
        """The counter of its own dot (PROTOCOL.md §4.3)."""
        return self.vector[self.writer]

    @property
    def size(self) -> int:
        """The number of its bytes."""
        return len(self.raw)

    def draft(self) -> "Draft":
        """Return a draft that says the same, `created` included."""
        return Draft(
            context=self.context,
            author=self.author,
            name=self.name,
            body=self.body,
            tags=self.tags,
            model=self.model,
            model_version=self.model_version,
            media_type=self.media_type,
            created_ms=self.created_ms,
            is_tombstone=self.is_tombstone,
            later=self.later,
        )

    def _is_signed(self) -> bool:
        return is_signed(self._sig_structure, self.raw[-SIGNATURE_BYTES:], self.kid)


class Record(SignedRecord):
    """A version that is signed by `kid`. Only `verify`, `sign` and `from_store` make one."""

    __slots__ = ()


class UnsignedVersion(SignedRecord):
    """A version of our own, complete up to its signature."""

    __slots__ = ()

    @property
    def _fields(self) -> dict[int, cbor.Value]:
        return cbor.decode_trusted(split(self.raw + bytes(SIGNATURE_BYTES))[2])  # type: ignore[return-value]

    def sign(self, key: SigningKey) -> Record:
        """Become a Record, signed with `key`, the one it was prepared for."""
        assert key.public == self.kid, "prepared for another key"
        self.raw += key.sign(self._sig_structure)
        return _become_record(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A version as a caller asks for it. The store adds instance, vector and counter; the clock adds the timestamp.

    `expects`: the ids of the heads that the writer has seen; it is written only where these are all. None: any.
    """

    context: str
    author: IdentityId
    name: str
    body: bytes = b""
    tags: tuple[str, ...] = ()
    model: str = "note"
    model_version: tuple[int, int] = (1, 0)
    media_type: str = ""
    created_ms: int | None = None
    is_tombstone: bool = False
    later: bytes = b""  # fields of later minor versions, as `SignedRecord.later` returned them
    expects: frozenset[VersionId] | None = None

    def is_same_as(self, version: SignedRecord) -> bool:
        """Return True if writing the draft over `version` would change nothing. `created_ms` None equals every time."""
        return (
            self.is_tombstone == version.is_tombstone
            and self.body == version.body
            and self.media_type == version.media_type
            and tuple(sorted(set(self.tags))) == version.tags
            and (self.model, self.model_version) == (version.model, version.model_version)
            and self.created_ms in (None, version.created_ms)
            and self.later == version.later
        )


def leaf_key(author: IdentityId, name: str) -> LeafKey:
    """Return the leaf key of the record (author, name) in the tree of its context."""
    return LeafKey(digest(LEAF_KEY, author + name.encode()))


def parse(raw: bytes) -> SignedRecord:
    """Return the version in `raw`. Raises RemoteError (BAD_RECORD, or PROTOCOL_ERROR for bad CBOR)."""
    if len(raw) > RECORD_BYTES_MAX:
        raise bad_record("larger than a record may be")
    kid, payload_bstr, payload = split(raw)
    heading, fields = read_heading(payload), None
    if heading is None:
        fields = cbor.decode(payload)
        check_fields(fields)
        heading = _heading_of(fields)
    signed = SignedRecord(raw, kid, payload_bstr, heading, fields)  # type: ignore[arg-type]  # check_fields: a map of ints
    if signed.vector.get(signed.writer, 0) < 1:
        raise bad_record("its vector lacks its own dot")
    return signed


def verify(signed: SignedRecord) -> Record:
    """Return `signed`, which becomes the Record that it claims to be. Raises RemoteError (BAD_RECORD) when its kid did
    not sign it."""
    if not signed._is_signed():
        raise bad_record("the signature is not that of its key")
    return _become_record(signed)


def from_store(raw: bytes) -> Record:
    """Return a version from our own disk, where only verified ones are. Nothing is checked; `echonode verify` does."""
    kid, payload_bstr, payload = split(raw)
    fields = cbor.decode_trusted(payload)
    return Record(raw, kid, payload_bstr, _heading_of(fields), fields)  # type: ignore[arg-type]


def fields_of(raw: bytes) -> Mapping[int, cbor.Value]:
    """Return the fields of a version from our own disk, without computing its id and key."""
    return cbor.decode_trusted(split(raw)[2])  # type: ignore[return-value]


def is_version(raw: bytes, version: VersionId) -> bool:
    """Return True if `version` is the id of `raw`. The id covers all bytes but the signature."""
    try:
        kid, payload_bstr = open_envelope(raw)
    except RemoteError:
        return False
    if digest(VERSION, sig_structure(kid, payload_bstr, is_statement=False)) == version:
        return True
    return digest(VERSION, sig_structure(kid, payload_bstr, is_statement=True)) == version


def sign(draft: Draft, key: SigningKey, *, instance: Instance, vector: Vector, timestamp: Timestamp) -> Record:
    """Return `draft` as a version signed by `key`. `vector` contains the version's own dot.

    Raises LocalError, with a sentence for a person, for a draft outside the limits.
    """
    return prepare(draft, key.public, instance=instance, vector=vector, timestamp=timestamp).sign(key)


def prepare(
    draft: Draft,
    kid: PublicKey,
    *,
    instance: Instance,
    vector: Vector,
    timestamp: Timestamp,
    created_ms: int | None = None,
    key: LeafKey | None = None,
) -> UnsignedVersion:
    """Return the version up to its signature: half of `sign`. The other half can run in threads.

    `key` is the draft's leaf key, for a caller that has computed it already.
    `created_ms` is the wall time, for a draft that names no `created` of its own; None takes it from the timestamp.
    Raises LocalError.
    """
    if draft.created_ms is not None:
        created_ms = draft.created_ms
    elif created_ms is None:
        created_ms = to_ms(timestamp)
    vector = dict(sorted(vector.items())) if len(vector) > 1 else dict(vector)
    heading = (draft.context, draft.author, draft.name, timestamp, instance, vector, created_ms, draft.is_tombstone)
    payload = None
    if not draft.later:
        payload = write_payload(
            heading, draft.model, draft.model_version, draft.tags, draft.media_type, draft.body
        )
    if payload is None:
        payload = _encode(draft, heading)
    payload_bstr = bstr_head(len(payload)) + payload
    unsigned = assemble(kid, payload_bstr)
    # The bounds of known fields add up to less than this one; later fields have no bounds here.
    if draft.later and len(unsigned) + SIGNATURE_BYTES > RECORD_BYTES_MAX:
        raise LocalError("larger than a record may be")
    return UnsignedVersion(unsigned, kid, payload_bstr, heading, key=key)


def _encode(draft: Draft, heading: Heading) -> bytes:
    """Return the payload of any fields: those of `heading`, and the others of `draft`. Raises LocalError."""
    fields: dict[int, Any] = dict(zip(_HEADING, heading, strict=False))
    fields |= {MODEL: draft.model, MODEL_VERSION: list(draft.model_version)}
    if draft.tags:
        fields[TAGS] = sorted(set(draft.tags))
    if draft.media_type:
        fields[MEDIA_TYPE] = draft.media_type
    if draft.body:
        fields[BODY] = draft.body
    if draft.is_tombstone:
        fields[TOMBSTONE] = True
    try:
        if draft.later:
            fields |= later_fields(draft.later)
        check_fields(fields)
    except RemoteError as error:
        raise LocalError(error.detail) from None
    for text in (draft.context, draft.name, draft.model, draft.media_type, *draft.tags):
        # Only texts written here must be in NFC: the test depends on the version of Unicode (text.py).
        if not text.isascii() and not is_normalized("NFC", text):
            raise LocalError("names, tags and types are written in Unicode's form NFC")
    return cbor.encode(fields)


def _heading_of(fields: Any) -> Heading:
    return (*_required_heading(fields), TOMBSTONE in fields)


def _become_record(signed: SignedRecord) -> Record:
    """Return the same object as a Record. A copy would cost a tenth of what parsing does."""
    signed.__class__ = Record
    return signed  # type: ignore[return-value]


def supersedes(newer: Version, older: Version) -> bool:
    """Return True if `newer` has seen all that `older` has, and more (PROTOCOL.md §4.4)."""
    ours, theirs = newer.vector, older.vector
    # A vector with fewer entries, or with a lower counter of the older one's own dot, lacks something. Most end here.
    if len(ours) < len(theirs) or ours.get(older.writer, 0) < theirs[older.writer]:
        return False
    if ours == theirs or not theirs.keys() <= ours.keys():
        return False
    return all(map(le, theirs.values(), map(ours.__getitem__, theirs)))
