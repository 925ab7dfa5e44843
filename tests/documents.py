"""The rules of documents and citations: what a text names in this repository is there.

    citations     every `NAME.md §n` and `SECURITY.md Hn` that a file cites exists
    tour          every file and function that a document names in backticks exists
    quotations    every line of code that a document quotes stands in the file that it names

A rule is a generator over texts and yields problems in plain words. tests/test_documents.py runs the rules on the
repository, and each rule on a planted violation.
"""

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from tests.tidy import PACKAGE, Module

_SECTION: Final = r"(?:§\s?|section\s)[\d.]*\d"
_RULE: Final = r"H\d+"
_CITATION: Final = re.compile(rf"\b([A-Z][A-Z_]+)\.md((?:[\s#;,(-]*(?:and\s|to\s)?(?:{_SECTION}|{_RULE}))*)")
_CITED: Final = re.compile(rf"{_SECTION}|{_RULE}")
_NUMBERED: Final = re.compile(r"^#+\s+(\d[\d.]*?)\.?\s|^\|\s*(H\d+)\s*\|", re.MULTILINE)
_QUOTED: Final = re.compile(r"`([^`\n]+)`")
_FILE: Final = re.compile(r"((?:[\w.-]+/)*[\w.-]+\.(?:py|md|cddl|yaml|json|c|hex|txt)|(?:[\w.-]+/)+)(?::([\w.]+))?")
_DOTTED: Final = re.compile(r"([A-Za-z_]\w*)\.([A-Za-z_]\w*)(?:\(\))?")
_QUOTATION: Final = re.compile(r"^```python\n# (\S+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def sections(documents: Mapping[str, str]) -> dict[str, frozenset[str]]:
    """Return the numbers of sections ("8.1") and rules ("H3") of each document; keys are paths, names come out."""
    found: dict[str, frozenset[str]] = {}
    for path, text in documents.items():
        name = path.rpartition("/")[2]
        numbers = {section or rule for section, rule in _NUMBERED.findall(text)}
        found[name] = found.get(name, frozenset()) | numbers
    return found


def citations(path: str, text: str, documents: Mapping[str, frozenset[str]]) -> Iterator[str]:
    """Yield what `text` cites and is not there. `documents`: the result of `sections`."""
    for cited in _CITATION.finditer(text):
        line = text.count("\n", 0, cited.start()) + 1
        name = f"{cited[1]}.md"
        if name not in documents:
            yield f"{path}:{line}: {name} is not in this repository"
            continue
        for number in _CITED.findall(cited[2]):
            if number.removeprefix("section").lstrip("§ \n\t") not in documents[name]:
                yield f"{path}:{line}: {name} has no {number}"


def tour(path: str, text: str, files: Collection[str], modules: Iterable[Module]) -> Iterator[str]:
    """Yield the files and functions that the document names in backticks and that do not exist.

    `files` are paths from the top; a document names them from its own folder or from the top. Forms: `path/file.py`,
    `path/`, `path/file.py:function`, `path/file.py:Class.method`, `module.function`, `Class.method`.
    """
    folder = f"{path.rpartition('/')[0]}/".lstrip("/")
    defined = {_from_the_top(each): _defined(each) for each in modules}
    holders = _holders(defined)
    for number, line in enumerate(text.splitlines(), start=1):
        for quoted in _QUOTED.findall(line):
            if named := _FILE.fullmatch(quoted):
                found = [place for place in (f"{folder}{named[1]}", named[1]) if _exists(place, files)]
                if not found:
                    yield f"{path}:{number}: there is no {named[1]}"
                elif named[2] and named[2] not in defined.get(found[0], frozenset()):
                    yield f"{path}:{number}: {named[1]} has no {named[2]}"
            elif (dotted := _DOTTED.fullmatch(quoted)) and dotted[2] not in holders.get(dotted[1], set()):
                yield f"{path}:{number}: no module or class {dotted[1]} has {dotted[2]}"


def _from_the_top(module: Module) -> str:
    return module.path if module.path.startswith("tests/") else f"{PACKAGE}/{module.path}"


def _exists(place: str, files: Collection[str]) -> bool:
    return any(file.startswith(place) for file in files) if place.endswith("/") else place in files


def _defined(module: Module) -> frozenset[str]:
    """Return the functions, classes, methods ("Class.method") and top-level names of a module."""
    found: set[str] = set()
    for node in module.tree.body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name, body=body):
                found.add(name)
                found.update(f"{name}.{each}" for each in _names_in(body))
    return frozenset(found | _names_in(module.tree.body))


def _names_in(body: Iterable[ast.stmt]) -> set[str]:
    found: set[str] = set()
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
            case ast.Assign(targets=targets):
                found.update(target.id for target in targets if isinstance(target, ast.Name))
    return found


def _holders(defined: Mapping[str, frozenset[str]]) -> dict[str, set[str]]:
    """Return by module name and by class name what each holds, over all files."""
    holders: dict[str, set[str]] = {}
    for path, known in defined.items():
        module = path.rpartition("/")[2].removesuffix(".py")
        for name in known:
            holder, _, member = name.rpartition(".")
            holders.setdefault(holder or module, set()).add(member)
    return holders


def quotations(path: str, text: str, files: Mapping[str, str]) -> Iterator[str]:
    """Yield the quoted lines that do not stand, in this order, in the file that the quotation's first line names.

    `files`: texts by their path from the top. A quotation may leave lines out.
    """
    for quotation in _QUOTATION.finditer(text):
        source = quotation[1]
        if source not in files:
            yield f"{path}: there is no {source}"
            continue
        lines = iter(files[source].splitlines())
        for line in filter(None, quotation[2].splitlines()):
            if line not in lines:  # takes the lines up to the one that is found
                yield f"{path}: {source} has no line {line.strip()!r} there"
                break
