"""Write proto/vectors/handshake.json: a frozen handshake and a few frozen frames.

Run `python -m tests.wire.make_handshake_vectors` to rewrite it, and only on purpose: other bytes are another protocol,
and old nodes cannot talk to new ones. Such a change belongs in PROTOCOL.md and CHANGELOG.md too.
"""

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

from echonode.limits import REKEY_MESSAGES
from echonode.wire.channel import Channel, Handshake, NetworkSecret
from echonode.wire.noise import KeyPair
from tests.wire.ends import key

PATH = Path(__file__).parents[2] / "proto" / "vectors" / "handshake.json"
KEYS = {name: key(f"echonode vector {name}") for name in ("is", "ie", "rs", "re", "network")}


def build() -> dict[str, Any]:
    """Return the vector as JSON: bytes in hex."""
    secret, public = NetworkSecret.private(KEYS["network"]), NetworkSecret.public()
    ours = Handshake.initiator(secret, static=KEYS["is"], ephemeral=KEYS["ie"])
    theirs = Handshake.responder((secret,), static=KEYS["rs"], ephemeral=KEYS["re"])
    sent = [ours.data_to_send()]
    theirs.receive_data(sent[0])
    sent.append(theirs.data_to_send())
    ours.receive_data(sent[1])
    sent.append(ours.data_to_send())
    theirs.receive_data(sent[2])
    assert ours.channel is not None and theirs.channel is not None
    return {
        "about": "One handshake and the frames behind it. Each direction has its own order: an initiator's two frames, "
        "then its two pieces; a responder's two frames, then, when it has sent 16,384 pieces, the one after the rekey. "
        "Bytes in hex.",
        "protocol_name": "Noise_XXpsk3_25519_ChaChaPoly_SHA256",
        "network_key": KEYS["network"].hex(),
        "psk": secret.psk.hex(),
        "netid": secret.netid.hex(),
        "public_psk": public.psk.hex(),
        "public_netid": public.netid.hex(),
        "prologue": (b"echonode channel" + b"ECHO\x01" + secret.netid).hex(),
        "initiator_static": KEYS["is"].hex(),
        "initiator_static_public": KeyPair.of(KEYS["is"]).public.hex(),
        "initiator_ephemeral": KEYS["ie"].hex(),
        "responder_static": KEYS["rs"].hex(),
        "responder_static_public": KeyPair.of(KEYS["rs"]).public.hex(),
        "responder_ephemeral": KEYS["re"].hex(),
        "messages": [
            {"from": "responder" if number % 2 else "initiator", "message": message.hex()}
            for number, message in enumerate(sent)
        ],
        "handshake_hash": ours.channel.handshake_hash.hex(),
        "initiator_frames": _frames(ours.channel, [b"auth", b"second"]),
        "responder_frames": _frames(theirs.channel, [b"auth", b"x" * 300]),
        "two_pieces": _two_pieces(ours.channel),
        "after_rekey": _after_rekey(theirs.channel),
    }


def _frames(channel: Channel, payloads: list[bytes]) -> list[dict[str, str]]:
    return [{"payload": payload.hex(), "frame": channel.send(payload).hex()} for payload in payloads]


def _two_pieces(channel: Channel) -> dict[str, Any]:
    """Return the initiator's third frame: a payload of zeros, and a digest, as the frame is too long to print."""
    frame = channel.send(bytes(65_520))
    described = {"payload_zeros": 65_520, "frame_bytes": len(frame), "frame_blake2b_256": _digest(frame)}
    return {"from": "initiator", **described}


def _after_rekey(channel: Channel) -> dict[str, Any]:
    """Return the responder's frame of the payload 01, after enough frames of the payload 00 for a rekey."""
    for _ in range(REKEY_MESSAGES - 2):
        channel.send(b"\0")
    return {"from": "responder", "messages_before": REKEY_MESSAGES, "payload": "01", "frame": channel.send(b"\1").hex()}


def _digest(data: bytes) -> str:
    return blake2b(data, digest_size=32).hexdigest()


if __name__ == "__main__":
    PATH.write_text(json.dumps(build(), indent=2) + "\n")
