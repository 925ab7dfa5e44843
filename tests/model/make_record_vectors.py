"""Write proto/vectors/record.json: frozen versions and key statements.

Run `python -m tests.model.make_record_vectors` to rewrite it, and only on purpose: other bytes are another format, and
stores could not be read any more. Such a change belongs in PROTOCOL.md and CHANGELOG.md too.
"""

import json
from pathlib import Path
from typing import Any

from echonode import cbor
from echonode.clock import Timestamp
from echonode.errors import RemoteError
from echonode.limits import CBOR_DEPTH_MAX
from echonode.model.identity import (
    Identity,
    Instance,
    Pool,
    PoolKind,
    SigningKey,
    Writer,
    shared_pool,
    writer_of,
)
from echonode.model.key_claims import member_proof
from echonode.model.keys import KeyState, listing_draft, member_draft, statement_draft
from echonode.model.member_secret import MemberSecret
from echonode.model.other_life import signed_again
from echonode.model.record import MAIN, Draft, Record, parse, sign, verify
from tests.model.forge import PLAIN, forged, signed_over

PATH = Path(__file__).parents[2] / "proto" / "vectors" / "record.json"
ROOT_SEED, DEVICE_SEED = b"echonode vector root".ljust(32, b"."), b"echonode vector device".ljust(32, b".")
PERSON = Identity.from_seeds(ROOT_SEED, DEVICE_SEED)
POOL = shared_pool(MemberSecret.of_lone_key(b"echonode vector network key".ljust(32, b".")).pool_seed)
CLOSED = Pool(PoolKind.CLOSED, SigningKey(b"echonode vector closed pool".ljust(32, b".")))
LIFE = Instance(b"life one")
AT = Timestamp(1_700_000_000_123 << 16 | 7)
TOP = 2**64 - 1
_LATER = {**PLAIN, 2: PERSON.id, 5: LIFE, 6: {writer_of(PERSON.device.public, LIFE): 6}}


def build() -> dict[str, Any]:
    """Return the vectors as JSON: bytes in hex."""
    return {
        "about": "Versions, signed with the device key, and key statements, signed with the root key. Bytes in hex, "
        "numbers of up to 64 bits as text. `body` stands `body_times` times in a row.",
        "root_seed": ROOT_SEED.hex(),
        "root_public": PERSON.root.public.hex(),
        "identity": PERSON.id.hex(),
        "device_seed": DEVICE_SEED.hex(),
        "device_public": PERSON.device.public.hex(),
        "instance": LIFE.hex(),
        "device_writer": writer_of(PERSON.device.public, LIFE).hex(),
        "network_key": b"echonode vector network key".ljust(32, b".").hex(),
        "shared_pool_root_public": POOL.root.public.hex(),
        "shared_pool_identity": POOL.id.hex(),
        "closed_pool_seed": b"echonode vector closed pool".ljust(32, b".").hex(),
        "closed_pool_identity": CLOSED.id.hex(),
        "member_proof_of_shared": member_proof(POOL.id, PERSON.id, PERSON.device).hex(),
        "versions": [_described(what, version) for what, version in versions().items()],
        "refused": {what: {"bytes": raw.hex(), "reason": _reason(raw)} for what, raw in refused().items()},
    }


