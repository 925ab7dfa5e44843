"""Each command against a real node behind its real API."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from echonode.cli.exit_codes import ExitCode
from echonode.errors import ConfigError
from echonode.model.member_secret import MemberSecret
from echonode.node.audits import AuditReport
from echonode.node.node import Node
from echonode.text import to_base32
from tests.api.serving import SECRET
from tests.cli.harness import FakeServices, FolderHome, LiveNode, Shell, live_node


async def meet(one: LiveNode, other: LiveNode) -> None:
    one.served.node.add_peer(other.served.listen[0])


async def is_equal(node: Node) -> bool:
    return any(peer.in_sync for peer in node.peers())


@pytest.fixture
def live(shell: Shell) -> Iterator[LiveNode]:
    with live_node(shell.services.default) as live:
        yield live


# -- records -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("live")
def test_what_was_put_is_got_byte_for_byte(shell: Shell, tmp_path: Path) -> None:
    body = bytes(range(256))
    (tmp_path / "picture.png").write_bytes(body)
    for name, more, stdin in (
        ("file", ["--file", str(tmp_path / "picture.png")], b""),
        ("stdin", ["-"], body),
        ("stdin-file", ["--file", "-"], body),
    ):
        assert shell("put", name, *more, stdin=stdin).code == 0
        assert shell("get", name).out == body
    assert shell("put", "text", "grüß dich").code == 0
    assert shell("get", "text").out == "grüß dich".encode()
    types = {name: shell("get", "--json", name).json["type"] for name in ("file", "stdin", "text")}
    assert types == {"file": "image/png", "stdin": "", "text": "text/plain"}


def test_put_says_the_id_and_as_json_the_version_too(shell: Shell, live: LiveNode) -> None:
    me = to_base32(live.served.node.id)
    assert shell("put", "a", "1").text == f"{me}/a\n"
    written = shell("put", "--json", "shared/b", "1", "-t", "x", "--tag", "y", "--model", "note@2.3", "--type", "a/b")
    assert set(written.json) == {"id", "version"}
    whole = shell("get", "--json", "shared/b").json
    assert whole["id"] == written.json["id"] == "shared/b"
    assert whole["version"] == written.json["version"]
    assert (whole["tags"], whole["model"], whole["model_version"], whole["type"]) == (["x", "y"], "note", "2.3", "a/b")


@pytest.mark.usefixtures("live")
def test_the_whole_record_has_its_body_as_json_text_or_base64(shell: Shell) -> None:
    shell("put", "j", '{"x": [1]}', "--type", "application/json")
    shell("put", "t", "text")
    shell("put", "b", "-", stdin=b"\xff\x00")
    assert shell("get", "j", "--json").json["body"] == {"x": [1]}
    shell("put", "n", '{"\N{PILE OF POO}": 1E2}', "--type", "application/json")
    assert b'"body":{"\\ud83d\\udca9": 1E2}' in shell("get", "n", "--json").out
    assert shell("get", "t", "--json").json["body"] == "text"
    assert shell("get", "b", "--json").json["body_base64"] == "/wA="


@pytest.mark.usefixtures("live")
def test_what_is_not_there_is_a_failure_for_get_and_delete(shell: Shell) -> None:
    assert shell.fails(1, "get", "nothing").endswith("; to learn why, type: echonode why nothing")
    assert "there is no record" in shell.fails(1, "delete", "nothing")
    shell("put", "x", "1")
    assert set(shell("delete", "x", "--json").json) == {"id", "version"}
    shell.fails(1, "get", "x")
    shell.fails(1, "delete", "me/x")


@pytest.mark.usefixtures("live")
def test_a_misspelt_context_is_an_error_to_read_and_a_new_one_is_said_when_written(shell: Shell) -> None:
    assert shell("put", "a", "1").err == shell("list").err == ""
    assert shell("put", "a", "1", "-c", "books").err == "the context books is new here\n"
    assert shell("put", "b", "1", "-c", "books").err == ""
    for command in (["list"], ["export"]):
        said = shell.fails(1, *command, "-c", "boks")
        assert said == "there is no context boks here; there are: books, identities, main"


@pytest.mark.usefixtures("live")
def test_a_body_over_the_limit_is_refused_before_it_is_sent(shell: Shell) -> None:
    assert "192 KiB" in shell.fails(1, "put", "x", "-", stdin=b"x" * (192 * 1024 + 1))
    assert shell("put", "x", "-", stdin=b"x" * (192 * 1024)).code == 0


def test_a_list_has_columns_and_a_json_list_an_object_a_line(shell: Shell, live: LiveNode) -> None:
    me = to_base32(live.served.node.id)
    shell("put", "one", "1", "-t", "odd")
    shell("put", "shared/two", "2", "-t", "even", "-t", "prime")
    shell("put", "elsewhere", "3", "-c", "other")
    lines = shell("list").text.splitlines()
    assert lines[0].split() == ["RECORD", "CREATED", "TYPE", "TAGS"]
    assert [line.split()[0] for line in lines[1:]] == ["me/one", "shared/two"]
    assert lines[2].endswith("text/plain  even prime")
    for address in ("me/one", "one", f"@{me[:8]}/one", f"@{live.served.node.name}/one", f"{me}/one"):
        assert shell("get", address).out == b"1", address
    assert [each["id"] for each in shell("list", "--json").json_lines] == [f"{me}/one", "shared/two"]
    assert [each["name"] for each in shell("list", "--json", "-c", "other").json_lines] == ["elsewhere"]
    assert [each["name"] for each in shell("list", "--json", "--author", "shared").json_lines] == ["two"]
    assert [each["name"] for each in shell("list", "--json", "-t", "odd").json_lines] == ["one"]
    assert [each["name"] for each in shell("list", "--json", "--limit", "1").json_lines] == ["one"]


@pytest.mark.usefixtures("live")
@pytest.mark.parametrize(
    ("since", "names"),
    [
        ("2001-01-02", {"middle", "new"}),
        ("2001-01-01T22:15:00-02:00", {"middle", "new"}),
        ("2001-01-02T01:00:00", {"new"}),
        ("978393600", {"middle", "new"}),
        ("2h", {"new"}),
        ("2100-01-01", set()),
    ],
)
def test_since_takes_dates_times_seconds_and_spans(shell: Shell, since: str, names: set[str]) -> None:
    lines = [{"name": "old", "timestamp": "2001-01-01"}, {"name": "middle", "timestamp": "2001-01-02T00:30:00+00:00"}]
    lines.append({"name": "new"})
    shell("import", "-", stdin="\n".join(map(json.dumps, lines)).encode())
    for options in (["--since", since], ["--filter", f"since={since}"]):
        assert {each["name"] for each in shell("list", "--json", *options).json_lines} == names


@pytest.mark.usefixtures("live")
def test_names_of_others_cannot_command_the_terminal(shell: Shell) -> None:
    name, tag = "a\u202eb", "\u2066x"
    assert shell("put", name, "1", "-t", tag).code == 0
    for command in (["list"], ["put", name, "2"]):
        assert not {"\x1b", "\u202e", "\u2066"} & set(shell(*command).text), command
    assert "a\\u202eb" in shell("list").text
    assert shell("list", "--json").out.isascii()
    assert shell("list", "--json").json["name"] == name


def test_conflicts_show_every_head_and_which_one_is_read(shell: Shell, live: LiveNode, tmp_path: Path) -> None:
    with live_node(tmp_path / "far", "far") as far:
        there = Shell(FakeServices(tmp_path / "far"))
        assert shell("conflicts").err == "0 conflicts\n"
        assert shell("put", "shared/x", "mi\u202ene").code == 0
        assert there("put", "shared/x", "theirs").code == 0
        live.do(meet(live, far))
        for each in (live, far):
            each.until(lambda node: node.records.conflicts("main"))
        both = shell("conflicts", "--json").json, there("conflicts", "--json").json
        here, far_off = [[head.pop("by") for head in each["conflicts"][0]["heads"]] for each in both]
        assert both[0] == both[1]
        assert sorted(here) == ["@far", "me"] and "me" in far_off and here != far_off
        (conflict,) = both[0]["conflicts"]
        assert sorted(head["body"] for head in conflict["heads"]) == ["mi\u202ene", "theirs"]
        shown = shell("conflicts").text.splitlines()
        assert shown[0] == "shared/x in main"
        assert len(shown) == 4
        assert "\u202e" not in shell("conflicts").text
        assert sum("read" in line.split() for line in shown) == 1
        assert "there is no context elsewhere" in shell.fails(1, "conflicts", "-c", "elsewhere")

        assert "1 record in conflict" in shell("status").text
        assert "2 versions are in conflict" in shell("get", "shared/x").err
        assert "1 record in conflict" in shell("list").err
        assert (shell("sync").code, "1 record in conflict" in shell("sync").err) == (3, True)
        sides = shell("conflicts", "show", "shared/x").text
        assert "by @far" in sides and "by this node" in sides and "mi\\u202ene" in sides and "theirs" in sides
        assert "to join them" in shell("conflicts", "show", "shared/x").err
        assert shell("conflicts", "resolve", "shared/x").code == 2
        assert shell("conflicts", "resolve", "shared/x", "--keep", "a", "--strategy", "merge").code == 2
        resolved = shell("conflicts", "resolve", "shared/x", "--strategy", "prefer_remote")
        assert (resolved.text, resolved.err) == (
            "shared/x\n",
            "2 versions covered: the version that another node wrote is kept\n",
        )
        assert shell("get", "shared/x").text.strip() == "theirs"
        assert "in no conflict" in shell.fails(1, "conflicts", "resolve", "shared/x", "--strategy", "merge")
        rows = shell("history", "shared/x").text.splitlines()[1:]
        assert [row.split()[0] for row in rows] == ["current", "earlier", "earlier"]
        ours = next(row.split()[1] for row in rows if "mi\\u202ene" in row)
        assert shell("get", "shared/x", "--version", ours).out == "mi\u202ene".encode()

        async def is_over(node: Node) -> bool:
            return len(await node.records.heads("main", node.records.shared, "x")) == 1

        far.until(is_over)
        covered = there("put", "shared/x", "again")
        assert "this covers version" in covered.err and "@" in covered.err


# -- import and export -------------------------------------------------------------------------------------------------


def lines(number: int) -> bytes:
    more = {"tags": ["t"], "timestamp": "2001-01-01"}
    return b"".join(
        json.dumps({"name": f"n{each}", "body": {"is": each}, **more}).encode() + b"\n" for each in range(number)
    )


@pytest.mark.usefixtures("live")
def test_an_import_says_what_it_wrote_and_the_same_again_writes_nothing(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(lines(2500))
    first = shell("import", str(tmp_path / "in.jsonl"), "-c", "numbers")
    assert (first.code, first.out) == (0, b"")
    assert first.err == "2,500 lines: 2,500 records written, 0 unchanged\nthe context numbers is new here\n"
    again = shell("import", "-", "-c", "numbers", stdin=lines(2500))
    assert again.err == "2,500 lines: 0 records written, 2,500 unchanged\n"
    assert shell("get", "n7", "-c", "numbers", "--json").json["created"] == "2001-01-01T00:00:00.000Z"


@pytest.mark.usefixtures("live")
def test_a_bad_line_is_named_and_nothing_of_its_batch_is_written(shell: Shell) -> None:
    sentence = shell.fails(1, "import", "-", stdin=lines(1500) + b'{"nam": 1}\n' + lines(5))
    assert sentence.startswith("line 1501: ")
    assert "1,000 records written" in sentence
    assert len(shell("list", "--json").json_lines) == 1000


@pytest.mark.usefixtures("live")
def test_what_was_exported_imports_as_the_same(shell: Shell, tmp_path: Path) -> None:
    shell("import", "-", stdin=lines(30))
    shell("put", "b", "-", stdin=b"\xff")
    result = shell("export", str(tmp_path / "out.jsonl"))
    assert (result.out, result.err) == (b"", f"31 records exported to {tmp_path}/out.jsonl\n")
    written = (tmp_path / "out.jsonl").read_bytes()
    assert shell("export").out == shell("export", "-").out == written
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith("jsonl")] == ["out.jsonl"]
    assert "0 records written, 31 unchanged" in shell("import", str(tmp_path / "out.jsonl")).err
    assert shell("export", "--author", "shared").out == b""


@pytest.mark.usefixtures("live")
def test_an_export_to_a_device_or_through_a_link_replaces_neither(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "real.jsonl").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real.jsonl")
    (tmp_path / "device").symlink_to("/dev/null")
    shell("put", "x", "1")
    assert shell("export", str(tmp_path / "link")).code == shell("export", str(tmp_path / "device")).code == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real.jsonl").read_bytes() == shell("export").out
    assert Path("/dev/null").is_char_device()


@pytest.mark.usefixtures("live")
def test_an_export_that_fails_leaves_the_old_file_alone(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("precious")
    shell.fails(1, "export", str(tmp_path / "out.jsonl"), "--author", "nobody-known")
    assert (tmp_path / "out.jsonl").read_text() == "precious"
    missing = tmp_path / "missing" / "out.jsonl"
    assert shell.fails(1, "export", str(missing)) == f"{missing} cannot be written: no such file or directory"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "out.jsonl"]


# -- the node ----------------------------------------------------------------------------------------------------------


def test_status_has_exactly_what_was_promised_to_scripts(shell: Shell, live: LiveNode) -> None:
    shell("put", "x", "1")
    status = shell("status", "--json").json
    promised = ["id", "name", "instance", "network", "listen", "api", "contexts", "peers"]
    later = ["paused", "history", "joining", "audit"]
    assert list(status) == promised + later
    assert status["id"] == to_base32(live.served.node.id)
    assert status["listen"] == list(live.served.listen)
    assert [list(each) for each in status["contexts"]] == [
        ["name", "root", "records", "bytes", "conflicts", "wants"]
    ] * 2
    assert shell("contexts", "--json").json == {"contexts": status["contexts"]}
    assert shell("peers", "--json").json == {"peers": []}


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (AuditReport(0, 1_204), "1,204 versions, all whole"),
        (AuditReport(0, 9, 1, 1, "main: rot"), "1 problem in 9 versions, as main: rot; 1 record fetched from peers"),
        (AuditReport(0, 9, 3, 1, "file: rot"), "if the next audit finds problems too, stop this node and type"),
        (AuditReport(0, 9, 2, 0, "file: rot"), "to mend that, stop this node and type: echonode verify --repair"),
    ],
)
def test_status_tells_what_the_last_audit_found(shell: Shell, live: LiveNode, report: AuditReport, said: str) -> None:
    assert shell("status", "--json").json["audit"] is None
    live.served.node.audits.last = report
    assert said in " ".join(shell("status").text.split())
    assert shell("status", "--json").json["audit"]["checked"] == report.checked


def test_status_tells_a_person_who_we_are_and_that_we_are_alone(shell: Shell, live: LiveNode) -> None:
    shell("put", "x", "1")
    said = shell("status").text.splitlines()
    assert said[0].startswith("one, a node of the network ")
    assert not any(line.startswith("history") for line in said)
    assert f"id          {to_base32(live.served.node.id)}" in said
    assert any(line.split()[:2] == ["main", "1"] for line in said)
    assert said[-1] == "No other node of this network was seen yet; to add one, type: echonode invite"
    assert [line.split()[0] for line in shell("contexts").text.splitlines()] == ["CONTEXT", "identities", "main"]
    assert shell("peers").err == "no other node was seen yet\n"


def test_status_tells_how_much_is_kept_of_what_was_edited(shell: Shell, live: LiveNode) -> None:
    for body in ("1", "2", "3"):
        shell("put", "x", body)
    history = shell("status", "--json").json["history"]
    assert (history["versions"], history["spare"]) == (2, 0) and history["bytes"] > 300
    assert any(line.startswith("history     2 older versions, ") for line in shell("status").text.splitlines())


def test_status_and_contexts_say_what_is_wanted_where_that_is_not_all(shell: Shell, live: LiveNode) -> None:
    shell("put", "a", "1")
    node = live.served.node
    node.subscriptions.subscribe({"main": ["tag=news", "since=2026-01-01"]}, node.addresses.resolve_in_filter)
    header, identities, main = shell("contexts").text.splitlines()
    assert header.split()[-1] == "WANTED" and identities.split()[-1] == "all"
    assert main.endswith("  tag=news since=2026-01-01")
    assert main in shell("status").text.splitlines()
    wants = {context["name"]: context["wants"] for context in shell("status", "--json").json["contexts"]}
    assert wants == {"identities": None, "main": ["tag=news", "since=2026-01-01"]}


def test_two_nodes_that_meet_are_equal_and_a_sync_proves_it(shell: Shell, live: LiveNode, tmp_path: Path) -> None:
    with live_node(tmp_path / "far", "far") as far:
        there = Shell(FakeServices(tmp_path / "far"))
        shell("import", "-", stdin=lines(20))
        live.do(meet(live, far))
        live.until(is_equal)
        result = shell("sync", "--json", "--timeout", "20s")
        assert result.code == ExitCode.DONE, result
        assert list(result.json) == ["status", "sync_id", "peers", "conflicts", "contested", "resolved"]
        (peer,) = result.json["peers"]
        promised = "id name status mode reason sent received bytes_sent bytes_received round_trips duration_s verified"
        assert list(peer) == [*promised.split(), "attempts", "error"]
        assert (result.json["status"], peer["verified"]) == ("verified", True)
        assert peer["id"] == to_base32(far.served.node.id)
        assert len(there("list", "--json").json_lines) == 20
        shown = shell("sync", "--node-id", "far", "--action", "push")
        assert (shown.code, shown.err) == (0, "pushed to 1 node, and verified\n")
        assert shown.text.splitlines()[1].split()[:2] == ["far", "yes"]
        assert shell("status").text.splitlines()[-1] == "Equal with 1 node: all that are known."
        assert shell("peers").text.splitlines()[1].split()[0] == "far"
        assert [each["name"] for each in shell("peers", "--json").json["peers"]] == ["far"]
        shell.fails(1, "sync", "--node-id", "nobody")


@pytest.mark.usefixtures("live")
def test_a_sync_with_nobody_fails_and_says_so(shell: Shell) -> None:
    assert "no other node" in shell.fails(ExitCode.FAILED, "sync")
    told = shell("sync", "--json").json
    assert (told["status"], told["peers"]) == ("no peers", [])


@pytest.mark.usefixtures("live")
def test_verify_counts_what_it_checked(shell: Shell) -> None:
    shell("import", "-", stdin=lines(10))
    result = shell("verify")
    assert (result.code, result.out) == (0, b"")
    assert result.err.endswith("versions checked, all is well\n")
    promised = shell("verify", "--json").json
    assert list(promised) == ["ok", "checked", "problems"]
    assert promised["ok"] is True
    assert promised["checked"] >= 10
    assert promised["problems"] == []


@pytest.mark.usefixtures("live")
def test_a_peer_that_is_unknown_cannot_be_forgotten(shell: Shell) -> None:
    shell.fails(1, "peers", "forget", "nobody")


# -- networks ----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("live")
def test_only_the_code_of_an_invitation_goes_to_stdout(shell: Shell) -> None:
    result = shell("invite", "--uses", "2", "--expires", "1h")
    code = result.text.removesuffix("\n")
    assert code.count("-") == 2
    assert f"echonode run --join {code}" in result.err
    assert f"the service runs there already:  echonode join {code}" in result.err
    assert "2 uses" in result.err
    assert set(shell("invite", "--json").json) == {"code", "expires"}
    assert "is open" in shell("status").text


def test_a_node_joins_by_a_code_and_keeps_its_records(shell: Shell, live: LiveNode, tmp_path: Path) -> None:
    code = shell("invite").text.strip()
    with live_node(tmp_path / "far", "far", secret=MemberSecret.of_lone_key(bytes(32))):
        there = Shell(FakeServices(tmp_path / "far"))
        there("put", "mine", "1")
        result = there("join", code, "--at", live.served.listen[0])
        assert (result.code, result.text) == (0, f"{live.served.node.network}\n")
        assert there("network", "show").text == shell("network", "show").text == f"{SECRET.to_text()}\n"
        assert there("get", "mine").out == b"1"
        there.fails(1, "join", code, "--at", live.served.listen[0])  # the code is spent


def test_the_network_secret_is_shown_and_set_on_a_running_node(shell: Shell, live: LiveNode) -> None:
    network = live.served.node.network
    assert shell("network", "show", "--json").json == {"network": network, "secret": SECRET.to_text()}
    other = MemberSecret.from_bytes(bytes(64)).to_text()
    assert shell("network", "set", other).code == 0
    assert shell("network", "show").text == f"{other}\n"
    assert live.served.node.network != network


def test_a_rotation_says_who_gets_the_new_secret(shell: Shell, live: LiveNode) -> None:
    network, secret = live.served.node.network, shell("network", "show").text
    result = shell("network", "rotate")
    assert result.text == f"{live.served.node.network}\n" != f"{network}\n"
    assert "no other node is a member" in result.err
    assert shell("network", "show").text != secret
    report = shell("network", "rotate", "--json").json
    assert (report["members"], report["without"], report["copied"], report["past_pool"]) == (["me"], [], 0, "")
    assert "cannot leave itself out" in shell.fails(1, "network", "rotate", "--without", "me")
    assert "nobody" in shell.fails(1, "network", "rotate", "--without", "nobody")


def test_another_network_leaves_something_behind_and_that_is_said(shell: Shell, live: LiveNode) -> None:
    network, secret = live.served.node.network, live.served.node.network_secret()
    assert secret is not None
    shell("put", "shared/mine", "1")
    other = MemberSecret.from_bytes(bytes(64)).to_text().encode()
    said = shell("network", "set", stdin=other).err
    assert f"left the network {network}" in said and f"@shared-{network[:4]}/NAME" in said
    assert shell("get", f"@shared-{network[:4]}/mine").out == b"1"
    said = shell("network", "set", stdin=MemberSecret(b"k" * 32, bytes(32)).to_text().encode()).err
    assert "`shared` is the same pool as before" in said
    shell("network", "set", stdin=secret.to_text().encode())
    assert shell("get", "shared/mine").out == b"1"


def test_the_open_network_has_no_secret_to_show(shell: Shell) -> None:
    with live_node(shell.services.default, secret=None):
        result = shell("network", "show")
        assert (result.code, result.out) == (0, b"")
        assert "open network" in result.err
        assert shell("network", "show", "--json").json == {"network": "open", "secret": None}
        assert "the open network" in shell("status").text


def test_the_network_secret_is_set_and_shown_before_the_first_run(shell: Shell) -> None:
    home = FolderHome(shell.services.default)
    assert "has no network yet" in shell.fails(1, "network", "show")
    text = SECRET.to_text()
    wrapped = f" {text[:56]}\n {text[56:]}\n".encode()
    for stdin, args in ((b"", [text.upper()]), (wrapped, []), (text.encode(), ["-"])):
        assert shell("network", "set", *args, stdin=stdin).code == 0
        assert home.read_member_secret() == SECRET
        home.root.joinpath("network").unlink()
    shell("network", "set", stdin=SECRET.to_text().encode())
    shown = shell("network", "show", "--json").json
    assert shown["secret"] == SECRET.to_text()
    assert shell("network", "show").text == f"{SECRET.to_text()}\n"
    with live_node(shell.services.default) as live:
        assert live.served.node.network == shown["network"]


def test_a_secret_that_is_none_is_never_repeated(shell: Shell) -> None:
    text = SECRET.to_text()
    for almost, says in (
        (text[:-1], "not 111"),
        (text[:-1] + ("a" if text[-1] != "a" else "b"), "mistyped"),
        (to_base32(SECRET.key)[:-1] + "1", "not a network key"),
        ("1" * 112, "only the letters"),
    ):
        for args, stdin in (([almost], b""), ([], almost.encode())):
            said = shell.fails(ExitCode.USAGE, "network", "set", *args, stdin=stdin)
            assert says in said and almost not in said
    shell.fails(ExitCode.USAGE, "network", "set", "-", stdin=b"\xff")


def test_a_network_key_alone_is_taken_and_keeps_the_pool_of_the_network_before(shell: Shell) -> None:
    home, key = FolderHome(shell.services.default), b"k" * 32
    assert "no mistyped letter shows" in shell("network", "set", stdin=to_base32(key).encode()).err
    assert home.read_member_secret() == MemberSecret.of_lone_key(key)
    shell("network", "set", stdin=SECRET.to_text().encode())
    shell("network", "set", stdin=to_base32(key).encode())
    assert home.read_member_secret() == MemberSecret(key, SECRET.pool_seed)
    with live_node(shell.services.default, secret=MemberSecret(key, SECRET.pool_seed)) as live:
        shell("network", "set", stdin=to_base32(SECRET.key).encode())
        assert live.served.node.network_secret() == SECRET


def test_a_secret_on_the_command_line_is_taken_with_a_warning(shell: Shell) -> None:
    result = shell("network", "set", SECRET.to_text())
    assert "may have seen" in result.err
    assert "may have seen" not in shell("network", "set", stdin=SECRET.to_text().encode()).err


# -- run ---------------------------------------------------------------------------------------------------------------


def test_run_hands_on_what_it_was_told_and_nothing_else(shell: Shell, tmp_path: Path) -> None:
    shell("run")
    flags = "--join 1-a-b --at c:3 --name n --listen 127.0.0.1:0 --peer a:1 --peer b:2 --interface 10.0.0.1 --no-mdns"
    shell("--home", str(tmp_path / "h"), "run", *flags.split(), "--log-level", "debug", "--log-format", "json")
    shell("run", "--open")
    bare, full, public = shell.services.runs
    assert (bare.join, bare.name, bare.listen, bare.peers, bare.interfaces) == (None, None, None, (), ())
    assert (bare.no_mdns, bare.open, bare.log_level, bare.log_format) == (False, False, None, None)
    assert (full.join, full.at, full.name, full.listen) == ("1-a-b", "c:3", "n", "127.0.0.1:0")
    assert (full.peers, full.interfaces, full.no_mdns) == (("a:1", "b:2"), ("10.0.0.1",), True)
    assert (full.log_level, full.log_format) == ("debug", "json")
    assert full.home.root == tmp_path / "h"
    assert (public.open, public.home.root) == (True, shell.services.default)


def test_a_node_that_cannot_run_is_one_sentence(shell: Shell) -> None:
    def taken() -> int:
        raise ConfigError("cannot listen on 127.0.0.1:1: another program has that port")

    shell.services.run_gives = taken
    assert "another program has that port" in shell.fails(ExitCode.USAGE, "run")
