"""The ends of a command, whatever happens in it; how it finds the node; what it imports."""

import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from echonode.cli import output
from echonode.cli.exit_codes import ExitCode
from echonode.cli.node_lookup import SERVICE_SOCKET
from echonode.errors import ConfigError, StoreError
from tests.api.serving import SECRET
from tests.cli.harness import FakeServices, Shell, http_answer, live_node, refusal, scripted_server

WITHIN_S = 60
COMMANDS = (
    "run invite join"
    " put get delete list history import export watch contexts forget"
    " status sync conflicts why open peers pull pause resume network pool key deny allow api"
    " doctor verify logs log-level trace support-bundle"
    " service config rename backup restore completion version help demo bench simulate"
)
INNER = (
    "completion show",
    "completion install",
    "service install",
    "service uninstall",
    "service status",
    "contexts forget",
    "peers forget",
    "peers approve",
    "peers reject",
    "pool list",
    "pool create",
    "pool ask",
    "pool add",
    "pool remove",
    "pool leave",
    "key list",
    "key new",
    "key retire",
    "key compromised",
    "key resign",
    "key export-root",
    "key import-root",
    "network show",
    "network set",
    "network rotate",
    "config show",
    "config check",
    "config init",
    "api token",
)
STATUS = {"id": "i", "name": "n", "instance": "x", "network": "w", "listen": [], "api": [], "contexts": [], "peers": []}


def test_home_may_stand_before_and_after_the_command_and_the_last_one_counts(shell: Shell, tmp_path: Path) -> None:
    shell("--home", str(tmp_path / "a"), "run")
    shell("run", "--home", str(tmp_path / "b"))
    shell("--home", str(tmp_path / "a"), "run", "--name", "x", "--home", str(tmp_path / "c"))
    assert [run.home.root.name for run in shell.services.runs] == ["a", "b", "c"]
    secret = SECRET.to_text()
    assert shell("network", "set", secret, "--home", str(tmp_path / "d")).code == 0
    assert shell("network", "--home", str(tmp_path / "d"), "show").text == f"{secret}\n"
    assert shell.fails(ExitCode.NOT_RUNNING, "peers", "--home", "/nowhere").endswith("echonode --home /nowhere run")


def test_the_version_is_the_one_handed_in(shell: Shell) -> None:
    assert shell("--version").text == "echonode 9.8.7\n"


def test_no_command_at_all_shows_the_help_and_is_a_usage_error(shell: Shell) -> None:
    result = shell()
    assert (result.code, result.out) == (ExitCode.USAGE, b"")
    assert result.err.startswith("Usage: echonode")


@pytest.mark.parametrize(
    "args",
    [
        ["nonsense"],
        ["--nonsense"],
        ["put"],
        ["put", "name"],
        ["put", "name", "value", "--file", __file__],
        ["put", "name", "value", "more"],
        ["put", "record", "--to", "peer", "--file", __file__],
        ["put", "record", "--to", "peer", "--tag", "t"],
        ["put", "name", "--file", "no-such-file"],
        ["get"],
        ["list", "--limit", "0"],
        ["list", "--since", "yesterday"],
        ["sync", "--action", "steal"],
        ["sync", "--timeout", "soon"],
        ["invite", "--uses", "0"],
        ["invite", "--expires", "0"],
        ["import"],
        ["import", "no-such-file"],
        ["network"],
        ["network", "set", "too-short"],
        ["peers", "forget"],
        ["run", "--open", "--join", "1-a-b"],
        ["run", "--at", "a:1"],
        ["run", "--log-level", "loud"],
        ["demo", "--nodes", "1"],
        ["demo", "--records", "many"],
        ["bench", "--records", "10"],
    ],
    ids=" ".join,
)
def test_what_is_typed_wrongly_is_one_sentence_and_exit_2(shell: Shell, args: list[str]) -> None:
    if args == ["network"]:
        assert shell(*args).code == ExitCode.USAGE  # it prints its help
    else:
        shell.fails(ExitCode.USAGE, *args)
    assert shell.services.runs == []


READING = ["status", "peers", "contexts", "conflicts", "list", "export", "verify", "watch", "sync", "invite"]


WRITING = (
    *("put x y", "delete x", "contexts forget x", "peers forget x", "peers approve x", "deny x"),
    *("rename x", "join 1-a-b"),
)


