"""The version of the protocol that this node speaks (PROTOCOL.md §11)."""

from typing import Final

PROTOCOL_VERSION: Final = (1, 0)


def version_text(version: tuple[int, int]) -> str:
    """A version as people and `supported` have it."""
    return f"{version[0]}.{version[1]}"
