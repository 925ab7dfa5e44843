"""Write proto/vectors/message.json: a frozen message of every type, and the frozen bytes that AUTH signs.

Run `python -m tests.wire.make_message_vectors` to rewrite it, and only on purpose: other bytes are another protocol,
and old nodes cannot talk to new ones. Such a change belongs in PROTOCOL.md and CHANGELOG.md too.
"""

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from echonode import cbor
from echonode.clock import Timestamp
from echonode.digest import OFFERS, digest
from echonode.errors import Reason, RemoteError
from echonode.model.identity import Identity, IdentityId, Instance, SigningKey, shared_pool, writer_of
from echonode.model.keys import KeyState, member_draft, statement_draft
from echonode.model.member_secret import MemberSecret
from echonode.model.record import Draft, Record, sign
from echonode.model.rotation import sign_rotation
from echonode.wire import auth
from echonode.wire import messages as m
from echonode.wire.channel import Channel
from echonode.wire.codec import decode, encode
from tests.wire.ends import MEMBER_SECRET, NETWORK_KEY, channels, key

PATH = Path(__file__).parents[2] / "proto" / "vectors" / "message.json"


def _hash(number: int) -> bytes:
    return bytes([number]) * 32


INSTANCE = bytes.fromhex("0102030405060708")
IDENTITY = Identity.from_seeds(key("vector root"), key("vector device"))
_SHARED = shared_pool(MEMBER_SECRET.pool_seed)
BRANCH = bytes.fromhex("00 8001") + bytes([0x11]) * 16 + bytes([0x22]) * 16
BUCKET = b"\x01" + bytes([0x33]) * 16
FILTER = {1: [_hash(31)], 5: [_hash(32)], 6: ["note"], 7: ["a", "b"], 8: ["ü"], 9: 0, 10: 2**64 - 1, 11: "notes/*"}

# Every field is set and no list is empty. An optional part is present in one sample and absent in another.
SAMPLES: tuple[m.Message, ...] = (
    m.Auth((m.IdentityOffer(_hash(1), _hash(2), b"statement", bytes([3]) * 64),)),
    m.Hello(
        version=m.PROTOCOL_VERSION,
        session=bytes(range(16)),
        name="Küche",
        tag=bytes([9]) * 8,
        instance=INSTANCE,
        port=22087,
        models={"note": (1, 0), "key-statement": (1, 2)},
        modes=("level_wise", "hash_comparison", "snapshot", "delta", "sketch", "follow"),
        contexts=(
            m.Summary("identities", _hash(4), 2, 2, BRANCH, False, False),
            m.Summary("main", _hash(5), 150_000, 2**40, BRANCH, True, True),
        ),
        seen=(m.Seen(INSTANCE, 7, _hash(34), b"version"), m.Seen(bytes(8), 2**64 - 1, _hash(35), b"")),
    ),
    m.Close(Reason.FINISHED),
    m.Close(Reason.UNSUPPORTED_PROTOCOL, ("1.0",)),
    m.Done(_hash(6), 1000, 1234, True),
    m.Refused(Reason.UNKNOWN_CONTEXT, ("identities", "main")),
    m.Ping(),
    m.Pong(),
    m.Turn(("main", "books")),
    m.Rotated(b"signed", bytes([33]) * 64, b"statement", bytes([34]) * 64, True),
    m.LevelWiseInit(m.PROTOCOL_VERSION, "main", m.Direction.BOTH, 16, (b"",)),
    m.NodesRequest((bytes([0]), bytes([15, 0, 10]))),
    m.Nodes(_hash(7), (BRANCH, BUCKET, b"\x01")),
    m.HashComparisonInit(m.PROTOCOL_VERSION, "main", m.Direction.RECEIVE, 16, 2, BRANCH),
    m.CompareRequest(bytes([0]), BRANCH),
    m.Differences(_hash(8), ((bytes([0]), BRANCH), (bytes([0, 15]), BUCKET))),
    m.SnapshotInit(m.PROTOCOL_VERSION, "main", None),
    m.SnapshotInit(m.PROTOCOL_VERSION, "main", (_hash(9), _hash(10))),
    m.Credit(1),
    m.Page((_hash(9), 2, 5, INSTANCE), (b"record", b"another"), False),
    m.Page(None, (b"last",), True),
    m.Page(None, (), True, True),
    m.SketchInit(m.PROTOCOL_VERSION, "main", bytes([19]) * 8, 20, b""),
    m.SketchInit(m.PROTOCOL_VERSION, "main", bytes([19]) * 8, 0, (150_000).to_bytes(8, "big") + bytes([240, 7, 0])),
    m.SketchMore(False, 40, b""),
    m.SketchMore(True, 40, bytes(8)),
    m.SketchAnswer(0, 0, bytes([20]) * 18),
    m.SketchAnswer(1000, 2, bytes([21]) * 9),
    m.SketchEqual(),
    m.SketchWant(bytes([24]) * 8),
    m.Fetch(
        (
            m.LeafRequest(bytes([1]), None),
            m.LeafRequest(bytes([2]), None, _hash(11)),
            m.LeafRequest(bytes([3]), BUCKET[1:]),
        )
    ),
    m.Records((b"record",), (m.LeafRequest(bytes([1]), None, _hash(12)),), False),
    m.Put((b"record", b"another")),
    m.Stored(1, 0, (m.Refusal(_hash(13), Reason.UNKNOWN_KEY),)),
    m.DeltaInit(m.PROTOCOL_VERSION, "main", m.Direction.BOTH, INSTANCE, 1234),
    m.Changes(1250, (b"record", b"another"), False, None),
    m.Changes(1251, (b"last",), True, 77),
    m.FollowInit(m.PROTOCOL_VERSION, INSTANCE, (m.ContextCursor("identities", 2), m.ContextCursor("main", None))),
    m.Follow((m.ContextCursor("main", 1234),)),
    m.Commits("main", 1252, (b"record",), ()),
    m.Commits("main", 1254, (), ((1253, bytes([19]) * 16), (1254, bytes([20]) * 16))),
    m.Missing("main", (1253, 1254)),
    m.Bodies("main", (1253, 1254), (b"record",)),
    m.Roots((m.ContextRoot("identities", _hash(4), 2), m.ContextRoot("main", _hash(5), 1254))),
    m.Taken(1024),
    m.Lazy(),
    m.ReconcileInit(m.PROTOCOL_VERSION, "main", m.Direction.BOTH, FILTER, bytes.fromhex("6100000200")),
    m.Reconcile(bytes.fromhex("6100000200")),
    m.Want((_hash(19), _hash(20))),
    m.Offers(((_hash(21), bytes([22]) * 16),)),
    m.Heads((0, 999), (b"record",), False),
    m.PullInit(m.PROTOCOL_VERSION, "main", {}, 0),
    m.PullMore(2**40),
    m.Ids((m.RecordId(_hash(23), "Küche/Liste", _hash(24)),), 2**40, True),
    m.GetInit(m.PROTOCOL_VERSION, "main", (m.RecordRequest(_hash(25), _hash(26)), m.RecordRequest(_hash(27), None))),
    m.GetMore((m.RecordRequest(_hash(28), None),)),
    m.PutInit(m.PROTOCOL_VERSION, "main", ((_hash(29), bytes([30]) * 16),)),
    m.PairStart(b"A" + _hash(14)),
    m.PairAnswer(b"B" + _hash(15)),
    m.PairConfirm(_hash(16)),
    m.PairFinish(_hash(17), bytes([18]) * 80),
    m.PairMember(_hash(31), _hash(32), bytes([33]) * 64),
)


