"""The page about Python is true: its examples are run, and print what they should."""

import re
import textwrap
from pathlib import Path

import pytest

from echonode.manual.python import PYTHON
from tests.cli.harness import live_node


def test_every_example_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ECHO_LISTEN", "127.0.0.1:0")
    monkeypatch.setenv("ECHO_MDNS", "false")
    monkeypatch.delenv("ECHO_TOKEN", raising=False)
    source = "\n".join(textwrap.dedent(block) for block in re.findall(r"(?:^(?: {4}.*)?\n)+", PYTHON, re.MULTILINE))
    assert source.count("import") == 4
    with live_node(tmp_path / "live"):
        monkeypatch.setenv("ECHO_API_URL", f"unix:{tmp_path}/live/api.sock")
        exec(source.replace("/tmp/.../node", str(tmp_path / "home")), {})
    assert capsys.readouterr().out.splitlines() == [
        "2 ('home',)",
        "diary sunny, then rain ",
        "seen from here",
    ]


def test_the_page_fits_a_terminal() -> None:
    assert max(map(len, PYTHON.splitlines())) <= 80
