"""The source keeps the rules of tests/tidy.py, and every rule notices a planted violation of it."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests import tidy
from tests.tidy import MEDIAN_LINES_MAX, ROOT, Module

Rule = Callable[[Module], Iterator[str]]

PER_MODULE: list[Rule] = [
    tidy.import_law,
    tidy.folders,
    tidy.bans,
    tidy.doors,
    tidy.lengths,
    tidy.names,
    tidy.docstrings,
    tidy.openings,
    tidy.leftovers,
    tidy.swallowed,
]
THESE = ("tests/tidy.py", "tests/test_tidy.py")  # they name what other files must not


def tracked_files() -> list[str]:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for path in listed.stdout.split("\0") if path]


def texts() -> dict[str, str]:
    """Return every tracked file that is there, by its path from the top."""
    return {path: (ROOT / path).read_text(errors="replace") for path in tracked_files() if (ROOT / path).is_file()}


# -- the repository ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", PER_MODULE, ids=lambda rule: rule.__name__)
def test_every_module_keeps_the_rule(rule: Rule) -> None:
    assert [problem for module in tidy.package() for problem in rule(module)] == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert list(tidy.cycles(tidy.package())) == []


def test_every_limit_bounds_something() -> None:
    assert list(tidy.unused_limits(tidy.package())) == []


def test_the_usual_module_is_short() -> None:
    assert tidy.figures(tidy.package())["median"] <= MEDIAN_LINES_MAX


def test_dependencies_and_doors_are_the_same() -> None:
    standard = {"sqlite3"}
    assert tidy.declared((ROOT / "pyproject.toml").read_text()) == set(tidy.DOORS) - standard


def test_numpy_is_loaded_only_when_large_sets_are_compared() -> None:
    behind = tidy.DOORS["numpy"]
    everything = "; ".join(f"import {module.name}" for module in tidy.package() if module.path not in behind)
    script = f"import sys; {everything}; sys.exit('numpy' in sys.modules)".replace("import echonode.__main__; ", "")
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_nothing_else_lies_at_the_top_level() -> None:
    assert list(tidy.top_level(tracked_files())) == []


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    files = {path: text for path, text in texts().items() if path not in THESE}
    assert [problem for path, text in files.items() for problem in tidy.machine_paths(path, text)] == []


def test_no_docstring_of_a_test_begins_with_a_question_word() -> None:
    assert [problem for module in tidy.tests() for problem in tidy.openings(module)] == []


def test_every_pure_module_exists() -> None:
    assert tidy.PURE_MODULES - {module.name for module in tidy.package()} == set()


def test_every_folder_with_a_law_of_its_own_exists() -> None:
    named = {*tidy.IMPORTED_BY, *tidy.SELF_CONTAINED, *(door for doors in tidy.DOORS.values() for door in doors)}
    named.update(place for places in tidy.IMPORTED_BY.values() for place in places)
    modules = tidy.package()
    assert named <= {module.path for module in modules} | {module.folder for module in modules}


def test_the_modules_covered_to_the_last_branch_are_the_pure_ones() -> None:
    listed = re.findall(r"echonode/([\w/*]+)(?:\.py)?", (ROOT / ".ci/run").read_text().partition("# A skipped")[0])
    rooms = {f"{room}/*" for room in tidy.PURE_ROOMS - {"foundation"}}
    modules = {name.removeprefix("echonode.").replace(".", "/") for name in tidy.PURE_MODULES}
    assert set(listed) == tidy.FOUNDATION | rooms | modules


# -- planted violations ------------------------------------------------------------------------------------------------

DOC = '"""The docstring."""\n'
PACKAGE_DOC = '"""One.\n\nTwo.\n{}"""\n'

PLANTED: dict[str, tuple[Rule, str, str]] = {
    # the import law
    "model imports wire": (tidy.import_law, "model/record.py", "from echonode.wire import frame"),
    "wire imports store": (tidy.import_law, "wire/frame.py", "import echonode.store.port"),
    "store imports wire": (tidy.import_law, "store/memory.py", "from echonode.wire.messages import Put"),
    "foundation imports model": (tidy.import_law, "cbor.py", "from echonode.model.record import Record"),
    "sync imports node": (tidy.import_law, "sync/transport.py", "from echonode.node.events import Event"),
    "sync sees a store's inside": (tidy.import_law, "sync/delta.py", "from echonode.store.memory import MemoryStore"),
    "sync sees the room store": (tidy.import_law, "sync/modes/delta.py", "from echonode import store"),
    "node sees a module beside the port": (tidy.import_law, "node/node.py", "from echonode.store import portable"),
    "node imports host": (tidy.import_law, "node/node.py", "from echonode.host.tcp import TcpDial"),
    "api imports host": (tidy.import_law, "api/status.py", "from echonode.host import observe"),
    "cli imports api": (tidy.import_law, "cli/main.py", "import echonode.api.server"),
    "sim imports host": (tidy.import_law, "sim/world.py", "from echonode.host import tcp"),
    "cli imports process": (tidy.import_law, "cli/main.py", "from echonode.process import Process"),
    "api imports stopped_node": (tidy.import_law, "api/app.py", "import echonode.stopped_node"),
    "cli imports app": (tidy.import_law, "cli/main.py", "from echonode.app import main"),
    "an import inside a function": (tidy.import_law, "model/a.py", "def f():\n    from echonode.sync import select"),
    "an import for types only": (
        tidy.import_law,
        "model/a.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from echonode.node.node import Node",
    ),
    "a relative import upwards": (tidy.import_law, "model/a.py", "from ..wire import frame"),
    "a relative import from a package": (tidy.import_law, "model/__init__.py", "from ..wire.frame import Frame"),
    "a module of no room": (tidy.import_law, "utils.py", "x = 1"),
    "a package of no room": (tidy.import_law, "helpers/__init__.py", "x = 1"),
    # folders inside a room
    "a front imports the SQLite store": (tidy.folders, "cli/main.py", "from echonode.store.sqlite.store import open"),
    "the port imports the SQLite store": (tidy.folders, "store/memory.py", "from echonode.store import sqlite"),
    "what modes share imports a mode": (tidy.folders, "sync/agreement.py", "from echonode.sync.modes import put"),
    "a mode imports a link": (tidy.folders, "sync/modes/delta.py", "from echonode.sync.live.link import Link"),
    "a link imports a mode": (tidy.folders, "sync/live/link.py", "import echonode.sync.modes.delta"),
    "the simulator imports a mode": (tidy.folders, "sim/world.py", "from echonode.sync.modes.delta import f"),
    "a command outside the command line": (tidy.folders, "cli/client.py", "from ..cli.commands import records"),
    "a message imports the codec": (tidy.folders, "wire/messages/log.py", "from echonode.wire.codec import encode"),
    # bans
    "asyncio in the foundation": (tidy.bans, "clock.py", "import asyncio"),
    "time in model": (tidy.bans, "model/record.py", "from time import time"),
    "os.path in wire": (tidy.bans, "wire/frame.py", "import os.path"),
    "sqlite3 in model": (tidy.bans, "model/merkle.py", "import sqlite3 as database"),
    "asyncio in select": (tidy.bans, "sync/select.py", "import asyncio"),
    "asyncio in the scheduler": (tidy.bans, "node/scheduler.py", "from asyncio import sleep"),
    "logging in wire": (tidy.bans, "wire/channel.py", "def f():\n    import logging"),
    "random in sync": (tidy.bans, "sync/modes/sketch.py", "import random"),
    "time in node": (tidy.bans, "node/conversations.py", "import time"),
    "secrets in node": (tidy.bans, "node/handshake.py", "from secrets import token_bytes"),
    # doors
    "cbor2 elsewhere": (tidy.doors, "wire/messages/__init__.py", "import cbor2"),
    "nacl elsewhere": (tidy.doors, "wire/auth.py", "from nacl.bindings import crypto_sign"),
    "spake2 elsewhere": (tidy.doors, "node/pairing.py", "import spake2"),
    "aiosqlite elsewhere": (tidy.doors, "store/memory.py", "import aiosqlite"),
    "sqlite3 elsewhere": (tidy.doors, "cli/verify.py", "from sqlite3 import connect"),
    "zeroconf elsewhere": (tidy.doors, "host/tcp.py", "from zeroconf.asyncio import AsyncZeroconf"),
    "structlog elsewhere": (tidy.doors, "node/node.py", "import structlog"),
    "uvloop elsewhere": (tidy.doors, "host/tcp.py", "import uvloop"),
    "click elsewhere": (tidy.doors, "host/config.py", "import click"),
    "h11 elsewhere": (tidy.doors, "cli/client.py", "import h11"),
    "starlette elsewhere": (tidy.doors, "cli/main.py", "from starlette.requests import Request"),
    "uvicorn elsewhere": (tidy.doors, "app.py", "import uvicorn"),
    "rich elsewhere": (tidy.doors, "host/logs.py", "def f():\n    import rich"),
    "rich at the top level": (tidy.doors, "cli/status.py", "from rich.table import Table"),
    "rich at the top level, in a try": (
        tidy.doors,
        "cli/status.py",
        "try:\n    import rich\nexcept ImportError:\n    pass",
    ),
    "a dependency without a door": (tidy.doors, "host/tcp.py", "import requests"),
    # shape
    "a long file": (tidy.lengths, "model/a.py", "x = 1\n" * 501),
    "a long function": (tidy.lengths, "model/a.py", "def f():\n" + "    x = 1\n" * 70),
    "a long method": (tidy.lengths, "model/a.py", "class A:\n    async def f(self):\n" + "        x = 1\n" * 70),
    "a file named by a verb form": (tidy.names, "node/greeting.py", ""),
    "a file named by a verb form with an object": (tidy.names, "store/sqlite/disk_filling.py", ""),
    "no docstring": (tidy.docstrings, "model/a.py", "x = 1"),
    "a comment for a docstring": (tidy.docstrings, "model/__init__.py", "# what it is\nx = 1"),
    "an empty package": (tidy.docstrings, "model/__init__.py", ""),
    "a package that says too little": (tidy.docstrings, "model/__init__.py", '"""One.\n\nTwo."""'),
    "a package that says too much": (tidy.docstrings, "model/__init__.py", PACKAGE_DOC.format("More.\n" * 9)),
    "a module that begins with What": (tidy.openings, "model/a.py", '"""What it is."""'),
    "a class that begins with Who": (tidy.openings, "model/a.py", 'class A:\n    """Who it is."""'),
    "a method that begins with Whether": (
        tidy.openings,
        "model/a.py",
        'class A:\n    async def f(self):\n        """Whether\n        it is so."""',
    ),
    "a function inside a function": (
        tidy.openings,
        "tests/model/a.py",
        'def f():\n    def g():\n        """How\'s that."""',
    ),
    "a leftover in a comment": (tidy.leftovers, "model/a.py", "x = 1  # TO" + "DO later"),
    "a leftover in a docstring": (tidy.leftovers, "model/a.py", '"""FIX' + 'ME"""'),
    "something not implemented": (tidy.leftovers, "model/a.py", "def f():\n    raise NotImplementedError"),
    "something not implemented, with words": (tidy.leftovers, "a.py", "raise NotImplementedError('later')"),
    "print": (tidy.leftovers, "node/node.py", "def f():\n    print('here')"),
    "breakpoint": (tidy.leftovers, "node/node.py", "breakpoint()"),
    # exceptions
    "a bare except": (tidy.swallowed, "a.py", "try:\n    f()\nexcept:\n    raise"),
    "a swallowed exception": (tidy.swallowed, "a.py", "try:\n    f()\nexcept Exception:\n    pass"),
    "a swallowed exception, named": (tidy.swallowed, "a.py", "try:\n    f()\nexcept Exception as error:\n    ..."),
    "a swallowed exception among others": (
        tidy.swallowed,
        "a.py",
        "for x in y:\n    try:\n        f()\n    except (OSError, BaseException):\n        continue",
    ),
    "a suppressed exception": (tidy.swallowed, "a.py", "with contextlib.suppress(Exception):\n    f()"),
    "a suppressed exception, by name": (tidy.swallowed, "a.py", "with suppress(KeyError, BaseException):\n    f()"),
}