@pytest.mark.parametrize("command", [*READING, "get x", *WRITING])
def test_without_a_running_node_it_says_what_to_type(shell: Shell, command: str) -> None:
    sentence = shell.fails(ExitCode.NOT_RUNNING, *command.split())
    what = "run --join CODE" if command.startswith("join") else "run"
    assert sentence == f"the node is not running; type: echonode {what}"


def test_the_hint_names_the_home_that_was_named(shell: Shell, tmp_path: Path) -> None:
    home = str(tmp_path / "two words")
    assert shell.fails(ExitCode.NOT_RUNNING, "--home", home, "status").endswith(f"echonode --home '{home}' run")


@pytest.mark.parametrize(
    ("raised", "code", "sentence"),
    [
        (ConfigError("port 5 is taken"), 2, "port 5 is taken"),
        (StoreError("the database is corrupt"), 1, "the database is corrupt"),
        (OSError(28, "No space left on device", "store.db"), 1, "No space left on device: store.db"),
        (MemoryError(), 1, "there is not enough memory for this"),
        (ValueError("odd\nthing"), 1, r"this should not have happened \(ValueError: odd\\u000athing\); ECHO_DEBUG=1"),
        (ConfigError("\x1b[31mred\u202e"), 2, r"\\u001b\[31mred\\u202e"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_fails_is_one_plain_sentence(shell: Shell, raised: Exception, code: int, sentence: str) -> None:
    def fail() -> int:
        raise raised

    shell.services.run_gives = fail
    assert re.match(sentence, shell.fails(code, "run"))


@pytest.mark.parametrize(
    ("terminal", "variables", "is_coloured"),
    [(True, {}, True), (True, {"NO_COLOR": "1"}, False), (True, {"TERM": "dumb"}, False), (False, {}, False)],
)
def test_an_error_is_red_on_a_terminal_and_plain_elsewhere(
    tmp_path: Path, terminal: bool, variables: dict[str, str], is_coloured: bool
) -> None:
    ours, theirs = pty.openpty()
    done = subprocess.run(
        echonode("--home", str(tmp_path), "status"),
        env=environment(**{"TERM": "xterm", "NO_COLOR": "", **variables}),
        stdout=subprocess.PIPE,
        stderr=theirs if terminal else subprocess.PIPE,
        timeout=WITHIN_S,
        check=False,
    )
    os.close(theirs)
    text = os.read(ours, 65_536) if terminal else done.stderr
    os.close(ours)
    assert (b"\x1b[31mechonode:\x1b[0m the node is not running" in text) == is_coloured
    assert (b"\x1b" in text) == is_coloured
    assert b"the node is not running; type: echonode --home" in text


def on_terminal(tmp_path: Path, *args: str) -> bytes:
    """Return what a command writes on a terminal that is its stdout."""
    ours, theirs = pty.openpty()
    subprocess.run(
        echonode("--home", str(tmp_path / "home"), *args),
        env=environment(TERM="xterm"),
        stdout=theirs,
        timeout=WITHIN_S,
        check=True,
    )
    os.close(theirs)
    text = os.read(ours, 65_536)
    os.close(ours)
    return text.replace(b"\r\n", b"\n")


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b"milk", "milk\n"),
        (b"two\nlines\tand a tab\n", "two\nlines   and a tab\n"),
        (b"\x1b[31mred\x07\x9b\r", "\\u001b[31mred\\u0007\\x9b\\u000d\n"),
        ("\u202eeno\u0085".encode(), "\\u202eeno\\u0085\n"),
        ("grüß dich".encode(), "grüß dich\n"),
        (b"", ""),
    ],
)
def test_a_body_cannot_command_the_terminal_and_is_unchanged_elsewhere(
    shell: Shell, tmp_path: Path, body: bytes, shown: str
) -> None:
    with scripted_server(shell.services.default / "api.sock", http_answer(body)):
        if body:
            assert on_terminal(tmp_path, "get", "x").decode().expandtabs() == shown
        assert shell("get", "x").out == body


