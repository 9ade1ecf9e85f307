"""The benchmarks of neighborhoods and paths run, and all ways return the same answers."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def printed(tmp_path, *options):
    process = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "graph.py", *options, "--repeats", "1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.splitlines()


def test_the_benchmark_runs_on_small_graphs(tmp_path):
    options = ("--tokens", "400", "--connections", "2000", "--snapshot")
    snapshot, head, *rows = printed(tmp_path, *options)
    assert snapshot.startswith("snapshot of 400 tokens and 2,000 connections: ")
    assert head.split()[:3] == ["graph", "direction", "rows"]
    assert [tuple(row.split()[:2]) for row in rows] == [
        (graph, direction)
        for graph in ("uniform", "rmat", "local")
        for direction in ("outgoing", "both")
    ]
    assert all(int(row.split()[2]) > 0 for row in rows)


def test_the_benchmark_of_paths_runs_on_small_graphs(tmp_path):
    options = ("--paths", "--chains", "20", "60", "--tree", "100", "--dense", "60")
    head, *rows = printed(tmp_path, *options)
    assert head.split()[:4] == ["graph", "connections", "by", "steps"]
    assert [row.split()[:3] for row in rows] == [
        [graph, count, by]
        for graph, count in (("chain", "20"), ("chain", "60"), ("tree", "99"), ("dense", "3000"))
        for by in ("steps", "weight")
    ]
