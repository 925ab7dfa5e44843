"""watch from the change log: cursors kept under a name, and programs that are run for each change."""

import subprocess
import sys
from pathlib import Path

import pytest

from echonode.cli.commands import watch
from echonode.cli.exit_codes import ExitCode
from tests.cli.harness import Shell, live_node, refusal, scripted_server


def follow(shell: Shell, *options: str) -> list[str]:
    """Return the addresses of the changes that a watch shows."""
    result = shell("watch", *options)
    assert result.code == 0, result
    return [line.split("  ")[2] for line in result.text.splitlines()]


def test_a_watch_goes_on_where_its_name_ended(shell: Shell) -> None:
    home = shell.services.default
    with live_node(home):
        cursor = shell("put", "before", "x").code
        assert cursor == 0
        assert follow(shell, "--since", "start", "--limit", "1") == ["me/before"]
        assert follow(shell, "--name", "hook", "--since", "start", "--limit", "1") == ["me/before"]
        for number in range(3):
            shell("put", f"n{number}", "x", "--tag", "even" if number % 2 == 0 else "odd")
        shell("delete", "before")
        assert follow(shell, "--name", "hook", "--limit", "2") == ["me/n0", "me/n1"]
        result = shell("watch", "--name", "hook", "--limit", "2", "--json")
        assert [(each["name"], each["deleted"], each.get("body")) for each in result.json_lines] == [
            ("n2", False, "x"),
            ("before", True, None),
        ]
        last = result.json_lines[-1]["cursor"]
        assert (home / "watch" / "hook.cursor").read_text() == last + "\n"
        shell("put", "later", b"\xff".decode("latin-1"))
        assert follow(shell, "--since", last, "--limit", "1") == ["me/later"]
        assert follow(shell, "--since", "start", "--filter", "tag=odd", "--limit", "1") == ["me/n1"]
        assert "has a cursor already" in shell.fails(2, "watch", "--name", "hook", "--since", "start")


def test_a_program_is_run_for_each_change_until_it_succeeds(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_RETRY_S", (0.01, 0.02))
    log, failing = tmp_path / "log", tmp_path / "failing"
    said = f'echo "$ECHO_RECORD $ECHO_DELETED $ECHO_TAGS $(cat)" >> {log}'
    command = f"{said}; test ! -e {failing} || {{ rm {failing}; exit 3; }}"
    with live_node(shell.services.default):
        shell("put", "shared/a", "one", "--tag", "t", "--tag", "u")
        shell("put", "b", "two")
        shell("delete", "b")
        failing.touch()
        result = shell("watch", "--name", "hook", "--since", "start", "--exec", command, "--limit", "2")
        assert (result.code, result.out) == (0, b"")
        assert "shared/a: the program ended with 3; again in 0.01 s" in result.err
        assert log.read_text().splitlines() == ["shared/a 0 t u one", "shared/a 0 t u one", "me/b 1  "]
        shell("put", "c", "three")
        result = shell("watch", "--name", "hook", "--exec", "cat; exit 1", "--tries", "2", "--limit", "1")
        assert "me/c: the program ended with 1; passed over after 2 tries" in result.err
        assert "--tries is for --exec" in shell.fails(2, "watch", "--tries", "2")
        shell("put", "c", '{"a": 1}')
        command = f"{sys.executable} -c \"import json,sys; print(json.load(sys.stdin)['body'])\" > {log}"
        assert shell("watch", "--name", "hook", "--exec", command, "--json", "--limit", "1").code == 0
        assert log.read_text() == '{"a": 1}\n'


def test_a_watch_that_is_killed_runs_its_program_again(shell: Shell, tmp_path: Path) -> None:
    """The cursor moves behind a change only when the program has succeeded."""
    with live_node(shell.services.default):
        shell("put", "a", "x")
        script = "import sys; from echonode.app import main; sys.exit(main(sys.argv[1:]))"
        kill = [sys.executable, "-c", script, "--home", str(shell.services.default), "watch", "--name", "k"]
        kill += ["--since", "start", "--exec", "kill -9 $PPID"]
        killed = subprocess.run(kill, capture_output=True, timeout=60, check=False)
        assert killed.returncode == -9
        assert follow(shell, "--name", "k", "--since", "start", "--limit", "1") == ["me/a"]


def test_what_a_watch_cannot_do_is_said_plainly(shell: Shell) -> None:
    assert "not running; type: echonode run" in shell.fails(ExitCode.NOT_RUNNING, "watch", "--since", "now")
    with live_node(shell.services.default):
        assert "no cursor" in shell.fails(ExitCode.USAGE, "watch", "--since", "yesterday")
        assert "knows no colour" in shell.fails(ExitCode.USAGE, "watch", "--since", "now", "--filter", "colour=red")
        for name in ("../x", "", "a b", ".hidden", "n" * 65):
            if name:
                assert "A name is up to 64" in shell.fails(ExitCode.USAGE, "watch", "--name", name)
        with watch._bookmark(shell.services.default, "hook"):
            assert "another watch runs" in shell.fails(ExitCode.FAILED, "watch", "--name", "hook", "--limit", "1")
    answer = refusal("401 Unauthorized", "unauthorised", "who are you")
    (shell.services.default / "api.sock").unlink()
    with scripted_server(shell.services.default / "api.sock", answer):
        assert shell.fails(ExitCode.NOT_AUTHORISED, "watch", "--since", "now") == "who are you"
