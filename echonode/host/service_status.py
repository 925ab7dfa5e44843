"""The line that `systemctl status` shows of a running node: its peers, whether they are equal, and if not, why.

equal with 2 nodes; listening on 0.0.0.0:22087
equal with 1 of 2 nodes, kitchen: does not answer; listening on 0.0.0.0:22087
"""

from collections.abc import Sequence
from typing import Final

from echonode.node.views import PeerState, PeerView
from echonode.text import escape, to_base32

_NOT_COUNTED: Final = (
    *(PeerState.OTHER_NETWORK, PeerState.COPY, PeerState.GONE),
    *(PeerState.PENDING, PeerState.REJECTED, PeerState.LEFT_OUT),
)
_ID_CHARS: Final = 8
_TEXT_CHARS_MAX: Final = 100


def status_line(
    peers: Sequence[PeerView], listening: Sequence[str], trouble: str = "", *, is_paused: bool = False
) -> str:
    """Return the line. `trouble` is what a person should know first, such as a configuration that was refused."""
    parts = [
        trouble,
        "paused with every peer" if is_paused else "",
        *map(_copy_warning, peers),
        equality(peers),
        f"listening on {', '.join(listening)}",
    ]
    return "; ".join(part for part in parts if part)


def equality(peers: Sequence[PeerView]) -> str:
    """Return with how many nodes of the network this one is equal, and of one that is not equal, why."""
    ours = [peer for peer in peers if peer.state not in _NOT_COUNTED]
    unequal = [peer for peer in ours if not peer.in_sync and not peer.in_step]
    nodes = f"{len(ours)} node{'' if len(ours) == 1 else 's'}"
    if not ours:
        return "no other node known"
    if not unequal:
        return f"equal with {nodes}"
    first = unequal[0]
    reason = escape(first.reason or ("not equal yet" if first.in_sync is False else first.state.value), _TEXT_CHARS_MAX)
    return f"equal with {len(ours) - len(unequal)} of {nodes}, {_name(first)}: {reason.rstrip('.')}"


def _copy_warning(peer: PeerView) -> str:
    return "a copy of this node runs elsewhere" if peer.state is PeerState.COPY else ""


def _name(peer: PeerView) -> str:
    id_text = "" if peer.id is None else to_base32(peer.id)[:_ID_CHARS]
    return escape(peer.label or peer.name or id_text or peer.address, _TEXT_CHARS_MAX)
