"""How a command ends: the exit codes (SEEDS.md A), and the one exception that carries one of them."""

from enum import IntEnum

from echonode.errors import EchonodeError


class ExitCode(IntEnum):
    """What a script learns."""

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
    """A command cannot do what it was asked; the text is one sentence for a person."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class NotRunning(Failure):
    """Nobody listens where the node should be."""

    def __init__(self, message: str) -> None:
        super().__init__(message, ExitCode.NOT_RUNNING)
