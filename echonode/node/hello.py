"""Hello: the introduction of this node to a peer, once both have proved their identity (PROTOCOL.md §5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from echonode.limits import CONTEXTS_TOLD_MAX, SEEN_BYTES_MAX, SEEN_INSTANCES_MAX
from echonode.model.identity import IdentityId, PublicKey, SigningKey
from echonode.model.key_claims import Admission
from echonode.model.record import IDENTITIES, Record
from echonode.node.mode_table import MODES
from echonode.node.record_book import RecordBook
from echonode.node.subscriptions import Subscriptions
from echonode.node.summaries import summarise
from echonode.wire.messages import PROTOCOL_VERSION, Hello, Seen

FOLLOW: Final = "follow"  # the name of the mode of links in a hello, in logs and in the API
# A node that wants a part of a context follows no peer, and is not followed.
NAMES_IN_PART: Final = tuple(mode.value for mode in MODES)
NAMES: Final = (*NAMES_IN_PART, FOLLOW)  # all that is served


@dataclass(slots=True)
class HelloMaker:
    """Makes the hello for each peer. `tag` is of this start; `models`: the record models that are read here."""

    records: RecordBook
    subscriptions: Subscriptions
    name: str
    tag: bytes
    models: Mapping[str, tuple[int, int]]
    port: int = 0  # until it is known where streams come in

    @property
    def device(self) -> SigningKey:
        """The key with which this node proves its identity."""
        return self.records.identity.device

    def statements(self) -> Sequence[Record]:
        """Return the key statements that prove the device key to be this node's."""
        return self.records.own_statements

    def _speaks_for(self, key: PublicKey, author: IdentityId) -> bool:
        """Return True if `key` signs, or once signed, for `author`, other than `shared`."""
        is_known = self.records.store.keyring.admission_of(author, key) is not Admission.UNKNOWN
        return is_known and author != self.records.shared

    def make(self, peer: PublicKey, session: bytes, instance: bytes = b"") -> Hello:
        """Return our hello to the peer with that device key. `instance`: the peer's, where it has told it."""
        store, subscriptions = self.records.store, self.subscriptions
        kept = [name for name in store.contexts() if subscriptions.takes(name)]
        names = list(dict.fromkeys((IDENTITIES, *kept)))[:CONTEXTS_TOLD_MAX]
        return Hello(
            version=PROTOCOL_VERSION,
            session=session,
            name=self.name,
            tag=self.tag,
            instance=store.instance,
            port=self.port,
            models=dict(self.models),
            modes=NAMES if subscriptions.wants_all else NAMES_IN_PART,
            contexts=tuple(
                summarise(
                    store,
                    name,
                    is_partial=subscriptions.of(name) is not None,
                    is_full=any(self._speaks_for(peer, author) for author in subscriptions.closed(name)),
                )
                for name in names
            ),
            seen=self._seen(peer, instance),
        )

    def _seen(self, peer: PublicKey, told: bytes) -> tuple[Seen, ...]:
        """Return what is held of the peer's own writes, the instance `told` first, with proofs as far as they fit."""
        store, room = self.records.store, SEEN_BYTES_MAX
        latest = sorted(store.latest(peer), key=lambda each: (each.instance != told, -each.counter))
        seen: list[Seen] = []
        for instance, counter, version in latest[:SEEN_INSTANCES_MAX]:
            raw = store.bytes_of_latest(peer, instance) or b""
            raw = raw if len(raw) <= room else b""
            room -= len(raw)
            seen.append(Seen(instance, counter, version, raw))
        return tuple(seen)
