"""Work: what the requests of a peer cost here, in seconds of one core. It is charged to the peer that asked.

These are estimates, rounded up, of measured times (tests/bench). Estimates are the same in simulation, where no
processor's time can be read. Only what a peer has done for itself is charged: what this node asks for is not, nor is
the news that a peer brings.
"""

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

# Charges seconds of work. Returns at once, or, for a peer that asked for more than its share, when it has waited.
Charge: TypeAlias = Callable[[float], Awaitable[None]]

RECORD_SEEN_S: Final = 15e-6  # read from the log, decoded, and held against a filter
RECORD_FILTERED_S: Final = 4e-6  # held against a filter where it is stored, its row sorted and hashed
RECORD_SENT_S: Final = 8e-6  # read, encoded, sealed
RECORD_REFUSED_S: Final = 80e-6  # verified, and no news here
PART_S: Final = 10e-6  # a part of the tree described
LEAF_SKETCHED_S: Final = 3e-6  # a leaf that went into a sketch of one session
SYMBOL_S: Final = 2e-6  # a symbol subtracted and read
RANGE_BYTE_S: Final = 2e-6  # a byte of a reconciliation message, read or written


async def free(_: float) -> None:
    """Charge nothing."""
