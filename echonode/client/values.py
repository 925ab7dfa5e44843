"""The values that clients return. Each is made of JSON that answers.py let through. Unknown fields are passed over."""

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record as it is read: of a conflict the version that every node shows. `etag` names all versions that stand.

    >>> record = node.get("shopping")
    >>> record.text, record.type, record.tags
    ('milk', 'text/plain', ('home',))
    """

    id: str
    address: str
    context: str
    author: str
    name: str
    version: str
    written: datetime
    created: datetime
    model: str
    model_version: str
    tags: tuple[str, ...]
    type: str
    deleted: bool
    heads: int
    etag: str
    body: bytes

    @property
    def text(self) -> str:
        """The body as text. Raises UnicodeDecodeError for one that is not UTF-8."""
        return self.body.decode()

    @property
    def in_conflict(self) -> bool:
        """True while several versions stand beside each other."""
        return self.heads > 1

    def json(self) -> Any:
        """Return the body as a JSON value. Raises ValueError for one that is none."""
        return json.loads(self.body)

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> "Record":
        """Return the record that a JSON object of the API describes."""
        return cls(
            id=value["id"],
            address=value.get("address", value["id"]),
            context=value["context"],
            author=value["author"],
            name=value["name"],
            version=value["version"],
            written=datetime.fromisoformat(value["timestamp"]),
            created=datetime.fromisoformat(value["created"]),
            model=value["model"],
            model_version=value["model_version"],
            tags=tuple(value["tags"]),
            type=value["type"],
            deleted=value["deleted"],
            heads=value.get("heads", 1),
            etag=value.get("etag", value["version"]),
            body=b64decode(value.get("body_base64", "")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A write that is durable. `cursor`: its place in the change log; `etag`: for the next write over it."""

    id: str
    version: str
    context: str
    cursor: str

    @property
    def etag(self) -> str:
        """The tag of this version alone."""
        return self.version


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A record that changed, in its latest state. `cursor`: where to go on behind it.

    `gap`: "", or why changes before this one may have been missed: then all records are told from the beginning.
    """

    record: Record
    cursor: str
    gap: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a record. `by`: `me`, @NAME, a whole id, or "" when the writer is not known."""

    version: str
    by: str
    written: datetime
    deleted: bool
    type: str
    body: bytes | None

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> "Version":
        """Return the version that a JSON object of the API describes."""
        return cls(
            version=value["version"],
            by=value["by"],
            written=datetime.fromisoformat(value["timestamp"]),
            deleted=value["deleted"],
            type=value["type"],
            body=_shown_body(value),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A record with several versions, the one that readers get first."""

    id: str
    address: str
    context: str
    versions: tuple[Version, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSync:
    """One peer's part in a sync. `error`: a sentence, "" when all went well."""

    id: str | None
    name: str
    status: str
    sent: int
    received: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncResult:
    """The result of a sync. `status` is verified, partial, failed, timed out or no peers."""

    status: str
    peers: tuple[PeerSync, ...]
    conflicts: int

    @property
    def verified(self) -> bool:
        """True when every peer holds the same, and both sides computed that."""
        return self.status == "verified"


def _shown_body(value: Mapping[str, Any]) -> bytes | None:
    """Return the body that stands in a form for people; None for a deletion. Of JSON the value, written anew."""
    if "body_base64" in value:
        return b64decode(value["body_base64"])
    if "body" not in value:
        return None
    body = value["body"]
    return (
        body.encode("utf-8", "replace")
        if isinstance(body, str) and "json" not in value["type"]
        else json.dumps(body).encode()
    )
