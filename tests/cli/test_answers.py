"""The commands' output for answers that a healthy node, alone in a test, does not give: scripted, over a real socket.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from echonode.cli.commands.status import verdict
from echonode.cli.exit_codes import ExitCode
from tests.cli.harness import Shell, http_answer, refusal, scripted_server

ID = "b" * 52
ALONE = "No other node of this network was seen yet; to add one, type: echonode invite"


@pytest.fixture
def socket(shell: Shell) -> Path:
    return shell.services.default / "api.sock"


def stream(*values: object) -> bytes:
    return http_answer(b"".join(json.dumps(value, separators=(",", ":")).encode() + b"\n" for value in values))


def peer(**more: object) -> dict[str, Any]:
    return {
        "id": ID,
        "name": "pantry",
        "state": "connected",
        "address": "10.0.0.2:22087",
        "found_by": "mdns",
        "in_sync": True,
        "last_sync": "2026-11-22T12:00:00.000Z",
        "reason": "",
        "following": True,
        "lag": 0,
        "in_step": False,
        "since": "2026-11-22T11:00:00.000Z",
        "models": {},
        "unreadable": [],
        **more,
    }


# -- sync -------------------------------------------------------------------------------------------------------------


def synced(status: str, **more: object) -> bytes:
    report = {
        "id": ID,
        "name": "pantry",
        "status": status,
        "mode": "level_wise",
        "reason": "roots differ",
        "sent": 1234,
        "received": 2,
        "bytes_sent": 1000,
        "bytes_received": 500,
        "round_trips": 3,
        "duration_s": 0.0123,
        "verified": status == "verified",
        "error": "",
        "contexts": [],
        **more,
    }
    return http_answer({"status": status, "peers": [report], "conflicts": 0, "resolved": [], "duration_s": 2.0})


@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("verified", ExitCode.DONE),
        ("partial", ExitCode.PARTIAL),
        ("failed", ExitCode.FAILED),
        ("timed out", ExitCode.TIMED_OUT),
        ("no peers", ExitCode.FAILED),
        ("a word of tomorrow", ExitCode.FAILED),
    ],
)
def test_sync_exits_0_only_when_verified(shell: Shell, socket: Path, status: str, code: ExitCode) -> None:
    with scripted_server(socket, synced(status)):
        for form in ([], ["--json"]):
            assert shell("sync", *form).code == code


def test_sync_asks_for_what_was_typed(shell: Shell, socket: Path) -> None:
    with scripted_server(socket, synced("verified")) as heard:
        shell("sync")
        shell("sync", "--node-id", "pantry", "--action", "push", "--timeout", "2m")
        shell("sync", "--action", "batch", "--batch-size", "2", "--filter", "p*", "--priority", "9", "--retry", "1")
        shell("sync", "--force", "--strategy", "prefer_local")
    usual = {
        "peers": None,
        "action": "both",
        "timeout": 30.0,
        "filter": None,
        "force": False,
        "strategy": "merge",
        "priority": 0,
        "retry": 3,
        "batch_size": 100,
    }
    assert [json.loads(each.partition(b"\r\n\r\n")[2]) for each in heard] == [
        usual,
        usual | {"peers": ["pantry"], "action": "push", "timeout": 120.0},
        usual | {"action": "batch", "batch_size": 2, "filter": "p*", "priority": 9, "retry": 1},
        usual | {"force": True, "strategy": "prefer_local"},
    ]


def test_a_sync_shows_what_it_cost_and_why_it_failed(shell: Shell, socket: Path) -> None:
    with scripted_server(socket, synced("verified")):
        (row,) = shell("sync").text.splitlines()[1:]
    assert " ".join(row.split()) == "pantry yes level_wise 1,234 2 1.5 kB 3 12 ms roots differ"
    with scripted_server(socket, synced("failed", error="it said \x1b[2J")):
        (row,) = shell("sync").text.splitlines()[1:]
    assert row.endswith("it said \\u001b[2J")


def test_the_models_that_peers_read_are_shown_where_any_says_so(shell: Shell, socket: Path) -> None:
    with scripted_server(socket, http_answer({"peers": [peer()]})):
        assert "READS" not in shell("peers").text
    reading = peer(models={"note": "1.4", "task": "2.0"}, unreadable=["task"], reason="why")
    with scripted_server(socket, http_answer({"peers": [reading, peer()]})):
        header, first, second = shell("peers").text.splitlines()
    assert header.split()[-2:] == ["READS", "WHY"]
    assert first.endswith("  note 1.4, task 2.0 (not as here)  why")
    assert second.endswith("mdns")


def test_a_record_of_a_model_that_is_not_read_here_is_given_when_any_will_do(shell: Shell, socket: Path) -> None:
    said = "it is of the model task 2.0, and here task 1.2 is read"
    with scripted_server(socket, refusal("409 Conflict", "unsupported_model", said)):
        assert shell.fails(ExitCode.FAILED, "get", "a") == said
    with scripted_server(socket, http_answer(b"body")) as heard:
        assert shell("get", "a", "--any-model").out == b"body"
        assert shell("get", "a").out == b"body"
    assert [b"any_model=1" in each for each in heard] == [True, False]


# -- who is there -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peers", "sentence"),
    [
        ([], ALONE),
        ([peer(state="other network")], ALONE),
        ([peer(), peer()], "Equal with 2 nodes: all that are known."),
        ([peer(), peer(state="other network", in_sync=None)], "Equal with 1 node: all that are known."),
        (
            [peer(), peer(name="attic", in_sync=False, reason="does not answer since 10:00.")],
            "Equal with 1 of 2 nodes. attic: does not answer since 10:00.",
        ),
        (
            [peer(), peer(in_sync=None, in_step=True, lag=3), peer(in_sync=None, in_step=True, lag=1)],
            "In step with 3 nodes: 4 changes on the way, nothing else differs.",
        ),
        (
            [peer(in_sync=None, in_step=True), peer(in_sync=None, name="attic", reason="x")],
            "Equal with 1 of 2 nodes. attic: x.",
        ),
        ([peer(in_sync=False)], "Equal with 0 of 1 node. pantry: not equal yet."),
        ([peer(name="", id=None, in_sync=None, state="sighted")], "Equal with 0 of 1 node. 10.0.0.2:22087: sighted."),
        (
            [peer(name="a\u202e", in_sync=None, state="absent"), peer(name="", in_sync=False, reason="x")],
            "Equal with 0 of 2 nodes. a\\u202e: absent; bbbbbbbb: x.",
        ),
        (
            [peer(name=name, in_sync=False, reason="x") for name in "abcde"],
            "Equal with 0 of 5 nodes. a: x; b: x; c: x; and 2 more, in the table.",
        ),
    ],
)
def test_one_sentence_says_whether_we_are_equal_and_if_not_why(peers: list[dict[str, Any]], sentence: str) -> None:
    assert verdict(peers) == sentence


def test_nodes_of_other_networks_are_listed_as_such(shell: Shell, socket: Path) -> None:
    how = "to join it, type `echonode invite` there and `echonode join CODE` here"
    stranger = peer(id=None, name="", state="other network", in_sync=None, last_sync=None, reason=how)
    with scripted_server(socket, http_answer({"peers": [peer(), stranger]})):
        _, known, unknown = shell("peers").text.splitlines()
    assert known.split()[:4] == ["pantry", "bbbbbbbb", "connected", "yes"]
    assert "other network" in unknown
    assert unknown.endswith(how)


def test_renaming_sends_what_was_typed_and_says_what_became_of_it(shell: Shell, socket: Path) -> None:
    with scripted_server(socket, http_answer({"name": "pantry"})) as heard:
        assert "called pantry now" in shell("rename", "pantry").err
    assert heard[0].startswith(b"PUT /v1/name ")
    assert heard[0].endswith(b'{"name": "pantry"}')


def test_forgetting_a_peer_sends_what_was_typed(shell: Shell, socket: Path) -> None:
    with scripted_server(socket, http_answer({"peer": "pantry"})) as heard:
        assert shell("peers", "forget", "pantry").code == 0
    assert heard[0].startswith(b"POST /v1/peers/forget ")
    assert heard[0].endswith(b'{"peer": "pantry"}')


def test_a_contested_body_is_shown_in_a_few_words(shell: Shell, socket: Path) -> None:
    def head(**more: object) -> dict[str, object]:
        times = {"timestamp": "2026-11-22T12:00:00.000Z", "created": "2026-11-22T12:00:00.000Z"}
        writer = {"key": ID, "by": "", "type": ""}
        return {"version": ID, **writer, "deleted": False, "winner": False, **times, **more}

    heads = [head(body="x" * 100), head(body={"a": 1}), head(body_base64="/w=="), head(deleted=True, winner=True)]
    with scripted_server(socket, http_answer({"conflicts": [{"id": "shared/x", "context": "main", "heads": heads}]})):
        lines = shell("conflicts").text.splitlines()[2:]
    assert [line.split("bbbbbbbb  ")[-1] for line in lines] == ["x" * 59 + "…", '{"a": 1}', "(binary)", "(deleted)"]
    assert [line.split()[0] for line in lines] == ["bbbbbbbb", "bbbbbbbb", "bbbbbbbb", "read"]


# -- verify -----------------------------------------------------------------------------------------------------------


def test_verify_names_each_problem_and_exits_1(shell: Shell, socket: Path) -> None:
    problems = ["version x: the signature is not right", "root \x1b of main is another"]
    answer = stream(
        {"checked": 5, "problems": problems[:1]},
        {"ok": False, "checked": 9, "problems": problems, "done": True},
    )
    with scripted_server(socket, answer):
        result = shell("verify")
        as_json = shell("verify", "--json")
    assert (result.code, result.text) == (1, f"{problems[0]}\nroot \\u001b of main is another\n")
    assert result.err.startswith("echonode: 9 versions checked, 2 problems found; stop the node and type: ")
    assert (as_json.code, as_json.json) == (1, {"ok": False, "checked": 9, "problems": problems})


def test_a_repair_says_what_was_kept_and_where_the_rest_is(shell: Shell) -> None:
    result = shell("verify", "--repair")
    aside = shell.services.default / "store.db.damaged-1"
    assert (result.code, result.text) == (0, "main abc/a\\u001b1\n")
    assert result.err.splitlines() == [
        f"1,234 versions kept, 1 row left behind, in {aside}",
        "start the node: its peers bring back what they have of the rest",
        "what a subscription leaves out, fetch by hand: pull --from PEER, then get --from PEER RECORD",
    ]
    lost = [{"context": "main", "id": "abc/a\x1b1"}]
    told = {"kept": 1234, "left": 1, "put_aside": str(aside), "lost": lost}
    assert shell("verify", "--repair", "--json").json == told


@pytest.mark.parametrize("answer", [stream(), stream({"checked": 5, "problems": []})], ids=["nothing", "half"])
def test_a_verify_that_was_not_finished_found_nothing(shell: Shell, socket: Path, answer: bytes) -> None:
    with scripted_server(socket, answer):
        assert "before all was checked" in shell.fails(1, "verify")


def test_a_verify_that_breaks_says_why(shell: Shell, socket: Path) -> None:
    error = {"error": {"code": "store_failed", "message": "the disk cannot be read"}}
    with scripted_server(socket, stream({"checked": 5, "problems": []}, error)):
        assert shell.fails(1, "verify") == "the disk cannot be read"


# -- import and export ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "sentence"),
    [
        (
            {"lines": 7, "written": 5, "unchanged": 2, "error": {"code": "bad_request", "message": "no", "line": 1234}},
            "line 1234: no (5 records written, 2 unchanged; nothing of that line's batch was written)",
        ),
        (
            {"lines": 7, "written": 1, "unchanged": 0, "error": {"code": "stopping", "message": "it is stopping"}},
            "it is stopping (1 record written, 0 unchanged)",
        ),
        (
            {"lines": 7, "written": 7, "unchanged": 0},
            "the node ended before all was imported (7 records written, 0 unchanged for certain)",
        ),
    ],
)
def test_an_import_that_breaks_says_what_was_written(
    shell: Shell, socket: Path, last: dict[str, Any], sentence: str
) -> None:
    with scripted_server(socket, stream({"lines": 1, "written": 1, "unchanged": 0}, last)):
        assert shell.fails(1, "import", "-", stdin=b"{}\n") == sentence


def test_an_export_cut_short_leaves_no_file(shell: Shell, socket: Path, tmp_path: Path) -> None:
    cut = b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"name": "a"}\n'
    with scripted_server(socket, cut):
        assert "before its answer was complete" in shell.fails(1, "export", str(tmp_path / "out"))
    assert not [path for path in tmp_path.iterdir() if path.name != "home"]


# -- watch ------------------------------------------------------------------------------------------------------------


def sse(*events: tuple[str, object]) -> bytes:
    said = b"".join(b"event: %s\ndata: %s\n\n" % (name.encode(), json.dumps(data).encode()) for name, data in events)
    return http_answer(b": listening\n\n" + said)


def change(name: str, *, context: str = "main", source: str = "", deleted: bool = False) -> tuple[str, object]:
    record = {"id": f"{ID}/{name}", "context": context, "timestamp": "2026-11-22T12:00:00.000Z", "deleted": deleted}
    return "records.applied", {"event": "records.applied", "context": context, "source": source, "records": [record]}


def test_watch_writes_a_line_a_change_until_the_node_stops(shell: Shell, socket: Path) -> None:
    events = (change("a"), change("b", source=ID, deleted=True), change("c\u202e", context="other"))
    with scripted_server(socket, sse(*events, ("end", {"reason": "stopping"}))) as heard:
        result = shell("watch")
        only_other = shell("watch", "-c", "other", "--json")
    assert heard[0].startswith(b"GET /v1/events?types=records.applied ")
    assert (result.code, result.err) == (ExitCode.NOT_RUNNING, "echonode: the node stopped\n")
    assert result.text.splitlines() == [
        "2026-11-22T12:00:00.000Z  main  @bbbbbbbb/a  written here",
        "2026-11-22T12:00:00.000Z  main  @bbbbbbbb/b  deleted from bbbbbbbb",
        "2026-11-22T12:00:00.000Z  other  @bbbbbbbb/c\\u202e  written here",
    ]
    assert [(each["id"], each["source"]) for each in only_other.json_lines] == [(f"{ID}/c\u202e", "")]


def test_a_watch_that_missed_changes_says_so(shell: Shell, socket: Path) -> None:
    gap = ("gap", {"reason": "slow reader", "lost": 7})
    with scripted_server(socket, sse(change("a"), gap, change("b"), ("end", {"reason": "stopping"}))):
        result = shell("watch")
        assert (len(result.text.splitlines()), "7 events were missed" in result.err) == (2, True)
    with scripted_server(socket, sse(change("a"))):
        shell.fails(ExitCode.NOT_RUNNING, "watch")
