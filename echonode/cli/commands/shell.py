"""completion: names and options for the Tab key of bash, zsh and fish, and the manual page beside it."""

import os
from pathlib import Path
from typing import Final

import click
from click.shell_completion import get_completion_class

from echonode.cli.exit_codes import Failure
from echonode.cli.help_text import examples
from echonode.cli.manual_page import manual_page
from echonode.cli.node_lookup import NodeLookup, pass_lookup
from echonode.cli.output import print_line, print_note, safe
from echonode.cli.program import COMPLETE_VARIABLE, PROGRAM

_SHELLS: Final = ("bash", "zsh", "fish")


@examples("completion install", "completion show zsh")
@click.group("completion")
def completion() -> None:
    """Let the Tab key of bash, zsh and fish complete commands, options, peers, contexts and records."""


@examples("completion show bash", "completion show fish > ~/.config/fish/completions/echonode.fish")
@completion.command("show", short_help="Print the script for a shell.")
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def show(ctx: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete."""
    print_line(_script(ctx, shell).rstrip())


@examples("completion install", "completion install --shell zsh")
@completion.command("install", short_help="Install it for this user.")
@click.option("--shell", type=click.Choice(_SHELLS), help="Instead of the shell that $SHELL names.")
@pass_lookup
@click.pass_context
def install(ctx: click.Context, lookup: NodeLookup, shell: str | None) -> None:
    """Install the completion for this user, and the manual page. A new shell has both."""
    shell = shell or Path(os.environ.get("SHELL", "")).name
    if shell not in _SHELLS:
        known = ", ".join(_SHELLS)
        raise click.UsageError(f"$SHELL names no shell that is known here: say which with --shell ({known}).")
    path = _write(_place(shell), _script(ctx, shell))
    text = manual_page(ctx.find_root(), lookup.services.version)
    page = _write(_data_folder() / "man" / "man1" / f"{PROGRAM}.1", text)
    print_line(str(path))
    print_line(str(page))
    if shell == "zsh" and not _is_in_zsh_path(path.parent):
        print_note(
            f"add these two lines to ~/.zshrc, before any other compinit:\n"
            f"  fpath+=({path.parent})\n  autoload -Uz compinit && compinit"
        )
    else:
        print_note(f"a new {shell} completes {PROGRAM} with the Tab key; the manual: man {PROGRAM}")


def _script(ctx: click.Context, shell: str) -> str:
    kind = get_completion_class(shell)
    assert kind is not None, "click knows these shells"
    root = ctx.find_root()
    # The class of click asks bash for its version; the script can be printed for another machine.
    return kind.source_template % kind(root.command, {}, PROGRAM, COMPLETE_VARIABLE).source_vars()


def _place(shell: str) -> Path:
    """Return where the shell looks for scripts of this user."""
    match shell:
        case "bash":
            return _data_folder() / "bash-completion" / "completions" / PROGRAM
        case "fish":
            return _folder("XDG_CONFIG_HOME", ".config") / "fish" / "completions" / f"{PROGRAM}.fish"
        case _:
            return Path(os.environ.get("ZDOTDIR") or _home()) / ".zfunc" / f"_{PROGRAM}"


def _is_in_zsh_path(folder: Path) -> bool:
    """Return True if ~/.zshrc names the folder already."""
    try:
        text = (folder.parent / ".zshrc").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return str(folder) in text or folder.name in text


def _data_folder() -> Path:
    return _folder("XDG_DATA_HOME", ".local/share")


def _folder(variable: str, usual: str) -> Path:
    base = os.environ.get(variable, "")
    return Path(base) if base.startswith("/") else _home() / usual


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise Failure("this user has no home folder: print the script with `completion show`") from None


def _write(path: Path, text: str) -> Path:
    """Write a file whole or not at all. Raises Failure."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise Failure(f"{safe(path)} cannot be written: {error.strerror}") from None
    return path