@pytest.mark.parametrize(("rule", "path", "source"), PLANTED.values(), ids=PLANTED)
def test_a_planted_violation_is_noticed(rule: Rule, path: str, source: str) -> None:
    problems = list(rule(Module(path, source)))
    assert len(problems) == 1
    assert problems[0].startswith(path)


INNOCENT: dict[str, tuple[str, str]] = {
    "the layers from the top": (
        "cli/main.py",
        "import click\nfrom echonode.node.node import Node\nfrom echonode.cli import draw\n"
        "from echonode import errors\ndef f():\n    from rich.live import Live\n    print(Live)\n",
    ),
    "a front": ("host/mdns.py", "import asyncio, socket, time\nfrom zeroconf import Zeroconf\n"),
    "a store": ("store/sqlite/transaction.py", "import sqlite3, aiosqlite\nfrom echonode.store.port import Store\n"),
    "sync": (
        "sync/modes/delta.py",
        "import asyncio\nfrom echonode.store.port import Store\nfrom echonode.store import port\n",
    ),
    "a relative import in a room": ("wire/channel.py", "from .frame import Frame\nfrom ..model import record\n"),
    "the composition root": (
        "app.py",
        "import uvloop\nfrom echonode import __version__\nfrom echonode.cli.main import cli\nimport echonode.sim.world",
    ),
    "another module of the composition root": (
        "process.py",
        "from echonode.store.sqlite.store import SqliteStore\nfrom echonode.host.config import Config\n",
    ),
    "a pure module": ("model/record.py", "import enum, hashlib\nfrom echonode.cbor import encode\n"),
    "an exception that is handled": ("host/a.py", "try:\n    f()\nexcept Exception as error:\n    report(error)\n"),
    "words of the field that end as verb forms do": ("wire/pairing.py", "from echonode.wire.messages import Put\n"),
    "a command": ("cli/commands/records.py", "import click\nfrom echonode.cli.commands import status\n"),
    "the table of modes": ("node/mode_table.py", "from echonode.sync.modes import delta\n"),
    "a question word behind the beginning": ("model/a.py", 'def f():\n    """Return what, or how."""\n'),
    "a narrow exception": ("host/a.py", "from contextlib import suppress\nwith suppress(OSError):\n    f()\n"),
    "a file and a function at their limits": (
        "model/a.py",
        "def f():\n" + "    x = 1\n" * 69 + "y = 2\n" * (500 - 71),
    ),
}


