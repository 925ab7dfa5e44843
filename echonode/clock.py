"""Time and entropy as values: the two ports, and the hybrid logical clock (Kulkarni et al., 2014).

A timestamp is one unsigned 64-bit number: milliseconds since the Unix epoch in the upper 48 bits, a logical count in
the lower 16. It orders versions for readers; it decides nothing about membership or trust.
"""

from typing import Final, NewType, Protocol

from echonode.limits import TIMESTAMP_AHEAD_MS_MAX

Timestamp = NewType("Timestamp", int)

TIMESTAMP_MAX: Final = 2**64 - 1
_LOGICAL_BITS: Final = 16


class Clock(Protocol):
    """Where the shell hands time in."""

    def now_ms(self) -> int:
        """Wall time in milliseconds since the Unix epoch."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go back, from an arbitrary start."""
        ...


class Entropy(Protocol):
    """Where the shell hands randomness in."""

    def random_bytes(self, size: int) -> bytes:
        """`size` bytes, unpredictable in production and seeded in simulation."""
        ...

    def uniform(self, low: float, high: float) -> float:
        """A number between `low` and `high`, for jitter."""
        ...


class HybridClock:
    """Gives timestamps that grow, stay near wall time, and come after every timestamp observed."""

    def __init__(self, latest: Timestamp = Timestamp(0)) -> None:
        self._latest = latest

    @property
    def latest(self) -> Timestamp:
        """The greatest timestamp given or observed."""
        return self._latest

    def tick(self, now_ms: int) -> Timestamp:
        """A timestamp greater than all before it."""
        self._latest = Timestamp(max(self._latest + 1, now_ms << _LOGICAL_BITS))
        return self._latest

    def observe(self, seen: Timestamp, now_ms: int) -> bool:
        """Take note of a peer's timestamp. False, and no effect, when it lies too far ahead of `now_ms`."""
        if is_ahead(seen, now_ms):
            return False
        self._latest = max(self._latest, seen)
        return True


def is_ahead(timestamp: Timestamp, now_ms: int) -> bool:
    """Whether `timestamp` is further in the future than clocks on one network can honestly differ."""
    return to_ms(timestamp) > now_ms + TIMESTAMP_AHEAD_MS_MAX


def to_ms(timestamp: Timestamp) -> int:
    """The wall-clock part, in milliseconds since the Unix epoch."""
    return timestamp >> _LOGICAL_BITS
