"""The exit codes of the commands, and which of them an error has."""

from enum import IntEnum

from echonode.client.errors import NotAllowed, NotRunning, Refused, TimedOut
from echonode.errors import ConfigError, EchonodeError


class ExitCode(IntEnum):
    """The exit code of a command, for scripts."""

    DONE = 0  # for `sync`: in sync, and verified
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    TIMED_OUT = 4
    NOT_RUNNING = 5
    NOT_AUTHORISED = 6
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it
    READER_GONE = 141  # 128 + SIGPIPE


class Failure(EchonodeError):
    """A command cannot do what was asked. The text is one sentence for a person."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code of a command that ends with this error."""
    match error:
        case Failure():
            return error.exit_code
        case ConfigError():
            return ExitCode.USAGE  # a service manager must not try the same again
        case NotRunning():
            return ExitCode.NOT_RUNNING
        case NotAllowed():
            return ExitCode.NOT_AUTHORISED
        case TimedOut():
            return ExitCode.TIMED_OUT
        case Refused():
            return _of_refusal(error)
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED
        case _:
            return ExitCode.FAILED


def _of_refusal(error: Refused) -> ExitCode:
    match error.status:
        case 400:
            return ExitCode.USAGE
        case 401 | 403:
            return ExitCode.NOT_AUTHORISED
        case 504:
            return ExitCode.TIMED_OUT
        case 503 if error.code == "stopping":
            return ExitCode.NOT_RUNNING
        case _:
            return ExitCode.FAILED
