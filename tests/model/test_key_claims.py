"""The rule by which keys speak for authors: every small set of statements, in every order, against a second rule."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from echonode import cbor
from echonode.errors import Reason, RemoteError
from echonode.limits import POOL_KIND_MAX
from echonode.model.identity import (
    Identity,
    IdentityId,
    Pool,
    PoolKind,
    PublicKey,
    SigningKey,
    pool_identity,
)
from echonode.model.key_claims import Admission, Claim, KeyClaims, Listing, Statement, member_proof
from echonode.model.keyring import ClaimsInMemory, Keyring
from echonode.model.keys import KeyState, listing_draft, member_draft, read_statement
from echonode.model.record import IDENTITIES, Draft, Record
from echonode.text import to_base32
from tests.model.forge import PERSON, written

OWNER, OTHER = PERSON.id, Identity.from_seeds(b"2" * 32, b"3" * 32).id
KEY = PERSON.device.public
LATER_KIND = 3
ANY = PoolKind.COMMON  # stands for each kind in TABLE
POOLS = {kind: IdentityId(bytes([kind]) * 32) for kind in (PoolKind.COMMON, PoolKind.CLOSED, LATER_KIND)}
U, A, V = Admission.UNKNOWN, Admission.ADMITTED, Admission.VOID
ACTIVE, RETIRED, COMPROMISED = KeyState


def own(identity: IdentityId, state: KeyState) -> Statement:
    return Statement(identity, KEY, state)


def listed(kind: int, owner: IdentityId = OWNER, state: KeyState = ACTIVE) -> Listing:
    return Listing(POOLS[kind], kind, KEY, state, owner)


def verdicts(claims: Iterable[Claim], author: IdentityId) -> list[Admission]:
    """Return how the key stands after each of `claims`."""
    known = KeyClaims()
    found = [known.standing(author).admission]
    for claim in claims:
        known.add(claim)
        found.append(known.standing(author).admission)
    return found


TABLE: Sequence[tuple[Sequence[Claim], Admission, Admission, Admission]] = [
    # what is stated of the key                               common  closed  a later kind
    ([], U, U, U),
    ([own(OWNER, ACTIVE)], U, U, U),
    ([listed(ANY)], U, U, U),
    ([listed(ANY), own(OTHER, ACTIVE)], U, U, U),  # listed as somebody else
    ([listed(ANY), own(OWNER, ACTIVE)], A, A, U),
    ([listed(ANY), own(OWNER, RETIRED)], A, A, U),  # what it wrote stands
    ([listed(ANY), own(OWNER, COMPROMISED)], V, V, U),
    ([listed(ANY), own(OWNER, ACTIVE), own(OTHER, COMPROMISED)], A, A, U),  # OTHER is not listed
    ([listed(ANY), own(OWNER, ACTIVE), listed(ANY, OTHER)], A, A, U),
    ([listed(ANY), own(OWNER, ACTIVE), listed(ANY, OTHER), own(OTHER, ACTIVE)], A, A, U),
    ([listed(ANY), own(OWNER, COMPROMISED), listed(ANY, OTHER), own(OTHER, ACTIVE)], V, V, U),  # a thief helps nothing
    ([listed(ANY), own(OWNER, ACTIVE), listed(ANY, OTHER), own(OTHER, COMPROMISED)], V, V, U),
    ([listed(ANY), own(OWNER, ACTIVE), listed(ANY, OWNER, RETIRED)], A, A, U),
    ([listed(ANY), own(OWNER, ACTIVE), listed(ANY, OWNER, COMPROMISED)], A, V, U),  # none of this in a common pool
    ([listed(ANY, OTHER, COMPROMISED)], U, V, U),  # the pool's own root needs nobody's word
]


@pytest.mark.parametrize(("kind", "column"), [(PoolKind.COMMON, 1), (PoolKind.CLOSED, 2), (LATER_KIND, 3)])
@pytest.mark.parametrize("row", TABLE, ids=range(len(TABLE)))
def test_each_line_of_the_decision_table_holds_in_every_order(row, kind: int, column: int) -> None:
    pool = POOLS[kind]
    claims = [replace(claim, pool=pool, kind=kind) if isinstance(claim, Listing) else claim for claim in row[0]]
    if kind == PoolKind.COMMON:  # read_statement lets no other state in
        claims = [claim for claim in claims if isinstance(claim, Statement) or claim.state is ACTIVE]
    for order in itertools.permutations(claims):
        seen = verdicts(order, pool)
        assert seen[-1] is row[column]
        assert seen == sorted(seen, key=[U, A, V].index), "it only moves forward"


def listed_everywhere(owner: IdentityId, state: KeyState) -> list[Listing]:
    kinds = [PoolKind.CLOSED, LATER_KIND] if state is not ACTIVE else list(POOLS)
    return [listed(kind, owner, state) for kind in kinds]


CLAIMS = [own(who, state) for who in (OWNER, OTHER) for state in KeyState] + [
    claim for who in (OWNER, OTHER) for state in KeyState for claim in listed_everywhere(who, state)
]


def by_search(claims: set[Claim], author: IdentityId) -> Admission:
    """Return what the rule of PROTOCOL.md §4.5 and §4.7 says, by a search of all statements."""
    if any(own(author, state) in claims for state in KeyState):
        return V if own(author, COMPROMISED) in claims else A
    kind = next((kind for kind, pool in POOLS.items() if pool == author), None)
    if kind is None or kind == LATER_KIND:
        return U
    listings = [claim for claim in claims if isinstance(claim, Listing) and claim.pool == author]
    if kind == PoolKind.CLOSED and any(claim.state is COMPROMISED for claim in listings):
        return V
    owners = {claim.owner for claim in listings if any(own(claim.owner, state) in claims for state in KeyState)}
    if not owners:
        return U
    return V if any(own(owner, COMPROMISED) in claims for owner in owners) else A


@given(st.lists(st.sampled_from(CLAIMS), max_size=14))
def test_any_statements_in_any_order_say_what_a_search_finds(claims: list[Claim]) -> None:
    for author in (OWNER, OTHER, *POOLS.values()):
        seen = verdicts(claims, author)
        assert seen[-1] is by_search(set(claims), author)
        assert seen == sorted(seen, key=[U, A, V].index), "what is void stays void"


@given(st.lists(st.sampled_from(CLAIMS), max_size=8), st.lists(st.sampled_from(CLAIMS), max_size=5))
@example(known=[own(OWNER, COMPROMISED)], new=[listed(PoolKind.COMMON)])
@example(known=[], new=[own(OWNER, COMPROMISED), listed(PoolKind.CLOSED)])
@example(known=[listed(PoolKind.COMMON)], new=[own(OWNER, COMPROMISED)])
@example(known=[listed(LATER_KIND), own(OWNER, ACTIVE)], new=[own(OWNER, COMPROMISED)])
def test_a_keyring_says_which_keys_new_statements_void(known: list[Claim], new: list[Claim]) -> None:
    keyring, after = (Keyring(ClaimsInMemory(claims)) for claims in (known, [*known, *new]))
    authors = (OWNER, OTHER, *POOLS.values())
    expected = {
        (author, KEY)
        for author in authors
        if after.admission_of(author, KEY) is V and keyring.admission_of(author, KEY) is not V
    }
    assert keyring.voided_by(new) == expected
    assert {author for author in authors if keyring.is_listed(author, KEY)} == {
        claim.pool for claim in known if isinstance(claim, Listing)
    }
    assert [keyring.admission_of(author, KEY) for author in authors] == [
        by_search(set(known), author) for author in authors
    ], "to ask changes nothing"


# -- records -----------------------------------------------------------------------------------------------------------

SHARED = Pool(PoolKind.COMMON, SigningKey(b"shared".ljust(32)))
TEAM = Pool(PoolKind.CLOSED, SigningKey(b"team".ljust(32)))


@pytest.mark.parametrize("pool", [SHARED, TEAM])
def test_a_listing_says_what_was_drafted(pool: Pool) -> None:
    record = written(member_draft(pool, OWNER, PERSON.device), key=pool.root)
    assert read_statement(record) == Listing(pool.id, pool.kind, KEY, ACTIVE, OWNER)
    assert record.name == f"{to_base32(KEY)}/active/{to_base32(OWNER)}"


def body_of(pool: Pool, **changes: object) -> Record:
    """Return the statement that `pool` lists the person's device, with changes to what its body says."""
    said: dict[str, object] = {
        "key": KEY,
        "state": 1,
        "kind": int(pool.kind),
        "owner": OWNER,
        "proof": member_proof(pool.id, OWNER, PERSON.device),
        **changes,
    }
    author = said.pop("author", pool.id)
    name = said.pop("name", None)
    state = KeyState(said["state"]).name.lower() if said["state"] in (1, 2, 3) else "active"
    name = name or f"{to_base32(said['key'])}/{state}/{to_base32(said['owner'])}"  # type: ignore[arg-type]
    draft = Draft(context=IDENTITIES, author=author, name=name, body=cbor.encode(list(said.values())))  # type: ignore[arg-type]
    return written(draft, key=pool.root)


