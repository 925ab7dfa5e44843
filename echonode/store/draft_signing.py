"""Drafts to versions: what the writer of every store does before it applies, kept pure.

    prepare_versions    drafts and the heads they cover -> versions without signatures, in order
    seal                signatures, which depend on nothing but each version itself: any chunks, on any threads

A version written here covers all heads its store knows: its vector is the union of theirs, and its own fresh dot.
"""

from collections.abc import Mapping, Sequence

from echonode.errors import LocalError
from echonode.limits import VECTOR_ENTRIES_MAX
from echonode.model.identity import Instance, PublicKey, SigningKey, Writer, writer_of
from echonode.model.record import Draft, LeafKey, Record, SignedRecord, UnsignedVersion, prepare
from echonode.store.port import StaleWriterError, Tick


class DraftError(LocalError):
    """A draft outside the limits; `place` counts from 0 in the batch given."""

    def __init__(self, place: int, detail: str) -> None:
        super().__init__(detail)
        self.place = place


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
    """Versions of `drafts`, whose leaf keys are `keys`, in order; counters from `next_counter` on. A later draft of
    the same record covers the earlier one. Raises DraftError for the first draft outside the limits, and
    StaleWriterError."""
    writer = writer_of(kid, instance)
    newest: dict[LeafKey, UnsignedVersion] = {}
    versions: list[UnsignedVersion | None] = []
    for place, (draft, key) in enumerate(zip(drafts, keys, strict=True)):
        current = _standing(key, newest, heads)
        if skip_unchanged and len(current) == 1 and draft.is_same_as(current[0]):
            versions.append(None)
            continue
        vector = _union(current) if current else {}
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


def seal(versions: Sequence[UnsignedVersion | None], key: SigningKey) -> list[Record | None]:
    """Sign them. Releases the GIL for most of its time."""
    return [None if version is None else version.sign(key) for version in versions]


def _standing(
    key: LeafKey, newest: Mapping[LeafKey, UnsignedVersion], heads: Mapping[LeafKey, Sequence[Record]]
) -> Sequence[SignedRecord]:
    version = newest.get(key)
    return heads.get(key, ()) if version is None else (version,)


def _union(heads: Sequence[SignedRecord]) -> dict[Writer, int]:
    vector: dict[Writer, int] = {}
    for head in heads:
        for writer, counter in head.vector.items():
            vector[writer] = max(counter, vector.get(writer, 0))
    return vector
