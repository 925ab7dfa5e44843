"""bench: two real nodes beside the limits of the machine; nothing of it may remain, however it ends."""

import json
import os
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from echonode.cli.commands.bench import Figures, table_of
from echonode.cli.machine_limits import MachineLoad, durable_write_s, sign_rate
from tests.cli.test_demo import children_of, environment

WITHIN_S = 120


def bench(folder: Path, *args: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "echonode", "bench", "--records", "1000", *args]
    return subprocess.Popen(command, env=environment(folder), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_every_figure_is_measured_and_nothing_is_left(tmp_path: Path) -> None:
    process = bench(tmp_path, "--json")
    out, err = (text.decode() for text in process.communicate(timeout=WITHIN_S))
    assert process.returncode == 0, err
    found = json.loads(out)
    assert list(found) == [field.name for field in fields(Figures)]
    elsewhere = found.pop("cores_busy_elsewhere")
    assert elsewhere is None or elsewhere >= 0
    assert min(found.values()) > 0
    assert found["live_p50_ms"] <= found["live_p99_ms"]
    assert list(tmp_path.iterdir()) == []
    assert children_of(tmp_path) == []


def test_a_bench_told_to_stop_cleans_up_first(tmp_path: Path) -> None:
    process = bench(tmp_path)
    assert process.stderr is not None
    while b"second node" not in (line := process.stderr.readline()):
        assert line, "it ended before the second node"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=WITHIN_S)
    assert process.returncode == 128 + signal.SIGINT
    assert out == b"" and b"Traceback" not in err
    assert list(tmp_path.iterdir()) == []
    assert children_of(tmp_path) == []


def test_the_table_fits_80_columns_and_shows_each_figure_beside_its_limit() -> None:
    figures = Figures(200_000, 64, 150_000, 50_000, 3_000_000, 12.345, 12.3, 123_456, 1_234_567, 1234.5, 9999.9, 3.2)
    lines = list(table_of(figures))
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["TWO", "NODES", "ECHONODE", "THIS", "MACHINE", "ALONE", "RATIO"]
    assert lines[2].split()[4:] == ["123,456", "150,000", "signatures", "on", "1", "core", "82%"]
    assert any(line.startswith("a put") and line.endswith(f"{1234.5 / 12.345:.1f} x") for line in lines)


def test_limits_are_measured_here(tmp_path: Path) -> None:
    load = MachineLoad()
    assert sign_rate() > 0
    assert durable_write_s(tmp_path) > 0
    assert list(tmp_path.iterdir()) == []
    elsewhere = load.cores_busy_elsewhere()
    assert elsewhere is None or 0 <= elsewhere <= (os.cpu_count() or 1) + 1
