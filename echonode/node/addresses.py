"""Addresses: the record or author that a text means on this node, and how this node writes an author."""

from echonode.errors import LocalError
from echonode.model.address import (
    LABEL_MARK,
    ME,
    PREFIX_CHARS_SHOWN,
    SHARED,
    IdAddress,
    LabelAddress,
    OwnAddress,
    SharedAddress,
    author_text,
    distinct_label,
    find_label,
    fitting,
    id_prefixes,
    maybe_id,
    parse_address,
)
from echonode.model.filter_text import full_id
from echonode.model.identity import IdentityId
from echonode.model.record import Record
from echonode.node.peer_table import PeerTable
from echonode.node.pools import Pools
from echonode.node.record_book import RecordBook
from echonode.text import escape, nfc, to_base32


class Addresses:
    """Resolves texts by the authors of the record book, and by the names of this node and of the peers it has met."""

    def __init__(self, records: RecordBook, peers: PeerTable, pools: Pools, name: str) -> None:
        self.name = name  # of this node
        self._records = records
        self._peers = peers
        self._pools = pools

    def resolve(self, text: str) -> tuple[IdentityId, str]:
        """Return author and name of the record that `text` addresses (model/address.py). Raises LocalError."""
        match parse_address(text):
            case OwnAddress(name):
                return self._records.id, name
            case SharedAddress(name):
                return self.resolve_author(SHARED), name
            case IdAddress(author, name):
                return author, name
            case LabelAddress(label, name):
                return find_label(label, self.labels(label)), name

    def resolve_author(self, text: str) -> IdentityId:
        """Return an author by `me`, `shared`, a whole id, a label or an id prefix, with or without `@`.

        Raises LocalError.
        """
        if text == ME:
            return self._records.id
        if text == SHARED:
            if self._records.shared is None:
                raise LocalError("the open network has no `shared` records")
            return self._records.shared
        label = text.removeprefix(LABEL_MARK)
        return maybe_id(label) or find_label(label, self.labels(label))

    def resolve_in_filter(self, text: str) -> IdentityId:
        """Return the identity that a filter names: `me`, `shared`, or any whole id. Raises LocalError."""
        return self.resolve_author(text) if text in (ME, SHARED) else full_id(text)

    def author_text(self, author: IdentityId) -> str:
        """Return what to write before the slash of an address to mean `author` on this node."""
        names = self.labels()
        labels = self.labels(names.get(author, ""), to_base32(author)[:PREFIX_CHARS_SHOWN])
        return author_text(author, self._records.id, self._records.shared, labels)

    def writer_text(self, record: Record) -> str:
        """Return the node that signed `record` as an author is written: "me", "@kitchen", or a whole id; "" if none is
        known."""
        signers = self._records.store.keyring.signers_of(record.author, record.kid)
        return self.author_text(signers[0]) if signers else ""

    def labels(self, *texts: str) -> dict[IdentityId, str]:
        """Return each identity with a label, and all whose ids may be meant by a text in `texts`, "" for no label."""
        keyring = self._records.store.keyring
        prefixes = {prefix for text in texts for prefix in id_prefixes(text)}
        authors = dict.fromkeys((author for prefix in prefixes for author in keyring.authors(prefix)), "")
        names = {entry.id: entry.name for entry in self._peers.peers.values()}
        pools = self._records.past_pools | self._pools.labels()
        return {**authors, **names, **pools, self._records.id: self.name}

    def node_labels(self) -> dict[IdentityId, str]:
        """Return this node and every peer with its label."""
        return {**{entry.id: entry.name for entry in self._peers.peers.values()}, self._records.id: self.name}

    def resolve_peer(self, text: str) -> IdentityId:
        """Return a peer by name, id, or the beginning of its id of 4 characters or more. Raises LocalError."""
        names = {entry.id: entry.name for entry in self._peers.peers.values()}
        text = nfc(text).removeprefix(LABEL_MARK)
        found = fitting(text, names) | {peer for peer, name in names.items() if name == text}
        if len(found) == 1:
            return found.pop()
        if not found:
            raise LocalError(f"no peer {escape(text)}")
        labels = self.node_labels()
        shown = ", ".join(sorted(escape(distinct_label(peer, labels) or to_base32(peer)) for peer in found))
        raise LocalError(f"{escape(text)} could be {len(found)} peers: {shown}")
