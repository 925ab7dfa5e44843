"""Text forms: ids in lower-case base32, names in NFC, peers' texts escaped for display (PROTOCOL.md §2.2), widths."""

import unicodedata
from base64 import b32decode, b32encode
from typing import Final

from echonode.limits import NODE_NAME_BYTES_MAX, PEER_TEXT_CHARS_MAX

_BASE32: Final = "abcdefghijklmnopqrstuvwxyz234567"


def to_base32(data: bytes) -> str:
    """Return `data` in lower-case base32 (RFC 4648 §6) without padding."""
    return b32encode(data).decode("ascii").rstrip("=").lower()


def from_base32(text: str, size: int) -> bytes:
    """Return the `size` bytes that `to_base32` wrote as `text`. Raises ValueError for other texts, upper case too."""
    padded = text.upper() + "=" * (-len(text) % 8)
    try:
        data = b32decode(padded)
    except ValueError:
        data = b""
    if len(data) != size or to_base32(data) != text:
        raise ValueError(f"not {size} bytes of lower-case base32: {escape(text)!r}")
    return data


def base32_range(prefix: str, size: int) -> tuple[bytes, bytes] | None:
    """Return the lowest and the highest `size` bytes whose `to_base32` begins with `prefix`; None if no bytes do."""
    if not all(char in _BASE32 for char in prefix):
        return None
    value, bits = 0, 8 * size - 5 * len(prefix)
    for char in prefix:
        value = 32 * value + _BASE32.index(char)
    if bits < 0:  # the last letter ends in zeros
        if bits <= -5 or value % 2**-bits:
            return None
        value, bits = value >> -bits, 0
    return (value << bits).to_bytes(size, "big"), ((value + 1 << bits) - 1).to_bytes(size, "big")


def is_plain_text(text: str, bytes_max: int) -> bool:
    """Return True if `text` has 1 to `bytes_max` UTF-8 bytes and no control characters.

    A text from a peer must be plain and no more. The set of control characters never changes. NFC depends on the
    version of Unicode, so it must not decide which records a context holds.
    """
    if text.isascii():
        return 0 < len(text) <= bytes_max and text.isprintable()
    if len(text) > bytes_max or len(text.encode("utf-8", "surrogatepass")) > bytes_max:
        return False
    return not any(unicodedata.category(char) in ("Cc", "Cs") for char in text)


def is_nfc_text(text: str, bytes_max: int) -> bool:
    """Return True if `text` is plain and in NFC. Texts written here must be, so that one name has one form."""
    return is_plain_text(text, bytes_max) and unicodedata.is_normalized("NFC", text)


def nfc(text: str) -> str:
    """Return `text` in NFC: the same name typed on two keyboards is one name."""
    return unicodedata.normalize("NFC", text)


def is_node_name(text: str) -> bool:
    """Return True if `text` may be the name of this node: plain, in NFC, and not blank."""
    return is_nfc_text(text, NODE_NAME_BYTES_MAX) and not text.isspace()


def columns_of(text: str) -> int:
    """Return the number of columns that `text` takes on a terminal (UAX 11)."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def escape(text: str, chars_max: int = PEER_TEXT_CHARS_MAX) -> str:
    """Return `text` from a peer, safe for a log or a terminal, in at most `chars_max` characters.

    Control characters, ESC and bidirectional marks are escaped; none of them is printable to Python. They can make a
    terminal show another text than the stored one (Unicode TR 36 §2.6).
    """
    shown = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text[:chars_max])
    return shown if max(len(text), len(shown)) <= chars_max else shown[: chars_max - 1] + "…"
