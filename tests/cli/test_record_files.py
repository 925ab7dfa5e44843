"""`export --signed`, `import --signed` and `sync --path`: nodes exchange by files, and every answer says enough."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from echonode.cli.folder_sync import FolderSync
from echonode.model.member_secret import MemberSecret
from tests.cli.harness import LiveNode, Result, Shell, live_node

A_WHILE_S = 100.0


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the homes of two live nodes of one network, `a` and `b`, that never meet."""
    with live_node(tmp_path / "a", "a"), live_node(tmp_path / "b", "b"):
        yield tmp_path / "a", tmp_path / "b"


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    (tmp_path / "stick").mkdir()
    return tmp_path / "stick"


def at(home: Path, *command: str) -> tuple[str, ...]:
    return ("--home", str(home), *command)


def put(shell: Shell, home: Path, name: str, *more: str) -> None:
    assert shell(*at(home, "put", name, "x", *more)).code == 0


def exchange(shell: Shell, home: Path, stick: Path, *options: str) -> Result:
    return shell(*at(home, "sync", "--path", str(stick), *options))


def roots(shell: Shell, home: Path) -> dict[str, str]:
    return {each["name"]: each["root"] for each in shell(*at(home, "status", "--json")).json["contexts"]}


def age(stick: Path) -> None:
    """Make the files older: a file of this moment is read again, as it may change within one step of its clock."""
    then = time.time() - A_WHILE_S
    for path in stick.glob("*.echo"):
        os.utime(path, (then, then))


# -- one file ----------------------------------------------------------------------------------------------------------


def test_signed_versions_go_from_node_to_node_in_a_file(shell: Shell, homes: tuple[Path, Path], stick: Path) -> None:
    a, b = homes
    put(shell, a, "note", "-c", "books")
    put(shell, a, "shared/plan")
    file = str(stick / "a.echo")
    done = shell(*at(a, "export", "--signed", file))
    assert (done.code, done.out) == (0, b"")
    assert done.err.startswith("4 versions of 3 contexts, 1.") and done.err.endswith(f" to {file}\n")
    assert [path.name for path in stick.iterdir()] == ["a.echo"]

    taken = shell(*at(b, "import", "--signed", file))
    assert taken.code == 0
    assert [line.split() for line in taken.text.splitlines()] == [
        ["CONTEXT", "NEW", "HAD", "REFUSED", "WHY"],
        ["identities", "2", "0", "0"],
        ["books", "1", "0", "0"],
        ["main", "1", "0", "0"],
    ]
    me = shell(*at(a, "status", "--json")).json["id"]
    assert taken.err == f"a file of a @{me[:8]}: 4 versions new, 0 here already, 0 refused\n"
    assert shell(*at(b, "get", f"@{me[:8]}/note", "-c", "books")).out == b"x"

    again = shell(*at(b, "import", "--signed", "-"), stdin=Path(file).read_bytes())
    assert again.err.endswith(": 0 versions new, 4 here already, 0 refused\n")
    part = shell(*at(a, "export", "--signed", "-c", "books"))
    assert part.err.startswith("3 versions of 2 contexts, ")
    none = shell(*at(b, "import", "--signed", "-", "-c", "main"), stdin=part.out)
    assert (none.code, [line.split()[0] for line in none.text.splitlines()]) == (1, ["CONTEXT", "identities"])
    assert none.err == "echonode: there is no context main in that file; there are: identities, books\n"
    one = shell(*at(b, "import", "--signed", file, "-c", "books"))
    assert (one.code, [line.split()[0] for line in one.text.splitlines()]) == (0, ["CONTEXT", "identities", "books"])


