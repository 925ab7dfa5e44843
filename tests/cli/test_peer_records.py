"""pull, list --from, get --from and put --to, against two real nodes."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from echonode.cli.commands.peer_records import PullCursor
from echonode.cli.exit_codes import ExitCode
from echonode.model.identity import IdentityId
from echonode.model.record import Draft, leaf_key
from echonode.node import link_selection
from echonode.node.views import PeerView
from echonode.wire.messages import RecordRequest
from tests.api.test_peer_records import write_unheard
from tests.cli.harness import FakeServices, LiveNode, Shell, live_node
from tests.cli.test_commands import is_equal, meet


@pytest.fixture(autouse=True)
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Open no links, so that records move only on request."""
    monkeypatch.setattr(link_selection, "LINKS_CHOSEN", 0)
    monkeypatch.setattr(link_selection, "LINKS_ALL_MAX", 0)


@pytest.fixture
def far(shell: Shell, tmp_path: Path, no_links: None) -> Iterator[LiveNode]:
    """Yield another node, called far. It has met the near one, and holds records that the near one has not heard of."""
    with live_node(shell.services.default) as near, live_node(tmp_path / "far", "far") as far:
        near.do(meet(near, far))
        near.until(is_equal)
        for name, tag in (("a", "news"), ("b", "sport"), ("c", "news")):
            far.do(write_unheard(far.served, name, tag))
        yield far


@pytest.mark.usefixtures("far")
def test_pull_lists_what_the_peer_has_and_fetches_nothing(shell: Shell) -> None:
    result = shell("pull", "--from", "far", "--filter", "tag=news", "--filter", "pool=shared")
    assert [line.split()[0] for line in result.text.splitlines()] == ["shared/a", "shared/c"]
    assert result.code == 0 and "--after" in result.err
    after = result.err.split()[-1]
    assert shell("pull", "--from", "far", "--after", after).text == ""
    assert [one["id"] for one in shell("pull", "--from", "far", "--limit", "2", "--json").json_lines] == [
        "shared/a",
        "shared/b",
    ]
    assert "all of it" in shell("pull", "--from", "far", "--limit", "3").err
    assert shell("list", "--json").out == b""


@pytest.mark.usefixtures("far")
@pytest.mark.parametrize("step", [1, 2])
def test_a_limited_pull_gives_the_cursor_with_which_the_next_one_goes_on(shell: Shell, step: int) -> None:
    seen: list[str] = []
    after: list[str] = []
    for _ in range(5):
        part = shell("pull", "--from", "far", "--limit", str(step), *after, "--json")
        assert len(part.json_lines) <= step
        seen += [each["id"] for each in part.json_lines]
        after = ["--after", part.err.split()[-1]]
        if "all of it" in part.err:
            break
    assert seen == ["shared/a", "shared/b", "shared/c"]
    assert shell("pull", "--from", "far", *after).text == ""


def test_a_cursor_at_a_version_that_is_gone_lists_its_page_again() -> None:
    ids = [{"version": letter * 52} for letter in "abc"]
    assert PullCursor.read("7:aaaaaaaaaaaa").behind(ids) == ids[1:]
    assert PullCursor.read("7:cccccccccccc").behind(ids) == []
    assert PullCursor.read("7:dddddddddddd").behind(ids) == PullCursor.read("7").behind(ids) == ids
    assert str(PullCursor(7, "a" * 52)) == "7:aaaaaaaaaaaa" and str(PullCursor(7)) == "7"


@pytest.mark.parametrize("text", ["", "x", "-1", "1:", "1:a", "1:AAAAAAAA", "1:aaaaaaaa:b"])
def test_what_is_no_cursor_is_a_usage_error(shell: Shell, text: str) -> None:
    assert "no cursor" in shell.fails(ExitCode.USAGE, "pull", "--from", "far", "--after", text)


