"""The process tells of itself: alive, ready, and its settings."""

from pathlib import Path

from echonode.api.process_state import ProcessState
from echonode.host.config import effective, load_config
from tests.api.serving import run, serving


def test_a_supervisor_needs_no_token_and_is_told_why_a_node_is_not_ready(tmp_path: Path) -> None:
    trouble = ""
    state = ProcessState(lambda: trouble, lambda: [("log.level", "debug", "ECHO_LOG_LEVEL"), ("peers", (), "default")])

    async def test() -> None:
        nonlocal trouble
        async with serving(tmp_path, api_listen="127.0.0.1:0", state=state) as served:
            for ask in (served.ask, served.ask_tcp):
                trouble = ""
                assert (await ask("GET", "/healthz")).json() == {"status": "alive"}
                assert (await ask("GET", "/readyz")).json() == {"status": "ready"}
                trouble = "the disk does not take writes"
                answer = await ask("GET", "/readyz")
                assert (answer.status, answer.json()["reason"]) == (503, trouble)
                assert (await ask("GET", "/healthz")).status == 200
            assert (await served.ask_tcp("GET", "/v1/config")).status == 401
            assert (await served.ask("GET", "/v1/config")).json()["settings"] == [
                {"key": "log.level", "value": "debug", "origin": "ECHO_LOG_LEVEL"},
                {"key": "peers", "value": [], "origin": "default"},
            ]

    run(test)


def test_each_setting_that_applies_is_told_with_its_origin(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('name = "kitchen"\n')
    environ = {"ECHO_LISTEN": "127.0.0.1:0"}
    running = load_config(path, environ, {"log.level": "debug"})
    told = {key: (value, origin) for key, value, origin in effective(running, path, environ)}
    assert told["name"] == ("kitchen", str(path))
    assert told["listen"] == ("127.0.0.1:0", "ECHO_LISTEN")
    assert told["log.level"] == ("debug", "command line, or the file before it was changed")
    assert told["mdns"] == (True, "default")
    path.write_text("nonsense")
    told = {key: (value, origin) for key, value, origin in effective(running, path, environ)}
    assert told["name"] == ("kitchen", "command line, or the file before it was changed")
