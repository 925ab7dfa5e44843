"""PROTOCOL.md as data: its sections, and the tables in them."""

import re
from pathlib import Path

PROTO = Path(__file__).parents[2] / "proto"
TEXT = (PROTO / "PROTOCOL.md").read_text()
Row = dict[str, str]


def section(number: str) -> str:
    """The text under the heading of that number, without the sections below it."""
    found = re.search(rf"^##+ {re.escape(number)}\.? .*?\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"no section {number}"
    return found[1]


def table(number: str, first_column: str) -> list[Row]:
    """The table in that section whose first column has that heading, a row a dictionary; marks of code left out."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", section(number), re.MULTILINE)
    tables = [[_cells(line) for line in block.splitlines()] for block in blocks]
    found = [each for each in tables if each[0][0] == first_column]
    assert len(found) == 1, f"{len(found)} tables begin with {first_column}"
    heading, _, *rows = found[0]
    return [dict(zip(heading, row, strict=True)) for row in rows]


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("`", "") for cell in line.split("|")[1:-1]]
