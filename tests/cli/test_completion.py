"""The Tab key: names that a shell is offered, the scripts for the shells, and the manual page beside them."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest
from click.shell_completion import BashComplete

from echonode.cli.main import commands
from echonode.cli.node_lookup import NodeLookup
from echonode.cli.program import COMPLETE_VARIABLE
from echonode.manual.topics import TOPICS
from tests.cli.harness import LiveNode, Shell, live_node
from tests.cli.test_main import COMMANDS

SHELLS = ("bash", "zsh", "fish")


@pytest.fixture
def live(tmp_path: Path) -> Iterator[LiveNode]:
    with live_node(tmp_path / "home") as live:
        yield live


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the home folder of a user."""
    for name in ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "ZDOTDIR", "SHELL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    return tmp_path / "user"


def offered(shell: Shell, *words: str) -> list[str]:
    """Return what a shell is offered for the last of `words`."""
    *before, incomplete = words
    lookup = NodeLookup(shell.services, None)
    complete = BashComplete(commands(shell.services), {"obj": lookup}, "echonode", COMPLETE_VARIABLE)
    return [item.value for item in complete.get_completions(before, incomplete)]


def test_names_of_peers_contexts_and_records_are_offered(shell: Shell, live: LiveNode) -> None:
    live.served.node.peer_table.opened(bytes(32), "kitchen", "127.0.0.1:2", target=None, is_initiator=False)
    live.served.node.peer_table.opened(bytes([1]) * 32, "a b; rm", "127.0.0.1:3", target=None, is_initiator=False)
    for name in ("shared/todo", "shared/tomorrow", "plan"):
        shell("put", name, "1")
    shell("put", "novel", "1", "-c", "books")
    assert offered(shell, "get", "shared/to") == ["shared/todo", "shared/tomorrow"]
    assert offered(shell, "get", "me/") == ["me/plan"]
    assert offered(shell, "delete", "pl") == ["plan"]
    assert offered(shell, "get", "-c", "books", "n") == ["novel"]
    assert offered(shell, "list", "-c", "bo") == ["books"]
    assert offered(shell, "pull", "--from", "ki") == ["kitchen"]
    assert offered(shell, "trace", "") == ["kitchen"], "a name that a shell would take apart is not offered"
    assert offered(shell, "trace", "aaaa") == ["a" * 52]
    assert offered(shell, "why", "pl") == ["plan"]
    assert offered(shell, "lo") == ["logs", "log-level"]
    assert offered(shell, "logs", "--jo") == ["--journal"]


def test_another_home_is_asked_when_the_line_names_it(shell: Shell, tmp_path: Path) -> None:
    with live_node(tmp_path / "other") as other:
        other.served.node.peer_table.opened(bytes(32), "cellar", "127.0.0.1:2", target=None, is_initiator=False)
        assert offered(shell, "trace", "ce") == []
        assert offered(shell, "--home", str(tmp_path / "other"), "trace", "ce") == ["cellar"]
        assert offered(shell, "trace", "--home", str(tmp_path / "other"), "ce") == ["cellar"]


def test_without_a_node_nothing_is_offered(shell: Shell) -> None:
    for words in (("get", "x"), ("trace", "x"), ("list", "-c", "x")):
        assert offered(shell, *words) == []


@pytest.mark.parametrize("name", SHELLS)
def test_the_script_is_one_that_the_shell_can_read(shell: Shell, name: str, user: Path) -> None:
    script = shell("completion", "show", name).text
    assert f"{COMPLETE_VARIABLE}={name}_complete" in script
    path, page, *_ = shell("completion", "install", "--shell", name).text.splitlines()
    assert Path(path).read_text().rstrip() == script.rstrip()
    assert Path(path).is_relative_to(user)
    assert Path(page).name == "echonode.1"
    if program := which(name):
        subprocess.run([program, "-n", path], check=True, timeout=30, capture_output=True)


def test_zsh_is_told_where_to_look_until_its_file_says_so(shell: Shell, user: Path) -> None:
    user.mkdir()
    assert "fpath" in shell("completion", "install", "--shell", "zsh").err
    (user / ".zshrc").write_text("fpath+=(~/.zfunc)\nautoload -Uz compinit && compinit\n")
    assert "fpath" not in shell("completion", "install", "--shell", "zsh").err


def test_an_unknown_shell_and_a_place_that_cannot_be_written_are_said(
    shell: Shell, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    assert "--shell" in shell.fails(2, "completion", "install")
    user.write_text("a file")
    assert "cannot be written" in shell.fails(1, "completion", "install", "--shell", "bash")


def test_the_manual_page_has_every_command_and_topic(shell: Shell) -> None:
    page = shell("help", "--man").text
    for command in COMMANDS.split():
        assert f".SS echonode {command}".replace("-", "\\-") in page
    for topic in TOPICS:
        assert f".SH {topic.upper()}\n" in page
    macros = {"TH", "SH", "SS", "PP", "TP", "B", "nf", "fi"}
    assert {line[1:].split()[0] for line in page.splitlines() if line.startswith(".")} <= macros
    assert not any(line.startswith("'") for line in page.splitlines())
