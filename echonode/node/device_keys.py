"""The device keys of this node's identity: what its root key states of them, and what becomes of their versions.

    new_key        another device key for this node, from now on
    state          a key is retired, or compromised: then every version that it signed is void, on every node
    sign_again     what a void key wrote, written once more with the key of this device
    export_root    the root key as a text sealed with a passphrase; with it, or after it, off this machine
    import_root    the root key back on this machine

Statements are signed with the root key. Where it is not on this machine, its exported text and the passphrase do. With
the text of another identity's root this node can state a key of that: a stolen machine's, from any other machine.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from echonode.clock import Entropy, to_ms
from echonode.errors import LocalError
from echonode.limits import BATCH_RECORDS_MAX
from echonode.model.identity import (
    KEY_BYTES,
    Identity,
    IdentityId,
    PublicKey,
    SigningKey,
    identity_of,
)
from echonode.model.keys import Admission, KeyState, statement_draft
from echonode.model.known_pool import SEED_BYTES
from echonode.model.record import IDENTITIES, LeafKey, Record, supersedes
from echonode.model.root_export import RANDOM_BYTES, export_root, exported_key, import_root
from echonode.node.event_bus import EventBus
from echonode.node.events import KeyRevoked, RecordsApplied
from echonode.node.pools import Pools
from echonode.node.record_book import KEY_IS_VOID, RecordBook
from echonode.node.settings import Safe
from echonode.text import escape, from_base32, to_base32

T = TypeVar("T")

_PREFIX_CHARS_MIN: Final = 4
_KEY_CHARS_SHOWN: Final = 8
_KEYS_SHOWN: Final = 10
KEY_IS_RETIRED: Final = (
    "this device's key was retired: what it signed stands, and other nodes keep this one out. If this device is in "
    "good hands, run `echonode key new`"
)
KEY_IS_REFUSED: Final = (
    "kept out at {}, where this device's key is known to be retired or compromised. If this device is in good hands, "
    "run `echonode key new`, then `echonode key resign`"
)


@dataclass(frozen=True, slots=True)
class DeviceKey:
    """A key of this node's identity. `is_here`: this device signs with it."""

    key: PublicKey
    state: KeyState
    is_here: bool


@dataclass(frozen=True, slots=True)
class SignedAgain:
    """The outcome of `sign_again`: the versions that it wrote again, or would, and how many others it left out."""

    records: list[Record]
    superseded: int  # by a version that stands
    too_late: int  # behind the time up to which they were to be kept
    not_ours: int  # of authors for which this node may not write