def versions() -> dict[str, Record]:
    """Return versions by name. Every implementation must write and sign them with the same bytes."""
    own = writer_of(PERSON.device.public, LIFE)
    other = Writer(bytes(range(16)))
    plain = Draft(context=MAIN, author=PERSON.id, name="plain")
    full = Draft(
        context="caf\u00e9",
        author=PERSON.id,
        name="u+1f600 \U0001f600",
        body=b'{"name": "GRINNING FACE"}',
        tags=("So", "emoji", "a"),
        model="character",
        model_version=(2, 1),
        media_type="application/json",
        created_ms=1_600_000_000_000,
    )
    gone = Draft(context=MAIN, author=PERSON.id, name="plain", is_tombstone=True)
    large = Draft(context=MAIN, author=PERSON.id, name="large", body=bytes(range(256)) * 300)
    crowd = Draft(context=MAIN, author=PERSON.id, name="crowd")
    top = Draft(context=MAIN, author=PERSON.id, name="top", model_version=(TOP, TOP), created_ms=TOP)
    device, root = PERSON.device, PERSON.root
    hidden = _sign(full, device, {own: 2, other: 2**40})
    return {
        "the least a version can say": _sign(plain, device, {own: 1}),
        "every field": hidden,
        "the same, signed again because another life superseded it": signed_again(hidden, device),
        "a tombstone that has seen two writers": _sign(gone, device, {other: 5, own: 24}),
        "a body whose length takes four bytes": _sign(large, device, {own: 4}),
        "the greatest numbers": _sign(top, device, {own: TOP, other: TOP}, at=Timestamp(TOP)),
        "fields of later versions, one of them nested as deep as it may be": parse(
            signed_over(cbor.encode({**_LATER, 14: nested(CBOR_DEPTH_MAX - 1), 2**32: b"?"}), device)
        ),
        "a vector of 1,024 entries: its own, and 1,023 that count up": _sign(crowd, device, {**numbered(1023), own: 5}),
        **{
            f"a key statement: {state.name.lower()}": _sign(
                statement_draft(PERSON.id, device.public, state), root, {writer_of(root.public, LIFE): int(state)}
            )
            for state in KeyState
        },
        "the pool's statement for the same device": _sign(
            member_draft(POOL, PERSON.id, device), POOL.root, {writer_of(POOL.root.public, LIFE): 9}
        ),
        "a closed pool's statement that the same device is a member no more": _sign(
            listing_draft(
                CLOSED,
                PERSON.id,
                device.public,
                member_proof(CLOSED.id, PERSON.id, device),
                KeyState.RETIRED,
            ),
            CLOSED.root,
            {writer_of(CLOSED.root.public, LIFE): 10},
        ),
    }


def nested(depth: int) -> list[Any]:
    """Return so many arrays in each other."""
    return [nested(depth - 1)] if depth > 1 else []


def numbered(count: int) -> dict[Writer, int]:
    """Return a vector in which the writer n, a 16-byte number, has the counter n; n goes from 1 to `count`."""
    return {Writer(number.to_bytes(16, "big")): number for number in range(1, count + 1)}


def _reason(raw: bytes) -> str:
    """Return the reason for which `raw` is refused."""
    try:
        verify(parse(raw))
    except RemoteError as error:
        return error.reason.text
    raise AssertionError("it is no refused version")


def refused() -> dict[str, bytes]:
    """Return bytes by name that no implementation may accept. All but the first have a valid signature."""
    good = versions()["the least a version can say"].raw
    return {
        "the signature's last bit": good[:-1] + bytes([good[-1] ^ 1]),
        "a field that every version has is missing": forged({k: v for k, v in PLAIN.items() if k != 9}),
        "its own dot is missing": forged({**PLAIN, 6: {bytes(16): 1}}),
        "a vector of 1,025 entries": forged({**PLAIN, 6: {**PLAIN[6], **numbered(1024)}}),
        "tags out of order": forged({**PLAIN, 10: ["b", "a"]}),
        "an empty body": forged({**PLAIN, 12: b""}),
        "a tombstone with a body": forged({**PLAIN, 12: b"x", 13: True}),
        "a control character in a name": forged({**PLAIN, 3: "a\x1bb"}),
        "a field of later versions that is nested too deeply": forged({**PLAIN, 14: nested(CBOR_DEPTH_MAX)}),
    }


def _sign(draft: Draft, key: SigningKey, vector: dict[Writer, int], *, at: Timestamp = AT) -> Record:
    return sign(draft, key, instance=LIFE, vector=vector, timestamp=at)


def _described(what: str, version: Record) -> dict[str, Any]:
    times = len(version.body) // 256 or 1  # the one long body counts up to 255, again and again
    return {
        "what": what,
        "context": version.context,
        "author": version.author.hex(),
        "name": version.name,
        "timestamp": str(version.timestamp),
        "instance": version.instance.hex(),
        "vector": {writer.hex(): str(counter) for writer, counter in version.vector.items()},
        "model": version.model,
        "model_version": [str(number) for number in version.model_version],
        "created_ms": str(version.created_ms),
        "tags": list(version.tags),
        "media_type": version.media_type,
        "body": version.body[: len(version.body) // times].hex(),
        "body_times": times,
        "tombstone": version.is_tombstone,
        "signed_by": version.kid.hex(),
        "writer": version.writer.hex(),
        "key": version.key.hex(),
        "id": version.id.hex(),
        "bytes": version.raw.hex(),
        "bytes_length": len(version.raw),
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(build(), indent=2) + "\n")
