"""Lines of the log for people: one line an event, within the width, nothing that a terminal obeys."""

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echonode.manual.log_events import LOG_EVENTS
from echonode.manual.log_lines import LineForm
from echonode.text import columns_of

TIME = "2025-03-01T09:30:00.123Z"
PEER = "a" * 52


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def line(event: str, level: str = "info", **fields: object) -> dict[str, object]:
    return {"time": TIME, "level": level, "event": event, **fields}


def test_a_terminal_shows_what_a_person_wants_and_no_more() -> None:
    form = LineForm(width=80)
    connected = line("peer.connected", peer=PEER, peer_name="kitchen", address="192.168.1.20:22087", session="s")
    assert form.calm(connected) == "09:30:00  kitchen is here, at 192.168.1.20:22087"
    assert form.calm(line("follow.began", peer=PEER, session="s", role="initiator")) is None
    quiet = {"peer": PEER, "context": "main", "sent": 0, "received": 0, "refused": 0, "verified": True}
    assert form.calm(line("sync.completed", **quiet)) is None
    moved = {**quiet, "received": 3, "outcome": "equal", "mode": "delta", "bytes_received": 2048, "bytes_sent": 40}
    assert form.calm(line("sync.completed", **moved, duration_s=0.25)) == (
        "09:30:00  main with kitchen: 3 received, 0 sent, equal (delta, 2.0 kB in, 40 B …"
    )


def test_a_line_for_those_who_look_closer_has_level_and_name() -> None:
    form = LineForm(labels={PEER: "kitchen"})
    began = line("follow.began", peer=PEER, session="s", role="initiator")
    assert form.full(began) == (
        "09:30:00  info     follow.began             linked with kitchen: changes travel as they happen"
    )
    assert form.full(began, with_date=True).startswith("2025-03-01 09:30:00  info")
    assert form.full(line("of.tomorrow", colour="red", empty="")).endswith("of.tomorrow              colour=red")


def test_nodes_of_one_name_are_told_apart_by_their_labels_and_a_renaming_is_followed() -> None:
    came = line("peer.connected", peer=PEER, peer_name="vm", address="10.0.0.3:1")
    assert "vm @x53l is here" in LineForm(labels={PEER: "vm @x53l"}).full(came)
    form = LineForm()
    assert "vm is here" in form.full(came)
    assert "attic is here" in form.full({**came, "peer_name": "attic"})
    assert "attic is away: gone" in form.full(line("peer.absent", peer=PEER, why="gone"))


def test_a_session_that_failed_before_the_peer_said_who_it_is_was_with_a_node() -> None:
    failed = line("session.failed", peer="", address="10.0.0.3:4242", detail="it was cut")
    assert LineForm().full(failed).endswith("the session with a node at 10.0.0.3:4242 failed: it was cut")


def test_colours_are_for_terminals_alone() -> None:
    warning = line("tcp.port_taken", "warning", listen=["127.0.0.1:1"])
    assert "\x1b[33m" in LineForm(is_coloured=True).full(warning)
    assert "\x1b" not in LineForm().full(warning)


@given(
    st.sampled_from(LOG_EVENTS),
    st.dictionaries(st.text(max_size=9), st.one_of(st.text(max_size=200), st.integers(), st.none())),
    st.integers(min_value=60, max_value=160),
)
def test_a_line_of_any_fields_is_one_line_within_the_width(entry, fields, width) -> None:
    named = {"peer": fields.get("peer", "x\x1b[2J"), "peer_name": "\u202eevil\n", "why": "\x07" * 90}
    form = LineForm(width=width)
    for text in (form.full({**line(entry.name), **fields, **named}), form.calm({**line(entry.name), **named})):
        if text is not None:
            assert "\n" not in text and "\x1b" not in text and "\u202e" not in text
            assert columns_of(text) <= width
