"""Real traffic keeps to PROTOCOL.md: senders and states of messages, answers to requests, ends of conversations."""

from collections import deque
from collections.abc import Iterator
from typing import Any

from echonode.errors import Reason
from echonode.limits import PUTS_IN_FLIGHT_MAX, WINDOW
from echonode.wire import messages as m
from echonode.wire.codec import decode
from tests.contracts.document import table
from tests.contracts.traffic import EndLog, sessions

# -- §5 ----------------------------------------------------------------------------------------------------------------
LINKED = m.LinkMessage.__args__  # type: ignore[attr-defined]


def is_conversing(kind: type[Any]) -> bool:
    return kind not in (m.Auth, m.Hello, m.Rotated, m.Close, m.Turn, m.Ping, m.Pong, *LINKED)


def is_pairing(end: EndLog) -> bool:
    return any(isinstance(decode(payload), m.PairStart) for _, payload in end.payloads)


def test_real_sessions_move_from_state_to_state_as_the_table_says() -> None:
    rows = table("5.5", "state")
    seen: set[str] = set()
    for end in sessions():
        state = "connected"
        for by_initiator, payload in () if is_pairing(end) else end.payloads:
            kind = type(decode(payload))
            if kind in (m.Close, m.Ping, m.Pong):
                continue
            opens = kind in m.InitPayload.__args__  # type: ignore[attr-defined]
            name = "InitPayload" if opens else kind.__name__
            if is_conversing(kind) and not opens and state != "asked":
                assert state in ("first turn", "second turn"), (state, kind)
                continue
            fitting = [
                row
                for row in rows
                if row["state"] == state
                and name in row["message"].split(", ")
                and row["who speaks"] in ("both", "initiator" if by_initiator else "responder")
            ]
            if not fitting:  # a peer driven by hand sent it, and the session was closed
                assert type(decode(end.payloads[-1][1])) is m.Close, (state, kind)
                assert decode(end.payloads[-1][1]).reason == Reason.PROTOCOL_ERROR  # type: ignore[union-attr]
                break
            seen.add(state)
            state = fitting[0]["next state"].rpartition("then ")[2]
    assert seen == {row["state"] for row in rows}


def test_every_message_comes_from_whom_the_table_says() -> None:
    from_whom = {row["message"]: row["from"] for row in table("6", "code")}
    for end in sessions():
        opener: bool | None = None
        for by_initiator, payload in end.payloads:
            message = decode(payload)
            who = from_whom[type(message).__name__]
            if type(message) in m.InitPayload.__args__:  # type: ignore[attr-defined]
                opener = by_initiator
            if who in ("initiator", "responder"):
                assert (opener == by_initiator) == (who == "initiator"), message
            elif who == "the session's initiator":
                assert by_initiator
            elif who in ("joiner", "inviter"):
                assert by_initiator == (who == "joiner")
            else:
                assert who.startswith("both")


# -- §8 ----------------------------------------------------------------------------------------------------------------
MODE_OF = {
    m.LevelWiseInit: "level_wise",
    m.HashComparisonInit: "hash_comparison",
    m.SnapshotInit: "snapshot",
    m.DeltaInit: "delta",
    m.ReconcileInit: "reconcile",
    m.PullInit: "pull",
    m.GetInit: "get",
    m.PutInit: "put",
    m.SketchInit: "sketch",
}
# Modes in which a stream answers requests for credit. Credit that is left over is ignored.
STREAMS = {"snapshot": "Page", "delta": "Changes"}
# Modes in which Done may go right behind Puts, as the table says.
BEHIND_PUTS = [row["mode"] for row in table("8", "mode") if "behind Puts" in "".join(row.values())]


def conversations() -> Iterator[list[tuple[bool, m.Message]]]:
    """Yield each conversation of real traffic: (True if from its initiator, message), its InitPayload first.

    The last conversation of a session that was broken off is left out.
    """
    for end in sessions():
        current: list[tuple[bool, m.Message]] = []
        opener = True
        closed: int | None = None
        for by_initiator, payload in end.payloads:
            message = decode(payload)
            if isinstance(message, m.Close):
                closed = message.reason
            if isinstance(message, m.InitPayload):
                if current:
                    yield current
                current, opener = [], by_initiator
            if isinstance(message, m.FollowInit):
                if current:
                    yield current
                current = []
                break
            if is_conversing(type(message)) and (current or isinstance(message, m.InitPayload)):
                current.append((by_initiator == opener, message))
        if current and closed == Reason.FINISHED:
            yield current


