"""Errors, split by fault.

    EchonodeError
      LocalError      this process: it broke its own rules (a bug), or a caller asked for the impossible
      RemoteError     the peer: it broke the protocol; carries the `Reason` that this node answers with
      PeerRefused     no fault: the peer closed the session or refused a request with a `Reason`
      TransportError  no fault: the connection broke
      StoreError      the disk: the database cannot be read, written or trusted
      ConfigError     the person: a file, flag or key cannot be used; the text is one plain sentence

Decoders raise RemoteError and nothing else. The file that owns a dependency maps its exceptions to these.
"""

from enum import IntEnum


class Reason(IntEnum):
    """The reason for a refusal, as it travels in Close, Refused and Stored (PROTOCOL.md §9.1)."""

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
    QUOTA = 20
    PAUSED = 21
    LEFT_OUT = 22
    UNAPPROVED = 23

    @classmethod
    def from_wire(cls, code: int) -> "Reason":
        """Return the reason that `code` names, PROTOCOL_ERROR for a code of a later version."""
        return cls(code) if code in cls._value2member_map_ else cls.PROTOCOL_ERROR

    @property
    def text(self) -> str:
        """The name in lower case, as logs, the API and the CLI show it."""
        return self.name.lower()


class EchonodeError(Exception):
    """The base of every error that this package raises on purpose."""


class LocalError(EchonodeError):
    """This process broke its own rules, or a caller asked for the impossible."""


class RemoteError(EchonodeError):
    """The peer broke the protocol. The session ends with `reason`; `detail` is for this node's log only."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason.text}: {detail}")
        self.reason = reason
        self.detail = detail


class PeerRefused(EchonodeError):
    """The peer ended the session or refused a request. `supported` names what it would accept instead."""

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
    """A setting, file or argument cannot be used. The text is one sentence for a person."""
