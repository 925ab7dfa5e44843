"""deny, allow, peers --pending, approve and reject: what is typed, sent and said."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from echonode.cli.commands.status import verdict
from echonode.cli.exit_codes import ExitCode
from echonode.model.identity import IdentityId
from echonode.node.trust import Decisions, Pending, Policy, TrustSettings
from echonode.text import to_base32
from tests.cli.harness import LiveNode, Shell, http_answer, live_node, scripted_server
from tests.cli.test_answers import peer

PHONE, OTHER = IdentityId(b"1" * 32), IdentityId(b"2" * 32)


@pytest.fixture
def live(shell: Shell) -> Iterator[LiveNode]:
    with live_node(shell.services.default) as live:
        live.served.node.trust_control.load(TrustSettings(Policy.APPROVE, Decisions(denied={OTHER: ""})))
        live.served.node.peer_table.trust.note_pending(Pending(PHONE, "phone", "127.0.0.1:9", False, 1, 1))
        yield live


def test_a_node_that_waits_is_shown_with_its_whole_id_and_let_in_or_kept_out(shell: Shell, live: LiveNode) -> None:
    shown = shell("peers", "--pending")
    header, line = shown.text.splitlines()
    assert header.split() == ["NODE", "ID", "CAME", "ADDRESS"]
    assert line.split()[:2] == ["phone", to_base32(PHONE)]
    assert "peers approve NODE" in shown.err
    assert [each["id"] for each in shell("peers", "--pending", "--json").json["peers"]] == [to_base32(PHONE)]
    assert "1 node waits to be let in: echonode peers --pending." in shell("status").text
    assert "it waits to be let in; to do that, type: echonode peers approve phone" in shell("why", "phone").text
    assert "kept out; to let it in, type: echonode peers approve phone" in shell("peers", "reject", "phone").err
    assert shell("peers", "--pending").err == "no node waits to be let in\n"
    assert "rejected" in shell("peers").text
    assert " known," not in shell("status").text, "a node that was never let in was not met"
    assert "phone is let in" in shell("peers", "approve", "phone").err
    assert shell("peers", "--pending", "--json").json == {"peers": []}
    assert shell.fails(ExitCode.FAILED, "peers", "approve", "nobody") == "no node is known as nobody"


def test_who_is_denied_is_listed_with_where_that_was_decided(shell: Shell, live: LiveNode) -> None:
    assert "the records of phone are hidden here; to see them, type: echonode allow phone" in shell("deny", "phone").err
    rows = [line.split() for line in shell("deny").text.splitlines()[1:]]
    assert rows == [["-", to_base32(OTHER)[:8], "configuration"], ["phone", to_base32(PHONE)[:8], "here"]]
    assert [each["configured"] for each in shell("deny", "--json").json["denied"]] == [True, False]
    assert shell("deny", "@phone", "--json").json == {"denied": "phone"}
    assert shell("allow", "phone").err == "the records of phone are shown again\n"
    assert "phone is not denied" in shell.fails(ExitCode.FAILED, "allow", "phone")
    assert "trust.deny in the configuration" in shell.fails(ExitCode.FAILED, "allow", to_base32(OTHER))
    assert "is this node itself" in shell.fails(ExitCode.FAILED, "deny", "one")


def test_nobody_is_denied_at_first(shell: Shell) -> None:
    with scripted_server(Path(shell.services.default / "api.sock"), http_answer({"denied": []})):
        assert shell("deny").err == "nobody is denied: the records of every node are shown\n"


def test_nodes_that_are_not_let_in_do_not_count_as_unequal() -> None:
    waiting = [peer(state="pending", in_sync=None), peer(state="rejected", in_sync=None)]
    assert verdict([peer(), *waiting]).startswith("Equal with 1 node: all that are known. 1 node waits to be let in")
    assert verdict([*waiting, waiting[0]]).endswith("2 nodes wait to be let in: echonode peers --pending.")
