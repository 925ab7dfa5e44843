"""Real input: the Unicode character database in Python, and this machine's package list."""

import json
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path


def characters(every: int = 1) -> Iterator[dict[str, object]]:
    """Yield one record for each named character, or for one in every `every`."""
    named = (char for char in map(chr, range(sys.maxunicode + 1)) if unicodedata.name(char, ""))
    for number, char in enumerate(named):
        if number % every == 0:
            category = unicodedata.category(char)
            yield {
                "name": f"u+{ord(char):04x}",
                "body": {
                    "name": unicodedata.name(char),
                    "category": category,
                    "bidirectional": unicodedata.bidirectional(char),
                    "decomposition": unicodedata.decomposition(char),
                },
                "tags": [category],
                "model": "character",
                "timestamp": "2026-01-01T00:00:00Z",
            }


def packages(count: int | None = None) -> Iterator[dict[str, object]]:
    """Yield one record for each Debian package; on a machine without dpkg, for each module of the standard library."""
    if shutil.which("dpkg-query"):
        form = "${Package}\t${Version}\t${Section}\t${binary:Summary}\n"
        text = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True).stdout
        rows = [line.split("\t") for line in text.splitlines()]
    else:
        rows = [[name, sys.version.split()[0], "python", name] for name in sorted(sys.stdlib_module_names)]
    seen: set[str] = set()
    for name, version, section, summary in rows[:count]:
        if name not in seen:
            seen.add(name)
            body = {"version": version, "summary": summary}
            yield {"name": name, "body": body, "tags": [section or "none"], "model": "package"}


def write_lines(path: Path, records: Iterator[dict[str, object]]) -> int:
    """Write `records` to `path` as JSON lines, and return their number."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    return count
