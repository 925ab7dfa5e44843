"""The address of the API's TCP listener: on this machine alone, at a port that is free."""

import socket

import pytest

from echonode.errors import ConfigError
from echonode.host import loopback
from echonode.host.loopback import bind_loopback, check_listen


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "127.0.0.2:0", "localhost:0"])
def test_a_loopback_address_is_listened_on(listen: str) -> None:
    listening, is_moved = bind_loopback(listen)
    assert listening is not None
    with listening:
        assert not is_moved
        with socket.create_connection(listening.getsockname()):
            pass


def test_off_is_no_listener() -> None:
    assert bind_loopback("off") == (None, False)


@pytest.mark.parametrize("listen", ["0.0.0.0:1", "[::]:1", "192.168.1.2:1", "host.example:1"])
def test_an_address_that_others_reach_is_refused_with_what_to_do(listen: str) -> None:
    with pytest.raises(ConfigError, match="SSH tunnel"):
        check_listen(listen)


def test_a_port_that_was_asked_for_and_is_taken_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=r"^api\.listen: cannot listen on .*: another program has that port"):
            bind_loopback(f"127.0.0.1:{port}")


def test_the_default_port_gives_way_when_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        monkeypatch.setattr(loopback, "DEFAULT_API_PORT", other.getsockname()[1])
        listening, is_moved = bind_loopback(None)
    assert listening is not None
    with listening:
        assert is_moved
        assert listening.getsockname()[0] == "127.0.0.1"
