"""Text forms: ids as lower-case base32, names in NFC, and strings from peers made safe to show."""

import unicodedata
from base64 import b32decode, b32encode

from echonode.limits import PEER_TEXT_CHARS_MAX


def to_base32(data: bytes) -> str:
    """Lower-case base32 (RFC 4648) without padding."""
    return b32encode(data).decode("ascii").rstrip("=").lower()


def from_base32(text: str, size: int) -> bytes:
    """The `size` bytes that `to_base32` wrote as `text`. Raises ValueError for anything else, other cases included."""
    padded = text.upper() + "=" * (-len(text) % 8)
    try:
        data = b32decode(padded)
    except ValueError:
        data = b""
    if len(data) != size or to_base32(data) != text:
        raise ValueError(f"not {size} bytes of lower-case base32: {escape(text)!r}")
    return data


def is_plain_text(text: str, bytes_max: int) -> bool:
    """Whether `text` is a non-empty string of at most `bytes_max` UTF-8 bytes without control characters.

    This is all that is asked of text from elsewhere: which characters are controls never changes, while what counts as
    NFC depends on the version of Unicode, and must not decide what belongs to a context.
    """
    if text.isascii():
        return 0 < len(text) <= bytes_max and text.isprintable()
    if len(text) > bytes_max or len(text.encode("utf-8", "surrogatepass")) > bytes_max:
        return False
    return not any(unicodedata.category(char) in ("Cc", "Cs") for char in text)


def is_nfc_text(text: str, bytes_max: int) -> bool:
    """Whether `text` is plain, and in NFC besides: what we write is, so that one name has one form."""
    return is_plain_text(text, bytes_max) and unicodedata.is_normalized("NFC", text)


def escape(text: str, chars_max: int = PEER_TEXT_CHARS_MAX) -> str:
    """`text` from a peer, safe for a log or a terminal, in at most `chars_max` characters.

    Controls, ESC and bidirectional marks (none of them printable to Python) are escaped: they can make a terminal show
    another text than the one stored (Unicode TR 36 §2.6).
    """
    shown = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in text[:chars_max])
    return shown if max(len(text), len(shown)) <= chars_max else shown[: chars_max - 1] + "…"