def build() -> dict[str, Any]:
    """Return the vector as JSON: bytes in hex, an absent part as null."""
    return {
        "about": "One message of every type: its fields in order, and the payload of its frame. Bytes in hex, an "
        "absent part as null, numbers past 2^53 as text. `refused`: payloads that are no message, and the reason; a "
        "code that no message has is unsupported_mode where an InitPayload is due (§8), elsewhere a protocol_error.",
        "messages": [
            {"message": type(message).__name__, "code": message.code, "fields": _plain(message), "bytes": _hex(message)}
            for message in SAMPLES
        ],
        "refused": {what: {"reason": _reason(payload), "bytes": payload.hex()} for what, payload in refused().items()},
        "auth": _auth(),
        "rotation": _rotation(),
    }


def refused() -> dict[str, bytes]:
    """Return payloads by name that are no message (PROTOCOL.md §6)."""
    whole = {type(sample): cbor.decode(encode(sample)) for sample in reversed(SAMPLES)}

    def changed(kind: type[m.Message], place: int, value: Any) -> bytes:
        items = list(whole[kind])  # type: ignore[call-overload]  # every message is an array
        return cbor.encode([*items[:place], value, *items[place + 1 :]])

    return {
        "no array": cbor.encode({0: 1}),
        "an empty array": cbor.encode([]),
        "a code that no message has": cbor.encode([1000]),
        "a code that is no number": cbor.encode(["Ping"]),
        "a field too few": cbor.encode([m.Taken.code]),
        "a field too many": cbor.encode([m.Ping.code, 0]),
        "a byte behind the end": encode(m.Ping()) + b"\0",
        "a count that is null": changed(m.Taken, 1, None),
        "a count that is true": changed(m.Credit, 1, True),
        "a root of 31 bytes": changed(m.Done, 1, bytes(31)),
        "an empty context": changed(m.SnapshotInit, 2, ""),
        "a context of 65 bytes": changed(m.SnapshotInit, 2, "x" * 65),
        "a control character in a context": changed(m.SnapshotInit, 2, "a\nb"),
        "a direction of three": changed(m.LevelWiseInit, 3, 3),
        "an Auth without an offer": changed(m.Auth, 1, []),
        "a Taken of nothing": changed(m.Taken, 1, 0),
        "a filter with a field that this version does not know": changed(m.ReconcileInit, 4, {12: 1}),
        "a filter with an empty list": changed(m.ReconcileInit, 4, {6: []}),
        "a path of a digit above 15": changed(m.NodesRequest, 1, [bytes([16])]),
        "no path": changed(m.NodesRequest, 1, []),
        "1,025 paths": changed(m.NodesRequest, 1, [bytes([number % 16]) for number in range(1025)]),
    }