def test_a_file_that_is_cut_or_tampered_with_keeps_what_was_verified(
    shell: Shell, homes: tuple[Path, Path], stick: Path
) -> None:
    a, b = homes
    for number in range(5):
        put(shell, a, f"n{number}")
    file = stick / "a.echo"
    shell(*at(a, "export", "--signed", str(file)))
    data = file.read_bytes()
    file.write_bytes(data[:-150])
    cut = shell(*at(b, "import", "--signed", str(file)))
    assert cut.code == 3
    assert cut.err == (
        "echonode: the file is cut or damaged in the context main, after 4 versions: it ends too early (what was "
        "verified before that is kept: 6 versions new, 0 here already, 0 refused)\n"
    )
    assert len(shell(*at(b, "list", "--json")).json_lines) == 4
    file.write_bytes(data[:-60] + b"\0" + data[-59:])
    tampered = shell(*at(b, "import", "--signed", str(file)))
    assert (tampered.code, "version 5 of the context main is damaged: " in tampered.err) == (3, True)
    file.write_bytes(data)
    assert shell(*at(b, "import", "--signed", str(file))).code == 0
    assert roots(shell, b)["main"] == roots(shell, a)["main"]


def test_what_is_no_file_for_this_node_is_refused_in_a_sentence(shell: Shell, tmp_path: Path, stick: Path) -> None:
    far = MemberSecret.of_lone_key(bytes(32))
    file = str(stick / "a.echo")
    with live_node(tmp_path / "a", "a") as a, live_node(tmp_path / "far", "far", far) as other:
        assert shell(*at(tmp_path / "a", "export", "--signed", file)).code == 0
        sentence = shell.fails(1, *at(tmp_path / "far", "import", "--signed", file))
        theirs, ours = a.served.node.network, other.served.node.network
        assert sentence == f"it is a file of the network {theirs}, and this node is in {ours}"
        (stick / "lines").write_text('{"name": "x"}\n')
        sentence = shell.fails(1, *at(tmp_path / "a", "import", "--signed", str(stick / "lines")))
        assert sentence == "it is no file of signed records"
        sentence = shell.fails(2, *at(tmp_path / "a", "import", file))
        assert sentence == f"{file} holds signed versions: add --signed"
        assert shell(*at(tmp_path / "a", "export", "--signed", file, "--author", "me")).code == 2
        assert "no context nowhere" in shell.fails(1, *at(tmp_path / "a", "export", "--signed", "-c", "nowhere", file))
        assert [path.name for path in stick.glob("*.echo")] == ["a.echo"], "an export that failed leaves what was there"
    assert "is not running" in shell.fails(5, *at(tmp_path / "a", "import", "--signed", file))


# -- a folder ----------------------------------------------------------------------------------------------------------


def test_nodes_become_equal_through_a_folder(shell: Shell, homes: tuple[Path, Path], stick: Path) -> None:
    a, b = homes
    put(shell, a, "a-note")
    put(shell, b, "b-note", "-c", "books")
    first = exchange(shell, a, stick)
    assert (first.code, first.out) == (0, b"")
    assert f"no other node has written to {stick} yet" in first.err and "offered 3 versions, " in first.err
    second = exchange(shell, b, stick)
    (row,) = second.text.splitlines()[1:]
    me = shell(*at(a, "status", "--json")).json["id"]
    assert row.split()[:5] == ["a", f"@{me[:8]}", "3", "0", "0"] and row.split()[-1] == "no"
    assert "offered 6 versions" in second.err and "who is not equal" in second.err
    third = exchange(shell, a, stick)
    assert third.text.splitlines()[1].split()[-1] == "yes"
    assert roots(shell, a) == roots(shell, b)
    assert sorted(path.suffix for path in stick.iterdir()) == [".echo", ".echo", ".json", ".json"]

    age(stick)
    assert exchange(shell, b, stick).code == 0
    fourth = exchange(shell, b, stick, "--json").json
    assert [(each["is_unchanged"], each["is_equal"], each["new"]) for each in fourth["taken"]] == [(True, True, 0)]
    assert (fourth["offered"]["is_new"], fourth["offered"]["versions"]) == (False, None)
    assert "nothing new to offer" in exchange(shell, b, stick).err


def taken(shell: Shell, home: Path, stick: Path) -> list[dict[str, Any]]:
    return exchange(shell, home, stick, "--json").json["taken"]


