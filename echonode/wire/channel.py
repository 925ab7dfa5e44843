"""The secured channel: three handshake messages, then frames (SECURITY.md H1, H2, H9, H11; PROTOCOL.md §5.1).

    initiator                                                      responder
      "ECHO", version 1, message 1 (48 bytes)  ------------------>  tries each network secret it accepts;
                                                                    if none fits, it closes without a byte
      message 3 (64 bytes)                     <------------------  message 2 (96 bytes)
      is a channel now                         ------------------>  is a channel now
      frames                                   <----------------->  frames

The messages are those of `Noise_XXpsk3_25519_ChaChaPoly_SHA256` with empty payloads. The prologue is a domain, the five
bytes sent in clear, and the network's `netid`. The `netid` is never sent, but the tag of message 1 covers it. So the
responder recognises an initiator of its network before it sends a byte. (A replay of a recorded message 1 shows that a
node is still in that network. It leads no further: message 2 opens only with the ephemeral key behind message 1.) The
handshake does not name the nodes; AUTH proves identities inside the channel.

Pure: bytes in, bytes out. The caller passes the keys in and keeps the time: a handshake may take `HANDSHAKE_TIMEOUT_S`,
a partial frame `FRAME_TIMEOUT_S`. The end of the stream, without a Close, is a failure.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from echonode import digest
from echonode.errors import LocalError, Reason, RemoteError
from echonode.wire.frame import FrameReader, FrameWriter
from echonode.wire.noise import HandshakeState, KeyPair

PROTOCOL_NAME: Final = "Noise_XXpsk3_25519_ChaChaPoly_SHA256"
MAGIC: Final = b"ECHO"
CHANNEL_VERSION: Final = 1  # the version of the handshake and frames described here; meant never to change
PREAMBLE: Final = MAGIC + bytes([CHANNEL_VERSION])
NETWORK_KEY_BYTES: Final = 32

_SIZES: Final = {1: len(PREAMBLE) + 48, 2: 96, 3: 64}  # bytes of each handshake message; the first with the preamble
_DOMAIN: Final = b"echonode channel"
# Published on purpose: anyone may join the public network.
_PUBLIC_NETWORK_KEY: Final = digest.digest(digest.NETWORK, b"echonode public network")
# One text for every failure before AUTH: neither a peer nor a log may tell a wrong key from an altered byte.
_FAILED: Final = "the handshake failed: not of our network, or altered on the way"


@dataclass(frozen=True, slots=True)
class NetworkSecret:
    """The secret of a network, made from its key. `psk` goes into the handshake, `netid` into its prologue."""

    psk: bytes = field(repr=False)
    netid: bytes = field(repr=False)

    @classmethod
    def private(cls, network_key: bytes) -> "NetworkSecret":
        """Return the secret of the network with the 32-byte `network_key` (SECURITY.md H8). Raises LocalError."""
        if len(network_key) != NETWORK_KEY_BYTES:
            raise LocalError(f"a network key is {NETWORK_KEY_BYTES} bytes, not {len(network_key)}")
        return cls(
            psk=digest.keyed(digest.PSK, network_key, b""),
            netid=digest.keyed(digest.NETWORK, network_key, b""),
        )

    @classmethod
    def public(cls) -> "NetworkSecret":
        """Return the secret of the public network, which everyone knows. Pairing runs under it too."""
        return cls.private(_PUBLIC_NETWORK_KEY)


class Channel:
    """A connection with shared keys. Each end knows only that the other knows `secret`.

    `handshake_hash` names this connection and no other; AUTH signs it. `own_static` and `remote_static` are the X25519
    public keys of both ends. `bytes_sent` and `bytes_received` count what is on the wire, without the handshake.
    """

    __slots__ = (
        "_reader",
        "_writer",
        "bytes_received",
        "bytes_sent",
        "handshake_hash",
        "is_initiator",
        "own_static",
        "remote_static",
        "secret",
    )

    def __init__(
        self, state: HandshakeState, *, secret: NetworkSecret, own_static: bytes, is_initiator: bool, leftover: bytes
    ) -> None:
        assert state.rs is not None, "XX tells each side the other's static key"
        from_initiator, from_responder = state.split()
        self.handshake_hash = state.handshake_hash
        self.own_static = own_static
        self.remote_static = state.rs
        self.secret = secret
        self.is_initiator = is_initiator
        self.bytes_sent = 0  # as on the wire: lengths and tags included, the handshake not
        self.bytes_received = len(leftover)
        self._writer = FrameWriter(from_initiator if is_initiator else from_responder)
        self._reader = FrameReader(from_responder if is_initiator else from_initiator, leftover)

    @property
    def receive_bytes_max(self) -> int:
        """The largest payload accepted, 1 MiB unless set. The first payload is AUTH: at most `AUTH_BYTES_MAX`."""
        return self._reader.bytes_max

    @receive_bytes_max.setter
    def receive_bytes_max(self, bytes_max: int) -> None:
        self._reader.bytes_max = bytes_max

    @property
    def has_partial_frame(self) -> bool:
        """True while a frame has begun and is not whole."""
        return self._reader.is_partial

    def send(self, payload: bytes) -> bytes:
        """Return the frame of `payload`, 1 byte to 1 MiB. The caller must write every frame, in the order made."""
        frame = self._writer.write(payload)
        self.bytes_sent += len(frame)
        return frame

    def receive_data(self, data: bytes) -> list[bytes]:
        """Return the payloads that `data` completes. `data` may be cut anywhere.

        Raises RemoteError, and again on each later call: PROTOCOL_ERROR for bytes that do not authenticate, TOO_LARGE
        for a length of 0 or over the limit, as soon as its four bytes are there. The caller can still send a Close.
        """
        self.bytes_received += len(data)
        return self._reader.read(data)


class Handshake:
    """One side of a handshake, which ends in a `Channel`.

    After the constructor and after each `receive_data` the caller must write `data_to_send()`. When `channel` is set,
    it may already hold bytes that came behind the handshake: the caller begins with `channel.receive_data(b"")`.
    """

    def __init__(
        self, secrets: Sequence[NetworkSecret], *, static: bytes, ephemeral: bytes, is_initiator: bool
    ) -> None:
        self.channel: Channel | None = None
        self._secrets = secrets
        self._static = KeyPair.of(static)
        self._ephemeral = KeyPair.of(ephemeral)
        self._is_initiator = is_initiator
        self._awaited: Literal[1, 2, 3] = 1  # the number of the next handshake message
        self._agreed: tuple[NetworkSecret, HandshakeState] | None = None
        self._has_failed = False
        self._incoming = bytearray()
        self._outgoing = b""

    @classmethod
    def initiator(cls, secret: NetworkSecret, *, static: bytes, ephemeral: bytes) -> "Handshake":
        """Return the dialling side. `static` is the process's X25519 secret, `ephemeral` a fresh one; 32 bytes each."""
        handshake = cls((secret,), static=static, ephemeral=ephemeral, is_initiator=True)
        state = handshake._state(secret)
        handshake._outgoing = PREAMBLE + state.write_message(b"")
        handshake._agreed = secret, state
        handshake._awaited = 2
        return handshake

    @classmethod
    def responder(cls, secrets: Sequence[NetworkSecret], *, static: bytes, ephemeral: bytes) -> "Handshake":
        """Return the dialled side, which accepts any network of `secrets`."""
        return cls(secrets, static=static, ephemeral=ephemeral, is_initiator=False)

    def data_to_send(self) -> bytes:
        """Return the bytes to write now, b"" for none. Each byte is returned once."""
        outgoing, self._outgoing = self._outgoing, b""
        return outgoing

    def receive_data(self, data: bytes) -> None:
        """Take bytes of the peer, cut anywhere. Raises RemoteError; the caller then closes without sending a byte."""
        if self.channel is not None:
            raise LocalError("the handshake is over: these bytes are the channel's")
        if not self._has_failed:
            self._incoming += data
            try:
                self._advance()
            except RemoteError:
                self._has_failed = True
                self._outgoing = b""
        if self._has_failed:
            raise RemoteError(Reason.PROTOCOL_ERROR, _FAILED)

    def _advance(self) -> None:
        while self.channel is None and len(self._incoming) >= (size := _SIZES[self._awaited]):
            message = bytes(self._incoming[:size])
            del self._incoming[:size]
            if self._agreed is None:
                secret, state = self._agreed = self._recognise(message)
                self._outgoing = state.write_message(b"")
                self._awaited = 3
            else:
                secret, state = self._agreed
                state.read_message(message)
                if self._is_initiator:
                    self._outgoing = state.write_message(b"")
                self.channel = Channel(
                    state,
                    secret=secret,
                    own_static=self._static.public,
                    is_initiator=self._is_initiator,
                    leftover=bytes(self._incoming),
                )

    def _recognise(self, data: bytes) -> tuple[NetworkSecret, HandshakeState]:
        """Return the first of our secrets that opens message 1. Each try costs a hash and a tag, but no X25519."""
        if data.startswith(PREAMBLE):
            for secret in self._secrets:
                state = self._state(secret)
                try:
                    state.read_message(data[len(PREAMBLE) :])
                except RemoteError:
                    continue
                return secret, state
        raise RemoteError(Reason.PROTOCOL_ERROR, _FAILED)

    def _state(self, secret: NetworkSecret) -> HandshakeState:
        return HandshakeState(
            PROTOCOL_NAME,
            initiator=self._is_initiator,
            prologue=_DOMAIN + PREAMBLE + secret.netid,
            s=self._static,
            e=self._ephemeral,
            psk=secret.psk,
        )
