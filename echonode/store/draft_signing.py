"""Signing of drafts: from drafts to versions, before a store applies them. Pure, shared by all stores.

    common_context      the one context of a batch of drafts
    prepare_versions    drafts and the heads they cover -> versions without signatures, in order
    sign_versions       the signatures; each depends on its own version alone, so chunks may be signed on any thread

A version covers all heads that its store knows: its vector is the union of theirs and its own fresh dot.
"""

from collections.abc import Mapping, Sequence

from echonode.errors import LocalError
from echonode.limits import VECTOR_ENTRIES_MAX
from echonode.model.identity import Instance, PublicKey, SigningKey, Writer, writer_of
from echonode.model.record import Draft, LeafKey, Record, SignedRecord, UnsignedVersion, prepare
from echonode.store.port import StaleWriterError, Tick


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
    heads: Mapping[LeafKey, Sequence[Record]],
    *,
    instance: Instance,
    next_counter: int,
    tick: Tick,
    skip_unchanged: bool,
) -> list[UnsignedVersion | None]:
    """Return a version for each of `drafts`, whose leaf keys are `keys`, in order; counters begin at `next_counter`.

    A later draft of the same record covers the earlier one. None stands for a draft that `skip_unchanged` left out.
    Raises DraftError for the first draft outside the limits, and StaleWriterError."""
    writer = writer_of(kid, instance)
    newest: dict[LeafKey, UnsignedVersion] = {}
    versions: list[UnsignedVersion | None] = []
    for place, (draft, key) in enumerate(zip(drafts, keys, strict=True)):
        current = _current_heads(key, newest, heads)
        if skip_unchanged and len(current) == 1 and draft.is_same_as(current[0]):
            versions.append(None)
            continue
        vector = _union_of_vectors(current) if current else {}
        if vector.get(writer, 0) >= next_counter:
            raise StaleWriterError(f"{draft.name}: a head claims a counter that this store never gave")
        vector[writer] = next_counter
        if len(vector) > VECTOR_ENTRIES_MAX:
            raise DraftError(place, f"more than {VECTOR_ENTRIES_MAX} writers have edited {draft.name}")
        try:
            version = prepare(draft, kid, instance=instance, vector=vector, timestamp=tick())
        except LocalError as error:
            raise DraftError(place, str(error)) from None
        next_counter += 1
        newest[key] = version
        versions.append(version)
    return versions


def sign_versions(versions: Sequence[UnsignedVersion | None], key: SigningKey) -> list[Record | None]:
    """Sign `versions`. Releases the GIL for most of the time."""
    return [None if version is None else version.sign(key) for version in versions]


def _current_heads(
    key: LeafKey, newest: Mapping[LeafKey, UnsignedVersion], heads: Mapping[LeafKey, Sequence[Record]]
) -> Sequence[SignedRecord]:
    version = newest.get(key)
    return heads.get(key, ()) if version is None else (version,)


def _union_of_vectors(heads: Sequence[SignedRecord]) -> dict[Writer, int]:
    vector: dict[Writer, int] = {}
    for head in heads:
        for writer, counter in head.vector.items():
            vector[writer] = max(counter, vector.get(writer, 0))
    return vector
