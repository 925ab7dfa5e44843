"""The examples in the docstrings of the public classes are run, in order, against a real node."""

import ast
import asyncio
import doctest
from collections.abc import Iterator
from pathlib import Path
from types import CodeType

import pytest

from echonode import AsyncClient, Client, Node
from tests.cli.harness import live_node

_ELLIPSIS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.delenv("ECHO_TOKEN", raising=False)
    with live_node(tmp_path / "node"):
        monkeypatch.setenv("ECHO_API_URL", f"unix:{tmp_path}/node/api.sock")
        yield f"unix:{tmp_path}/node/api.sock"


def examples(kind: type) -> list[doctest.DocTest]:
    """Return the examples of a class and its methods, in the order of the source."""
    found = doctest.DocTestFinder(recurse=True).find(kind, kind.__name__)
    return sorted((test for test in found if test.examples), key=lambda test: test.lineno or 0)


def run_all(kind: type, globs: dict[str, object], count: int) -> None:
    runner = doctest.DocTestRunner(optionflags=_ELLIPSIS)
    tests = examples(kind)
    assert len(tests) >= count, "the examples are gone"
    for test in tests:
        test.globs = globs
        report: list[str] = []
        runner.run(test, out=report.append, clear_globs=False)
        assert not report, "".join(report)


def test_the_examples_of_the_client_are_true(url: str) -> None:
    run_all(Client, {}, 7)


def test_the_examples_of_the_async_client_are_true(url: str) -> None:
    run_awaited(AsyncClient, {})


def test_the_examples_of_the_embedded_node_are_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_LISTEN", "127.0.0.1:0")
    run_awaited(Node, {"home": tmp_path / "home"})


def run_awaited(kind: type, globs: dict[str, object]) -> None:
    """Run examples that await, each on one event loop, and compare what they print or give."""
    own = [test for test in examples(kind) if test.name.count(".") <= 1 and _is_of(kind, test)]
    assert own

    async def work() -> None:
        for test in own:
            for example in test.examples:
                lines: list[str] = []
                given = {**globs, "print": lambda *values, lines=lines: lines.append(" ".join(map(str, values)))}
                result = await _evaluate(example.source, given)
                globs.update({name: value for name, value in given.items() if name != "print"})
                if result is not None:
                    lines.append(repr(result))
                assert "\n".join(lines) == example.want.strip(), example.source

    asyncio.run(asyncio.wait_for(work(), 60))


def _is_of(kind: type, test: doctest.DocTest) -> bool:
    name = test.name.rpartition(".")[2]
    return test.name == kind.__name__ or name in vars(kind)


async def _evaluate(source: str, globs: dict[str, object]) -> object:
    tree = ast.parse(source)
    mode, flags = "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    last = tree.body[-1]
    if isinstance(last, ast.Expr):
        tree.body[-1] = ast.copy_location(ast.Assign([ast.Name("_", ast.Store())], last.value), last)
        ast.fix_missing_locations(tree)
    globs["_"] = None
    code: CodeType = compile(tree, "<example>", mode, flags=flags)
    outcome = eval(code, globs)
    if outcome is not None:
        await outcome
    return globs.pop("_")