def test_a_file_is_read_again_when_its_content_changed_and_only_then(
    shell: Shell, homes: tuple[Path, Path], stick: Path
) -> None:
    a, b = homes
    put(shell, a, "x")
    exchange(shell, a, stick, "--action", "push")
    assert [path.suffix for path in stick.iterdir()].count(".echo") == 1
    (file,) = stick.glob("*.echo")
    assert taken(shell, b, stick)[0]["new"] == 3
    assert taken(shell, b, stick)[0]["is_unchanged"], "the same content in a young file"
    file.touch()
    age(stick)
    assert taken(shell, b, stick)[0]["is_unchanged"], "the same content at another time"
    data = bytearray(file.read_bytes())
    data[-100] ^= 1
    file.write_bytes(data)
    age(stick)
    assert not taken(shell, b, stick)[0]["is_unchanged"]
    (notes,) = [path for path in stick.glob(".*.json") if shell(*at(b, "status", "--json")).json["id"] in path.name]
    kept = json.loads(notes.read_text())
    wrong = {**kept, "files": {name: {**note, "roots": 1} for name, note in kept["files"].items()}}
    for text in ("{", "[]", '{"instance": 1}', "[" * 10_000, *map(json.dumps, ({**kept, "instance": "x"}, wrong))):
        notes.write_text(text)
        assert not taken(shell, b, stick)[0]["is_unchanged"], "notes that say nothing"
    note = next(iter(kept["files"].values()))
    notes.write_text(json.dumps({**kept, "files": {"x" * 300: note, "../a": note, "\0": note}}))
    assert exchange(shell, b, stick).code == 3, "of the damaged file"
    assert {"x" * 300, "../a", "\0"}.isdisjoint(json.loads(notes.read_text())["files"])


def test_what_was_not_wanted_is_taken_in_once_it_is(shell: Shell, homes: tuple[Path, Path], stick: Path) -> None:
    a, b = homes
    put(shell, a, "note", "-c", "books")
    exchange(shell, a, stick)
    assert shell(*at(b, "import", "--signed", str(next(stick.glob("*.echo"))))).code == 0
    assert shell(*at(b, "contexts", "forget", "books")).code == 0
    for _ in range(2):
        (passed,) = taken(shell, b, stick)
        assert (passed["new"], passed["is_equal"], passed["is_unchanged"]) == (0, None, False)
        assert passed["why"] == "books: passed over: this context is not taken here"
    put(shell, b, "mine", "-c", "books")
    assert taken(shell, b, stick)[0]["new"] == 1
    assert taken(shell, b, stick)[0]["is_unchanged"]


def test_pull_takes_and_push_writes(shell: Shell, homes: tuple[Path, Path], stick: Path) -> None:
    a, b = homes
    put(shell, a, "x")
    exchange(shell, a, stick)
    pulled = exchange(shell, b, stick, "--action", "pull", "--json").json
    assert (pulled["offered"], pulled["taken"][0]["new"]) == (None, 3)
    pushed = exchange(shell, a, stick, "--action", "push", "--json").json
    assert (pushed["offered"]["is_new"], pushed["taken"]) == (False, [])
    for options in (("--action", "batch"), ("--force",), ("--node-id", "b"), ("--monitor", "--json"), ("--retry", "3")):
        assert exchange(shell, a, stick, *options).code == 2
    assert shell(*at(a, "sync", "--path", str(stick / "none"))).code == 2


def test_a_context_that_is_not_kept_any_more_is_no_news(shell: Shell, tmp_path: Path, stick: Path) -> None:
    home = tmp_path / "a"
    with live_node(home, "a") as live:
        put(shell, home, "x", "-c", "books")
        live.served.node.subscriptions.kept._listed = frozenset({"main"})  # as after a change of the configuration
        offered = [exchange(shell, home, stick, "--action", "push", "--json").json["offered"] for _ in range(2)]
        assert [each["is_new"] for each in offered] == [True, False]
        put(shell, home, "y")
        assert exchange(shell, home, stick, "--action", "push", "--json").json["offered"]["is_new"]


