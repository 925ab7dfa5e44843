"""Drafts to versions: what the writer of every store does before it applies, kept pure.

A version written here covers all heads its store knows: its vector is the union of theirs, and its own fresh dot.
"""

from collections.abc import Mapping, Sequence

from echonode.errors import LocalError
from echonode.limits import VECTOR_ENTRIES_MAX
from echonode.model.identity import Instance, SigningKey, Writer, writer_of
from echonode.model.record import Draft, LeafKey, Record, leaf_key, sign, winner
from echonode.store.port import Tick


def sign_drafts(
    drafts: Sequence[Draft],
    key: SigningKey,
    heads: Mapping[LeafKey, list[Record]],
    *,
    instance: Instance,
    next_counter: int,
    tick: Tick,
    skip_unchanged: bool,
) -> list[Record | None]:
    """Versions of `drafts`, in order; counters from `next_counter` on. A later draft of the same record covers the
    earlier one. Raises LocalError, naming the draft's place, when one is outside the limits."""
    writer = writer_of(key.public, instance)
    newest: dict[LeafKey, list[Record]] = {}
    versions: list[Record | None] = []
    for place, draft in enumerate(drafts):
        where = leaf_key(draft.author, draft.name)
        current = newest.get(where, heads.get(where, []))
        if skip_unchanged and len(current) == 1 and draft.is_written_in(winner(current)):
            versions.append(None)
            continue
        vector = _union(current)
        vector[writer] = next_counter
        if len(vector) > VECTOR_ENTRIES_MAX:
            raise LocalError(f"{draft.name}: more than {VECTOR_ENTRIES_MAX} writers have edited this record")
        try:
            version = sign(draft, key, instance=instance, vector=vector, timestamp=tick())
        except LocalError as error:
            raise DraftError(place, str(error)) from None
        next_counter += 1
        newest[where] = [version]
        versions.append(version)
    return versions


class DraftError(LocalError):
    """A draft outside the limits; `place` counts from 0 in the batch given."""

    def __init__(self, place: int, detail: str) -> None:
        super().__init__(detail)
        self.place = place


def _union(heads: Sequence[Record]) -> dict[Writer, int]:
    vector: dict[Writer, int] = {}
    for head in heads:
        for writer, counter in head.vector.items():
            vector[writer] = max(counter, vector.get(writer, 0))
    return vector
