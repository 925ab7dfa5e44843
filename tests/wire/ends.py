"""Two real ends of a channel, connected byte for byte, with keys made from a seed."""

from hashlib import sha256

from echonode.model.member_secret import MemberSecret
from echonode.wire.channel import Channel, Handshake, NetworkSecret

NETWORK_KEY = bytes(range(32))
SECRET = NetworkSecret.private(NETWORK_KEY)
MEMBER_SECRET = MemberSecret.of_lone_key(NETWORK_KEY)
OTHER = NetworkSecret.private(bytes(reversed(range(32))))


def key(label: str) -> bytes:
    return sha256(label.encode()).digest()


def initiator(secret: NetworkSecret = SECRET, seed: str = "") -> Handshake:
    return Handshake.initiator(secret, static=key(f"{seed} is"), ephemeral=key(f"{seed} ie"))


def responder(*secrets: NetworkSecret, seed: str = "") -> Handshake:
    return Handshake.responder(secrets or (SECRET,), static=key(f"{seed} rs"), ephemeral=key(f"{seed} re"))


def messages(secret: NetworkSecret = SECRET, seed: str = "") -> tuple[bytes, bytes, bytes]:
    """Return the three messages of an unaltered handshake: the initiator's, the responder's, the initiator's."""
    ours, theirs = initiator(secret, seed), responder(secret, seed=seed)
    first = ours.data_to_send()
    theirs.receive_data(first)
    second = theirs.data_to_send()
    ours.receive_data(second)
    return first, second, ours.data_to_send()


def channels(secret: NetworkSecret = SECRET, seed: str = "") -> tuple[Channel, Channel]:
    """Return the channels of the initiator and of the responder."""
    ours, theirs = initiator(secret, seed), responder(secret, seed=seed)
    theirs.receive_data(ours.data_to_send())
    ours.receive_data(theirs.data_to_send())
    theirs.receive_data(ours.data_to_send())
    assert ours.channel is not None and theirs.channel is not None
    return ours.channel, theirs.channel


def past_auth() -> tuple[Channel, Channel]:
    """Return two channels that each received their first, small payload: the limit is now a whole frame."""
    ours, theirs = channels()
    assert theirs.receive_data(ours.send(b"auth")) == [b"auth"]
    assert ours.receive_data(theirs.send(b"auth")) == [b"auth"]
    return ours, theirs
