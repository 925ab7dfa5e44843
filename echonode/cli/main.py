"""The command `echonode`: its commands, and the exit code of each way to end.

    main(services, args) -> exit code         data on stdout, everything else on stderr, never a traceback

This module imports click and the standard library's light parts only. A command imports the rest when it runs: `--help`
should take 80 ms, `status` 150 ms.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import click

from echonode.cli.command_table import ECHO_SYNC, CommandGroup, load
from echonode.cli.exit_codes import ExitCode, exit_code_of
from echonode.cli.program import COMPLETE_VARIABLE, PROGRAM
from echonode.errors import EchonodeError
from echonode.text import escape

if TYPE_CHECKING:
    from echonode.cli.services import Services

_SENTENCE_CHARS_MAX: Final = 1000


def commands(services: "Services") -> click.Group:
    """Return the command group of a process with these services."""

    @click.group(
        cls=CommandGroup,
        help="Keeps sets of signed records the same on every machine of a network, without a server.",
        epilog="\b\nExamples:\n  echonode put shared/todo milk\n  echonode status\n\n"
        "Exit codes: 0 done (sync: verified equal), 1 failed, 2 usage, 3 partial or conflicts left, "
        "4 timed out, 5 the node is not running, 6 not authorised. "
        "Environment: ECHO_HOME, ECHO_API_URL=unix:/PATH or http://127.0.0.1:PORT with ECHO_TOKEN, ECHO_DEBUG=1.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    @click.option(
        "--home",
        type=click.Path(file_okay=False),
        help="Everything of one node in this folder (ECHO_HOME). It may also stand after the command.",
    )
    @click.version_option(services.version, prog_name=PROGRAM, message="%(prog)s %(version)s")
    @click.pass_context
    def echonode(ctx: click.Context, home: str | None) -> None:
        from echonode.cli.node_lookup import NodeLookup

        ctx.obj = NodeLookup(services, home)

    return echonode


def main(services: "Services", args: Sequence[str] | None = None, *, program: str = PROGRAM) -> int:
    """Run the command that `args` (by default sys.argv[1:]) spell, and return its exit code.

    `program` is `echonode`, or `echo-sync`, which is one command.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # the parent process closed it, as by `>&-`
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  for the life of the process
    for stream in (sys.stdout, sys.stderr):
        # A character that an old terminal's encoding lacks is escaped, and no error.
        with suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        chosen = commands(services) if program == PROGRAM else load(ECHO_SYNC)
        code = _invoke(chosen, sys.argv[1:] if args is None else list(args), program, services)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _discard_output()
        return ExitCode.READER_GONE
    except (KeyboardInterrupt, click.Abort):
        return ExitCode.INTERRUPTED
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        return _print_error(_usage_error(error), error.exit_code)
    except EchonodeError as error:
        return _print_error(str(error), exit_code_of(error))
    except UnicodeEncodeError:
        return _print_error("an argument holds bytes that are not text in UTF-8", ExitCode.USAGE)
    except OSError as error:
        where = f": {error.filename}" if error.filename else ""
        return _print_error(f"{error.strerror or error}{where}", ExitCode.FAILED)
    except MemoryError:
        return _print_error("there is not enough memory for this", ExitCode.FAILED)
    except Exception as error:
        return _print_error(
            f"this should not have happened ({type(error).__name__}: {error}); ECHO_DEBUG=1 shows where",
            ExitCode.FAILED,
        )


def _invoke(command: click.Command, args: list[str], program: str, services: "Services") -> int:
    lookup = None  # that of the group, once it runs
    if program != PROGRAM or COMPLETE_VARIABLE in os.environ:
        from echonode.cli.node_lookup import NodeLookup

        lookup = NodeLookup(services, None)
    if COMPLETE_VARIABLE in os.environ:
        command.main(args, prog_name=program, complete_var=COMPLETE_VARIABLE, obj=lookup)
    try:
        # command.main() would print usage errors in its own way, and turn a closed pipe into exit code 1.
        with command.make_context(program, args, obj=lookup) as ctx:
            result = command.invoke(ctx)
    except click.exceptions.Exit as end:
        return end.exit_code
    return result if isinstance(result, int) else ExitCode.DONE


def _usage_error(error: click.ClickException) -> str:
    message = error.format_message()
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    return f"{message} ({ctx.command_path} --help says more)" if ctx else message


def _print_error(sentence: str, code: int) -> int:
    """Print the error on stderr as one sentence, and return `code`."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()
    if os.environ.get("ECHO_DEBUG") == "1":
        import traceback

        traceback.print_exc()
    from echonode.cli.columns import terminal_width, wrap
    from echonode.cli.output import is_coloured

    with suppress(OSError):
        prefix = f"{PROGRAM}:"
        line, *more = wrap(escape(sentence, _SENTENCE_CHARS_MAX), terminal_width(sys.stderr), first=f"{prefix} ")
        if is_coloured(sys.stderr):
            line = click.style(prefix, fg="red") + line.removeprefix(prefix)
        print(line, *more, sep="\n", file=sys.stderr)
    return int(code)


def _discard_output() -> None:
    """Point stdout at nothing, so that the interpreter does not try to flush it again when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
