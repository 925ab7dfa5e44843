"""PROTOCOL.md as data: its sections and their tables."""

import re
from pathlib import Path

PROTO = Path(__file__).parents[2] / "proto"
TEXT = (PROTO / "PROTOCOL.md").read_text()
Row = dict[str, str]


def section(number: str) -> str:
    """Return the text under the heading with that number, without the sections below it."""
    found = re.search(rf"^##+ {re.escape(number)}\.? .*?\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"no section {number}"
    return found[1]


def table(number: str, first_column: str) -> list[Row]:
    """Return the table in section `number` with that first column: a dictionary for each row, without backquotes."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", section(number), re.MULTILINE)
    tables = [[_cells(line) for line in block.splitlines()] for block in blocks]
    found = [each for each in tables if each[0][0] == first_column]
    assert len(found) == 1, f"{len(found)} tables begin with {first_column}"
    heading, _, *rows = found[0]
    return [dict(zip(heading, row, strict=True)) for row in rows]


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("`", "") for cell in line.split("|")[1:-1]]
