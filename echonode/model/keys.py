"""Key statements: the keys that speak for an identity (PROTOCOL.md §4.5, §4.6).

They are records of the context `identities`, signed by the root key. A statement says of one key that it is active,
retired or compromised. Each (key, state) is a record of its own, so no statement replaces another. The state of a key
is the furthest one stated; merging is union.

    active < retired < compromised       retired: old records stand; compromised: every signature of the key is void
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum
from functools import lru_cache
from typing import Final

from echonode import cbor
from echonode.errors import Reason, RemoteError
from echonode.model.identity import KEY_BYTES, IdentityId, PublicKey, identity_of, is_admissible
from echonode.model.record import IDENTITIES, Draft, Record
from echonode.text import to_base32

STATEMENT_MODEL: Final = "key-statement"


class KeyState(IntEnum):
    """The state of a key, as its root key states it. States only move forward."""

    ACTIVE = 1
    RETIRED = 2
    COMPROMISED = 3


_STATES: Final = frozenset(map(int, KeyState))


class Admission(Enum):
    """The standing of a version by its key: a store holds ADMITTED ones only."""

    ADMITTED = "admitted"
    UNKNOWN = "unknown"
    VOID = "void"


@dataclass(frozen=True, slots=True)
class Statement:
    """The contents of one key statement."""

    identity: IdentityId
    key: PublicKey
    state: KeyState


def statement_draft(identity: IdentityId, key: PublicKey, state: KeyState) -> Draft:
    """Return the draft of a statement, for the root key to sign."""
    return Draft(
        context=IDENTITIES,
        author=identity,
        name=_statement_name(key, state),
        body=cbor.encode([key, int(state)]),
        model=STATEMENT_MODEL,
        media_type="application/cbor",
    )


def read_statement(record: Record) -> Statement:
    """Return the statement in `record`, of the context `identities`. Raises RemoteError if it is malformed."""
    return _read(record.kid, record.author, record.name, record.body)


@lru_cache(maxsize=4096)  # the same statements come from every peer
def _read(root: PublicKey, author: IdentityId, name: str, body: bytes) -> Statement:
    if identity_of(root) != author:
        raise RemoteError(Reason.BAD_RECORD, "a key statement is signed by its identity's root key")
    match cbor.decode(body) if body else None:
        case [bytes(key), int(state)] if len(key) == KEY_BYTES and type(state) is int and state in _STATES:
            statement = Statement(author, PublicKey(key), KeyState(state))
        case _:
            raise RemoteError(Reason.BAD_RECORD, "a key statement is [key, state]")
    if name != _statement_name(statement.key, statement.state):
        raise RemoteError(Reason.BAD_RECORD, "a key statement is named after what it states")
    if not is_admissible(statement.key):
        raise RemoteError(Reason.BAD_RECORD, "the stated key is not a point of the prime-order group")
    return statement


def _statement_name(key: PublicKey, state: KeyState) -> str:
    return f"{to_base32(key)}/{state.name.lower()}"


class Keyring:
    """The known states of all keys: a union of statements."""

    def __init__(self, statements: Iterable[Statement] = ()) -> None:
        self._states: dict[tuple[IdentityId, PublicKey], KeyState] = {}
        for statement in statements:
            self.add(statement)

    def add(self, statement: Statement) -> bool:
        """Add a statement. Return True if the state of its key moved forward."""
        subject = (statement.identity, statement.key)
        known = self._states.get(subject)
        if known is not None and known >= statement.state:
            return False
        self._states[subject] = statement.state
        return True

    def state_of(self, identity: IdentityId, key: PublicKey) -> KeyState | None:
        """Return the furthest state stated of `key` by `identity`, None without a statement."""
        return self._states.get((identity, key))

    def identities_of(self, key: PublicKey) -> list[IdentityId]:
        """Return the identities that have stated something of `key`: a node's own, and its pools'."""
        return [identity for identity, stated in self._states if stated == key]

    def admission(self, record: Record) -> Admission:
        """Return the standing of `record`, which is outside `identities`, by what is known of its key and author."""
        match self._states.get((record.author, record.kid)):
            case None:
                return Admission.UNKNOWN
            case KeyState.COMPROMISED:
                return Admission.VOID
            case _:
                return Admission.ADMITTED
