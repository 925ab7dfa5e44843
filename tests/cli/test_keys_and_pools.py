"""key and pool, against a real node behind its real API."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from echonode.cli.exit_codes import ExitCode
from echonode.model.identity import SigningKey, identity_of
from echonode.model.known_pool import KnownPool
from echonode.model.root_export import export_root
from echonode.text import to_base32
from tests.cli.harness import FolderHome, LiveNode, Shell, live_node


@pytest.fixture
def live(shell: Shell) -> Iterator[LiveNode]:
    with live_node(shell.services.default) as live:
        yield live


def test_a_key_is_replaced_voided_and_its_records_are_signed_again(shell: Shell, live: LiveNode) -> None:
    first = to_base32(live.served.node.records.identity.device.public)
    assert shell("put", "a", "1").code == shell("put", "shared/b", "2").code == 0
    shown = shell("key", "list").text
    assert f"{first[:8]}  active  this device" in shown and "export-root" in shown
    assert shell("key", "list", "--json").json["keys"] == [{"key": first, "state": "active", "this_device": True}]
    refused = shell("key", "compromised", first)
    assert (refused.code, "key new" in refused.err) == (ExitCode.FAILED, True)
    new = shell("key", "new")
    assert new.text.strip() == to_base32(live.served.node.records.identity.device.public) != first
    assert first[:8] in new.err
    assert "is void on every node" in shell("key", "compromised", first[:8]).err
    assert shell("get", "a").code == ExitCode.FAILED
    assert "void" in shell("history", "a").text
    trial = shell("key", "resign", first, "--dry-run")
    assert "2 records would be signed again" in trial.err and "shared/b" in trial.text
    assert shell("get", "a").code == ExitCode.FAILED
    assert "2 records are signed again" in shell("key", "resign", first).err
    assert (shell("get", "a").text, shell("get", "shared/b").text) == ("1", "2")
    again = shell("key", "resign", first, "--json").json
    assert (again["records"], again["superseded"]) == ([], 2)
    assert "compromised already" in shell("key", "retire", first).err
    assert first[:8] in shell("key", "retire", "zzzz").err, "it says which keys there are"


def test_the_root_key_is_exported_removed_and_put_back(shell: Shell, live: LiveNode, tmp_path: Path) -> None:
    file = str(tmp_path / "root.txt")
    assert shell("key", "export-root", file, stdin=b"").code == ExitCode.USAGE
    done = shell("key", "export-root", file, "--remove", stdin=b"open sesame\n")
    assert done.code == 0 and "not on this machine any more" in done.err
    assert (tmp_path / "root.txt").stat().st_mode & 0o777 == 0o600
    assert shell("key", "export-root", file, stdin=b"x\n").code == ExitCode.USAGE, "no file is overwritten"
    assert "not on this machine" in shell("key", "list").text
    assert "--root FILE" in shell("key", "new").err
    wrong = shell("key", "new", "--root", file, stdin=b"sesame\n")
    assert (wrong.code, "not the passphrase" in wrong.err) == (ExitCode.FAILED, True)
    assert shell("key", "new", "--root", file, stdin=b"open sesame\n").code == 0
    assert shell("key", "import-root", file, stdin=b"open sesame\n").code == 0
    assert live.served.node.device_keys.has_root
    (tmp_path / "picture").write_bytes(bytes(range(256)))
    for other in ("picture", "nowhere"):
        assert shell("key", "import-root", str(tmp_path / other), stdin=b"x\n").code == ExitCode.FAILED


def test_a_root_key_is_imported_into_a_home_that_was_never_run(shell: Shell, tmp_path: Path) -> None:
    seed, other = b"s" * 32, b"t" * 32
    for name, each in (("root.txt", seed), ("other.txt", other)):
        (tmp_path / name).write_text(export_root(each, "p", bytes(40)))
    done = shell("key", "import-root", str(tmp_path / "root.txt"), stdin=b"p\n")
    assert done.code == 0 and "run --join" in done.err
    assert FolderHome(shell.services.default).root_identity() == identity_of(SigningKey(seed).public)
    refused = shell("key", "import-root", str(tmp_path / "other.txt"), stdin=b"p\n")
    assert (refused.code, "another node's home" in refused.err) == (ExitCode.FAILED, True)
    assert shell("key", "import-root", str(tmp_path / "root.txt"), stdin=b"q\n").code == ExitCode.FAILED


def test_pools_are_made_listed_managed_and_left(shell: Shell, live: LiveNode) -> None:
    assert "no pool but" in shell("pool", "list").err
    made = shell("pool", "create", "team")
    pool = made.text.strip()
    assert "invite --pool team" in made.err
    assert shell("put", "@team/plan", "nine").text == f"{pool}/plan\n"
    assert shell("get", "@team/plan").text == "nine"
    assert shell("list", "--author", "@team").code == 0
    shown = shell("pool", "list").text
    assert "@team: a closed pool, made here; this node may write" in shown and "member" in shown
    assert [each["label"] for each in shell("pool", "list", "--json").json["pools"]] == ["team"]
    assert shell("invite", "--pool", "team").code == 0
    asked = shell("pool", "ask", pool, "team")
    assert len(asked.text.strip()) == 256
    assert "1 member now" in shell("pool", "add", "team", asked.text).err
    assert "no node or pool" in shell("pool", "remove", "team", "stranger").err
    assert "0 members now" in shell("pool", "remove", "team", to_base32(live.served.node.id)).err
    assert "a member no more" in shell("put", "@team/plan", "ten").err
    assert "--for-good" in shell("pool", "leave", "team").err
    assert shell("pool", "leave", "team", "--for-good").code == 0
    assert shell("get", f"@{pool[:8]}/plan").text == "nine"
    assert shell("pool", "create", "family", "--common").code == 0
    assert "nobody can be removed" in shell("pool", "remove", "family", to_base32(live.served.node.id)).err
    assert shell("pool", "create", "me").code == ExitCode.FAILED


def test_pools_are_kept_as_they_were_and_nothing_else_is_taken_for_them() -> None:
    from echonode.model.identity import PoolKind
    from echonode.model.known_pool import pools_from_bytes, pools_to_bytes

    pools = (KnownPool.of_seed(PoolKind.COMMON, "a", b"1" * 32), KnownPool.of_seed(PoolKind.CLOSED, "b", b"2" * 32))
    assert pools_from_bytes(pools_to_bytes(pools)) == pools
    assert KnownPool.from_bytes(pools[0].to_bytes()) == pools[0]
    for data in (b"", b"\xff", b"\x00", pools[0].to_bytes()[:-1] + b"x"):
        with pytest.raises(ValueError, match=r"."):
            KnownPool.from_bytes(data)
        with pytest.raises(ValueError, match=r"."):
            pools_from_bytes(data)
