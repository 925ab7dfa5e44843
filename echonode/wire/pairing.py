"""Invitations: the joiner proves that it knows a short code; the inviter sends the network secret (SECURITY.md H8).

    joiner (initiator)                               inviter (responder)
      start    -> share (33 bytes)        ------->     answer  -> share (33 bytes)
      confirm  -> confirmation (32)       <-------
                                          ------->     finish  -> confirmation (32), sealed network secret (80)
      accept   -> network secret          <-------

SPAKE2 over Ed25519 runs inside a channel of the public network, in the form of the package `spake2` (older than RFC
9382, with another transcript). The password is the code. The identities contain the channel's handshake hash: an
attacker in the middle has two channels with two hashes, so shares that it passes on do not fit. Each exchange tests one
guess of the code. The inviter checks the joiner's confirmation before it sends its own, so each guess costs a try.

    share         = side byte "A" (joiner) or "B" (inviter), encoded point
    identities    = "echonode pairing joiner" and "echonode pairing inviter", each followed by the handshake hash
    key           = SHA-256(SHA-256(code), SHA-256(joiner's identity), SHA-256(inviter's), both points, shared point)
    confirmation  = BLAKE2b keyed with `key`, person "echonode pairing", over the role
    sealed secret = ChaCha20-Poly1305 of network key, pool seed, and the pool of the invitation if it has one, under
                    BLAKE2b keyed with `key`, person "echonode pairing", over "network secret"; nonce 0, associated data
                    the handshake hash

`spake2` is Python, and its running time depends on the code. An attacker that begins and abandons very many exchanges
could learn a few bits of the code, so the number of exchanges is bounded too. It is imported by the first exchange: few
nodes have one, and it takes 7 MB. Pure: bytes and seconds come in as values.
"""

import hmac
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NewType

from echonode import digest
from echonode.errors import ConfigError, LocalError, Reason, RemoteError
from echonode.limits import INVITATION_EXCHANGES_MAX, INVITATION_TRIES
from echonode.model.known_pool import KnownPool
from echonode.model.member_secret import MEMBER_SECRET_BYTES, MemberSecret
from echonode.text import escape
from echonode.wire.noise import CipherState
from echonode.wire.word_list import THREE_SYLLABLES, TWO_SYLLABLES

if TYPE_CHECKING:
    from spake2 import SPAKE2_A, SPAKE2_B

CODE_ENTROPY_BYTES: Final = 10
SLOTS: Final = 99
SHARE_BYTES: Final = 33  # a side byte and an encoded point

_PAIRING: Final = digest.PAIRING
_JOINER: Final = b"joiner"
_INVITER: Final = b"inviter"

Code = NewType("Code", str)


# -- codes -----------------------------------------------------------------------------------------------------------
def new_code(entropy_bytes: bytes) -> Code:
    """Return a code such as `7-crossover-clockwork`: a slot and 16 secret bits.

    `entropy_bytes` are `CODE_ENTROPY_BYTES` random bytes; LocalError for another number.
    """
    if len(entropy_bytes) != CODE_ENTROPY_BYTES:
        raise LocalError(f"a code is made of {CODE_ENTROPY_BYTES} random bytes, not {len(entropy_bytes)}")
    slot = int.from_bytes(entropy_bytes[2:], "big") % SLOTS + 1  # 8 bytes: the bias is below 2**-57
    return Code(f"{slot}-{THREE_SYLLABLES[entropy_bytes[0]]}-{TWO_SYLLABLES[entropy_bytes[1]]}")


def normalise_code(text: str) -> Code:
    """Return the code that a person typed or pasted. Raises ConfigError.

    Case does not matter. Dashes, blanks and quotes of any kind, full stops and invisible characters may separate and
    surround the parts: chat and mail programs add them.
    """
    visible = "".join(char for char in unicodedata.normalize("NFKC", text) if unicodedata.category(char) != "Cf")
    match re.findall(r"[^\W_]+", visible.casefold()):
        case [slot, first, second] if re.fullmatch(r"0?[1-9]|[1-9][0-9]", slot):
            for word, words in ((first, THREE_SYLLABLES), (second, TWO_SYLLABLES)):
                if word not in words:
                    raise ConfigError(f"{escape(word)!r} is not a word of invitation codes in that place.")
            return Code(f"{int(slot)}-{first}-{second}")
    raise ConfigError("An invitation code is a number from 1 to 99 and two words, such as 7-crossover-clockwork.")


def slot_of(code: Code) -> str:
    """Return the number that a code begins with. It names the invitation and is no secret."""
    return code.partition("-")[0]


# -- invitations -----------------------------------------------------------------------------------------------------
@dataclass(slots=True)
class Invitation:
    """An invitation. It is open until its uses, tries or exchanges are spent or `expires_s` (monotonic) has come.

    `pool`: joiners become members of it too, None for none; with its seed only if it is a common one."""

    code: Code = field(repr=False)
    expires_s: float
    uses_left: int = 1
    tries_left: int = INVITATION_TRIES
    exchanges_left: int = INVITATION_EXCHANGES_MAX
    pool: KnownPool | None = None

    def is_open(self, now_s: float) -> bool:
        """Return True while a joiner may try."""
        return min(self.uses_left, self.tries_left, self.exchanges_left) > 0 and now_s < self.expires_s

    def close(self) -> None:
        """Let nobody in any more, not even a joiner whose exchange is under way."""
        self.uses_left = 0

    def count_exchange(self) -> None:
        """Count an exchange that a joiner began, finished or not."""
        self.exchanges_left -= 1

    def count_use(self) -> None:
        """Count a joiner that received the network secret."""
        self.uses_left -= 1

    def count_failure(self) -> None:
        """Count a confirmation made with another code."""
        self.tries_left -= 1


