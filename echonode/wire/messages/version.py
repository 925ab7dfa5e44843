"""The version of the protocol that this node speaks, (major, minor) (PROTOCOL.md §11)."""

from typing import Final

PROTOCOL_VERSION: Final = (1, 0)


def version_text(version: tuple[int, int]) -> str:
    """Return `version` as `major.minor`, the form that people and the field `supported` use."""
    return f"{version[0]}.{version[1]}"
