"""Key statements and their union."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode import cbor
from echonode.errors import Reason, RemoteError
from echonode.model.identity import Identity, PublicKey, SigningKey
from echonode.model.key_claims import Admission, KeyClaims, KeyState, Statement
from echonode.model.keyring import ClaimsInMemory, Keyring
from echonode.model.keys import read_statement, statement_draft
from echonode.model.record import IDENTITIES, Draft, Record
from echonode.text import to_base32
from tests.model.forge import PERSON, written

DEVICE = PERSON.device.public
STATEMENTS = st.builds(
    Statement,
    st.sampled_from([PERSON.id, Identity.from_seeds(b"2" * 32, b"3" * 32).id]),
    st.sampled_from([DEVICE, PERSON.root.public]),
    st.sampled_from(list(KeyState)),
)


def stated(body: bytes, name: str | None = None, key: SigningKey = PERSON.root) -> Record:
    name = name or f"{to_base32(DEVICE)}/active"
    return written(Draft(context=IDENTITIES, author=PERSON.id, name=name, body=body), key=key)


@pytest.mark.parametrize("state", list(KeyState))
def test_a_statement_says_what_was_drafted(state: KeyState) -> None:
    record = written(statement_draft(PERSON.id, DEVICE, state), key=PERSON.root)
    assert read_statement(record) == Statement(PERSON.id, DEVICE, state)
    assert record.name == f"{to_base32(DEVICE)}/{state.name.lower()}"
    assert record.context == IDENTITIES


def test_each_key_and_state_is_a_record_of_its_own() -> None:
    keys = [
        written(statement_draft(PERSON.id, key, state), key=PERSON.root).key
        for key, state in itertools.product((DEVICE, PERSON.root.public), KeyState)
    ]
    assert len(set(keys)) == 6


@pytest.mark.parametrize(
    ("record", "detail"),
    [
        (stated(cbor.encode([DEVICE, 1]), key=PERSON.device), "signed by its identity's root key"),
        (stated(b""), r"is \[key, state\]"),
        (stated(cbor.encode([DEVICE])), r"is \[key, state\]"),
        (stated(cbor.encode([DEVICE, 4])), r"is \[key, state\]"),
        (stated(cbor.encode([DEVICE, 0])), r"is \[key, state\]"),
        (stated(cbor.encode([DEVICE, True])), r"is \[key, state\]"),
        (stated(cbor.encode([DEVICE[:31], 1])), r"is \[key, state\]"),
        (stated(cbor.encode({1: DEVICE})), r"is \[key, state\]"),
        (stated(cbor.encode([DEVICE, 2])), "named after what it states"),
        (stated(cbor.encode([DEVICE, 1]), "some other name"), "named after what it states"),
        (stated(cbor.encode([bytes(32), 1]), f"{to_base32(bytes(32))}/active"), "prime-order group"),
    ],
)
def test_what_states_nothing_is_refused(record: Record, detail: str) -> None:
    with pytest.raises(RemoteError, match=detail) as raised:
        read_statement(record)
    assert raised.value.reason is Reason.BAD_RECORD


def test_a_statement_whose_body_is_not_cbor_is_refused() -> None:
    with pytest.raises(RemoteError):
        read_statement(stated(b"\xff\xff"))


@given(st.lists(STATEMENTS, max_size=12), st.randoms())
def test_statements_are_a_union_in_whatever_order_and_however_often_they_come(
    statements: list[Statement],
    random: "st.randoms.Random",  # type: ignore[name-defined]
) -> None:
    shuffled = statements + statements[: len(statements) // 2]
    random.shuffle(shuffled)
    one, other = ClaimsInMemory(statements), ClaimsInMemory(shuffled)
    for statement in statements:
        which = statement.identity, statement.key
        furthest = max(s.state for s in statements if (s.identity, s.key) == which)
        assert one.state_of(*which) == other.state_of(*which) == furthest


def test_states_only_move_forward() -> None:
    claims = KeyClaims()
    said = {state: Statement(PERSON.id, DEVICE, state) for state in KeyState}
    assert claims.add(said[KeyState.RETIRED])
    assert not claims.add(said[KeyState.ACTIVE])
    assert not claims.add(said[KeyState.RETIRED])
    assert claims.add(said[KeyState.COMPROMISED])
    assert not claims.add(said[KeyState.RETIRED])
    assert claims.own == {PERSON.id: KeyState.COMPROMISED}


@pytest.mark.parametrize(
    ("state", "admission"),
    [
        (None, Admission.UNKNOWN),
        (KeyState.ACTIVE, Admission.ADMITTED),
        (KeyState.RETIRED, Admission.ADMITTED),
        (KeyState.COMPROMISED, Admission.VOID),
    ],
)
def test_a_version_stands_as_its_key_does(state: KeyState | None, admission: Admission) -> None:
    keyring = Keyring(ClaimsInMemory([Statement(PERSON.id, DEVICE, state)] if state else []))
    assert keyring.admission(written()) is admission
    elsewhere = Keyring(ClaimsInMemory([Statement(PERSON.id, PublicKey(PERSON.root.public), KeyState.ACTIVE)]))
    assert elsewhere.admission(written()) is Admission.UNKNOWN
