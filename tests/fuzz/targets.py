"""The table of all targets, by name."""

from typing import Final

from tests.fuzz import crypto, filters, node, parsers
from tests.fuzz.corpus import kept, regressions
from tests.fuzz.target import Target

_ALL: Final = (*parsers.TARGETS, *crypto.TARGETS, *filters.TARGETS, *node.TARGETS)
TARGETS: Final = {target.name: target for target in _ALL}


def inputs(target: Target) -> list[bytes]:
    """Return the first inputs of a target: generated, kept, and those that once broke it."""
    return list(dict.fromkeys([*target.seeds(), *kept(target.name), *regressions(target.name)]))
