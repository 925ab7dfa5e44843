"""The rules of the source that a program can check without running it.

    import law    cli | api | host | sim -> node -> sync -> wire | store -> model -> foundation; siblings never meet;
                  sync and node see only the port of store; the composition root alone (app.py, process.py,
                  stopped_node.py) imports everything; no cycles
    folders       store/sqlite, sync/modes, sync/live, cli/commands: the files that may import them; wire/messages
                  imports nothing else of wire
    bans          pure rooms import nothing that acts or waits; sync and node take time and entropy through ports
    doors         each dependency is imported by the files that own it, and by no other
    shape         lengths, names, no leftovers, no swallowed exceptions, no printing outside cli
    docstrings    every module has one, a package's has three to ten lines; none begins with What, Whether, How, ..

A rule is a generator over a `Module` or a text and yields problems in plain words. tests/test_tidy.py runs the rules on
the repository, and each rule on a planted violation. The rules of documents are in tests/documents.py.
`python -m tests.tidy` prints the figures.
"""

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = "echonode"

FILE_LINES_MAX: Final = 500
FUNCTION_LINES_MAX: Final = 70
MEDIAN_LINES_MAX: Final = 200

FOUNDATION: Final = frozenset({"errors", "limits", "digest", "text", "clock", "cbor"})
_BELOW_SYNC: Final = frozenset({"wire", "store", "model", "foundation"})
_FRONTS: Final = frozenset({"cli", "api", "host", "sim"})
MAY_IMPORT: Final[Mapping[str, frozenset[str]]] = {
    "foundation": frozenset(),
    "model": frozenset({"foundation"}),
    "wire": frozenset({"model", "foundation"}),
    "store": frozenset({"model", "foundation"}),
    "sync": _BELOW_SYNC,
    "node": _BELOW_SYNC | {"sync"},
    "manual": frozenset({"foundation"}),
    "client": frozenset({"foundation", "host"}),  # of host it needs where homes and sockets are
    **{front: _BELOW_SYNC | {"sync", "node", "manual"} for front in _FRONTS},
    "cli": _BELOW_SYNC | {"sync", "node", "manual", "client"},
    "app": _BELOW_SYNC | _FRONTS | {"sync", "node", "manual", "client"},
}

# The files that may import a folder inside a room: files, and folders that end in /.
IMPORTED_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "store/sqlite/": ("app.py", "process.py", "stopped_node.py"),
    "sync/modes/": ("node/", "api/"),
    "sync/live/": ("node/", "sim/"),
    "cli/commands/": ("cli/main.py",),
}
COMPOSITION_ROOT: Final = frozenset({"app", "process", "stopped_node", "embed", "__main__"})  # the room `app`
SELF_CONTAINED: Final = frozenset({"wire/messages/"})  # imports nothing else of its own room

PURE_ROOMS: Final = frozenset({"foundation", "model", "wire"})
PURE_MODULES: Final = frozenset(
    {
        "echonode.sync.select",
        "echonode.node.scheduler",
        "echonode.node.link_selection",
        "echonode.node.peer_table",
        "echonode.node.backoff",
        "echonode.node.escalation",
    }
)
_NOT_FROM_A_SEED: Final = frozenset(
    {"time", "random", "secrets", "uuid", "socket", "threading", "subprocess", "logging"}
)
BANNED_IN_PURE: Final = _NOT_FROM_A_SEED | {"asyncio", "os", "sqlite3"}
BANNED_IN_SIMULATED: Final = _NOT_FROM_A_SEED | {"os", "sqlite3"}  # sync and node run in simulation as they are

