"""config and help: every key with its value and origin, files that are checked and begun, pages that are shown."""


from echonode.cli.exit_codes import ExitCode
from tests.cli.harness import Shell


def test_every_key_is_shown_with_its_value_and_where_it_is_from(shell: Shell) -> None:
    path = shell.services.default / "config.toml"
    path.write_text('name = "kitchen\\u202e"\n[subscriptions]\nmain = ["tag=news"]\n[log]\nlevel = "debug"\n')
    lines_of_json = shell("config", "show", "--origin", "--json").json_lines
    shown = {line["key"]: (line["value"], line["origin"]) for line in lines_of_json}
    assert shown["name"] == ("kitchen\u202e", str(path))
    assert shown["listen"] == ("127.0.0.1:0", "ECHO_LISTEN")
    assert shown["subscriptions"] == ({"main": ["tag=news"]}, str(path))
    assert shown["log.level"] == ("debug", str(path))
    assert shown["mdns"] == (True, "default")
    lines = {line.split()[0]: line for line in shell("config", "show", "--origin").text.splitlines()}
    assert lines["KEY"].split() == ["KEY", "ORIGIN", "VALUE"]
    assert lines["name"].endswith('config.toml  "kitchen\\u202e"')
    assert lines["subscriptions"].endswith('{ "main" = ["tag=news"] }')
    assert lines["peers"].split() == ["peers", "default", "none"]
    assert set(lines) == {"KEY", *shown}
    assert "origin" not in shell("config", "show", "--json").json_lines[0]
    assert shell("config", "show").err == ""


def test_a_file_is_checked_without_running_a_node(shell: Shell) -> None:
    path = shell.services.default / "config.toml"
    assert shell("config", "check").err == f"there is no {path}: every key has its default\n"
    path.write_text("mdns = false\n")
    for more in ([], [str(path)]):
        result = shell("config", "check", *more)
        assert (result.code, result.err) == (0, f"{path} is fine\n")
    path.write_text('mdns = "perhaps"\n')
    for command in (["config", "check"], ["config", "check", str(path)], ["config", "show"]):
        assert shell.fails(ExitCode.USAGE, *command) == f"{path}: mdns: true or false is expected"
    shell.fails(ExitCode.USAGE, "config", "check", "no-such-file")


def test_a_file_to_begin_with_is_written_once(shell: Shell) -> None:
    path = shell.services.default / "config.toml"
    assert "to begin one, type: echonode config init" in shell("config", "show").err
    assert shell("config", "init").text == f"{path}\n"
    assert shell("config", "check").code == 0
    path.write_text("mdns = false\n")
    assert "already" in shell.fails(1, "config", "init")
    assert path.read_text() == "mdns = false\n"


def test_help_shows_pages_and_commands(shell: Shell) -> None:
    assert "ECHO_LOG_LEVEL" in shell("help", "configuration").text
    assert shell("help", "put").text.startswith("Usage: echonode put ")
    assert shell("help", "network", "show").text == shell("network", "show", "--help").text
    pages = shell("help").text
    assert "configuration" in pages
    assert max(map(len, pages.splitlines())) <= 80
    shell.fails(ExitCode.USAGE, "help", "nonsense")
    shell.fails(ExitCode.USAGE, "help", "put", "nonsense")
