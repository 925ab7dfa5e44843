"""All targets, by name."""

from typing import Final

from tests.fuzz import data, node, secured, wanting
from tests.fuzz.corpus import kept, regressions
from tests.fuzz.target import Target

TARGETS: Final = {target.name: target for target in (*data.TARGETS, *secured.TARGETS, *wanting.TARGETS, *node.TARGETS)}


def inputs(target: Target) -> list[bytes]:
    """All that a target begins with: generated, kept, and what once broke it."""
    return list(dict.fromkeys([*target.seeds(), *kept(target.name), *regressions(target.name)]))