def test_files_of_others_are_told_apart_from_damaged_ones(shell: Shell, tmp_path: Path, stick: Path) -> None:
    far = MemberSecret.of_lone_key(bytes(32))
    with (
        live_node(tmp_path / "a", "a"),
        live_node(tmp_path / "b", "b"),
        live_node(tmp_path / "far", "far", far) as other,
    ):
        exchange(shell, tmp_path / "far", stick)
        (stick / ".hidden.echo").write_text("x")
        (stick / "folder.echo").mkdir()
        (stick / "gone.echo").symlink_to(stick / "nowhere")
        result = exchange(shell, tmp_path / "a", stick)
        assert result.code == 0, "a file of another network is nobody's fault"
        assert f"it is a file of the network {other.served.node.network}" in result.text
        (stick / "junk.echo").write_text("junk")
        assert exchange(shell, tmp_path / "a", stick).code == 0
        put(shell, tmp_path / "a", "x")
        exchange(shell, tmp_path / "a", stick)
        own = next(stick.glob(f"{shell(*at(tmp_path / 'a', 'status', '--json')).json['id']}.echo"))
        own.write_bytes(own.read_bytes()[:-10])
        result = exchange(shell, tmp_path / "b", stick)
        assert result.code == 3 and "it ends too early" in result.text
        assert result.err.endswith("echonode: not all of 1 file was taken in\n")
        assert shell(*at(tmp_path / "b", "list", "--json")).json_lines, "what was verified is kept"


def test_a_conflict_is_one_here_too(shell: Shell, homes: tuple[Path, Path], stick: Path) -> None:
    a, b = homes
    for home, value in ((a, "of a"), (b, "of b")):
        assert shell(*at(home, "put", "shared/plan", value)).code == 0
    exchange(shell, a, stick)
    result = exchange(shell, b, stick)
    assert result.code == 3 and "1 record in conflict; to see them, type: echonode conflicts" in result.err


def test_a_node_whose_store_was_put_back_takes_its_own_file_before_it_writes_it(
    shell: Shell, tmp_path: Path, stick: Path
) -> None:
    with live_node(tmp_path / "a", "a") as a:
        put(shell, tmp_path / "a", "x")
        exchange(shell, tmp_path / "a", stick)
        lose(a)
        assert shell(*at(tmp_path / "a", "list", "--json")).json_lines == []
        (row,) = taken(shell, tmp_path / "a", stick)
        assert row["new"] == 1
        assert len(shell(*at(tmp_path / "a", "list", "--json")).json_lines) == 1


def lose(live: LiveNode) -> None:
    """Take the records of `main` from a node, and give it a new instance, as a restored backup would."""
    node = live.served.node

    async def work() -> None:
        keys = [key for key, _ in node.store.tree("main").leaves_at(b"")]
        await node.store.forget("main", keys, lambda _: False)
        await node.records.renew_instance()

    live.do(work())


def test_a_watched_folder_tells_what_moved_until_ctrl_c(
    shell: Shell, homes: tuple[Path, Path], stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = homes
    rounds = []

    def sleep(seconds: float) -> None:
        rounds.append(seconds)
        if len(rounds) == 2:
            put(shell, a, "news")
            exchange(shell, a, stick)
            (stick / "junk.echo").write_text("junk")
        if len(rounds) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr("echonode.cli.folder_sync.time.sleep", sleep)
    result = exchange(shell, b, stick, "--monitor")
    assert (result.code, len(result.text.splitlines())) == (0, 3), "one table, of two rows"
    assert result.err.startswith(f"watching {stick}; Ctrl-C ends it\n")
    assert roots(shell, b)["main"] == roots(shell, a)["main"]


def test_a_folder_that_takes_nothing_is_named(shell: Shell, homes: tuple[Path, Path], stick: Path) -> None:
    me = shell(*at(homes[0], "status", "--json")).json["id"]
    (stick / f".{me}.taken.json").mkdir()
    result = exchange(shell, homes[0], stick)
    assert result.code == 0 and f"{stick} cannot be written: its files are read anew the next time\n" in result.err
    (stick / f"{me}.echo").unlink()
    (stick / f"{me}.echo").mkdir()
    result = exchange(shell, homes[0], stick)
    assert result.code == 1 and f"{stick}/{me}.echo cannot be written: is a directory\n" in result.err


def test_a_file_that_is_taken_away_meanwhile_stops_nothing_and_a_folder_that_is_does(tmp_path: Path) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()
    exchanging = FolderSync(None, str(folder), takes=True, offers=True)  # type: ignore[arg-type]  # nothing is asked for
    assert exchanging._look_at(folder / "gone.echo") is None
    folder.rmdir()
    with pytest.raises(FileNotFoundError):
        exchanging._look_at(folder / "gone.echo")
