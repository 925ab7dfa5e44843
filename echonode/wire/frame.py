"""Frames: payloads over an ordered stream of bytes, sealed with the Noise key of one direction (PROTOCOL.md §5.1).

    frame   = length, piece, *piece
    length  = 4 bytes, big-endian: bytes of payload, 1 to the receiver's limit
    piece   = one Noise transport message: up to 65,519 bytes of payload and a 16-byte tag

Every piece but the last is full, so the length tells where each piece ends. The four bytes of length are the
associated data of the first piece. Altered, they can only make the reader wait for more bytes within the limit; the
first piece then fails to authenticate. Both ends rekey a direction after exactly `REKEY_MESSAGES` pieces (SECURITY.md
H9).

The caller limits the time of a partial frame (`is_partial`) and judges the end of the stream.
"""

from typing import Final

from echonode.errors import LocalError, Reason, RemoteError
from echonode.limits import AUTH_BYTES_MAX, FRAME_BYTES_MAX, NOISE_MESSAGE_BYTES_MAX, REKEY_MESSAGES
from echonode.wire.noise import TAGLEN, CipherState

HEADER_BYTES: Final = 4
PIECE_BYTES_MAX: Final = NOISE_MESSAGE_BYTES_MAX - TAGLEN


class FrameWriter:
    """Turns payloads into frames."""

    __slots__ = ("_cipher",)

    def __init__(self, cipher: CipherState) -> None:
        self._cipher = cipher

    def write(self, payload: bytes) -> bytes:
        """Return the frame of `payload`, which has 1 to `FRAME_BYTES_MAX` bytes. Raises LocalError for another size."""
        if not 0 < len(payload) <= FRAME_BYTES_MAX:
            raise LocalError(f"a payload holds 1 to {FRAME_BYTES_MAX} bytes, not {len(payload)}")
        header = len(payload).to_bytes(HEADER_BYTES, "big")
        parts = [header]
        ad = header
        for start in range(0, len(payload), PIECE_BYTES_MAX):
            parts.append(self._cipher.encrypt_with_ad(ad, payload[start : start + PIECE_BYTES_MAX]))
            _rekey_if_due(self._cipher)
            ad = b""
        return b"".join(parts)


class FrameReader:
    """Turns bytes into payloads. Each piece is opened when it is whole, so at most one sealed piece is buffered.

    `bytes_max` bounds every payload after the first and may change at any time. The first payload is AUTH and has at
    most `AUTH_BYTES_MAX`. A second payload may stand in the same bytes, so a limit that the caller raises after it has
    read the first would come too late for it.
    """

    __slots__ = ("_ad", "_buffer", "_cipher", "_error", "_is_first", "_missing", "_pieces", "bytes_max")

    def __init__(self, cipher: CipherState, leftover: bytes = b"") -> None:
        self.bytes_max = FRAME_BYTES_MAX
        self._cipher = cipher
        self._buffer = bytearray(leftover)
        self._error: RemoteError | None = None
        self._is_first = True
        self._missing = 0  # bytes of payload still missing in this frame; 0 between frames
        self._ad = b""
        self._pieces: list[bytes] = []

    @property
    def is_partial(self) -> bool:
        """True while a frame has begun and is not whole."""
        return bool(self._buffer) or self._missing > 0

    def read(self, data: bytes) -> list[bytes]:
        """Return the payloads that `data` completes.

        Raises RemoteError for a length out of bounds or a piece that does not authenticate, and again on each later
        call.
        """
        if self._error is not None:
            raise self._error
        payloads: list[bytes] = []
        try:
            if self._buffer:
                self._buffer += data
                with memoryview(self._buffer) as view:
                    used = self._parse(view, payloads)
                del self._buffer[:used]
            else:  # nothing is buffered: parse `data` in place, and buffer only its rest
                with memoryview(data) as view:
                    self._buffer += view[self._parse(view, payloads) :]
        except RemoteError as error:
            self._error = error
            raise
        return payloads

    def _parse(self, view: memoryview, payloads: list[bytes]) -> int:
        """Open the whole pieces at the front of `view`. Return the number of bytes used."""
        at, end = 0, len(view)
        while True:
            if self._missing == 0:
                if end - at < HEADER_BYTES:
                    return at
                self._begin(bytes(view[at : at + HEADER_BYTES]))
                at += HEADER_BYTES
            size = min(self._missing, PIECE_BYTES_MAX) + TAGLEN
            if end - at < size:
                return at
            piece = self._cipher.decrypt_with_ad(self._ad, bytes(view[at : at + size]))
            _rekey_if_due(self._cipher)
            at += size
            self._ad = b""
            self._missing -= len(piece)
            self._pieces.append(piece)
            if self._missing == 0:
                payloads.append(b"".join(self._pieces))  # join returns a single piece uncopied
                self._pieces.clear()

    def _begin(self, header: bytes) -> None:
        length = int.from_bytes(header, "big")
        limit = min(AUTH_BYTES_MAX, self.bytes_max) if self._is_first else self.bytes_max
        if not 0 < length <= limit:
            raise RemoteError(Reason.TOO_LARGE, f"a frame of {length} bytes, where 1 to {limit} may come")
        self._is_first = False
        self._ad = header
        self._missing = length


def _rekey_if_due(cipher: CipherState) -> None:
    if cipher.n % REKEY_MESSAGES == 0:
        cipher.rekey()
