"""Time and entropy: the two ports, and the hybrid logical clock (Kulkarni et al., 2014; PROTOCOL.md §2.3).

A timestamp is one unsigned 64-bit number: milliseconds since the Unix epoch in the upper 48 bits, a logical count in
the lower 16. It orders versions for readers. It does not decide membership or trust.
"""

from typing import Final, NewType, Protocol

from echonode.limits import TIMESTAMP_AHEAD_MS_MAX

Timestamp = NewType("Timestamp", int)

TIMESTAMP_MAX: Final = 2**64 - 1
_LOGICAL_BITS: Final = 16


class Clock(Protocol):
    """The port for time. host/ implements it with the machine's clocks, sim/ with simulated ones."""

    def now_ms(self) -> int:
        """Return the wall time in milliseconds since the Unix epoch."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds that never go back, from an arbitrary start."""
        ...


class Entropy(Protocol):
    """The port for randomness. host/ implements it with the system's, sim/ with a seeded generator."""

    def random_bytes(self, size: int) -> bytes:
        """Return `size` random bytes."""
        ...

    def uniform(self, low: float, high: float) -> float:
        """Return a random number between `low` and `high`, for jitter."""
        ...


class HybridClock:
    """A clock whose timestamps grow, stay near the wall time, and follow every timestamp observed."""

    def __init__(self) -> None:
        self._latest = Timestamp(0)

    @property
    def latest(self) -> Timestamp:
        """The greatest timestamp issued or observed."""
        return self._latest

    def tick(self, now_ms: int) -> Timestamp:
        """Return a new timestamp, greater than all issued or observed before.

        If those are far ahead of the wall time, the clock was wrong when they were issued: then follow the wall time.
        """
        if is_ahead(self._latest, now_ms):
            self._latest = Timestamp(0)
        self._latest = Timestamp(max(self._latest + 1, now_ms << _LOGICAL_BITS))
        return self._latest

    def observe(self, seen: Timestamp, now_ms: int) -> bool:
        """Take note of a peer's timestamp. Return False, without effect, if it is too far ahead (see `is_ahead`)."""
        if is_ahead(seen, now_ms):
            return False
        self._latest = max(self._latest, seen)
        return True


def is_ahead(timestamp: Timestamp, now_ms: int) -> bool:
    """Return True if `timestamp` is more than `TIMESTAMP_AHEAD_MS_MAX` ahead: honest clocks do not differ as much."""
    return to_ms(timestamp) > now_ms + TIMESTAMP_AHEAD_MS_MAX


def to_ms(timestamp: Timestamp) -> int:
    """Return the wall-clock part of `timestamp`, in milliseconds since the Unix epoch."""
    return timestamp >> _LOGICAL_BITS
