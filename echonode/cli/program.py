"""The names of the program. `echonode --help` imports this and little else."""

from typing import Final

PROGRAM: Final = "echonode"
COMPLETE_VARIABLE: Final = f"_{PROGRAM.upper()}_COMPLETE"  # a shell that completes sets it