def _reason(payload: bytes) -> str:
    """Return the reason for which `payload` is refused."""
    try:
        decode(payload)
    except RemoteError as error:
        return error.reason.text
    raise AssertionError(f"it is a message: {payload.hex()[:80]}")


def statements() -> tuple[Record, Record]:
    """Return two statements about one device key: the node's own and the pool's."""
    own = statement_draft(IDENTITY.id, IDENTITY.device.public, KeyState.ACTIVE)
    listed = member_draft(_SHARED, IDENTITY.id, IDENTITY.device)
    first = _statement(own, IDENTITY.root, 1_700_000_000_000 << 16)
    return first, _statement(listed, _SHARED.root, 1_700_000_000_001 << 16)


def _statement(draft: Draft, root: SigningKey, timestamp: int) -> Record:
    vector = {writer_of(root.public, Instance(INSTANCE)): 1}
    return sign(draft, root, instance=Instance(INSTANCE), vector=vector, timestamp=Timestamp(timestamp))


def _rotation() -> dict[str, Any]:
    """Return a network secret, its text, and a rotation of it to another one, by the node of the Auths."""
    new = MemberSecret.from_bytes(key("vector new key") + key("vector new seed"))
    rotation = sign_rotation(
        MEMBER_SECRET.netid,
        new,
        rotator=IDENTITY.id,
        device=IDENTITY.device,
        statement=statements()[0].raw,
        members=[IDENTITY.id, IdentityId(bytes(32))],
        without=[IdentityId(bytes([255]) * 32)],
    )
    return {
        "about": "A network secret and its text (PROTOCOL.md §10.3); a rotation of it, by the identity above (§10.4).",
        "secret": MEMBER_SECRET.to_bytes().hex(),
        "secret_text": MEMBER_SECRET.to_text(),
        "new_secret": new.to_bytes().hex(),
        "new_secret_text": new.to_text(),
        "commitment": new.commitment.hex(),
        "signed": rotation.signed.hex(),
        "signature": rotation.signature.hex(),
        "statement": rotation.statement.hex(),
        "rank": rotation.rank.hex(),
    }


def _auth() -> dict[str, Any]:
    """Return the Auths of both ends of one channel. They prove the same identities; role and static key differ."""
    ours, theirs = channels()
    return {
        "about": "AUTH of a node with these seeds, as initiator and as responder of one channel (PROTOCOL.md §5.2).",
        "network_key": NETWORK_KEY.hex(),
        "root_seed": key("vector root").hex(),
        "device_seed": key("vector device").hex(),
        "identity": IDENTITY.id.hex(),
        "device_key": IDENTITY.device.public.hex(),
        "shared": _SHARED.id.hex(),
        "handshake_hash": ours.handshake_hash.hex(),
        "initiator": _signed(ours, 0),
        "responder": _signed(theirs, 1),
    }


def _signed(channel: Channel, role: int) -> dict[str, str]:
    """Return the parts of one AUTH. The signed bytes are built from PROTOCOL.md; only `payload` is the code's."""
    listed = cbor.encode([[statement.author, IDENTITY.device.public] for statement in statements()])
    digest_of_list = digest(OFFERS, listed)
    signed = cbor.encode(
        ["echonode auth 1", role, channel.handshake_hash, channel.own_static, IDENTITY.id, digest_of_list]
    )
    message = auth.offer(channel, IDENTITY.device, statements())
    assert [offered.signature for offered in message.offers] == [IDENTITY.device.sign(signed)] * 2
    return {
        "static_key": channel.own_static.hex(),
        "offer_list": listed.hex(),
        "signed_bytes": signed.hex(),
        "signature": IDENTITY.device.sign(signed).hex(),
        "payload": _hex(message),
    }


def _hex(message: m.Message) -> str:
    return encode(message).hex()


def _plain(value: Any) -> Any:
    """Return `value` as JSON: bytes in hex, tuples as lists, parts as their fields."""
    match value:
        case bytes():
            return value.hex()
        case tuple() | list():
            return [_plain(item) for item in value]
        case dict():
            return {str(_plain(name)): _plain(item) for name, item in value.items()}
        case int() if value >= 2**53:
            return str(value)  # a JSON number of that size is not exact
        case _ if is_dataclass(value):
            return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
        case _:
            return value


if __name__ == "__main__":
    PATH.write_text(json.dumps(build(), indent=1, ensure_ascii=False) + "\n")
