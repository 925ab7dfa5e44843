"""The catalogue of log events against the code: every line that is written is in it, and every entry is written."""

import ast
import json
from collections.abc import Iterator
from dataclasses import fields
from string import Formatter
from typing import get_args

import pytest

from echonode.manual.log_events import BY_NAME, LOG_EVENTS
from echonode.manual.log_lines import LineForm
from echonode.manual.topics import logs
from echonode.node.events import Event
from tests.tidy import ROOT, Module, package

EVENTS = {kind.name: kind for kind in get_args(Event)}
WRITERS = ("log", "_write", "_render")  # the functions that are given the name of a line of the process


def calls(module: Module) -> Iterator[ast.Call]:
    return (node for node in ast.walk(module.tree) if isinstance(node, ast.Call))


def lines_of_the_process() -> dict[str, set[str]]:
    """Return the names and the fields of lines that are no events of the node."""
    found: dict[str, set[str]] = {}
    for module in package():
        if module.room not in ("app", "host"):
            continue
        for call in calls(module):
            match call:
                case ast.Call(func=ast.Attribute(attr=attr), args=[ast.Constant(value=str(name)), *more]) if (
                    attr in WRITERS and "." in name
                ):
                    there = {each.arg for each in call.keywords if each.arg}
                    for each in more:
                        if isinstance(each, ast.Dict):
                            there |= {key.value for key in each.keys if isinstance(key, ast.Constant)}
                    found[name] = there
    return found


def published() -> set[str]:
    """Return the names of the event classes of which an instance is made outside node/events.py."""
    made = set()
    for module in package():
        if module.path == "node/events.py":
            continue
        for node in ast.walk(module.tree):
            match node:
                case ast.Call(func=ast.Name(id=name) | ast.Attribute(value=ast.Name(id=name), attr="of")):
                    made.add(name)
                case ast.IfExp(body=ast.Name(id=name), orelse=ast.Name(id=other)):  # one of two events
                    made |= {name, other}
    return made


def test_every_line_that_is_written_is_in_the_catalogue_and_every_entry_is_written() -> None:
    process = lines_of_the_process()
    assert "library.message" in process
    assert {event.name for event in LOG_EVENTS} == set(EVENTS) | set(process)
    assert len(BY_NAME) == len(LOG_EVENTS)
    assert {kind.__name__ for kind in EVENTS.values()} <= published()


@pytest.mark.parametrize("name", EVENTS)
def test_the_level_in_the_catalogue_is_that_of_the_event(name: str) -> None:
    assert BY_NAME[name].level == EVENTS[name].level


@pytest.mark.parametrize("entry", LOG_EVENTS, ids=lambda entry: entry.name)
def test_a_sentence_names_only_fields_of_its_line(entry) -> None:
    kind = EVENTS.get(entry.name)
    there = {field.name for field in fields(kind)} if kind else lines_of_the_process()[entry.name]
    named = {name for _, name, _, _ in Formatter().parse(entry.sentence) if name}
    if entry.name != "library.message":  # its fields are put together elsewhere
        assert named <= there
    line = {"time": "2025-03-01T09:30:00.123Z", "level": entry.level, "event": entry.name}
    assert "\n" not in LineForm(width=80).full({**line, **dict.fromkeys(there, "x\ny")})


def test_the_page_has_every_event() -> None:
    assert all(f"\n{event.name}  ({event.level})\n" in logs() for event in LOG_EVENTS)
    assert max(map(len, logs().splitlines())) <= 80


def test_lnavs_format_knows_the_fields_of_the_summary_line() -> None:
    form = json.loads((ROOT / "systemd/echonode.lnav.json").read_text())["echonode_log"]
    named = {field.name for field in fields(EVENTS["sync.completed"])}
    assert named - {"role"} <= set(form["value"])
    assert set(form["level"]) == {"debug", "info", "warning", "error"}
    assert json.loads(form["sample"][0]["line"])["event"] == "sync.completed"