# The files that may import a dependency.
DOORS: Final[Mapping[str, tuple[str, ...]]] = {
    "cbor2": ("cbor.py",),
    "nacl": ("model/identity.py", "wire/noise.py"),
    "spake2": ("wire/pairing.py",),
    # Imported only when a sketch is built or a large set is compared: numpy costs 13 MiB and 0.1 s.
    "numpy": ("model/sketch.py", "wire/packed_rows.py"),
    "aiosqlite": ("store/sqlite/",),
    "sqlite3": ("store/sqlite/",),
    "zeroconf": ("host/mdns.py",),
    "ifaddr": ("host/system.py",),
    "structlog": ("host/logs.py",),
    "uvloop": ("app.py",),
    "rich": ("cli/",),
    "click": ("cli/",),
    "h11": ("client/exchange.py",),
    "starlette": ("api/",),
    "uvicorn": ("api/",),
    "prometheus_client": ("api/metrics.py",),
    "msgspec": ("api/", "cli/", "host/"),  # configuration, log and API JSON
}
IMPORTED_AS: Final = {"pynacl": "nacl"}  # where a distribution has another name than its package
# rich costs 50 ms to import, and most commands draw nothing; spake2 costs 7 MB, and most nodes invite nobody.
ONLY_INSIDE_FUNCTIONS: Final = frozenset({"rich", "spake2"})

TOP_LEVEL: Final = frozenset(
    {"pyproject.toml", "echonode", "proto", "tests", "systemd", "README.md", "LICENSE", "CHANGELOG.md"}
)

NOUNS_IN_ING: Final = frozenset({"keyring", "pairing", "paging", "signing"})  # words of the field, not verb forms
PACKAGE_DOCSTRING_LINES: Final = (3, 10)
# A docstring that begins with one of these names nothing: it begins with the verb or with the thing instead.
BANNED_OPENINGS: Final = frozenset(
    {"What", "Whatever", "Whether", "How", "However", "Which", "Whichever"}
    | {"Who", "Whoever", "Whom", "Whomever", "Whose", "Where", "Wherever"}
)

_LEFTOVERS: Final = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b")
_MACHINE_PATHS: Final = re.compile(r"(?<![\w.:$}~-])/(?:home|Users|root|work|tmp)/(?!\.\.\.)[\w.@-]+")


@dataclass(frozen=True)
class Module:
    """A source file. `path` is relative to the package, or begins with tests/."""

    path: str
    source: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, self.path)

    @property
    def folder(self) -> str:
        """The folder inside the package, with a / at its end; "" for the package itself."""
        return f"{self.path.rpartition('/')[0]}/".lstrip("/")

    @property
    def is_package(self) -> bool:
        return self.path.endswith("__init__.py")

    @property
    def name(self) -> str:
        dotted = self.path.removesuffix(".py").replace("/", ".")
        return f"{PACKAGE}.{dotted}".removesuffix(".__init__")

    @property
    def room(self) -> str:
        """The layer that the module belongs to; "" for none."""
        return room_of(self.name)

    def imports(self) -> Iterator[tuple[str, int, bool]]:
        """Yield (name, line, is run with the module) of every import; the name of `from x import y` is "x.y"."""
        carried_out = [n for n in self.tree.body if not (isinstance(n, _SCOPES) or _is_for_types(n))]
        top = set(ast.walk(ast.Module(carried_out, [])))
        for node in ast.walk(self.tree):
            match node:
                case ast.Import(names=names):
                    yield from ((alias.name, node.lineno, node in top) for alias in names)
                case ast.ImportFrom(module=module, names=names, level=level):
                    parts = self.name.split(".")
                    base = parts[: len(parts) - level + self.is_package] if level else []
                    origin = ".".join([*base, *([module] if module else [])])
                    yield from ((f"{origin}.{alias.name}", node.lineno, node in top) for alias in names)