# -- the exchange ----------------------------------------------------------------------------------------------------
class PairingInitiator:
    """The joiner: `start`, `confirm`, `accept`, once each. `entropy_f(n)` returns n random bytes."""

    def __init__(self, code: Code, *, handshake_hash: bytes, entropy_f: Callable[[int], bytes]) -> None:
        from spake2 import SPAKE2_A

        self._handshake_hash = handshake_hash
        self._spake2 = SPAKE2_A(code.encode(), **_identities(handshake_hash), entropy_f=entropy_f)
        self._key: bytes | None = None

    def start(self) -> bytes:
        """Return the joiner's share."""
        share: bytes = self._spake2.start()
        return share

    def confirm(self, share: bytes) -> bytes:
        """Return the joiner's confirmation. `share` is the inviter's.

        Raises RemoteError (PAIRING_FAILED) if `share` is malformed.
        """
        self._key = _finish(self._spake2, share)
        return digest.keyed(_PAIRING, self._key, _JOINER)

    def accept(self, confirmation: bytes, sealed: bytes) -> tuple[MemberSecret, KnownPool | None]:
        """Return the network secret, and the pool of the invitation, None for none.

        Raises RemoteError (PAIRING_FAILED) when the inviter does not know the code."""
        key, self._key = self._key, None
        if key is None:
            raise LocalError("nothing was confirmed")
        if not hmac.compare_digest(confirmation, digest.keyed(_PAIRING, key, _INVITER)):
            raise _failed("the inviter does not know the code")
        try:
            data = _seal(key).decrypt_with_ad(self._handshake_hash, sealed)
        except RemoteError:
            raise _failed("the network secret was altered") from None
        secret, offer = MemberSecret.from_bytes(data[:MEMBER_SECRET_BYTES]), data[MEMBER_SECRET_BYTES:]
        try:
            return secret, KnownPool.from_bytes(offer) if offer else None
        except ValueError as error:
            raise _failed(f"the inviter offers what is no pool: {error}") from None


class PairingResponder:
    """The inviter: `answer`, `finish`, once each. It also counts exchanges, tries and uses of `invitation`."""

    def __init__(
        self,
        invitation: Invitation,
        *,
        secret: MemberSecret,
        handshake_hash: bytes,
        entropy_f: Callable[[int], bytes],
    ) -> None:
        from spake2 import SPAKE2_B

        self._invitation = invitation
        self._secret = secret
        self._handshake_hash = handshake_hash
        self._spake2 = SPAKE2_B(invitation.code.encode(), **_identities(handshake_hash), entropy_f=entropy_f)
        self._key: bytes | None = None

    def answer(self, share: bytes) -> bytes:
        """Return the inviter's share, which tells nothing about the code. `share` is the joiner's.

        Raises RemoteError (PAIRING_FAILED) if `share` is malformed.
        """
        self._invitation.count_exchange()
        ours: bytes = self._spake2.start()
        self._key = _finish(self._spake2, share)
        return ours

    def finish(self, confirmation: bytes, *, now_s: float) -> tuple[bytes, bytes]:
        """Return the inviter's confirmation and the sealed network secret, and spend a use.

        Raises RemoteError (PAIRING_FAILED) for another code, which spends a try, and for every code once the invitation
        is closed. It may have closed since `answer`: parallel exchanges share the tries.
        """
        key, self._key = self._key, None
        if key is None:
            raise LocalError("nothing was answered")
        if not self._invitation.is_open(now_s):
            raise _failed("the invitation is closed")
        if not hmac.compare_digest(confirmation, digest.keyed(_PAIRING, key, _JOINER)):
            self._invitation.count_failure()
            raise _failed("the joiner does not know the code")
        self._invitation.count_use()
        pool = self._invitation.pool
        data = self._secret.to_bytes() + (pool.to_bytes() if pool is not None else b"")
        sealed = _seal(key).encrypt_with_ad(self._handshake_hash, data)
        return digest.keyed(_PAIRING, key, _INVITER), sealed


def _identities(handshake_hash: bytes) -> dict[str, bytes]:
    return {"idA": _PAIRING + b" " + _JOINER + handshake_hash, "idB": _PAIRING + b" " + _INVITER + handshake_hash}


def _finish(spake2: "SPAKE2_A | SPAKE2_B", share: bytes) -> bytes:
    from spake2 import SPAKEError
    from spake2.ed25519_basic import NotOnCurve, Q

    # The package ignores bytes behind the point, and accepts other encodings of a point, even of zero.
    y = int.from_bytes(share[1:], "little") & ((1 << 255) - 1)
    if len(share) != SHARE_BYTES or not 1 < y < Q:
        raise _failed("not a share")
    try:
        key: bytes = spake2.finish(share)
    except (SPAKEError, NotOnCurve, ValueError):  # our own share or side; not a point; a point outside the group
        raise _failed("not a share") from None
    return key


def _seal(key: bytes) -> CipherState:
    return CipherState(digest.keyed(_PAIRING, key, b"network secret"))


def _failed(detail: str) -> RemoteError:
    return RemoteError(Reason.PAIRING_FAILED, detail)
