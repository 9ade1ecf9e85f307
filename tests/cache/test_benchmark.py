"""The benchmarks of the cache at a small size: what they compare agrees, their tables are whole."""

import asyncio
import importlib.util
import re
import sys

from ngdata import local, schema
from tests.conftest import ROOT, execute


def load(name):
    spec = importlib.util.spec_from_file_location(
        f"{name}_benchmark", ROOT / "benchmarks" / f"{name}.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses looks for it
    spec.loader.exec_module(module)
    return module


def test_all_ways_give_the_same_answer(server, empty_database):
    schema.upgrade(empty_database)
    benchmark = load("cache")
    addresses = local.Addresses(empty_database, server.redis_url)
    found = asyncio.run(benchmark.run(addresses, (1, 50), turns=5))
    lines = benchmark.table(found).splitlines()
    assert len(lines) == 2 + 7 + 6
    for line in lines[2:]:
        assert re.fullmatch(r"\| [\d,]+ \| [\w -]+ \| [\d.]+ \| [\d.]+ \| [\d.]+ \|", line), line


def test_writers_leave_the_rows_that_they_wrote(empty_database):
    schema.upgrade(empty_database)
    benchmark = load("versions")
    found = asyncio.run(benchmark.run(empty_database, 80))
    assert [one.sessions for one in found] == [1, 4, 8]
    rows = execute(empty_database, "SELECT count(*) FROM graph.connections")
    assert rows == [(2 * 80,)]  # with the trigger, and without
    lines = benchmark.table(found).splitlines()
    for line in lines[2:]:
        assert re.fullmatch(r"\| \d \| \d+ \| \d+ \| \d+ \| \d+ \| [\d.]+ \|", line), line
