"""The exit codes of the commands, and the one exception that carries one of them."""

from enum import IntEnum

from echonode.errors import EchonodeError


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


class NotRunning(Failure):
    """No node listens where one should."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ExitCode.NOT_RUNNING)