def test_real_conversations_keep_to_the_table_of_requests() -> None:
    used: set[tuple[str, str]] = set()
    answers = {(row["mode"], row["request"]): row["answer"].split(" or ") for row in table("8", "mode")}
    for conversation in conversations():
        mode = MODE_OF[type(conversation[0][1])]  # type: ignore[index]
        waiting: deque[str] = deque()
        owes_done = False  # a responder that ended a sketch has told its Done, and waits for the initiator's
        for from_initiator, message in conversation:
            name = type(message).__name__
            if from_initiator:
                assert (mode, name) in answers, (mode, name)
                used.add((mode, name))
                assert not owes_done or name == "Done"
                if owes_done:
                    owes_done = False
                    continue
                if mode in STREAMS and name not in ("Credit", "SnapshotInit", "DeltaInit"):
                    waiting = deque(asked for asked in waiting if asked == "Put")
                is_stream = set(waiting) | {name} <= {"Credit", "SnapshotInit", "DeltaInit"}
                behind_puts = mode in BEHIND_PUTS and name in ("Done", "SketchWant") and set(waiting) <= {"Put"}
                assert not waiting or set(waiting) == {name} or is_stream or behind_puts, "one kind at a time"
                assert not (waiting and name == "Done") or behind_puts
                waiting.append(name)
                assert len(waiting) <= (PUTS_IN_FLIGHT_MAX if mode == "sketch" else WINDOW) + behind_puts or is_stream
            elif name == STREAMS.get(mode):
                assert waiting[0] in ("SnapshotInit", "DeltaInit", "Credit")
            else:
                assert name in answers[mode, waiting[0]], (mode, waiting[0], name)
                owes_done = waiting[0] == "SketchWant" and name == "Done"
                is_whole = owes_done or waiting[0] != "SketchWant"
                if is_whole and not (isinstance(message, m.Records | m.Heads) and message.more):
                    waiting.popleft()
        assert not owes_done and (mode in STREAMS or not waiting)
    assert used == answers.keys()


def test_changes_end_once_and_only_the_last_says_how_far_the_other_was_followed() -> None:
    deltas = [each for each in conversations() if isinstance(each[0][1], m.DeltaInit)]
    changes = [[message for _, message in each if isinstance(message, m.Changes)] for each in deltas]
    assert any(each and each[-1].followed is not None for each in changes)
    for each in filter(None, changes):
        assert [message.is_last for message in each] == [False] * (len(each) - 1) + [True]
        assert all(message.followed is None for message in each[:-1])


def test_a_page_says_of_which_state_once_and_ends_once() -> None:
    snapshots = [each for each in conversations() if isinstance(each[0][1], m.SnapshotInit)]
    pages = [[message for _, message in each if isinstance(message, m.Page)] for each in snapshots]
    assert any(len(each) > 2 for each in pages)
    for each in filter(None, pages):
        assert [page.state is not None for page in each] == [True] + [False] * (len(each) - 1)
        assert [page.is_last for page in each] == [False] * (len(each) - 1) + [True]


def test_both_dones_tell_whether_a_conversation_is_over() -> None:
    for conversation in conversations():
        dones = [message for _, message in conversation if isinstance(message, m.Done)]
        for ours, theirs in zip(dones[::2], dones[1::2], strict=True):
            assert ours.is_final == theirs.is_final
            is_over = ours.root == theirs.root or ours.is_final
            assert is_over == (theirs is dones[-1])


def test_reasons_in_real_traffic_stand_where_the_table_says() -> None:
    where = {int(row["code"]): row["in"].split(", ") for row in table("9.1", "code")}
    for end in sessions():
        for _, payload in end.payloads:
            match decode(payload):
                case m.Close(reason):
                    assert "Close" in where[reason]
                case m.Refused(reason):
                    assert "Refused" in where[reason]
                case m.Stored(_, _, refused):
                    assert all("Refusal" in where[each.reason] for each in refused)
