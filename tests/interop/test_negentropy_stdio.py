"""The line-oriented program against itself, in two processes, as the fuzzer of other implementations runs it."""

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.tidy import ROOT

Item = tuple[int, str]


class Side:
    """One process, and the ids that it learnt."""

    def __init__(self, process: "subprocess.Popen[str]", items: set[Item]) -> None:
        self._process = process
        self.have: set[str] = set()
        self.need: set[str] = set()
        for timestamp, id in items:
            self._write(f"item,{timestamp},{id}")
        self._write("seal")

    def ask(self, line: str) -> str | None:
        """Send `line`. Return the message that answers it, None once the process is done."""
        self._write(line)
        assert self._process.stdout is not None
        for answer in self._process.stdout:
            word, _, value = answer.strip().partition(",")
            match word:
                case "have":
                    self.have.add(value)
                case "need":
                    self.need.add(value)
                case "done":
                    return None
                case "msg":
                    return value
        raise AssertionError("the process ended early")

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


@contextmanager
def side(items: set[Item], limit: int) -> Iterator[Side]:
    with harness(FRAMESIZELIMIT=str(limit)) as process:
        yield Side(process, items)


@contextmanager
def harness(**environ: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "tests.interop.negentropy_stdio"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, **environ}, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("ours_limit", "theirs_limit"), [(0, 0), (4096, 0), (0, 5000), (4096, 4096)])
def test_two_processes_find_the_differences_of_their_sets(ours_limit: int, theirs_limit: int) -> None:
    rnd = random.Random(ours_limit + theirs_limit)
    everything = [(rnd.randrange(1, 500), rnd.randbytes(32).hex()) for _ in range(1500)]
    ours, theirs = set(everything[:1300]), set(everything[150:])
    with ExitStack() as stack:
        initiator = stack.enter_context(side(ours, ours_limit))
        responder = stack.enter_context(side(theirs, theirs_limit))
        message = initiator.ask("initiate")
        while message is not None:
            answer = responder.ask(f"msg,{message}")
            assert answer is not None
            message = initiator.ask(f"msg,{answer}")
    assert initiator.have == {id for _, id in ours - theirs}
    assert initiator.need == {id for _, id in theirs - ours}


@pytest.mark.parametrize(
    ("limit", "line"),
    [
        ("0", "msg,61"),
        ("0", "item,1,00"),
        ("0", "item,x," + "00" * 32),
        ("0", "item,1"),
        ("0", "what"),
        ("0", "seal\nmsg,zz"),
        ("0", "seal\nmsg,"),
        ("0", "seal\nmsg,42"),
        ("100", "seal"),
        ("x", "seal"),
    ],
)
def test_a_line_it_cannot_use_ends_it_with_a_sentence(limit: str, line: str) -> None:
    with harness(FRAMESIZELIMIT=limit) as process:
        out, err = process.communicate(line + "\n", timeout=60)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("negentropy_stdio: ") and err.count("\n") == 1
