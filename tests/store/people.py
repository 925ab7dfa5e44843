"""Authors for the tests of the store: real keys, real signatures, and versions made by other nodes."""

from collections.abc import Sequence

from echonode.clock import HybridClock
from echonode.model.identity import Identity, IdentityId, Instance, Pool, PublicKey, SigningKey, writer_of
from echonode.model.key_claims import member_proof
from echonode.model.keys import KeyState, listing_draft, statement_draft
from echonode.model.record import MAIN, Draft, Record, sign
from echonode.store.port import Applied, KnownPeer, Store, Tick

NOW_MS = 1_700_000_000_000


def ticking() -> Tick:
    """Return a clock that stands still but for its logical part: timestamps grow, and every run gives the same ones."""
    clock = HybridClock()
    return lambda: clock.tick(NOW_MS)


def known(name: str, identity: IdentityId, seen_ms: int = 1) -> KnownPeer:
    """Return a peer that was met once."""
    return KnownPeer(identity, name, ("10.0.0.1:22087", "[fe80::1%eth0]:22087"), seen_ms)


class Person:
    """An author on another node. The same `number` gives the same person, with the same keys and the same writer."""

    def __init__(self, number: int) -> None:
        self.identity = Identity.from_seeds(bytes([number]) * 32, bytes([number, 1]) * 16)
        self.instance = Instance(bytes([number]) * 8)
        self._tick = ticking()
        self.counter = 0

    @property
    def id(self) -> IdentityId:
        return self.identity.id

    @property
    def device(self) -> SigningKey:
        return self.identity.device

    def statement(self, state: KeyState = KeyState.ACTIVE, key: PublicKey | None = None) -> Record:
        """Return a key statement by the person's root about `key`, the device key by default."""
        draft = statement_draft(self.id, key or self.device.public, state)
        return self._sign(draft, self.identity.root, ())

    def listed(self, pool: Pool, state: KeyState = KeyState.ACTIVE, *, owner: IdentityId | None = None) -> Record:
        """Return the statement of `pool` about the person's device key, as a key of `owner`: by default the person."""
        owner = owner or self.id
        proof = member_proof(pool.id, owner, self.device)
        return self._sign(listing_draft(pool, owner, self.device.public, proof, state), pool.root, ())

    def version(
        self,
        name: str,
        body: bytes = b"",
        over: Sequence[Record] = (),
        *,
        context: str = MAIN,
        author: IdentityId | None = None,
        key: SigningKey | None = None,
        is_tombstone: bool = False,
    ) -> Record:
        """Return a version that has seen `over`."""
        draft = Draft(context=context, author=author or self.id, name=name, body=body, is_tombstone=is_tombstone)
        return self._sign(draft, key or self.device, over)

    def _sign(self, draft: Draft, key: SigningKey, over: Sequence[Record]) -> Record:
        self.counter += 1
        vector = {writer: counter for head in over for writer, counter in head.vector.items()}
        for head in over:
            for writer, counter in head.vector.items():
                vector[writer] = max(counter, vector[writer])
        vector[writer_of(key.public, self.instance)] = self.counter
        return sign(draft, key, instance=self.instance, vector=vector, timestamp=self._tick())


class Owner:
    """The identity that writes into a store by `Store.write`."""

    def __init__(self, store: Store, number: int = 1) -> None:
        self.store = store
        self.identity = Identity.from_seeds(bytes([number]) * 32, bytes([number, 1]) * 16)
        self.tick = ticking()

    @property
    def id(self) -> IdentityId:
        return self.identity.id

    async def begin(self) -> None:
        """State the device key, as a node does at its first start."""
        draft = statement_draft(self.id, self.identity.device.public, KeyState.ACTIVE)
        await self.store.write([draft], self.identity.root, self.tick)

    def draft(self, name: str, body: bytes = b"", context: str = MAIN, *, is_tombstone: bool = False) -> Draft:
        return Draft(context=context, author=self.id, name=name, body=body, is_tombstone=is_tombstone)

    async def put(self, name: str, body: bytes = b"", context: str = MAIN) -> Record:
        """Write one record and return its version."""
        versions, _ = await self.write(self.draft(name, body, context))
        assert versions[0] is not None
        return versions[0]

    async def write(self, *drafts: Draft, skip_unchanged: bool = False) -> tuple[list[Record | None], Applied]:
        return await self.store.write(drafts, self.identity.device, self.tick, skip_unchanged=skip_unchanged)
