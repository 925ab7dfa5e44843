"""Past networks: the secrets that a node had before, and the rotations that replaced them (PROTOCOL.md §10.4).

Each past secret has the rotation that this node tells those that still come with it; None where a person chose another
network. Followed from one to the next they are *steps* to the present secret. Kept in the home as CBOR:

    [[secret, left_ms, null or [signed, signature, statement], is copied], ...]

The fourth part stands only where it is false: this node rotated without somebody, and has yet to copy what was
`shared`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from echonode import cbor
from echonode.errors import RemoteError
from echonode.limits import PAST_NETWORKS_MAX, ROTATION_SERVED_MS
from echonode.model.member_secret import MEMBER_SECRET_BYTES, MemberSecret
from echonode.model.rotation import Rotation, read_rotation

_PARTS: Final = 3


@dataclass(frozen=True, slots=True)
class PastNetwork:
    """A secret that this node had until `left_ms`, and the rotation that leads away from it.

    `is_copied`: False while this node, which rotated without somebody, has yet to copy what was `shared`.
    """

    secret: MemberSecret
    left_ms: int
    rotation: Rotation | None
    is_copied: bool = True

    def is_served(self, now_ms: int) -> bool:
        """Return True while those that come with this secret are told of the rotation."""
        return self.rotation is not None and now_ms < self.left_ms + ROTATION_SERVED_MS


@dataclass(frozen=True, slots=True)
class Step:
    """A rotation, and the secret that it leads to."""

    rotation: Rotation
    secret: MemberSecret


def steps_from(netid: bytes, present: MemberSecret, past: Sequence[PastNetwork]) -> list[Step]:
    """Return the steps from the secret with `netid` to `present`, [] when none are known."""
    by_netid = {each.secret.netid: each for each in past}
    by_commitment = {each.secret.commitment: each.secret for each in (*past, PastNetwork(present, 0, None))}
    steps: list[Step] = []
    at = by_netid.pop(netid, None)
    while at is not None and at.rotation is not None:
        secret = by_commitment.get(at.rotation.commitment)
        if secret is None:
            return []
        steps.append(Step(at.rotation, secret))
        if secret == present:
            return steps
        at = by_netid.pop(secret.netid, None)
    return []


def chain_to(present: MemberSecret, past: Sequence[PastNetwork]) -> list[Rotation]:
    """Return the rotations by which this node came to `present`, the oldest first."""
    by_commitment = {each.rotation.commitment: each.rotation for each in past if each.rotation is not None}
    by_netid = {each.secret.netid: each.secret for each in past}
    chain: list[Rotation] = []
    secret: MemberSecret | None = present
    while secret is not None:
        rotation = by_commitment.pop(secret.commitment, None)
        if rotation is None:
            break
        chain.insert(0, rotation)
        secret = by_netid.get(rotation.parent)
    return chain


def left_for(
    new: MemberSecret,
    rotation: Rotation | None,
    *,
    present: MemberSecret,
    past: Sequence[PastNetwork],
    now_ms: int,
    is_copied: bool = True,
) -> tuple[PastNetwork, ...]:
    """Return the past networks of a node that leaves `present` for `new`, by `rotation` or because a person said so.

    A rotation that beats one of the chain replaces it and all that followed: whoever comes with a secret of the beaten
    branch, or of one that this had beaten before, is told of the one that counts.
    """
    kept = [*past, PastNetwork(present, now_ms, rotation, is_copied)]
    if rotation is not None:
        chain = chain_to(present, past)
        at = next((i for i, ours in enumerate(chain) if ours.parent == rotation.parent), len(chain))
        beaten = {ours.commitment for ours in chain[at:]}
        kept = [
            replace(each, rotation=rotation, is_copied=is_copied if each.secret == present else True)
            if each.secret.netid == rotation.parent or not beaten.isdisjoint(_ends(each))
            else each
            for each in kept
        ]
    kept = [each for each in kept if each.secret != new]
    return tuple(sorted(kept, key=lambda each: each.left_ms)[-PAST_NETWORKS_MAX:])


def _ends(past: PastNetwork) -> set[bytes]:
    """Return the commitments of a past secret and of the one that replaced it."""
    return {past.secret.commitment, *([past.rotation.commitment] if past.rotation is not None else [])}


def write_past(past: Sequence[PastNetwork]) -> bytes:
    """Return the bytes that are kept in the home."""
    rows: list[cbor.Value] = []
    for each in past:
        rotation = each.rotation
        told: cbor.Value = None if rotation is None else [rotation.signed, rotation.signature, rotation.statement]
        rows.append([each.secret.to_bytes(), each.left_ms, told, *([] if each.is_copied else [False])])
    return cbor.encode(rows)


def read_past(data: bytes) -> tuple[PastNetwork, ...]:
    """Return the past networks in `data`. Raises ValueError for bytes that `write_past` did not write."""
    try:
        rows = cbor.decode(data)
        if not isinstance(rows, list):
            raise ValueError("not a list of past networks")
        return tuple(map(_read_row, rows))
    except RemoteError as error:
        raise ValueError(str(error)) from None


def _read_row(row: object) -> PastNetwork:
    match row:
        case [*parts, False] if len(parts) == _PARTS:
            return replace(_read_row(parts), is_copied=False)
        case [bytes(secret), int(left_ms), None] if len(secret) == MEMBER_SECRET_BYTES:
            return PastNetwork(MemberSecret.from_bytes(secret), left_ms, None)
        case [bytes(secret), int(left_ms), [bytes(signed), bytes(signature), bytes(statement)]] if (
            len(secret) == MEMBER_SECRET_BYTES
        ):
            rotation = read_rotation(signed, signature, statement)
            return PastNetwork(MemberSecret.from_bytes(secret), left_ms, rotation)
        case _:
            raise ValueError("not a past network")
