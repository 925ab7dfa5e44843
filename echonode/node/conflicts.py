"""Conflicts: records with several heads, because nodes wrote them without knowing of each other's version.

    of        the heads of one record, the winner first, and the newest version from which all of them came
    resolve   writes one version that covers all heads:
                keep VERSION     the content of that head
                merge            JSON objects field by field (model/json_merge.py), else the winner's content
                prefer_local     the content of the newest head that this node wrote, else the winner's
                prefer_remote    the content of the newest head that another node wrote, else the winner's

Under `merge` an edit stands beside a delete. The conflict set is followed from RecordsApplied and RecordVoided, so that
one event says when a conflict arises, and one when it is over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from echonode.errors import LocalError
from echonode.limits import BATCH_BYTES_MAX
from echonode.model.identity import IdentityId
from echonode.model.json_merge import merge_bodies
from echonode.model.record import Draft, LeafKey, Record, VersionId, from_store, leaf_key, supersedes
from echonode.node.event_bus import EventBus
from echonode.node.events import ContextShown, RecordConflict, RecordConflictResolved, RecordsApplied, RecordVoided
from echonode.node.record_book import RecordBook
from echonode.text import escape, to_base32

_ANCESTORS_READ: Final = 256  # versions of the history that are looked at for a common ancestor


class Strategy(Enum):
    """The ways to resolve a conflict. The value is its name on the command line and in the API."""

    MERGE = "merge"
    PREFER_LOCAL = "prefer_local"
    PREFER_REMOTE = "prefer_remote"


@dataclass(frozen=True, slots=True)
class Conflict:
    """One record's heads, the winner first. `base`: their newest common ancestor in the local history, if it is there.

    A record with one head is none, and may still be asked for."""

    heads: Sequence[Record]
    base: Record | None


@dataclass(frozen=True, slots=True)
class Resolution:
    """The version that covers the heads of a conflict. `how` says in words what its content is."""

    record: Record
    covered: Sequence[Record]
    how: str


class Conflicts:
    """The conflicts of one record book."""

    def __init__(self, book: RecordBook, bus: EventBus) -> None:
        self._book = book
        self._bus = bus
        self._known: dict[str, set[LeafKey]] = {
            context: set(keys) for context in book.store.contexts() if (keys := book.store.conflicts(context))
        }

    def count(self, context: str | None = None) -> int:
        """Return the number of records in conflict, in one context or in all."""
        contexts = self._book.store.contexts() if context is None else (context,)
        return sum(len(self._book.store.conflicts(each)) for each in contexts)

    async def count_shown(self, context: str) -> int:
        """Return the number of records in conflict that readers see, in one context."""
        return len(await self._book.conflicts(context)) if self._book.denials.mark else self.count(context)

    def note_applied(self, event: RecordsApplied) -> None:
        """Publish RecordConflict for each record that has several heads since `event`, and RecordConflictResolved for
        each that has one again."""
        self._publish_changes(event.context, {record.key: (record.author, record.name) for record in event.records})
        self._known[event.context] = set(self._book.store.conflicts(event.context))

    def note_voided(self, event: RecordVoided) -> None:
        """Publish what a void version changes: it was one of several heads, or hid several older ones."""
        author = IdentityId(event.author)
        self._publish_changes(event.context, {leaf_key(author, event.record): (author, event.record)})

    def _publish_changes(self, context: str, records: Mapping[LeafKey, tuple[IdentityId, str]]) -> None:
        current, known = self._book.store.conflicts(context), self._known.setdefault(context, set())
        if not current and not known:
            return
        for key, (author, name) in records.items():
            if (key in current) == (key in known):
                continue
            known ^= {key}
            kind = RecordConflict if key in current else RecordConflictResolved
            self._bus.publish(kind(context=context, author=author, record=name))

    async def note_shown(self, event: ContextShown) -> None:
        """Publish RecordConflict for each record of a snapshot that has several heads, RecordForked for its twins."""
        store, context = self._book.store, event.context
        fresh = sorted(set(store.conflicts(context)) - self._known.get(context, set()))
        if fresh:
            self._known[context] = set(store.conflicts(context))
        at = 0
        while at < len(fresh):
            raws, read = await store.read(context, fresh[at:], bytes_max=BATCH_BYTES_MAX)
            at += read
            heads = [from_store(raw) for raw in raws]
            self._book.note_forks(heads, event.source)
            for record in {record.key: record for record in heads}.values():
                if record.key in store.conflicts(context):  # or it was resolved meanwhile, which was told
                    self._bus.publish(RecordConflict(context=context, author=record.author, record=record.name))

    async def of(self, context: str, author: IdentityId, name: str) -> Conflict:
        """Return the heads of one record. Raises LocalError when it is unknown."""
        heads = await self._book.heads(context, author, name)
        if not heads:
            raise LocalError(f"there is no record {self._book.label(author)}/{escape(name)}")
        heads.sort(key=_recency, reverse=True)
        if len(heads) == 1:
            return Conflict(heads, None)
        earlier = await self._book.earlier(context, author, name, limit=_ANCESTORS_READ)
        admitted = [each.record for each in earlier if self._book.is_admitted(each.record)]
        ancestors = [record for record in admitted if all(supersedes(head, record) for head in heads)]
        return Conflict(heads, max(ancestors, key=lambda each: sum(each.vector.values()), default=None))

    async def resolve(
        self, context: str, author: IdentityId, name: str, choice: VersionId | Strategy
    ) -> Resolution:
        """Write a version that covers all heads of a record: the head with that id, or as the strategy says.

        Raises LocalError when the record has no conflict, when `choice` is no head of it, and when it may not be
        written here.
        """
        conflict = await self.of(context, author, name)
        if len(conflict.heads) < 2:
            raise LocalError(f"{self._book.label(author)}/{escape(name)} is in no conflict")
        draft, how = self._content(conflict, choice)
        return Resolution(await self._book.put(draft), conflict.heads, how)

    def _content(self, conflict: Conflict, choice: VersionId | Strategy) -> tuple[Draft, str]:
        heads = conflict.heads
        match choice:
            case Strategy.MERGE:
                return _merged(conflict)
            case Strategy.PREFER_LOCAL | Strategy.PREFER_REMOTE:
                is_local = choice is Strategy.PREFER_LOCAL
                device = self._book.identity.device.public
                chosen = next((head for head in heads if (head.kid == device) == is_local), None)
                side = "this node" if is_local else "another node"
                if chosen is None:
                    return _draft_of(heads[0]), f"no head was written by {side}; the newest one is kept"
                return _draft_of(chosen), f"the version that {side} wrote is kept"
            case _:
                chosen = next((head for head in heads if head.id == choice), None)
                if chosen is None:
                    raise LocalError(f"{to_base32(choice)[:8]} is no head of that record")
                return _draft_of(chosen), "the version that was chosen is kept"


def _recency(head: Record) -> tuple[int, bytes]:
    return head.timestamp, head.id


def _merged(conflict: Conflict) -> tuple[Draft, str]:
    edits = [head for head in conflict.heads if not head.is_tombstone]
    if not edits:
        return _draft_of(conflict.heads[0]), "every version is a delete"
    draft = replace(_draft_of(edits[0]), tags=tuple(sorted({tag for head in edits for tag in head.tags})))
    if len(edits) == 1:
        return draft, "the edit is kept, and not the delete"
    base = None if conflict.base is None or conflict.base.is_tombstone else conflict.base.body
    body: bytes | None = edits[0].body
    for head in edits[1:]:
        body = None if body is None else merge_bodies(body, head.body, base)
    if body is None:
        return draft, "the bodies are not all JSON objects; the newest one is kept"
    return replace(draft, body=body), "the fields of all versions are joined"


def _draft_of(head: Record) -> Draft:
    """Return a draft with the content of `head`, to be written now."""
    return Draft(
        context=head.context,
        author=head.author,
        name=head.name,
        body=head.body,
        tags=head.tags,
        model=head.model,
        model_version=head.model_version,
        media_type=head.media_type,
        is_tombstone=head.is_tombstone,
        later=head.later,
    )