_SCOPES: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _is_for_types(node: ast.stmt) -> bool:
    """Return True for `if TYPE_CHECKING:`, of which nothing is carried out."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def room_of(name: str) -> str:
    parts = name.split(".")
    if len(parts) == 1 or parts[1] in FOUNDATION:
        return "foundation"
    if parts[1] in COMPOSITION_ROOT:
        return "app"
    return parts[1] if parts[1] in MAY_IMPORT else ""


def package() -> list[Module]:
    """Return every module of the package, as it is on disk."""
    base = ROOT / PACKAGE
    return [Module(path.relative_to(base).as_posix(), path.read_text()) for path in sorted(base.rglob("*.py"))]


def tests() -> list[Module]:
    """Return every module of the tests."""
    return [
        Module(path.relative_to(ROOT).as_posix(), path.read_text()) for path in sorted((ROOT / "tests").rglob("*.py"))
    ]


# -- imports -----------------------------------------------------------------------------------------------------------


def import_law(module: Module) -> Iterator[str]:
    if not module.room:
        yield f"{module.path}: belongs to no room"
        return
    for what, line, _ in module.imports():
        if what.split(".")[0] != PACKAGE:
            continue
        # A name of the package itself has no room: it counts as foundation. A module without a room is a problem above.
        room = room_of(what) or "foundation"
        if room not in MAY_IMPORT[module.room] | {module.room}:
            yield f"{module.path}:{line}: {module.room} must not import {what}"
        elif (
            room == "store" and module.room in ("sync", "node") and not f"{what}.".startswith(f"{PACKAGE}.store.port.")
        ):
            yield f"{module.path}:{line}: {module.room} sees of store only its port, not {what}"


def folders(module: Module) -> Iterator[str]:
    """Yield the imports that cross into a folder inside a room, or out of a self-contained one."""
    for what, line, _ in module.imports():
        target = f"{what}.".replace(".", "/")
        for folder, importers in IMPORTED_BY.items():
            if target.startswith(f"{PACKAGE}/{folder}") and not any(
                _matches(module.path, place) for place in (folder, *importers)
            ):
                yield f"{module.path}:{line}: {folder} is imported only in {', '.join(importers)}, not {what} here"
        if (
            module.folder in SELF_CONTAINED
            and target.startswith(f"{PACKAGE}/{module.room}/")
            and not target.startswith(f"{PACKAGE}/{module.folder}")
        ):
            yield f"{module.path}:{line}: {module.folder} imports nothing else of {module.room}, not {what}"


def bans(module: Module) -> Iterator[str]:
    if module.room in PURE_ROOMS or module.name in PURE_MODULES:
        banned = BANNED_IN_PURE
    elif module.room in ("sync", "node"):
        banned = BANNED_IN_SIMULATED
    else:
        return
    for what, line, _ in module.imports():
        if what.split(".")[0] in banned:
            yield f"{module.path}:{line}: {what.split('.')[0]} is banned here"


def doors(module: Module) -> Iterator[str]:
    for what, line, at_top in module.imports():
        origin = what.split(".")[0]
        if origin in DOORS:
            if not any(_matches(module.path, door) for door in DOORS[origin]):
                yield f"{module.path}:{line}: {origin} is imported only in {', '.join(DOORS[origin])}"
            elif at_top and origin in ONLY_INSIDE_FUNCTIONS:
                yield f"{module.path}:{line}: {origin} is imported only inside functions"
        elif origin != PACKAGE and origin not in sys.stdlib_module_names:
            yield f"{module.path}:{line}: {origin} is no dependency with a door of its own"


def _matches(path: str, door: str) -> bool:
    return path.startswith(door) if door.endswith("/") else path == door


def declared(pyproject: str) -> set[str]:
    """Return the project's dependencies, by the names under which they are imported."""
    names = {re.split(r"[\s<>=!~;\[]", entry)[0] for entry in tomllib.loads(pyproject)["project"]["dependencies"]}
    return {IMPORTED_AS.get(name, name.replace("-", "_")) for name in names}


