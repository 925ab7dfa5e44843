"""Back-off: how long to wait before the next dial, comparison or link. Pure: draws, and keeps nothing.

Every wait is drawn (full jitter), so that nodes that failed together do not try again together.
"""

from dataclasses import dataclass
from typing import Final

from echonode.clock import Entropy
from echonode.limits import (
    BACKOFF_S,
    CHANGE_DELAY_S,
    COMPARE_INTERVAL_S,
    COMPARE_INTERVAL_S_MAX,
    LINK_RETRY_S,
    LOST_AT_ONCE,
    LOST_BACKOFF_S,
    LOST_BACKOFF_SHARE,
    STATIC_BACKOFF_S,
    UNEQUAL_COMPARE_INTERVAL_S,
)

_DOUBLINGS_MAX: Final = 30  # past every cap; a peer that is away for days fails to answer more often than floats double


@dataclass(frozen=True, slots=True)
class Backoff:
    """Draws waits, in seconds, from `entropy`."""

    entropy: Entropy

    def redial_s(self, failures: int) -> float:
        """Return the wait after so many failed dials in a row: uniform(0, min(300 s, 1 s * 2^failures))."""
        base_s, cap_s = BACKOFF_S
        return self.entropy.uniform(0, min(cap_s, base_s * _doublings(failures)))

    def redial_lost_s(self, failures: int, *, absence_s: float, lost: int) -> float:
        """Return the wait for a peer that was there `absence_s` ago, where `lost` peers are away now.

        What parted the nodes mostly parts them for a while, and nothing tells when it ends: the wait is a small share
        of the absence. It is as above for a peer that is away for a day.
        """
        base_s, cap_s = BACKOFF_S
        share_s = max(LOST_BACKOFF_S, LOST_BACKOFF_SHARE * absence_s) * max(1.0, lost / LOST_AT_ONCE)
        return self.entropy.uniform(0, min(cap_s, share_s, base_s * _doublings(failures)))

    def redial_static_s(self, failures: int, *, is_answered: bool) -> float:
        """Return the wait before a configured address is dialled again: short, so that it is met soon after it is up.

        When a machine answered and no session came of it, the wait grows to the cap.
        """
        base_s, silent_cap_s, cap_s = STATIC_BACKOFF_S
        return self.entropy.uniform(base_s, min(cap_s, silent_cap_s * _doublings(failures if is_answered else 0)))

    def redial_declined_s(self, declined: int) -> float:
        """Return the wait after so many dials in a row that were answered and not wanted.

        As a rule the session that the peer prefers is seen here in a moment. If not, it exists only at the other end.
        """
        return self.entropy.uniform(0, min(BACKOFF_S[1], CHANGE_DELAY_S * _doublings(declined)))

    def compare_s(self, others: int) -> float:
        """Return the wait until a peer is compared with again, where `others` peers take turns."""
        return self.entropy.uniform(*COMPARE_INTERVAL_S) * max(1, others)

    def stretched_s(self, wait_s: float, others: int) -> float:
        """Return twice that wait, up to COMPARE_INTERVAL_S_MAX for each of `others` peers that take turns."""
        return max(wait_s, min(2 * wait_s, COMPARE_INTERVAL_S_MAX * max(1, others)))

    def suspect_s(self, fruitless: int) -> float:
        """Return the least time between comparisons with a linked peer whose root stays another."""
        return min(UNEQUAL_COMPARE_INTERVAL_S * _doublings(max(0, fruitless - 1)), COMPARE_INTERVAL_S_MAX)

    def relink_s(self, losses: int) -> float:
        """Return the wait after so many attempts in a row that led to no link that lasted."""
        base_s, cap_s = LINK_RETRY_S
        return self.entropy.uniform(0, min(cap_s, base_s * _doublings(losses)))


def _doublings(times: int) -> float:
    return 2.0 ** min(times, _DOUBLINGS_MAX)
