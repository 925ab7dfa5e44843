"""The network secret in a home: whole, or the lone key of an earlier version."""

from pathlib import Path

import pytest

from echonode.errors import ConfigError
from echonode.host.files import NodeFiles
from echonode.host.home import Home, write_secret
from echonode.model.member_secret import MemberSecret

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


def test_the_lone_key_of_an_earlier_home_gets_its_derived_seed_and_keeps_it(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    write_secret(files.home.network, KEY)
    secret = files.read_member_secret()
    assert secret == MemberSecret.of_lone_key(KEY)
    assert files.home.network.read_bytes() == KEY, "a command that reads changes nothing"
    files.keep_pool_seed()
    assert files.home.network.read_bytes() == secret.to_bytes()
    assert files.read_member_secret() == secret


@pytest.mark.parametrize("size", [0, 31, 33, 63, 65])
def test_a_secret_of_another_length_is_damaged(tmp_path: Path, size: int) -> None:
    files = files_in(tmp_path)
    write_secret(files.home.network, bytes(size))
    with pytest.raises(ConfigError, match="damaged"):
        files.read_member_secret()
