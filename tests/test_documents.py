"""Files, functions, sections and lines that a text names exist; each rule notices a planted violation of it."""

import pytest

from tests import documents, tidy
from tests.test_tidy import texts, tracked_files
from tests.tidy import ROOT, Module

TOURS = ("echonode/README.md", "tests/README.md", ".github/CONTRIBUTING.md", ".github/SECURITY.md")
THESE = ("tests/documents.py", "tests/test_documents.py")  # they name what is not there

# -- the repository ----------------------------------------------------------------------------------------------------


def test_every_section_that_is_cited_exists() -> None:
    files = texts()
    sections = documents.sections({path: text for path, text in files.items() if path.endswith(".md")})
    problems = [
        problem
        for path, text in files.items()
        if path not in THESE
        for problem in documents.citations(path, text, sections)
    ]
    assert problems == []


@pytest.mark.parametrize("path", TOURS)
def test_every_file_and_function_that_a_tour_names_exists(path: str) -> None:
    modules = [*tidy.package(), *tidy.tests()]
    assert list(documents.tour(path, (ROOT / path).read_text(), tracked_files(), modules)) == []


def test_every_quoted_line_stands_in_its_file() -> None:
    files = texts()
    quoting = {path: text for path, text in files.items() if path.endswith(".md")}
    assert [problem for path, text in quoting.items() for problem in documents.quotations(path, text, files)] == []


# -- planted violations ------------------------------------------------------------------------------------------------

SECTIONS = documents.sections(
    {
        "proto/PROTOCOL.md": "# Version 1.0\n## 8. Modes\n### 8.15 follow\n#### 8.15.1 x\n8.16 is prose\n",
        ".github/SECURITY.md": "## 1. The connection\n| # | rule |\n|---|---|\n| H3 | sign H9 |\n| H10 | close |\n",
        "README.md": "# echonode\n## How it is built\n",
        "tests/README.md": "# Tests\n## 3 of them\n",
    }
)


@pytest.mark.parametrize(
    "text",
    [
        "see PROTOCOL.md.",
        "(PROTOCOL.md §8)",
        "PROTOCOL.md §8.15, SECURITY.md §1 (H3, H10), RFC 8949 §4.2.1",
        "PROTOCOL.md §8 and §8.15: of 16",
        "; PROTOCOL.md section 8.15.1: one byte each",
        "# (PROTOCOL.md\n    # §8.15). Larger ones: 99",
        "SECURITY.md H3-H10; README.md",
        "DESIGN.MD, notes.md §99",
    ],
)
def test_what_is_cited_and_there_is_left_alone(text: str) -> None:
    assert list(documents.citations("a.py", text, SECTIONS)) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("see DESIGN.md", "a.py:1: DESIGN.md is not in this repository"),
        ("one\ntwo (SEEDS.md A)", "a.py:2: SEEDS.md is not in this repository"),
        ("PROTOCOL.md §8.16", "a.py:1: PROTOCOL.md has no §8.16"),
        ("PROTOCOL.md §8, §9", "a.py:1: PROTOCOL.md has no §9"),
        ("PROTOCOL.md section 1.0", "a.py:1: PROTOCOL.md has no section 1.0"),
        ("PROTOCOL.md\n    §8.2).", "a.py:1: PROTOCOL.md has no §8.2"),
        ("SECURITY.md H9", "a.py:1: SECURITY.md has no H9"),
        ("SECURITY.md H3-H11", "a.py:1: SECURITY.md has no H11"),
        ("SECURITY.md §1 (H4)", "a.py:1: SECURITY.md has no H4"),
        ("README.md §1", "a.py:1: README.md has no §1"),
    ],
)
def test_what_is_cited_and_not_there_is_noticed(text: str, problem: str) -> None:
    assert list(documents.citations("a.py", text, SECTIONS)) == [problem]


TOURED = [
    Module("node/node.py", "OPEN: Final = 1\nclass Node:\n    id: int\n    async def put(self):\n        pass\n"),
    Module("node/peers.py", "def f():\n    def g():\n        pass\n"),
    Module("tests/node/test_node.py", "def test_it():\n    pass\n"),
]
TOURED_FILES = ["echonode/node/node.py", "echonode/node/peers.py", "tests/node/test_node.py", "proto/echonode.cddl"]


@pytest.mark.parametrize(
    "text",
    [
        "`node/node.py`, `node/`, `echonode/node/node.py`, `proto/echonode.cddl`, `tests/node/test_node.py:test_it`",
        "`node/node.py:Node.put`, `node/node.py:Node.id`, `node/node.py:Node`, `node/node.py:OPEN`",
        "`peers.f`, `Node.put()`, `Node.id`",
        "node/none.py, `none`, `.ci/run`, `python -m tests.none`, `x = node.none`, `Node`",
    ],
)
def test_what_a_tour_names_and_is_there_is_left_alone(text: str) -> None:
    assert list(documents.tour("echonode/README.md", text, TOURED_FILES, TOURED)) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("one\n`node/none.py`", "2: there is no node/none.py"),
        ("`none/`", "1: there is no none/"),
        ("`node/none.py:f`", "1: there is no node/none.py"),
        ("`node/peers.py:Node`", "1: node/peers.py has no Node"),
        ("`node/peers.py:g`", "1: node/peers.py has no g"),
        ("`node/node.py:Node.get`", "1: node/node.py has no Node.get"),
        ("`node/node.py:put`", "1: node/node.py has no put"),
        ("`peers.put`", "1: no module or class peers has put"),
        ("`Node.get()`", "1: no module or class Node has get"),
    ],
)
def test_what_a_tour_names_and_is_not_there_is_noticed(text: str, problem: str) -> None:
    assert list(documents.tour("echonode/README.md", text, TOURED_FILES, TOURED)) == [f"echonode/README.md:{problem}"]


QUOTED = "one\n```python\n# echonode/a.py\n{}```\nanother\n"
SOURCE = "x = 1\n\n\ndef f():\n    # one\n    return x\n"


@pytest.mark.parametrize("lines", ["", "x = 1\n", "def f():\n    return x\n", "x = 1\n\ndef f():\n"])
def test_what_is_quoted_and_there_is_left_alone(lines: str) -> None:
    assert list(documents.quotations("b.md", QUOTED.format(lines), {"echonode/a.py": SOURCE})) == []


@pytest.mark.parametrize("lines", ["x = 2\n", "def f():\nx = 1\n", "return x\n", "x = 1\nx = 1\n"])
def test_a_quoted_line_that_is_not_there_is_noticed(lines: str) -> None:
    assert len(list(documents.quotations("b.md", QUOTED.format(lines), {"echonode/a.py": SOURCE}))) == 1


def test_a_quotation_of_no_file_is_noticed() -> None:
    assert list(documents.quotations("b.md", QUOTED.format("x\n"), {})) == ["b.md: there is no echonode/a.py"]