def test_the_traceback_is_shown_to_who_asks_for_it(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_DEBUG", "1")
    result = shell("status")
    assert result.code == ExitCode.NOT_RUNNING
    assert "Traceback" in result.err
    assert result.err.splitlines()[-1] == "echonode: the node is not running; type: echonode run"


def test_an_interrupted_command_ends_with_130_and_says_nothing(shell: Shell) -> None:
    def interrupted() -> int:
        raise KeyboardInterrupt

    shell.services.run_gives = interrupted
    result = shell("run")
    assert (result.code, result.out, result.err) == (130, b"", "")


def test_a_name_that_is_no_text_is_a_usage_error(shell: Shell) -> None:
    with scripted_server(shell.services.default / "api.sock", http_answer({})):
        shell.fails(ExitCode.USAGE, "get", b"\xff".decode("utf-8", "surrogateescape"))


def test_the_exit_code_of_a_node_is_the_exit_code_of_run(shell: Shell) -> None:
    shell.services.run_gives = lambda: 7
    assert shell("run").code == 7


# -- finding the node -------------------------------------------------------------------------------------------------


def test_flag_then_url_then_home_then_the_usual_one(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen() -> str:
        return str(shell("status", "--json").json["name"])

    def flagged() -> str:
        return str(shell("--home", str(tmp_path / "flag"), "status", "--json").json["name"])

    with (
        scripted_server(tmp_path / "flag" / "api.sock", http_answer({**STATUS, "name": "flag"})),
        scripted_server(tmp_path / "url.sock", http_answer({**STATUS, "name": "url"})),
        scripted_server(tmp_path / "variable" / "api.sock", http_answer({**STATUS, "name": "variable"})),
        scripted_server(shell.services.default / "api.sock", http_answer({**STATUS, "name": "default"})),
    ):
        assert seen() == "default"
        monkeypatch.setenv("ECHO_HOME", str(tmp_path / "variable"))
        assert seen() == "variable"
        monkeypatch.setenv("ECHO_API_URL", f"unix:{tmp_path}/url.sock")
        assert seen() == "url"
        monkeypatch.setenv("ECHO_API_URL", f"unix://{tmp_path}/url.sock")
        assert seen() == "url"
        assert flagged() == "flag"


def test_the_service_is_asked_when_no_home_was_named(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(SERVICE_SOCKET) == "/run/echonode/api.sock"
    service = shell.services.default / "service.sock"
    monkeypatch.setattr("echonode.cli.node_lookup.SERVICE_SOCKET", service)
    with scripted_server(service, http_answer({**STATUS, "name": "service"})):
        assert shell("status", "--json").json["name"] == "service"
        shell.fails(ExitCode.NOT_RUNNING, "--home", str(shell.services.default), "status")
        monkeypatch.setenv("ECHO_HOME", str(shell.services.default))
        shell.fails(ExitCode.NOT_RUNNING, "status")


@pytest.mark.parametrize(
    "url",
    ["https://127.0.0.1:80", "http://", "http://h:x", "http://h", "http://h:1/v1", "http://a@h:1", "unix:x", "x"],
)
def test_a_url_that_leads_nowhere_known_is_a_usage_error(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("ECHO_API_URL", url)
    assert "unix:/PATH" in shell.fails(ExitCode.USAGE, "status")


@pytest.mark.parametrize(
    ("variables", "code", "said"),
    [
        ({"ECHO_API_URL": "http://127.0.0.1:1"}, ExitCode.NOT_AUTHORISED, "ECHO_TOKEN is not set"),
        ({"ECHO_API_URL": "http://127.0.0.1:1", "ECHO_TOKEN": "a b"}, ExitCode.NOT_AUTHORISED, "is no token"),
        ({"ECHO_API_URL": "http://127.0.0.1:1", "ECHO_TOKEN": "a"}, ExitCode.NOT_RUNNING, "http://127.0.0.1:1"),
        ({"ECHO_API_URL": "http://no.such.invalid:1", "ECHO_TOKEN": "a"}, ExitCode.FAILED, "no.such.invalid"),
        ({"ECHO_TOKEN": "a"}, ExitCode.USAGE, "ECHO_API_URL is not"),
    ],
)
def test_half_of_a_url_and_a_token_is_one_sentence(
    shell: Shell, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], code: ExitCode, said: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert said in shell.fails(code, "status")


def test_a_url_and_the_token_lead_to_a_node_over_tcp(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with live_node(tmp_path / "home", api_listen="127.0.0.1:0"):
        printed = shell("api", "token")
        url = shell("api", "token", "--json").json["url"]
        assert printed.err == f"for programs:  ECHO_API_URL={url} ECHO_TOKEN=that\n"
        monkeypatch.setenv("ECHO_API_URL", url)
        monkeypatch.setenv("ECHO_TOKEN", printed.text.strip())
        assert shell("put", "a", "b").code == 0
        assert shell("get", "a").out == b"b"
        assert url in shell("status", "--json").json["api"]
        renewed = shell("api", "token", "--new")
        assert renewed.text != printed.text
        assert "echonode api token" in shell.fails(ExitCode.NOT_AUTHORISED, "get", "a")
        monkeypatch.setenv("ECHO_TOKEN", renewed.text.strip())
        assert shell("get", "a").out == b"b"


def test_the_token_of_a_stopped_node_is_read_and_replaced_in_its_home(shell: Shell) -> None:
    first = shell("api", "token")
    assert (first.code, first.err) == (0, "")
    assert shell("api", "token", "--json").json == {"token": first.text.strip(), "url": None}
    assert shell("api", "token", "--new").text != first.text


def test_who_is_named_by_a_url_and_silent_is_named_again(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_API_URL", "unix:/nowhere/api.sock")
    assert "unix:/nowhere/api.sock" in shell.fails(ExitCode.NOT_RUNNING, "status")


def test_a_refusal_of_the_node_is_passed_on(shell: Shell) -> None:
    answer = refusal("401 Unauthorized", "unauthorised", "who are you")
    with scripted_server(shell.services.default / "api.sock", answer):
        assert shell.fails(ExitCode.NOT_AUTHORISED, "status") == "who are you"


def test_what_only_reads_is_answered_from_the_store_of_a_stopped_node(shell: Shell, tmp_path: Path) -> None:
    said = "the node is not running: this is read from its store\n"
    shell.services.stopped = tmp_path / "stopped.sock"
    with scripted_server(shell.services.stopped, http_answer(b'{"name": "x"}\n')):
        for command in (["get", "x"], ["export"]):
            result = shell(*command)
            assert (result.code, result.out) == (0, b'{"name": "x"}\n')
            assert result.err.startswith(said)
        for command in (["put", "x", "y"], ["sync"], ["peers"], ["invite"]):
            assert "not running; type" in shell.fails(ExitCode.NOT_RUNNING, *command)
    with scripted_server(shell.services.stopped, http_answer({**STATUS, "api": ["/x"], "listen": ["a:1"]})):
        result = shell("status")
        assert (result.code, result.err) == (ExitCode.NOT_RUNNING, said)
        assert "listens on" not in result.text and "commands" not in result.text
        assert shell("status", "--json").json == STATUS


def test_a_node_whose_socket_is_gone_is_named_by_its_process(shell: Shell) -> None:
    (shell.services.default / "running").write_text("4711")
    shell.services.stopped = shell.services.default / "must-not-be-read"
    for command in (["status"], ["put", "x", "y"], ["get", "x"]):
        said = shell.fails(ExitCode.NOT_RUNNING, *command)
        assert "process 4711" in said and "is gone: stop and start it" in said


# -- processes --------------------------------------------------------------------------------------------------------


def environment(**more: str) -> dict[str, str]:
    return {**{key: value for key, value in os.environ.items() if not key.startswith("ECHO_")}, **more}


def echonode(*args: str) -> list[str]:
    return [sys.executable, "-m", "echonode", *args]


def test_the_commands_import_nothing_heavy() -> None:
    heavy = {"starlette", "uvicorn", "zeroconf", "aiosqlite", "sqlite3", "numpy", "structlog", "rich", "nacl", "cbor2"}
    heavy |= {"spake2", "msgspec", "asyncio", "h11", "socket", "tempfile"}
    script = "import sys, echonode.app, echonode.cli.main; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=WITHIN_S)
    assert heavy & set(done.stdout.split()) == set()


def test_a_shell_can_complete_commands() -> None:
    typed = environment(_ECHONODE_COMPLETE="bash_complete", COMP_WORDS="echonode con", COMP_CWORD="1")
    done = subprocess.run(echonode(), env=typed, capture_output=True, text=True, check=True, timeout=WITHIN_S)
    assert done.stdout.split() == ["plain,contexts", "plain,conflicts", "plain,config"]


def test_ctrl_c_ends_a_watch_with_130_and_not_a_word(tmp_path: Path) -> None:
    with live_node(tmp_path / "home") as live:
        url = f"unix:{tmp_path}/home/api.sock"
        watching = subprocess.Popen(
            echonode("watch"), env=environment(ECHO_API_URL=url), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert watching.stdout is not None
        # Changes before the command listens do not reach it: write until one does.
        lines: list[bytes] = []
        while not lines:
            live.do(live.served.put("x"))
            if _has_more(watching.stdout.fileno()):
                lines.append(watching.stdout.readline())
        watching.send_signal(signal.SIGINT)
        assert watching.wait(WITHIN_S) == ExitCode.INTERRUPTED
        assert watching.communicate()[1] == b""
    assert b"/x  written here" in lines[0]


def test_a_code_to_which_no_node_answers_is_doubted_while_the_search_goes_on(tmp_path: Path) -> None:
    """A wrong, spent or expired code looks like this while the inviting node is looked for on the LAN."""
    with scripted_server(tmp_path / "home" / "api.sock", b"", hangs_up=False):
        joining = subprocess.Popen(
            echonode("--home", str(tmp_path / "home"), "join", "7-crossover-clockwork"),
            env=environment(),
            stderr=subprocess.PIPE,
        )
        assert joining.stderr is not None
        line = joining.stderr.readline()
        assert joining.poll() is None
        joining.kill()
        joining.communicate()
    assert b"may be wrong, spent or expired" in line


def _has_more(descriptor: int) -> bool:
    return bool(select.select([descriptor], [], [], 0.2)[0])


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    with live_node(tmp_path / "home") as live:
        for number in range(20):
            live.do(live.served.put(f"{number}"))
        reader, writer = os.pipe()
        os.close(reader)
        url = f"unix:{tmp_path}/home/api.sock"
        for command in ("list", "status", "export", "get 3"):
            done = subprocess.run(
                echonode(*command.split()),
                env=environment(ECHO_API_URL=url),
                stdout=writer,
                stderr=subprocess.PIPE,
                timeout=WITHIN_S,
                check=False,
            )
            assert (done.returncode, done.stderr) == (ExitCode.READER_GONE, b""), command
        os.close(writer)


def test_a_full_disk_behind_stdout_is_one_sentence(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with live_node(tmp_path / "home"), open("/dev/full", "wb") as full:
        done = subprocess.run(
            echonode("status"),
            env=environment(ECHO_API_URL=f"unix:{tmp_path}/home/api.sock"),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=WITHIN_S,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"echonode: No space left on device\n")


# -- what people read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        (output.size(None), "0 B"),
        (output.size(999), "999 B"),
        (output.size(1000), "1.0 kB"),
        (output.size(999_949), "999.9 kB"),
        (output.size(999_950), "1.0 MB"),
        (output.size(5 * 10**9), "5.0 GB"),
        (output.size(5 * 10**12), "5.0 TB"),
        (output.seconds(0.0312), "31 ms"),
        (output.seconds(61), "61.0 s"),
        (output.seconds(600), "10 min"),
        (output.seconds(10_000), "3 h"),
        (output.seconds(400_000), "5 days"),
        (output.count(1, "node"), "1 node"),
        (output.count(2000, "node"), "2,000 nodes"),
        (output.moment("2026-11-22T12:00:00.999Z"), "2026-11-22 12:00:00Z"),
        (output.ago(None, 0), "never"),
        (output.ago("1970-01-01T00:01:00.000Z", 65), "5.0 s ago"),
        (output.ago("1970-01-01T00:01:00.000Z", 60), "just now"),
        (output.ago("1970-01-01T00:01:00.000Z", 10), "just now"),
        (output.ago("odd\x1b", 10), "odd\\u001b"),
        (output.short_id("a" * 52), "aaaaaaaa"),
        (output.short_id("a" * 52 + "/x/y"), "@aaaaaaaa/x/y"),
        (output.short_id("shared/x"), "shared/x"),
        (output.short_id(None), ""),
    ],
)
def test_figures_are_short(shown: str, wanted: str) -> None:
    assert shown == wanted


def test_services_are_all_that_a_command_line_needs(tmp_path: Path) -> None:
    from echonode.cli.main import main

    assert main(FakeServices(tmp_path), ["--version"]) == 0


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_output_that_was_closed_from_the_start_is_nothing_to_fail_over(closed: str) -> None:
    command = f"{shlex.quote(sys.executable)} -m echonode --version {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0
    assert done.stderr == ""


@pytest.mark.parametrize("command", ["put x -", "put x --file -", "import -", "network set", "network set -"])
def test_a_command_that_would_read_a_closed_stdin_says_so(tmp_path: Path, command: str) -> None:
    with live_node(tmp_path / "home"):
        line = f"{shlex.quote(sys.executable)} -m echonode --home {tmp_path}/home {command} <&-"
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False, timeout=WITHIN_S)
    assert done.returncode == ExitCode.USAGE
    assert done.stderr.startswith("echonode: stdin is closed; give a file or a value instead.")