@pytest.mark.usefixtures("far")
def test_list_from_a_peer_is_pull_and_takes_the_options_of_both(shell: Shell) -> None:
    by_terms = ["--filter", "tag=sport", "--filter", "since=1h"]
    for more in (["--filter", "tag=sport"], ["--tag", "sport"], ["--tag", "sport", "--since", "2h"], by_terms):
        result = shell("list", "--from", "far", *more, "--json")
        assert [one["id"] for one in result.json_lines] == ["shared/b"], more
    assert shell("list", "--from", "far", "--limit", "1").text.startswith("shared/a")


@pytest.mark.usefixtures("far")
def test_get_from_a_peer_keeps_what_it_fetches(shell: Shell) -> None:
    shown = shell("get", "--from", "far", "shared/a", "shared/b")
    assert shown.code == 0 and "taken" in shown.text and shown.err == "2 versions\n"
    assert shell("get", "shared/a").out == b"x"
    partly = shell("get", "--from", "far", "shared/c", "shared/none")
    assert (partly.code, partly.err) == (ExitCode.PARTIAL, "1 version\nnot there: shared/none\n")
    version = shell("get", "--json", "shared/a").json["version"]
    assert shell("get", "--from", "far", "shared/a", "--version", version, "--json").json["missing"] == []


@pytest.mark.usefixtures("far")
def test_options_of_get_that_do_not_go_together_are_a_usage_error(shell: Shell) -> None:
    for args in (["a", "b"], ["a", "b", "--from", "far", "--version", "x"]):
        shell.fails(ExitCode.USAGE, "get", *args)
    assert "no version" in shell.fails(ExitCode.USAGE, "get", "a", "--from", "far", "--version", "x")


def test_put_to_a_peer_says_what_became_of_each(shell: Shell, far: LiveNode) -> None:
    shell("get", "--from", "far", "shared/a")
    far.served.node.subscriptions.subscribe({"main": ["tag=news"]}, far.served.node.addresses.resolve_in_filter)
    shown = shell("put", "--to", "far", "shared/a")
    assert (shown.code, shown.err) == (0, "1 version\n") and "had" in shown.text
    shell("put", "shared/unwanted", "1")
    refused = shell("put", "--to", "far", "shared/unwanted", "--json")
    assert refused.code == ExitCode.PARTIAL
    assert [(one["outcome"], one["reason"]) for one in refused.json["records"]] == [("refused", "not_accepted")]
    assert "there is no record" in shell.fails(1, "put", "--to", "far", "shared/none")


def test_what_a_peer_does_not_support_is_a_failure_that_says_what_it_does(shell: Shell, far: LiveNode) -> None:
    far.served.node.records.kept._listed = frozenset({"main"})
    sentence = shell.fails(1, "pull", "--from", "far", "-c", "films")
    assert sentence.startswith("not supported: ") and "identities" in sentence
    assert "no peer" in shell.fails(1, "pull", "--from", "nobody")
    assert "knows no colour" in shell.fails(ExitCode.USAGE, "pull", "--from", "far", "--filter", "colour=red")


def test_unwanted_records_are_forgotten_on_request_and_nothing_where_all_is_wanted(
    shell: Shell, far: LiveNode
) -> None:
    shell("get", "--from", "far", "shared/a", "shared/b")
    there = Shell(FakeServices(far.served.socket.parent))
    assert "all of main is wanted" in there.fails(1, "forget")
    far.served.node.subscriptions.subscribe({"main": ["tag=nothing"]}, far.served.node.addresses.resolve_in_filter)
    assert there("forget", "--json").json == {"forgotten": 0}  # the node wrote all of them itself
    far.do(far.served.node.records.put(Draft(context="main", author=far.served.node.id, name="own", body=b"x")))
    shell("put", "shared/ours", "1")
    far.do(far.served.node.on_demand.get(_only_peer(far), "main", [_asked(far, "ours")], 10))
    assert there("forget").err == "1 record forgotten\n"
    assert there("get", "own").out == b"x"


def _only_peer(far: LiveNode) -> IdentityId:
    async def peers() -> Sequence[PeerView]:
        return far.served.node.peers()

    (peer,) = far.do(peers())
    assert peer.id is not None
    return peer.id


def _asked(far: LiveNode, name: str) -> RecordRequest:
    assert far.served.node.records.shared is not None
    return RecordRequest(leaf_key(far.served.node.records.shared, name), None)
