"""The check of answers to a Fetch: it accepts every honest answer, and no other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode.errors import Reason, RemoteError
from echonode.model.merkle import leaf_digest, state_of
from echonode.model.record import Record
from echonode.sync.answer_check import START, AnswerCheck, check_order
from echonode.wire.messages import LeafRequest, Records
from tests.sync.universe import CROWD, universe

CROWDED = bytes(CROWD)
KEY = bytes(31) + b"\5"


def in_key_order(records: list[Record]) -> list[Record]:
    return sorted(records, key=lambda record: (record.key, record.id))


def crowd() -> list[Record]:
    return in_key_order(universe().some(range(20)))


def answer(*records: Record, rest: tuple[LeafRequest, ...] = (), more: bool = False) -> Records:
    return Records(tuple(record.raw for record in records), rest, more)


def refuses(wanted: tuple[LeafRequest, ...], said: Records) -> bool:
    try:
        AnswerCheck(wanted, 16).check_message(said)
    except RemoteError as error:
        assert error.reason is Reason.PROTOCOL_ERROR
        return True
    return False


def mismatch(asked: AnswerCheck, records: list[Record], *rest: LeafRequest) -> str:
    with pytest.raises(RemoteError) as refused:
        asked.check_records(records, rest)
    assert refused.value.reason is Reason.PROTOCOL_ERROR
    return refused.value.detail


# -- the form of an answer -------------------------------------------------------------------------------------------

WHOLE, NAMED = LeafRequest(CROWDED, None), LeafRequest(b"\1", b"a" * 16 + b"b" * 16 + b"c" * 16)
FURTHER = LeafRequest(CROWDED, None, KEY)
ASKED = (WHOLE, NAMED, LeafRequest(b"\2", None))


@pytest.mark.parametrize(
    ("rest", "is_less"),
    [
        pytest.param((), True, id="nothing"),
        pytest.param(ASKED[2:], True, id="the last item"),
        pytest.param(ASKED[1:], True, id="all but the first item"),
        pytest.param(ASKED, False, id="everything"),
        pytest.param((FURTHER, *ASKED[1:]), True, id="the first item, further on"),
        pytest.param((LeafRequest(b"\1", b"b" * 16 + b"c" * 16), ASKED[2]), True, id="the last of the named leaves"),
        pytest.param((LeafRequest(b"\1", b"a" * 16 + b"b" * 16), ASKED[2]), False, id="the first of the named leaves"),
        pytest.param((LeafRequest(b"\1", b"x" * 16), ASKED[2]), False, id="other leaves"),
        pytest.param((LeafRequest(b"\1", NAMED.leaves, KEY), ASKED[2]), False, id="named leaves behind a key"),
        pytest.param((LeafRequest(b"\1", None), ASKED[2]), False, id="a subtree for its leaves"),
        pytest.param((LeafRequest(CROWDED, b"a" * 16), *ASKED[1:]), False, id="leaves for their subtree"),
        pytest.param((LeafRequest(b"\3", None, KEY), *ASKED[1:]), False, id="another subtree"),
        pytest.param((ASKED[1],), False, id="from the middle"),
        pytest.param((LeafRequest(b"", None), *ASKED), False, id="more than was asked"),
        pytest.param((FURTHER, ASKED[2], ASKED[1]), False, id="in another order"),
    ],
)
def test_a_rest_is_the_end_of_what_was_asked_and_less_than_all_of_it(rest, is_less):
    assert refuses(ASKED, answer(crowd()[0], rest=rest)) is not is_less


def test_a_rest_begins_further_on_than_was_asked():
    asked = (LeafRequest(CROWDED, None, KEY),)
    assert refuses(asked, answer(crowd()[0], rest=(LeafRequest(CROWDED, None, KEY),)))
    assert refuses(asked, answer(crowd()[0], rest=(LeafRequest(CROWDED, None),)))
    assert not refuses(asked, answer(crowd()[0], rest=(LeafRequest(CROWDED, None, b"\1" * 32),)))


def test_whoever_promises_more_brings_something():
    assert not refuses(ASKED, answer())
    assert refuses(ASKED, answer(more=True))
    assert refuses(ASKED, answer(rest=ASKED[1:]))
    assert not refuses(ASKED, answer(crowd()[0], more=True))
    assert refuses(ASKED, answer(crowd()[0], more=True, rest=ASKED[1:]))


# -- its records -----------------------------------------------------------------------------------------------------


def test_records_come_in_key_order_and_once():
    first, second, *later = crowd()
    asked = AnswerCheck((WHOLE,), 16)
    asked.check_records([first, second], ())
    assert mismatch(asked, [first])
    assert mismatch(asked, [second])
    asked.check_records(later, ())
    assert mismatch(AnswerCheck((WHOLE,), 16), [second, first])


def test_records_stand_below_what_was_asked_and_behind_the_key_it_was_asked_behind():
    elsewhere = next(one for one in universe().versions["main"] if one.key.hex()[0] != "3")
    first, second = crowd()[:2]
    assert mismatch(AnswerCheck((WHOLE,), 16), [elsewhere])
    assert mismatch(AnswerCheck((LeafRequest(CROWDED, None, first.key),), 16), [first])
    AnswerCheck((LeafRequest(CROWDED, None, first.key),), 16).check_records([second], ())
    AnswerCheck((LeafRequest(b"", None),), 16).check_records([elsewhere], ())
    asked = (LeafRequest(b"\3", None), LeafRequest(bytes((elsewhere.key[0] >> 4,)), None))
    AnswerCheck(asked, 16).check_records([elsewhere, first], ())


def test_what_is_said_to_be_left_has_not_come_yet():
    first, second, third = crowd()[:3]
    asked = (LeafRequest(b"\1", None), WHOLE)
    assert mismatch(AnswerCheck(asked, 16), [first], WHOLE)
    assert mismatch(AnswerCheck(asked, 16), [first, second], LeafRequest(CROWDED, None, first.key))
    AnswerCheck(asked, 16).check_records([first, second], (LeafRequest(CROWDED, None, second.key),))
    # The second leaf may have gone since.
    AnswerCheck(asked, 16).check_records([first], (LeafRequest(CROWDED, None, second.key),))
    wider = (WHOLE, LeafRequest(CROWDED[:1] + b"\0", None))
    assert mismatch(AnswerCheck(wider, 16), [third], WHOLE, asked[0])


def test_leaves_that_were_named_have_come_when_all_their_heads_have():
    heads = in_key_order([one for one in universe().versions["main"] if one.name == "main-3"])
    assert len({head.key for head in heads}) == 1 < len(heads)
    prefix = bytes((heads[0].key[0] >> 4,))
    whole = leaf_digest(heads[0].key, state_of(head.id for head in heads))
    for width in (16, 32):
        asked = AnswerCheck((LeafRequest(prefix, whole[:width]),), width)
        asked.check_records(heads[:1], ())
        assert whole[:width] not in asked.arrived_leaves()
        asked.check_records(heads[1:], ())
        assert asked.arrived_leaves() == {whole[:width]}
    asked = AnswerCheck((LeafRequest(prefix, None),), 16)
    asked.check_records(heads, ())
    assert asked.arrived_leaves() == set()


@given(cuts=st.lists(st.integers(0, 20), max_size=4).map(sorted))
def test_any_honest_paging_is_taken(cuts):
    records = crowd()
    wanted = LeafRequest(CROWDED, None)
    for begin, end in zip([0, *cuts], [*cuts, len(records)], strict=True):
        page = records[begin:end]
        if not page:
            continue
        rest = (LeafRequest(CROWDED, None, page[-1].key),) if end < len(records) else ()
        asked = AnswerCheck((wanted,), 16)
        asked.check_message(answer(*page, rest=rest))
        asked.check_records(page, rest)
        wanted = rest[0] if rest else wanted


def test_a_snapshots_records_stand_one_behind_the_other():
    records = crowd()
    last = check_order(records[:5], START)
    assert last == (records[4].key, records[4].id)
    assert check_order([], last) == last
    assert check_order(records[5:], last) == (records[-1].key, records[-1].id)
    for wrong in (records[4:], records[::-1]):
        with pytest.raises(RemoteError):
            check_order(wrong, last)
