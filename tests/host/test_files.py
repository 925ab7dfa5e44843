"""The network secret in a home: whole, or the lone key of an earlier version."""

from pathlib import Path

import pytest

from echonode.errors import ConfigError
from echonode.host.files import NodeFiles
from echonode.host.home import Home, write_secret
from echonode.model.identity import IdentityId, PoolKind
from echonode.model.known_pool import KnownPool
from echonode.model.member_secret import MemberSecret
from echonode.model.past_networks import PastNetwork
from echonode.node.trust import Decisions
from echonode.text import to_base32

KEY = bytes(range(32))


def files_in(folder: Path) -> NodeFiles:
    home = Home.find(str(folder / "home"), {})
    home.prepare()
    return NodeFiles(home)


def test_a_secret_that_was_written_is_read_again(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    assert files.read_member_secret() is None
    files.write_member_secret(MemberSecret(KEY, b"s" * 32))
    files.keep_pool_seed()
    assert files.read_member_secret() == MemberSecret(KEY, b"s" * 32)
    assert files.home.network.read_bytes() == KEY + b"s" * 32


def test_a_move_that_the_power_ended_between_its_two_files_was_none(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    first, second, third = (MemberSecret(KEY, bytes([number]) * 32) for number in range(3))
    files.write_member_secret(first)
    files.move_to(second, [PastNetwork(first, 1, None)])
    files.move_to(third, [PastNetwork(first, 1, None), PastNetwork(second, 2, None)])
    files.write_member_secret(second)  # as it was before the second file was written
    assert files.read_past_networks() == (PastNetwork(first, 1, None),)


def test_the_lone_key_of_an_earlier_home_gets_its_derived_seed_and_keeps_it(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    write_secret(files.home.network, KEY)
    secret = files.read_member_secret()
    assert secret == MemberSecret.of_lone_key(KEY)
    assert files.home.network.read_bytes() == KEY, "a command that reads changes nothing"
    files.keep_pool_seed()
    assert files.home.network.read_bytes() == secret.to_bytes()
    assert files.read_member_secret() == secret


def test_decisions_about_nodes_are_read_again_and_a_damaged_file_decides_nothing(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    assert files.read_trust() == Decisions()
    one, two = IdentityId(b"1" * 32), IdentityId(b"2" * 32)
    decisions = Decisions().approve(one, "one").reject(two, "").deny(two, "two, \u00fc")
    files.write_trust(decisions)
    assert files.read_trust() == decisions
    assert "trust" in files.kept_files()
    path = files.home.folder / "trust"
    for damaged in (b"", b"{}", b'{"approved": {"x": ""}, "rejected": {}, "denied": {}}', path.read_bytes()[:-1]):
        path.write_bytes(damaged)
        with pytest.raises(ConfigError, match="trust is damaged: restore it from a copy, or delete it"):
            files.read_trust()


@pytest.mark.parametrize("size", [0, 31, 33, 63, 65])
def test_a_secret_of_another_length_is_damaged(tmp_path: Path, size: int) -> None:
    files = files_in(tmp_path)
    write_secret(files.home.network, bytes(size))
    with pytest.raises(ConfigError, match="damaged"):
        files.read_member_secret()


def test_keys_are_made_once_and_the_root_key_may_be_taken_off_the_machine(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    assert files.root_identity() is None
    seeds = iter((b"r" * 32, b"d" * 32))
    identity = files.identity(lambda size: next(seeds))
    assert files.identity(lambda size: next(seeds)).id == identity.id == files.root_identity()
    files.write_device_seed(b"e" * 32)
    files.write_root_seed(None, identity.root_public)
    assert not files.home.root_key.exists()
    away = files.identity(lambda size: next(seeds))
    assert (away.id, away.root, away.device.seed) == (identity.id, None, b"e" * 32)
    assert files.root_identity() == identity.id
    files.write_root_seed(b"r" * 32, identity.root_public)
    back = files.identity(lambda size: next(seeds))
    assert back.root is not None and back.root.seed == b"r" * 32


def test_a_missing_key_beside_a_store_is_not_made_anew(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    files.home.store.touch()
    with pytest.raises(ConfigError, match="root is missing"):
        files.identity(bytes)


def test_pools_are_kept_and_a_damaged_file_is_named(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    assert files.read_pools() == ()
    kinds = {"team": PoolKind.CLOSED, "home": PoolKind.COMMON}
    pools = tuple(KnownPool.of_seed(kind, label, label.encode() * 8) for label, kind in kinds.items())
    files.write_pools(pools)
    assert files.read_pools() == pools
    assert files.home.pools.stat().st_mode & 0o777 == 0o600
    write_secret(files.home.pools, b"nothing")
    with pytest.raises(ConfigError, match="pools is damaged"):
        files.read_pools()


def test_credentials_of_the_service_manager_give_a_new_home_its_network_and_its_token(tmp_path: Path) -> None:
    files, other = files_in(tmp_path), MemberSecret(b"o" * 32, b"p" * 32)
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    files.take_credentials({})
    files.take_credentials(environ)  # nothing is passed
    assert not files.has_network()
    (tmp_path / "echonode.network").write_text(MemberSecret(KEY, b"s" * 32).to_text() + "\n")
    (tmp_path / "echonode.api-token").write_text(to_base32(KEY) + "\n")
    files.take_credentials(environ)
    assert (files.read_member_secret(), files.api_token()) == (MemberSecret(KEY, b"s" * 32), to_base32(KEY))
    files.home.api_token.write_bytes(b"damaged")
    files.take_credentials(environ)
    assert files.api_token() == to_base32(KEY)
    files.write_member_secret(other)  # as a rotation does
    files.take_credentials(environ)
    assert files.read_member_secret() == other


@pytest.mark.parametrize("name", ["echonode.network", "echonode.api-token"])
@pytest.mark.parametrize("content", [b"short", b"\xff\xfe"])
def test_a_credential_that_cannot_be_used_is_named_and_not_shown(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=name) as caught:
        files_in(tmp_path).take_credentials({"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert "short" not in str(caught.value)
