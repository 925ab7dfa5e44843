"""Every target without its engine: it runs on all known inputs and on a few hundred changes of them."""

import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from echonode import cbor
from echonode.model.record import _become_record
from echonode.node.events import FollowEnded, InvitationRefused, InvitationUsed, SessionFailed, SyncCompleted
from echonode.node.mode_table import MODES
from echonode.sync import verify_apply
from echonode.sync.conversation import Result
from echonode.sync.select import Mode
from echonode.wire import auth, noise
from echonode.wire.codec import decode
from tests.fuzz import __main__ as command
from tests.fuzz import mutate
from tests.fuzz.corpus import kept, regressions
from tests.fuzz.node import conversations, initiate, overheard, played, respond, samples
from tests.fuzz.parties import parties
from tests.fuzz.peers import GREETED, INVITED, PACED, SMALL
from tests.fuzz.target import Target
from tests.fuzz.targets import TARGETS, inputs
from tests.wire.strategies import MESSAGES

HERE = Path(__file__).parent
CHANGES = {"responder": 120, "initiator": 120, "pairing": 200}  # these cost milliseconds each


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_no_known_input_breaks_a_promise(target: Target) -> None:
    known = inputs(target)
    assert known
    for data in known:
        target.run(data)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_no_change_of_a_known_input_breaks_a_promise(target: Target) -> None:
    rng = Random(f"changes/{target.name}")
    pool = inputs(target)
    for _ in range(CHANGES.get(target.name, 500)):
        data = target.mutate(rng.choice(pool), rng)[: target.bytes_max]
        try:
            target.run(data)
        except BaseException as error:
            error.add_note(f"the input, for regressions.txt: {target.name} {data.hex()}")
            raise
        if rng.random() < 0.1:
            pool.append(data)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_changes_are_drawn_from_the_seed_alone(target: Target) -> None:
    data = next(iter(target.seeds()))
    changed = [[target.mutate(data, rng) for _ in range(20)] for rng in (Random(3), Random(3))]
    assert changed[0] == changed[1] and len(set(changed[0])) > 10


def test_every_kept_input_belongs_to_a_target() -> None:
    assert {path.stem for path in (HERE / "corpus").glob("*.hex")} <= set(TARGETS)
    lines = (HERE / "regressions.txt").read_text().splitlines()
    entries = [line for line in lines if line and not line.startswith("#")]
    assert sum(len(regressions(name)) for name in TARGETS) == len(entries)
    assert sum(len(data) for name in TARGETS for data in kept(name)) < 200 * 1024


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
def test_the_responder_starts_from_a_whole_conversation_of_every_mode(mode: Mode) -> None:
    payloads = conversations()[mode]
    _, stage = played(respond(mutate.script(GREETED, payloads)))
    held = [(event.mode, event.outcome) for event in stage.events if isinstance(event, SyncCompleted)]
    outcome = Result.ANSWERED if mode in (Mode.PULL, Mode.GET, Mode.PUT) else Result.EQUAL
    assert held == [(mode.value, outcome.value)]
    assert not [event for event in stage.events if isinstance(event, SessionFailed)]


def test_the_responder_starts_from_a_link_too() -> None:
    _, stage = played(respond(mutate.script(GREETED | PACED, overheard(True).payloads)))
    (ended,) = [event for event in stage.events if isinstance(event, FollowEnded)]
    assert ended.received == 1


def test_there_is_a_sample_of_every_message_for_scripts_to_hold() -> None:
    kinds = {type(decode(payload)) for payload in samples()}
    assert kinds == set(MESSAGES)


@pytest.mark.parametrize(("play", "peer_dials"), [(respond, True), (initiate, False)])
@pytest.mark.parametrize("options", [GREETED, GREETED | PACED, GREETED | SMALL])
def test_recorded_messages_still_carry_every_conversation_to_its_end(
    play: Callable[[bytes], Any], peer_dials: bool, options: int
) -> None:
    _, stage = played(play(mutate.script(options, overheard(peer_dials).payloads)))
    # After the end of a link the node dials again, and finds no peer.
    assert not [event for event in stage.events if isinstance(event, SessionFailed) and event.session]
    completed = [event for event in stage.events if isinstance(event, SyncCompleted)]
    assert {event.context for event in completed} == {"identities", "main", "few", "log", "notes", "books"}
    assert {event.mode for event in completed} >= {"snapshot", "delta"}
    assert stage.store.tree("books").root == parties().peer.store.tree("books").root


def test_a_script_joins_by_the_code_and_another_is_refused() -> None:
    outcomes = []
    for script in TARGETS["responder"].seeds():
        if script[0] & INVITED:
            _, stage = played(respond(script))
            kinds = [type(event) for event in stage.events]
            outcomes.append([kind for kind in kinds if kind in (InvitationUsed, InvitationRefused)])
    assert outcomes == [[InvitationUsed], [InvitationRefused], [InvitationRefused], [InvitationRefused]]


def test_scripts_come_apart_as_they_were_put_together() -> None:
    frames = [b"one", b"", b"x" * 300]
    assert mutate.frames_of(mutate.script(3, frames)) == frames
    assert mutate.frames_of(mutate.script(3, frames)[:-1]) == [*frames[:2], b"x" * 299]


# -- the targets can tell ----------------------------------------------------------------------------------------------


def plant(module: Any, name: str, wrong: Callable[..., Any]) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(module, name, wrong)


def unsealed(self: noise.CipherState, _: bytes, ciphertext: bytes) -> bytes:
    self.n += 1
    return ciphertext[: -noise.TAGLEN]


BUGS = {
    "cbor: what cbor2 takes is taken": ("cbor", plant(cbor, "decode", cbor.decode_trusted)),
    "auth: signatures are not looked at": ("auth", plant(auth, "is_signed", lambda *_: True)),
    "responder: records are not verified": ("responder", plant(verify_apply, "verify", _become_record)),
    "initiator: records are not verified": ("initiator", plant(verify_apply, "verify", _become_record)),
    "handshake: tags are not looked at": ("handshake", plant(noise.CipherState, "decrypt_with_ad", unsealed)),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_check_that_is_left_out_is_noticed(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, planted = BUGS[bug]
    target, rng = TARGETS[name], Random(bug)
    pool = inputs(target)
    planted(monkeypatch)
    with pytest.raises(Exception):  # noqa: B017 - any exception counts as noticed
        for data in pool:
            target.run(data)
        for _ in range(1000):
            target.run(target.mutate(rng.choice(pool), rng))


# -- the command -------------------------------------------------------------------------------------------------------


def called(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["tests.fuzz", *arguments])
    return command.main()


def test_an_input_is_replayed_and_priced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "input").write_bytes(cbor.encode([1, 2, 3]))
    assert called(monkeypatch, "cbor", "--replay", str(tmp_path / "input")) == 0
    assert "cbor: no promise broken" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["nonsense"], ["--replay", "file"], ["cbor", "record", "--replay", "file"]])
def test_bad_arguments_are_a_usage_error(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        called(monkeypatch, *arguments)
    assert caught.value.code == 2
