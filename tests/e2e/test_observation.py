"""Two real nodes looked into: one summary line a conversation on both, what a trace tells, and no secret in any log."""

from functools import partial
from pathlib import Path

from tests.e2e.processes import NodeProcess, equal, wait_for

BODY = "the-body-of-a-record"


def test_real_nodes_tell_what_happened_and_give_no_secret_away(tmp_path: Path) -> None:
    here, there = nodes = [NodeProcess(tmp_path / name, name, mdns=False) for name in ("here", "there")]
    try:
        here.start()
        code = here.cli("invite").stdout.decode().strip()
        there.start("--join", code, "--at", here.address())
        here.cli("put", "shared/todo", BODY)
        wait_for(partial(equal, nodes, "main", "identities"))

        # One line a conversation, with the same session on both nodes.
        completed = [{(line["session"], line["context"]) for line in node.events("sync.completed")} for node in nodes]
        assert completed[0] & completed[1]

        # The node tells more than it has written.
        assert not here.events("records.applied")
        kept = here.lines_of("logs", "--level", "debug")
        assert "records.applied" in {line["event"] for line in kept}
        here.cli("log-level", "debug", "--for", "10m", "--peer", "there")
        there.cli("put", "shared/other", BODY)
        wait_for(lambda: [line for line in here.events("records.applied") if line["context"] == "main"])

        # A conversation on both clocks, and reasons.
        (tmp_path / "trace.json").write_bytes(there.cli("trace", "here", "--json").stdout)
        shown = here.cli("trace", "there", "--other", str(tmp_path / "trace.json")).stdout.decode()
        assert "Hello" in shown
        assert "The clocks agree to " in shown
        wait_for(lambda: here.json("why", "there")["findings"][0]["reason"] == "equal")
        assert "here" in {finding["reason"] for finding in here.json("why", "shared/other")["findings"]}

        # Nothing that is secret is in any of it.
        secret = here.cli("network", "show").stdout.decode().strip()
        token = here.cli("api", "token").stdout.decode().strip()
        everything = [here.log(), there.log(), shown, (tmp_path / "trace.json").read_text()]
        everything += [node.cli("logs", "--level", "debug", "--json").stdout.decode() for node in nodes]
        for text in everything:
            for hidden in (BODY, secret, token, code):
                assert hidden and hidden not in text
    finally:
        for node in nodes:
            node.stop()