def cycles(modules: Iterable[Module]) -> Iterator[str]:
    by_name = {module.name: module for module in modules}
    graph = {
        name: {
            target
            for what, _, _ in module.imports()
            if (target := what if what in by_name else what.rpartition(".")[0]) in by_name and target != name
        }
        for name, module in by_name.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield f"an import cycle: {' -> '.join(error.args[1])}"


# -- shape -------------------------------------------------------------------------------------------------------------


def lengths(module: Module) -> Iterator[str]:
    lines = module.source.count("\n")
    if lines > FILE_LINES_MAX:
        yield f"{module.path}: {lines} lines, at most {FILE_LINES_MAX}"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > FUNCTION_LINES_MAX:
                yield f"{module.path}:{node.lineno}: {node.name} has {size} lines, at most {FUNCTION_LINES_MAX}"


def names(module: Module) -> Iterator[str]:
    """Yield the module when its name is a verb form: a file is named after a thing."""
    word = module.path.rpartition("/")[2].removesuffix(".py").rpartition("_")[2]
    if word.endswith("ing") and word not in NOUNS_IN_ING:
        yield f"{module.path}: a module is named by a noun of the field, not by a verb form"


def docstrings(module: Module) -> Iterator[str]:
    """Yield modules without a docstring, and packages whose docstring is not three to ten lines (empty ones apart)."""
    docstring = ast.get_docstring(module.tree)
    if not docstring:
        yield f"{module.path}: a module's docstring is its small specification; this one has none"
    elif module.is_package:
        least, most = PACKAGE_DOCSTRING_LINES
        lines = sum(bool(line.strip()) for line in docstring.splitlines())
        if not least <= lines <= most:
            yield f"{module.path}: a package says in {least} to {most} lines what it holds and what not, not in {lines}"


def openings(module: Module) -> Iterator[str]:
    """Yield the docstrings that begin with a question word."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            word = re.match(r"\w*", docstring or "")
            if word and word[0] in BANNED_OPENINGS:
                line = getattr(node, "lineno", 1)
                yield f"{module.path}:{line}: a docstring begins with the verb or the thing, not with {word[0]!r}"


def leftovers(module: Module) -> Iterator[str]:
    for number, line in enumerate(module.source.splitlines(), start=1):
        if found := _LEFTOVERS.search(line):
            yield f"{module.path}:{number}: {found[0]}"
    for node in ast.walk(module.tree):
        match node:
            case ast.Name(id="NotImplementedError"):
                yield f"{module.path}:{node.lineno}: NotImplementedError"
            case ast.Call(func=ast.Name(id="print" | "breakpoint" as name)) if module.room != "cli":
                yield f"{module.path}:{node.lineno}: {name} outside cli"


def swallowed(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        match node:
            case ast.ExceptHandler(type=None):
                yield f"{module.path}:{node.lineno}: a bare except"
            case ast.ExceptHandler(type=kind, body=body) if _catches_everything(kind) and all(map(_does_nothing, body)):
                yield f"{module.path}:{node.lineno}: every exception is swallowed"
            case ast.Call(func=ast.Name(id="suppress") | ast.Attribute(attr="suppress"), args=kinds):
                if any(map(_catches_everything, kinds)):
                    yield f"{module.path}:{node.lineno}: every exception is suppressed"


def _catches_everything(kind: ast.expr | None) -> bool:
    match kind:
        case ast.Name(id="Exception" | "BaseException"):
            return True
        case ast.Tuple(elts=kinds):
            return any(map(_catches_everything, kinds))
    return False


def _does_nothing(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Pass | ast.Continue) or (
        isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    )


def unused_limits(modules: Iterable[Module]) -> Iterator[str]:
    """Yield the bounds that no code reads: they bound nothing."""
    modules = list(modules)
    names = {
        target.id
        for module in modules
        if module.path == "limits.py"
        for node in module.tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(target := node.target, ast.Name)
    }
    used = {
        name
        for module in modules
        for node in ast.walk(module.tree)
        for name in ([node.id] if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) else [])
        + ([node.attr] if isinstance(node, ast.Attribute) else [])
    }
    yield from (f"limits.py: no code reads {name}" for name in sorted(names - used))


# -- the tree of files -------------------------------------------------------------------------------------------------


def top_level(tracked: Iterable[str]) -> Iterator[str]:
    """Yield the entries of the top level that do not belong there; `tracked` are paths as git lists them."""
    for entry in sorted({path.split("/")[0] for path in tracked}):
        if entry not in TOP_LEVEL and not entry.startswith("."):
            yield f"{entry} does not belong at the top level"


def machine_paths(path: str, text: str) -> Iterator[str]:
    """Yield the absolute paths of one machine that stand in `text`."""
    for number, line in enumerate(text.splitlines(), start=1):
        if found := _MACHINE_PATHS.search(line):
            yield f"{path}:{number}: {found[0]}"


# -- figures -----------------------------------------------------------------------------------------------------------


def figures(modules: Iterable[Module]) -> dict[str, float]:
    """Return the number of modules and lines, the median and the largest size. Empty modules are not counted."""
    sizes = [module.source.count("\n") for module in modules if module.source]
    return {"modules": len(sizes), "lines": sum(sizes), "median": median(sizes), "largest": max(sizes)}


if __name__ == "__main__":
    print(", ".join(f"{name} {value:g}" for name, value in figures(package()).items()))
