"""sync and echo-sync: their options, what they ask the node, and what they show and export."""

import errno
import json
import os
from pathlib import Path

import pytest

from echonode.cli.command_table import ECHO_SYNC, ENTRIES, load
from echonode.cli.exit_codes import ExitCode, Failure
from echonode.cli.export_file import ExportFile
from echonode.cli.main import main
from tests.cli.harness import Shell, http_answer, scripted_server
from tests.cli.test_answers import synced

CONTESTED = {"record": "shared/x", "context": "main", "local": {"a": "\x1b[2J"}, "remote": None}


@pytest.fixture
def socket(shell: Shell) -> Path:
    return shell.services.default / "api.sock"


def test_both_commands_have_the_same_options() -> None:
    both = map(load, (ENTRIES["sync"], ECHO_SYNC))
    names = [{name for option in command.params for name in option.opts} for command in both]
    assert names[0] == names[1] | {"--path"}  # an exchange with files, where no node is asked
    assert names[1] >= {
        *("--node-id", "--action", "--force", "--strategy", "--filter", "--batch-size", "--priority", "--retry"),
        *("--timeout", "--monitor", "--exit-when-synced", "--metrics", "--verbose", "--export", "--json", "--home"),
    }


def test_echo_sync_pulls_unless_it_is_told_otherwise(shell: Shell, socket: Path) -> None:
    with scripted_server(socket, synced("verified")) as heard:
        assert main(shell.services, ["--json"], program="echo-sync") == 0
        assert main(shell.services, ["--action", "push"], program="echo-sync") == 0
    assert [json.loads(each.partition(b"\r\n\r\n")[2])["action"] for each in heard] == ["pull", "push"]
    assert main(shell.services, ["--help"], program="echo-sync") == 0
    assert main(shell.services, ["--no-such"], program="echo-sync") == ExitCode.USAGE


@pytest.mark.parametrize(
    "options",
    [
        ["--priority", "11"],
        ["--priority", "-1"],
        ["--retry", "0"],
        ["--batch-size", "0"],
        ["--timeout", "soon"],
        ["--action", "sideways"],
        ["--strategy", "coin"],
        ["--exit-when-synced"],
    ],
)
def test_an_option_out_of_its_range_is_a_usage_error(shell: Shell, options: list[str]) -> None:
    assert "--help" in shell.fails(ExitCode.USAGE, "sync", *options)


def test_conflicts_that_are_left_are_shown_with_both_sides_and_exit_3(shell: Shell, socket: Path) -> None:
    answer = json.loads(synced("verified").partition(b"\r\n\r\n")[2])
    answer |= {"conflicts": 102, "contested": [CONTESTED]}
    with scripted_server(socket, http_answer(answer)):
        result = shell("sync")
    assert result.code == ExitCode.PARTIAL
    assert "echonode conflicts" in result.err
    *_, row, more = result.text.splitlines()
    assert row.split() == ["shared/x", "main", '{"a":', '"\\u001b[2J"}', "(deleted)"]
    assert more == "and 101 more"


def test_an_export_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "sync.json"
    file.write_text("earlier")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    export = ExportFile(str(file))
    with monkeypatch.context() as disk:
        disk.setattr(os, "fsync", full)
        with pytest.raises(Failure, match="no space left on device; what the command did stays done"):
            export.write({"status": "success"})
    assert file.read_text() == "earlier"
    assert list(tmp_path.iterdir()) == [file]
    ExportFile(str(file)).write({"status": "success"})
    assert json.loads(file.read_text()) == {"status": "success"}


@pytest.mark.parametrize(
    ("status", "exported"),
    [("verified", "success"), ("partial", "partial"), ("failed", "error"), ("timed out", "timed out")],
)
def test_every_end_is_exported_with_a_status(
    shell: Shell, socket: Path, tmp_path: Path, status: str, exported: str
) -> None:
    file = tmp_path / "sync.json"
    with scripted_server(socket, synced(status)):
        code = shell("sync", "--metrics", "--export", str(file)).code
    written = json.loads(file.read_text())
    assert (written["status"], written["exit_code"]) == (exported, code)
    assert written["result"]["metrics"]["sent"] == 1234
