"""The line of `systemctl status` for every kind of peer."""

from typing import Any

import pytest

from echonode.host.service_status import status_line
from echonode.model.identity import IdentityId
from echonode.node.views import PeerState, PeerView


def peer(name: str, state: PeerState = PeerState.CONNECTED, **more: Any) -> PeerView:
    values = {"in_sync": True, "reason": "", "in_step": False, **more}
    return PeerView(
        id=IdentityId(bytes(32)), name=name, state=state, address="", found_by="mdns", last_sync_ms=None, **values
    )


@pytest.mark.parametrize(
    ("peers", "said"),
    [
        ([], "no other node known"),
        ([peer("a")], "equal with 1 node"),
        ([peer("a"), peer("b", in_sync=None, in_step=True)], "equal with 2 nodes"),
        ([peer("a"), peer("b", in_sync=False)], "equal with 1 of 2 nodes, b: not equal yet"),
        (
            [peer("b\x1b[1m", PeerState.ABSENT, in_sync=None, reason="It does not answer.")],
            "equal with 0 of 1 node, b\\u001b[1m: It does not answer",
        ),
        ([peer("x", PeerState.OTHER_NETWORK), peer("y", PeerState.GONE)], "no other node known"),
        ([peer("x", PeerState.LEFT_OUT, in_sync=None), peer("a")], "equal with 1 node"),
        ([peer("x", PeerState.COPY), peer("a")], "a copy of this node runs elsewhere; equal with 1 node"),
    ],
)
def test_the_line_says_with_how_many_nodes_this_one_is_equal_and_why_not(peers: list[PeerView], said: str) -> None:
    assert status_line(peers, ["[::]:1"]) == f"{said}; listening on [::]:1"
    assert status_line(peers, ["[::]:1"], "trouble") == f"trouble; {said}; listening on [::]:1"
