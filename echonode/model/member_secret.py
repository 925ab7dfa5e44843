"""The network secret: what makes a node a member of a private network (PROTOCOL.md §10.3).

    text = base32(network key, 32 bytes ‖ pool seed, 32 bytes ‖ checksum, 6 bytes)        112 letters and digits

The network key opens connections. The pool seed is that of the root key of the pool `shared`. Both are random and made
with the network. They travel and are kept together: a member without the seed could not write into `shared`.
"""

from dataclasses import dataclass, field
from typing import Final

from echonode.digest import NETWORK, NEW_SECRET, POOL_ROOT, SECRET_CHECK, digest, keyed
from echonode.errors import ConfigError
from echonode.text import from_base32, to_base32

MEMBER_SECRET_BYTES: Final = 64
_HALF_BYTES: Final = 32
_CHECKSUM_BYTES: Final = 6
_TEXT_CHARS: Final = 112
_KEY_CHARS: Final = 52


@dataclass(frozen=True, slots=True)
class MemberSecret:
    """A network key and the seed of its pool `shared`, 32 bytes each."""

    key: bytes = field(repr=False)
    pool_seed: bytes = field(repr=False)

    def __post_init__(self) -> None:
        assert len(self.key) == len(self.pool_seed) == _HALF_BYTES, "both parts of a network secret are 32 bytes"

    @classmethod
    def from_bytes(cls, data: bytes) -> "MemberSecret":
        """Return the secret with these 64 bytes: key, then seed. Fresh random ones make a new network."""
        return cls(data[:_HALF_BYTES], data[_HALF_BYTES:])

    @classmethod
    def of_lone_key(cls, key: bytes) -> "MemberSecret":
        """Return the secret of a home that holds the network key alone: then the seed was derived from the key."""
        return cls(key, keyed(POOL_ROOT, key, b"shared"))

    @classmethod
    def from_text(cls, text: str, present: "MemberSecret | None" = None) -> "MemberSecret":
        """Return the secret that a person typed or pasted. Spaces, line ends and capitals do not matter.

        A key alone replaces that of the `present` secret, which the home has; without one, its seed is derived.
        Raises ConfigError. Its sentence never quotes the text, which may be the secret with one letter missing.
        """
        letters = "".join(text.split()).lower()
        if is_lone_key(text):
            try:
                key = from_base32(letters, _HALF_BYTES)
            except ValueError:
                raise ConfigError("that is not a network key: it has only the letters a to z and 2 to 7") from None
            return cls.of_lone_key(key) if present is None else cls(key, present.pool_seed)
        if len(letters) != _TEXT_CHARS:
            raise ConfigError(
                f"that is not a network secret: {_TEXT_CHARS} letters and digits are expected, as "
                f"`echonode network show` prints, not {len(letters)}"
            )
        try:
            data = from_base32(letters, MEMBER_SECRET_BYTES + _CHECKSUM_BYTES)
        except ValueError:
            raise ConfigError("that is not a network secret: it has only the letters a to z and 2 to 7") from None
        secret = cls.from_bytes(data[:MEMBER_SECRET_BYTES])
        if secret._checksum() != data[MEMBER_SECRET_BYTES:]:
            raise ConfigError("the network secret has a mistyped letter: copy the whole line again")
        return secret

    @property
    def netid(self) -> bytes:
        """The public id of the network: 32 bytes that tell nothing of the key."""
        return keyed(NETWORK, self.key, b"")

    @property
    def commitment(self) -> bytes:
        """The hash by which a rotation names this secret without giving it away."""
        return digest(NEW_SECRET, self.to_bytes())

    def to_bytes(self) -> bytes:
        """Return the 64 bytes: key, then seed."""
        return self.key + self.pool_seed

    def to_text(self) -> str:
        """Return the text that a person carries to another machine."""
        return to_base32(self.to_bytes() + self._checksum())

    def _checksum(self) -> bytes:
        return digest(SECRET_CHECK, self.to_bytes())[:_CHECKSUM_BYTES]


def is_lone_key(text: str) -> bool:
    """Return whether `text` has the length of a network key alone, without seed and checksum."""
    return len("".join(text.split())) == _KEY_CHARS
