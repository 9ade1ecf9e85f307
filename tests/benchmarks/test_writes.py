"""The benchmark of writes at a small size: all methods write the same rows, and its table is complete."""

import asyncio
import importlib.util
import re
import sys

from benchmarks import metadata_index
from tests.conftest import ROOT


def load():
    path = ROOT / "benchmarks" / "writes.py"
    spec = importlib.util.spec_from_file_location("writes_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses looks it up there
    spec.loader.exec_module(module)
    return module


def test_all_methods_write_the_same(migrated_database):
    benchmark = load()
    results = asyncio.run(benchmark.run(migrated_database, store=200, rows=40, turns=2))
    lines = benchmark.table(results).splitlines()
    assert len(lines) == 2 + 4 + 4 + 3 + 3 + 2
    for line in lines[2:]:
        assert re.fullmatch(r"\| [\w, ]+ \| 40 \| [\w, ]+( \| [\d.,]+){5} \|", line), line


def test_an_initial_load_writes_the_same(migrated_database):
    benchmark = load()
    results = asyncio.run(benchmark.measured_initial(migrated_database, rows=40, turns=1))
    assert list(results.seconds) == ["ngdata", "ngdata, initial=True"]


def test_writes_with_and_without_the_index_of_metadata(migrated_database):
    table = asyncio.run(metadata_index.run(migrated_database, store=60, count=20, turns=1))
    for line, name in zip(table.splitlines()[2:], ("without", "with"), strict=True):
        assert re.fullmatch(rf"\| {name} metadata( \| [\d.]+){{3}} \|", line), line
