"""The checks of the machine around a node: each finds its fault, and says what to do."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from echonode.errors import ConfigError
from echonode.host.config import Config
from echonode.host.diagnosis import ERROR, FINE, WARNING, Check, diagnose
from echonode.host.files import NodeFiles
from echonode.host.firewall import read_rules
from echonode.host.home import Home
from echonode.host.multicast_echo import hears_itself

LISTENING = ("10.0.0.1:22087",)


@pytest.fixture
def files(tmp_path: Path) -> NodeFiles:
    home = Home(tmp_path / "home", tmp_path / "home" / "config.toml", tmp_path / "home" / "api.sock")
    files = NodeFiles(home)
    home.prepare()
    files.identity(bytes)
    return files


def checks(
    files: NodeFiles, config: Config | None = None, listening: tuple[str, ...] | None = LISTENING
) -> list[Check]:
    config = config or Config(mdns=False)
    return list(diagnose(files, lambda: config, listening))


def of(area: str, found: list[Check]) -> Check:
    return next(check for check in found if check.area == area)


def test_a_home_that_is_well_is_fine(files: NodeFiles) -> None:
    found = checks(files)
    for area in ("configuration", "home", "port", "disk", "mdns"):
        assert of(area, found).verdict == FINE, found


def test_a_configuration_with_a_mistake_is_an_error(files: NodeFiles) -> None:
    def load() -> Config:
        raise ConfigError("config.toml: there is no setting 'colour'")

    check = of("configuration", list(diagnose(files, load, LISTENING)))
    assert (check.verdict, check.text) == (ERROR, "config.toml: there is no setting 'colour'")


@pytest.mark.parametrize("spoil", ["keys/device", "."])
def test_a_home_that_others_may_read_or_write_is_an_error(files: NodeFiles, spoil: str) -> None:
    (files.root / spoil).chmod(0o644 if spoil != "." else 0o777)
    check = of("home", checks(files))
    assert check.verdict == ERROR
    assert "chmod" in check.text


def test_no_home_yet_is_no_error(tmp_path: Path) -> None:
    home = Home(tmp_path / "none", tmp_path / "none" / "config.toml", tmp_path / "none" / "api.sock")
    assert of("home", checks(NodeFiles(home))).verdict == WARNING
    assert not (tmp_path / "none").exists()


def test_a_store_from_the_future_tells_that_the_clock_went_back(files: NodeFiles) -> None:
    store = files.home.store
    store.touch()
    assert "went back" not in of("clock", checks(files)).text
    os.utime(store, (time.time() + 7200, time.time() + 7200))
    check = of("clock", checks(files))
    assert check.verdict == WARNING
    assert "120 minutes" in check.text


@pytest.fixture
def taken() -> Iterator[int]:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_a_port_that_is_taken_is_an_error_where_it_was_asked_for(files: NodeFiles, taken: int) -> None:
    found = checks(files, Config(listen=f"127.0.0.1:{taken}", mdns=False), None)
    assert of("port", found).verdict == ERROR
    assert f"sport = :{taken}" in of("port", found).what_to_do


def test_a_node_that_listens_on_loopback_alone_is_reached_by_nobody(files: NodeFiles) -> None:
    found = checks(files, listening=("127.0.0.1:1",))
    assert of("port", found).verdict == WARNING
    assert of("addresses", found).verdict == WARNING


@pytest.mark.parametrize(
    ("rules", "hint"),
    [
        ("", None),
        ("chain input { type filter hook input priority 0; policy accept; }", None),
        ("chain input {\n policy accept;\n tcp dport 22087 drop\n}", "TCP port 22087"),
        ("chain input {\n policy accept;\n udp dport { 53, 5353 } reject\n}", "UDP port 5353"),
        ("chain input {\n policy accept;\n tcp dport 22088 drop\n}", None),
        ("chain input {\n type filter hook input priority 0; policy drop;\n tcp dport 22 accept\n}", "no rule accepts"),
        ("chain input {\n type filter hook input priority 0; policy drop;\n tcp dport { 22, 22087 } accept\n}", None),
    ],
)
def test_rules_that_keep_others_out_are_found(rules: str, hint: str | None) -> None:
    found = read_rules(rules, 22087)
    assert (found is None) == (hint is None)
    assert found is None or hint in found[0]


def test_loopback_hears_what_it_sends_and_an_address_of_nobody_does_not() -> None:
    assert hears_itself("127.0.0.1") == ""
    assert hears_itself("192.0.2.77") != ""