THIEF = Identity.from_seeds(b"4" * 32, b"5" * 32)


@pytest.mark.parametrize(
    ("record", "detail"),
    [
        (body_of(SHARED, proof=bytes(64)), "does not agree"),
        (body_of(SHARED, owner=OTHER), "does not agree"),
        (body_of(SHARED, key=THIEF.device.public), "does not agree"),
        (body_of(SHARED, proof=member_proof(SHARED.id, OWNER, THIEF.device)), "does not agree"),
        (body_of(SHARED, proof=member_proof(TEAM.id, OWNER, PERSON.device)), "does not agree"),
        (body_of(SHARED, proof=member_proof(SHARED.id, OTHER, PERSON.device)), "does not agree"),
        (body_of(SHARED, state=2), "only stated active"),
        (body_of(SHARED, state=3), "only stated active"),
        (body_of(SHARED, kind=2), "root key of its pool"),
        (body_of(TEAM, kind=1), "root key of its pool"),
        (body_of(TEAM, author=SHARED.id), "root key of its pool"),
        (body_of(TEAM, kind=0), r"\[key, state, kind, owner, proof\]"),
        (body_of(TEAM, kind=POOL_KIND_MAX + 1), r"\[key, state, kind, owner, proof\]"),
        (body_of(TEAM, kind=True), r"\[key, state, kind, owner, proof\]"),
        (body_of(TEAM, state=4), r"\[key, state, kind, owner, proof\]"),
        (body_of(TEAM, proof=bytes(63)), r"\[key, state, kind, owner, proof\]"),
        (body_of(TEAM, owner=OWNER[:31], name="x"), r"\[key, state, kind, owner, proof\]"),
        (body_of(TEAM, name=f"{to_base32(KEY)}/active"), "named after"),
        (body_of(TEAM, name=f"{to_base32(KEY)}/active/{to_base32(OTHER)}"), "named after"),
    ],
)
def test_what_lists_nobody_is_refused(record: Record, detail: str) -> None:
    with pytest.raises(RemoteError, match=detail) as raised:
        read_statement(record)
    assert raised.value.reason is Reason.BAD_RECORD


def test_a_listing_of_a_later_kind_is_kept_with_its_proof_and_admits_nothing() -> None:
    root = SigningKey(b"later".ljust(32))
    pool = pool_identity(LATER_KIND, root.public)
    proof = member_proof(pool, OWNER, PERSON.device)
    shaped = replace(SHARED, root=root)
    record = body_of(shaped, kind=LATER_KIND, author=pool, proof=proof)
    claim = read_statement(record)
    assert claim == Listing(pool, LATER_KIND, KEY, ACTIVE, OWNER)
    keyring = Keyring(ClaimsInMemory([claim, own(OWNER, ACTIVE)]))
    assert keyring.admission_of(pool, KEY) is U
    with pytest.raises(RemoteError, match="does not agree"):
        read_statement(body_of(shaped, kind=LATER_KIND, author=pool, proof=bytes(64)))


def test_a_listing_names_a_key_that_can_sign() -> None:
    low = PublicKey(bytes(32))
    name = f"{to_base32(low)}/active/{to_base32(OWNER)}"
    record = written(listing_draft(TEAM, OWNER, low, bytes(64), ACTIVE), key=TEAM.root)
    assert record.name == name
    with pytest.raises(RemoteError, match="prime-order"):
        read_statement(record)
