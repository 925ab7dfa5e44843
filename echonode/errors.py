"""Errors, split by whose fault they are.

    EchonodeError
      LocalError      ours: this process broke its own rules (a bug), or was asked the impossible
      RemoteError     the peer's: it broke the protocol; carries the `Reason` we answer with
      PeerRefused     the peer's decision: it closed with a `Reason`
      TransportError  nobody's: the network went away
      StoreError      the disk's: the database cannot be read, written or trusted
      ConfigError     the person's: a file, flag or key that cannot be used; one plain sentence

Decoders raise `RemoteError` and nothing else. Foreign exceptions are mapped in the one file that owns the dependency.
"""

from enum import IntEnum


class Reason(IntEnum):
    """Why a session or a record was refused, as it travels in Close and Refused (PROTOCOL.md §9)."""

    FINISHED = 0
    PROTOCOL_ERROR = 1
    TOO_LARGE = 2
    UNSUPPORTED_PROTOCOL = 3
    UNSUPPORTED_MODE = 4
    UNKNOWN_CONTEXT = 5
    BAD_RECORD = 6
    FOREIGN_CONTEXT = 7
    UNKNOWN_KEY = 8
    KEY_REVOKED = 9
    IDENTITY_CHANGED = 10
    BUSY = 11
    DUPLICATE_SESSION = 12
    TIMED_OUT = 13
    SHUTTING_DOWN = 14
    STORE_FAILED = 15
    PAIRING_FAILED = 16
    NOT_ACCEPTED = 17
    SELF = 18
    STALE_CURSOR = 19

    @classmethod
    def from_wire(cls, code: int) -> "Reason":
        """Return the reason that `code` names, PROTOCOL_ERROR for a code of a later version."""
        return cls(code) if code in cls._value2member_map_ else cls.PROTOCOL_ERROR

    @property
    def text(self) -> str:
        """The lower-case form used in logs, the API and the CLI."""
        return self.name.lower()


class EchonodeError(Exception):
    """Base of every error this package raises on purpose."""


class LocalError(EchonodeError):
    """This process broke its own rules, or a caller asked for what cannot be done."""


class RemoteError(EchonodeError):
    """The peer broke the protocol. The session ends with `reason`; `detail` is for our log only."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.text}: {detail}")
        self.reason = reason
        self.detail = detail


class PeerRefused(EchonodeError):
    """The peer ended the session or refused a request, naming `reason`; `supported` says what would do instead."""

    def __init__(self, reason: Reason, detail: str = "", supported: tuple[str, ...] = ()) -> None:
        super().__init__(f"peer refused: {reason.text}" + (f" ({detail})" if detail else ""))
        self.reason = reason
        self.detail = detail
        self.supported = supported


class TransportError(EchonodeError):
    """The connection broke, timed out, or never came up."""


class StoreError(EchonodeError):
    """The database cannot be read, written or trusted."""


class ConfigError(EchonodeError):
    """A setting, file or argument that cannot be used. The text is one sentence for a person."""