class DeviceKeys:
    """The keys of one node. `on_new_key` is called when the node signs with another key."""

    def __init__(
        self,
        records: RecordBook,
        pools: Pools,
        safe: Safe,
        entropy: Entropy,
        bus: EventBus,
        on_new_key: Callable[[], None],
    ) -> None:
        self._records = records
        self._pools = pools
        self._safe = safe
        self._entropy = entropy
        self._bus = bus
        self._told: Identity | None = None  # of which a revoked key was told
        self._on_new_key = on_new_key

    @property
    def has_root(self) -> bool:
        """True while the root key is on this machine."""
        return self._records.identity.root is not None

    def listed(self) -> list[DeviceKey]:
        """Return every key of this identity, those in use first."""
        here = self._records.identity.device.public
        stated = self._records.store.keyring.keys_of(self._records.id)
        keys = [DeviceKey(key, state, key == here) for key, state in stated.items()]
        return sorted(keys, key=lambda each: (each.state, not each.is_here, each.key))

    def resolve(self, text: str, sealed: str | None = None) -> PublicKey:
        """Return the key that begins with `text` of this identity, or of that whose sealed root is given; or any whole
        key. Raises LocalError."""
        with suppress(ValueError):
            return PublicKey(from_base32(text, KEY_BYTES))
        identity = self._records.id if sealed is None else identity_of(exported_key(sealed))
        keys = sorted(map(to_base32, self._records.store.keyring.keys_of(identity)))
        found = [key for key in keys if key.startswith(text)]
        if len(found) == 1 and len(text) >= _PREFIX_CHARS_MIN:
            return PublicKey(from_base32(found[0], KEY_BYTES))
        shown = ", ".join(key[:_KEY_CHARS_SHOWN] for key in keys[:_KEYS_SHOWN]) or "none that is known here"
        raise LocalError(f"{escape(text)} is the beginning of no one key of {to_base32(identity)[:8]}; it has {shown}")

    def problem(self, refused_at: Collection[str] = ()) -> str:
        """Return what is the matter with the key of this device, and what to do, "" for nothing.

        `refused_at`: the addresses of nodes that keep this one out because of its key: they know more of it."""
        state = self._records.store.keyring.state_of(self._records.id, self._records.identity.device.public)
        if state is KeyState.COMPROMISED:
            return KEY_IS_VOID
        if state is KeyState.RETIRED:
            return KEY_IS_RETIRED
        return KEY_IS_REFUSED.format(", ".join(sorted(refused_at))) if refused_at else ""

    def note_applied(self, event: RecordsApplied) -> None:
        """Publish KeyRevoked once a statement revokes the key of this device."""
        if event.context == IDENTITIES and self._told is not self._records.identity and (problem := self.problem()):
            self._told = self._records.identity
            key = self._told.device.public
            state = self._records.store.keyring.state_of(self._records.id, key)
            assert state is not None, "what is revoked was stated"
            self._bus.publish(KeyRevoked(key=key, state=state.name.lower(), what_to_do=problem))

    # -- statements --------------------------------------------------------------------------------------------------

    async def new_key(self, sealed: str | None = None, passphrase: str = "") -> PublicKey:
        """Make a device key, state it active, and sign with it from now on. Raises LocalError without the root key."""
        root = await self._root(sealed, passphrase)
        seed = self._entropy.random_bytes(SEED_BYTES)
        device = SigningKey(seed)
        await self._records.state_once(statement_draft(self._records.id, device.public, KeyState.ACTIVE), root)
        self._safe.write_device_seed(seed)
        await self._records.change_device(device)
        await self._pools.list_device()
        self._on_new_key()
        return device.public

    async def state(
        self, key: PublicKey, state: KeyState, sealed: str | None = None, passphrase: str = ""
    ) -> IdentityId:
        """State `key` of this identity, or of that whose sealed root is given. Return the identity.

        Raises LocalError for a key that this device signs with, and where the root key is missing.
        """
        root = await self._root(sealed, passphrase, is_any=True)
        identity = identity_of(root.public)
        stated = self._records.store.keyring.state_of(identity, key)
        if key == self._records.identity.device.public and identity == self._records.id:
            raise LocalError("this device signs with that key: run `echonode key new` first, then state the old key")
        if stated is None:
            raise LocalError(f"{to_base32(key)} is no known key of {to_base32(identity)}")
        if stated >= state:
            raise LocalError(f"that key is {stated.name.lower()} already, which cannot be taken back")
        await self._records.state_once(statement_draft(identity, key, state), root)
        return identity

    async def _root(self, sealed: str | None, passphrase: str, *, is_any: bool = False) -> SigningKey:
        identity = self._records.identity
        if sealed is None:
            if identity.root is None:
                raise LocalError(
                    "the root key is not on this machine: name the file that it was exported to with --root FILE, "
                    "or put it back with `echonode key import-root FILE`"
                )
            return identity.root
        root = SigningKey(await _off_loop(lambda: import_root(sealed, passphrase)))
        if not is_any and root.public != identity.root_public:
            raise LocalError("that is the root key of another identity")
        return root

    # -- the root key ------------------------------------------------------------------------------------------------

    async def export_root(self, passphrase: str) -> str:
        """Return the root key as a sealed text. Raises LocalError where it is not on this machine."""
        root = self._records.identity.root
        if root is None:
            raise LocalError("the root key is not on this machine: it was exported before")
        random = self._entropy.random_bytes(RANDOM_BYTES)
        return await _off_loop(lambda: export_root(root.seed, passphrase, random))

    async def remove_root(self, sealed: str, passphrase: str) -> None:
        """Take the root key off this machine. `sealed` must hold it. Raises LocalError."""
        await self._root(sealed, passphrase)
        identity = self._records.identity
        self._safe.write_root_seed(None, identity.root_public)
        self._records.identity = replace(identity, root=None)

    async def put_root_back(self, sealed: str, passphrase: str) -> None:
        """Keep the root key in `sealed` on this machine again. Raises LocalError when it is another identity's."""
        root = await self._root(sealed, passphrase)
        self._safe.write_root_seed(root.seed, root.public)
        self._records.identity = replace(self._records.identity, root=root)

    # -- void versions -----------------------------------------------------------------------------------------------

    async def sign_again(self, key: PublicKey, *, until_ms: int | None = None, is_trial: bool = False) -> SignedAgain:
        """Write again, with this device's key, what the void `key` wrote and nothing that stands supersedes.

        `until_ms`: leave out versions with a later timestamp, such as a thief's. `is_trial`: write nothing.
        Raises LocalError.
        """
        store = self._records.store
        written: list[Record] = []
        latest: dict[tuple[str, LeafKey], Record] = {}
        superseded = too_late = not_ours = 0
        async for version in self._void_versions(key):
            if until_ms is not None and to_ms(version.timestamp) > until_ms:
                too_late += 1
            elif self._records.reason_not_to_write(version.author) is not None:
                not_ours += 1
            else:
                place = version.context, version.key
                latest[place] = max(latest.get(place, version), version, key=lambda each: (each.timestamp, each.id))
        by_context: dict[str, list[Record]] = {}
        for version in latest.values():
            heads = await store.heads(version.context, version.author, version.name)
            if any(supersedes(head, version) or version.draft().is_same_as(head) for head in heads):
                superseded += 1
            else:
                by_context.setdefault(version.context, []).append(version)
        for versions in by_context.values():
            for start in range(0, len(versions), BATCH_RECORDS_MAX):
                chunk = versions[start : start + BATCH_RECORDS_MAX]
                if not is_trial:
                    await self._records.put_all([version.draft() for version in chunk])
                written += chunk
        return SignedAgain(written, superseded, too_late, not_ours)

    async def _void_versions(self, key: PublicKey) -> AsyncIterator[Record]:
        store, after = self._records.store, 0
        while True:
            page, last = await store.earlier_by(key, after, limit=BATCH_RECORDS_MAX)
            for version in page:
                if store.keyring.admission(version) is Admission.VOID:
                    yield version
            if last == after:
                return
            after = last


async def _off_loop(work: Callable[[], T]) -> T:
    """Run Argon2id on a thread: it takes about a second, and is meant to."""
    return await asyncio.get_running_loop().run_in_executor(None, work)
