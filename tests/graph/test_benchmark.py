"""The benchmark of neighborhoods runs, and its two methods return the same answers."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_benchmark_runs_on_small_graphs(tmp_path):
    process = subprocess.run(
        [
            sys.executable,
            ROOT / "benchmarks" / "graph.py",
            *("--tokens", "400", "--connections", "2000", "--repeats", "1", "--snapshot"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    snapshot, head, *rows = process.stdout.splitlines()
    assert snapshot.startswith("snapshot of 400 tokens and 2,000 connections: ")
    assert head.split()[:3] == ["graph", "direction", "rows"]
    assert [tuple(row.split()[:2]) for row in rows] == [
        (graph, direction)
        for graph in ("uniform", "rmat", "local")
        for direction in ("outgoing", "both")
    ]
    assert all(int(row.split()[2]) > 0 for row in rows)
