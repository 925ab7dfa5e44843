"""Signing of drafts: from drafts to versions, before a store applies them. Pure, shared by all stores.

    common_context      the one context of a batch of drafts
    prepare_versions    drafts and the heads they cover -> versions without signatures, in order
    sign_versions       the signatures; each depends on its own version alone, so chunks may be signed on any thread

A version covers the heads that its store knows: its vector is the union of theirs and its own fresh dot. Heads that
would make the vector too long stay beside it (PROTOCOL.md §4.3).
"""

from collections.abc import Collection, Mapping, Sequence

from echonode.clock import TIMESTAMP_MAX, Timestamp
from echonode.errors import LocalError
from echonode.model.heads import cover
from echonode.model.identity import Instance, PublicKey, SigningKey, writer_of
from echonode.model.record import Draft, LeafKey, Record, UnsignedVersion, Version, prepare
from echonode.store.port import HeadsMovedError, StaleWriterError, Tick
from echonode.text import escape


class DraftError(LocalError):
    """A draft is outside the limits. `place` is its index in the batch, counted from 0."""

    def __init__(self, place: int, detail: str) -> None:
        super().__init__(detail)
        self.place = place


def common_context(drafts: Sequence[Draft]) -> str:
    """Return the one context of `drafts`, at least one. Raises LocalError when they are of several contexts."""
    context = drafts[0].context
    if any(draft.context != context for draft in drafts):
        raise LocalError("one batch writes to one context")
    return context


def prepare_versions(
    drafts: Sequence[Draft],
    keys: Sequence[LeafKey],
    kid: PublicKey,
    heads: Mapping[LeafKey, Sequence[Version]],
    *,
    instance: Instance,
    next_counter: int,
    tick: Tick,
    created_ms: int | None = None,
    unchanged: Collection[int] | None = None,
) -> list[UnsignedVersion | None]:
    """Return a version for each of `drafts`, whose leaf keys are `keys`, in order; counters begin at `next_counter`.

    A later draft of the same record covers the earlier one. `unchanged` holds the places of drafts that say what the
    one head of their record says: None stands for such a draft, and for one that says what the draft before it said.
    Without it every draft becomes a version. Raises DraftError for the first draft outside the limits, HeadsMovedError
    for the first whose record has other heads than it expects, and StaleWriterError."""
    writer = writer_of(kid, instance)
    newest: dict[LeafKey, UnsignedVersion] = {}
    versions: list[UnsignedVersion | None] = []
    for place, (draft, key) in enumerate(zip(drafts, keys, strict=True)):
        earlier = newest.get(key)
        if draft.expects is not None:
            _check_expected(place, draft, (earlier,) if earlier else heads.get(key, ()))
        if unchanged is not None and (draft.is_same_as(earlier) if earlier else place in unchanged):
            versions.append(None)
            continue
        covered = (earlier,) if earlier else heads.get(key, ())
        vector = cover(covered, writer) if covered else {}
        if vector.get(writer, 0) >= next_counter:
            raise StaleWriterError(f"{draft.name}: a head claims a counter that this store never gave")
        vector[writer] = next_counter
        try:
            version = prepare(
                draft,
                kid,
                instance=instance,
                vector=vector,
                timestamp=_later_than(covered, tick()),
                created_ms=created_ms,
                key=key,
            )
        except LocalError as error:
            raise DraftError(place, str(error)) from None
        next_counter += 1
        newest[key] = version
        versions.append(version)
    return versions


def _check_expected(place: int, draft: Draft, heads: Sequence[Version]) -> None:
    if draft.expects != frozenset(head.id for head in heads):
        raise HeadsMovedError(place, f"{escape(draft.name)} was written meanwhile: read it again, then write")


def _later_than(covered: Sequence[Version], timestamp: Timestamp) -> Timestamp:
    """Return `timestamp`, raised to be later than those of the versions `covered`: an edit is never the older one."""
    if not covered:
        return timestamp
    return Timestamp(min(TIMESTAMP_MAX, max([timestamp, *(head.timestamp + 1 for head in covered)])))


def sign_versions(versions: Sequence[UnsignedVersion | None], key: SigningKey) -> list[Record | None]:
    """Sign `versions`. Releases the GIL for most of the time."""
    return [None if version is None else version.sign(key) for version in versions]
