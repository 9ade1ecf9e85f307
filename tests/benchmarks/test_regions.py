"""The benchmark of regions at a small size: each way runs, and its tables are complete."""

from __future__ import annotations

from benchmarks import regions, store
from tests.benchmarks.conftest import TOKENS
from tests.conftest import run


def test_each_way_runs(small_store):
    results = run(regions.measured(small_store, store.side(TOKENS), turns=1))
    assert len(results) == 9
    assert all(0 < result.rows < result.rows_of_box for result in results.values())
    lines = regions.tables(results).splitlines()
    assert len(lines) == 2 + 9 + 1 + 2 + 4


def test_the_solid_fills_a_fifth_of_its_box():
    body = regions.solid(100.0, 4)
    low, high = body.bounds
    assert body.is_watertight
    assert 0.15 < body.volume / (high - low).prod() < 0.25
