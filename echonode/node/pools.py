"""Pools: identities that several nodes write for, beside `shared` (PROTOCOL.md §4.7).

    create         this node makes a pool, holds its root key, and is its first member
    accept         an invitation brought a pool; of a common one its root key too
    request, add   a node asks to be listed; the maker of a closed pool lists it
    remove         the maker of a closed pool states the keys of a node retired, or compromised
    leave          this node forgets the pool; what was written for it stays

A common pool cannot be left so that others notice, and nobody can be removed from it: every member holds its root key.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from echonode.clock import Entropy
from echonode.errors import LocalError
from echonode.limits import POOLS_MAX
from echonode.model.address import LABEL_MARK, fitting, maybe_id
from echonode.model.identity import (
    IDENTITY_BYTES,
    KEY_BYTES,
    SIGNATURE_BYTES,
    IdentityId,
    PoolKind,
    PublicKey,
    identity_of,
)
from echonode.model.key_claims import Admission, KeyState, Listing, is_member_proof, member_proof
from echonode.model.keyring import Member
from echonode.model.keys import listing_draft, listing_proof, read_stored_statement
from echonode.model.known_pool import SEED_BYTES, KnownPool, is_pool_label
from echonode.model.record import IDENTITIES
from echonode.node.record_book import RecordBook
from echonode.text import escape, from_base32, nfc, to_base32

_REQUEST_BYTES: Final = 2 * IDENTITY_BYTES + KEY_BYTES + SIGNATURE_BYTES
_SCAN_RECORDS: Final = 1000
_BAD_LABEL: Final = "'{}' cannot be the name of a pool: up to 64 bytes, no slash, no @ in front, not me or shared"


@dataclass(frozen=True, slots=True)
class PoolMember:
    """One listed key. `state`: member, retired, void, or waiting for the owner's own key statement."""

    owner: IdentityId
    key: PublicKey
    state: str


@dataclass(frozen=True, slots=True)
class PoolView:
    """A pool as people see it. `is_held`: the root key is here; `can_write`: this node may write for it."""

    id: IdentityId
    label: str
    kind: str
    is_held: bool
    can_write: bool
    members: Sequence[PoolMember]