@pytest.mark.parametrize(("path", "source"), INNOCENT.values(), ids=INNOCENT)
def test_what_is_right_is_left_alone(path: str, source: str) -> None:
    assert [problem for rule in PER_MODULE for problem in rule(Module(path, DOC + source))] == []


@pytest.mark.parametrize("more", [1, 8])
def test_a_package_says_in_three_to_ten_lines_what_it_holds(more: int) -> None:
    assert list(tidy.docstrings(Module("model/__init__.py", PACKAGE_DOC.format("More.\n" * more)))) == []


def test_a_circle_of_imports_is_noticed_however_long_and_however_written() -> None:
    two = [Module("model/a.py", "from echonode.model import b"), Module("model/b.py", "import echonode.model.a")]
    assert len(list(tidy.cycles(two))) == 1
    three = [
        Module("model/a.py", "from echonode.model.b import f"),
        Module("model/b.py", "def g():\n    from . import c"),
        Module("model/c.py", "from .a import h"),
    ]
    assert len(list(tidy.cycles(three))) == 1
    assert list(tidy.cycles(three[:2])) == []


def test_a_limit_that_no_code_reads_is_noticed() -> None:
    modules = [
        Module("limits.py", "from typing import Final\nUSED: Final = 1\nREAD: Final = USED\nLOST: Final = 3\n"),
        Module("text.py", "from echonode import limits\nx = limits.READ\n"),
    ]
    assert list(tidy.unused_limits(modules)) == ["limits.py: no code reads LOST"]


