"""The root key of an identity as one text, sealed with a passphrase, to be kept off the machine.

    text = "echonode-root-1" and a space, then base32 (in lines of 64) of
           public key 32 ‖ salt 16 ‖ nonce 24 ‖ XChaCha20-Poly1305 of the seed, 48
    key  = Argon2id of the passphrase in NFC with the salt, 3 passes over 256 MiB
    ad   = "echonode-root-1" ‖ public key

Pure: salt and nonce come in as values. It takes about a second, off the event loop.
"""

from textwrap import wrap
from typing import Final

from echonode.errors import LocalError
from echonode.model.identity import (
    KEY_BYTES,
    NONCE_BYTES,
    SALT_BYTES,
    SEAL_BYTES,
    PublicKey,
    SigningKey,
    open_sealed,
    passphrase_key,
    seal,
)
from echonode.text import from_base32, nfc, to_base32

RANDOM_BYTES: Final = SALT_BYTES + NONCE_BYTES
_HEAD: Final = "echonode-root-1"
_LINE_CHARS: Final = 64
_BYTES: Final = KEY_BYTES + RANDOM_BYTES + KEY_BYTES + SEAL_BYTES


def export_root(seed: bytes, passphrase: str, random: bytes) -> str:
    """Return the text for the root key with that seed. `random`: RANDOM_BYTES fresh random bytes."""
    public = SigningKey(seed).public
    salt, nonce = random[:SALT_BYTES], random[SALT_BYTES:]
    sealed = seal(passphrase_key(nfc(passphrase).encode(), salt), nonce, seed, _HEAD.encode() + public)
    return "\n".join([_HEAD, *wrap(to_base32(public + salt + nonce + sealed), _LINE_CHARS), ""])


def exported_key(text: str) -> PublicKey:
    """Return the public root key that `text` was made for. It is not proved. Raises LocalError for another text."""
    return PublicKey(_data_of(text)[:KEY_BYTES])


def import_root(text: str, passphrase: str) -> bytes:
    """Return the seed of the root key in `text`. Raises LocalError for another text, or a wrong passphrase."""
    data = _data_of(text)
    public, rest = data[:KEY_BYTES], data[KEY_BYTES:]
    salt, nonce, sealed = rest[:SALT_BYTES], rest[SALT_BYTES:RANDOM_BYTES], rest[RANDOM_BYTES:]
    key = passphrase_key(nfc(passphrase).encode(), salt)
    seed = open_sealed(key, nonce, sealed, _HEAD.encode() + public)
    if seed is None:
        raise LocalError("that is not the passphrase, or the file is damaged")
    return seed


def _data_of(text: str) -> bytes:
    head, *parts = text.split() or [""]
    if head != _HEAD:
        raise LocalError(f"that is no exported root key: it begins with {_HEAD}")
    try:
        return from_base32("".join(parts), _BYTES)
    except ValueError:
        raise LocalError("the exported root key is damaged: a line is missing, or a letter is wrong") from None