class Pools:
    """The pools that this node has labels for. `save` keeps them over a restart."""

    def __init__(
        self,
        records: RecordBook,
        known: Sequence[KnownPool],
        entropy: Entropy,
        save: Callable[[Sequence[KnownPool]], None],
    ) -> None:
        self._records = records
        self._known = {pool.id: pool for pool in known}
        self._entropy = entropy
        self._save = save
        records.pools.update(self._known)

    def labels(self) -> dict[IdentityId, str]:
        """Return every pool with its label."""
        return {pool.id: pool.label for pool in self._known.values()}

    async def begin(self) -> None:
        """List our device key where it may be missing, and bring over what was written into the earlier `shared`."""
        await self.list_device()
        await self.bring_over()

    async def list_device(self) -> None:
        """List our device key in every pool whose root key is here."""
        for known in self._known.values():
            if known.pool is not None:
                await self._records.list_device(known.pool)

    async def bring_over(self) -> int:
        """Write into `shared` what this device wrote there before pools had ids of their own kind; return how many
        records. What was brought over once, or written since, stays as it is."""
        pool, store = self._records.shared_pool, self._records.store
        device = self._records.identity.device.public
        earlier = None if pool is None else identity_of(pool.root.public)
        if pool is None or earlier is None or store.keyring.state_of(earlier, device) is None:
            return 0
        count = 0
        for context in filter(self._records.keeps, store.contexts()):
            async for page in self._records.scan(context, author=earlier):
                ours = [record for record in page if record.kid == device]
                drafts = [
                    replace(record.draft(), author=pool.id)
                    for record in ours
                    if not await store.heads(context, pool.id, record.name)
                ]
                count += len(await self._records.put_all(drafts))
        return count

    # -- membership --------------------------------------------------------------------------------------------------

    async def create(self, label: str, kind: PoolKind) -> KnownPool:
        """Make a pool, called `label` at this node. Raises LocalError."""
        label = nfc(label)
        if not is_pool_label(label):
            raise LocalError(_BAD_LABEL.format(escape(label)))
        if label in self.labels().values():
            raise LocalError(f"there is a pool {escape(label)} already: give this one another name")
        known = KnownPool.of_seed(kind, label, self._entropy.random_bytes(SEED_BYTES))
        await self.accept(known)
        return known

    async def accept(self, known: KnownPool) -> None:
        """Keep a pool that was made here, or that an invitation brought: under its label, or under one with a number
        where another pool has that already. Raises LocalError."""
        earlier = self._known.get(known.id)
        if earlier is not None and earlier.seed is not None:
            return  # nothing new
        if earlier is None and len(self._known) >= POOLS_MAX:
            raise LocalError(f"this node knows {POOLS_MAX} pools already: leave one first")
        taken = {pool.label for pool in self._known.values() if pool.id != known.id}
        labels = (known.label, *[f"{known.label}-{number}" for number in range(2, POOLS_MAX + 2)])
        known = replace(known, label=next(label for label in labels if label not in taken))
        self._keep({**self._known, known.id: known})
        if known.pool is not None:
            await self._records.list_device(known.pool)

    def request(self, pool: IdentityId, label: str) -> str:
        """Return the text by which the maker of a closed pool can list this node, and keep the pool as `label`.

        Raises LocalError."""
        label = nfc(label)
        if not is_pool_label(label):
            raise LocalError(_BAD_LABEL.format(escape(label)))
        if pool not in self._known:
            self._keep({**self._known, pool: KnownPool(pool, PoolKind.CLOSED, label)})
        return to_base32(b"".join((pool, *self.proof(pool))))

    def proof(self, pool: IdentityId) -> tuple[IdentityId, PublicKey, bytes]:
        """Return what it takes to list this node in `pool`: its id, its device key, and the key's consent."""
        device = self._records.identity.device
        return self._records.id, device.public, member_proof(pool, self._records.id, device)

    async def add(self, known: KnownPool, request: str) -> IdentityId:
        """List the node that made `request` for this closed pool. Return its id. Raises LocalError."""
        try:
            data = from_base32("".join(request.split()).lower(), _REQUEST_BYTES)
        except ValueError:
            raise LocalError("that is no request: copy the whole line that `echonode pool ask` printed there") from None
        pool, owner, key, proof = (data[:32], data[32:64], data[64:96], data[96:])
        if pool != known.id:
            raise LocalError(f"that is a request to another pool, {to_base32(pool)}")
        await self.enlist(known, IdentityId(owner), PublicKey(key), proof)
        return IdentityId(owner)

    async def enlist(self, known: KnownPool, owner: IdentityId, key: PublicKey, proof: bytes) -> None:
        """State in a closed pool that `key` of `owner` is a member's. Raises LocalError."""
        pool = known.pool
        if known.kind is not PoolKind.CLOSED or pool is None:
            raise LocalError(f"this node cannot add members to {escape(known.label)}: {_why_not(known)}")
        if not is_member_proof(proof, known.id, owner, key):
            raise LocalError("the request is damaged, or was made for another pool: ask for a new one")
        await self._records.state_once(listing_draft(pool, owner, key, proof, KeyState.ACTIVE), pool.root)

    async def remove(self, known: KnownPool, owner: IdentityId, *, is_void: bool) -> int:
        """State each key of `owner` in a closed pool retired, or with `is_void` compromised, so that all it wrote for
        the pool is void. Return how many keys. Raises LocalError."""
        pool = known.pool
        if known.kind is not PoolKind.CLOSED or pool is None:
            raise LocalError(f"this node cannot remove members of {escape(known.label)}: {_why_not(known)}")
        state = KeyState.COMPROMISED if is_void else KeyState.RETIRED
        proofs = await self._proofs(known.id, owner)
        if not proofs:
            raise LocalError(f"{to_base32(owner)} is no member of {escape(known.label)}")
        for key, proof in proofs.items():
            await self._records.state_once(listing_draft(pool, owner, key, proof, state), pool.root)
        return len(proofs)

    async def _proofs(self, pool: IdentityId, owner: IdentityId) -> dict[PublicKey, bytes]:
        """Return the listed keys of `owner` with their proofs, from the statements themselves."""
        found: dict[PublicKey, bytes] = {}
        after = 0
        while True:
            page, last = await self._records.store.scan(IDENTITIES, after, limit=_SCAN_RECORDS)
            for record in page:
                claim = read_stored_statement(record)
                if isinstance(claim, Listing) and (claim.pool, claim.owner) == (pool, owner):
                    found[claim.key] = listing_proof(record)
            if last == after:
                return found
            after = last

    def leave(self, known: KnownPool, *, for_good: bool) -> None:
        """Forget a pool. Raises LocalError for one that only this node can manage, unless it is `for_good`."""
        if known.kind is PoolKind.CLOSED and known.seed is not None and not for_good:
            raise LocalError(
                f"this node alone can add members to {escape(known.label)} or remove them, and nobody can once it has "
                "left: say --for-good if that is meant"
            )
        self._keep({pool: each for pool, each in self._known.items() if pool != known.id})

    def _keep(self, known: dict[IdentityId, KnownPool]) -> None:
        self._save(tuple(known.values()))
        self._known = known
        self._records.pools.clear()
        self._records.pools.update(known)

    # -- what people see ---------------------------------------------------------------------------------------------

    def resolve(self, text: str) -> KnownPool:
        """Return the pool with that label, id, or beginning of its id. Raises LocalError."""
        text = nfc(text).removeprefix(LABEL_MARK)
        found = fitting(text, self.labels())
        whole_id = maybe_id(text)
        if whole_id in self._known:
            found = {whole_id}
        if len(found) == 1:
            return self._known[found.pop()]
        if not found:
            raise LocalError(f"no pool {escape(text)}: `echonode pool list` shows those of this node")
        ids = ", ".join(sorted(map(to_base32, found)))
        raise LocalError(f"{escape(text)} could be any of {len(found)} pools: {ids}")

    def views(self) -> list[PoolView]:
        """Return every pool that this node has a label for."""
        return [self._view(known) for known in sorted(self._known.values(), key=lambda each: (each.label, each.id))]

    def _view(self, known: KnownPool) -> PoolView:
        keyring = self._records.store.keyring
        members = [
            PoolMember(member.owner, member.key, _state_of(member, keyring.admission_of(known.id, member.key)))
            for member in keyring.members_of(known.id)
        ]
        return PoolView(
            known.id,
            known.label,
            known.kind.name.lower(),
            known.seed is not None,
            self._records.reason_not_to_write(known.id) is None,
            members,
        )


def _state_of(member: Member, admission: Admission) -> str:
    if admission is Admission.VOID:
        return "void"
    if not member.is_counted:
        return "waiting"
    return "member" if member.state is KeyState.ACTIVE else "retired"


def _why_not(known: KnownPool) -> str:
    if known.kind is PoolKind.COMMON:
        return "in a common pool every member holds the root key; invite others with --pool, and nobody can be removed"
    return "only the node that made it holds its root key"