def test_a_declared_dependency_goes_by_the_name_it_is_imported_by() -> None:
    text = 'project.dependencies = ["pynacl>=1.6.2", "cbor2 <7", "uvloop; sys_platform != \'win32\'", "a-b[extra]>1"]'
    assert tidy.declared(text) == {"nacl", "cbor2", "uvloop", "a_b"}


def test_a_stranger_at_the_top_level_is_noticed() -> None:
    assert list(tidy.top_level(["README.md", "echonode/cbor.py", ".ci/run", ".gitignore"])) == []
    assert list(tidy.top_level(["scripts/build.sh", "setup.py", "tests/tidy.py"])) == [
        "scripts does not belong at the top level",
        "setup.py does not belong at the top level",
    ]


@pytest.mark.parametrize("place", ["home", "Users", "root", "work", "tmp"])
@pytest.mark.parametrize("around", ["{}", "'{}'", "({})", "cd {}", "X={}"])
def test_a_path_of_one_machine_is_noticed(place: str, around: str) -> None:
    path = f"/{place}/ada"
    assert list(tidy.machine_paths("notes.md", f"one\nsee {around.format(path)} there")) == [f"notes.md:2: {path}"]


@pytest.mark.parametrize(
    "text", ["/tmp is private", "https://example.org/home/page", "ProtectHome=yes", "$HOME/x", "/run/echonode"]
)
def test_other_paths_are_left_alone(text: str) -> None:
    assert list(tidy.machine_paths("notes.md", text)) == []


def test_the_figures_are_those_of_the_files() -> None:
    modules = [Module("a.py", "x = 1\n" * 10), Module("b.py", "x = 1\n" * 30), Module("__init__.py", "")]
    assert tidy.figures(modules) == {"modules": 2, "lines": 40, "median": 20, "largest": 30}
