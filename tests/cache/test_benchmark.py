"""The benchmarks of the cache, in small: compared answers agree, and their tables are complete."""

import asyncio
import re

from benchmarks import cache, history, store, versions
from ngdata import _local
from tests.conftest import execute


def test_all_ways_return_the_same_answer(server, migrated_database):
    addresses = _local.Addresses(migrated_database, server.redis_url)
    results = asyncio.run(cache.run(addresses, (1, 50), turns=5))
    lines = cache.table(results).splitlines()
    assert len(lines) == 2 + 9 + 8
    for line in lines[2:]:
        assert re.fullmatch(r"\| [\d,]+ \| [\w -]+ \| [\d.]+ \| [\d.]+ \| [\d.]+ \|", line), line


def test_a_region_is_read_while_it_is_written(server):
    url = store.filled(server.database_url, 4000, 0, 0)
    measured = asyncio.run(history.run(url, 4000, turns=20, write_turns=1))
    assert (measured.rows > 1000, measured.checked) == (True, 3)
    assert measured.stats.mended + measured.stats.outlived > 0
    # Each move is a statement of one token.
    assert measured.log_rows >= 20
    assert len(history.table(measured).splitlines()) == 14
    assert set(measured.writes) == {"create one", "move one", "create 1,000"}


def test_the_rows_of_all_writers_remain(migrated_database):
    results = asyncio.run(versions.run(migrated_database, 80))
    assert [result.sessions for result in results] == [1, 4, 8]
    rows = execute(migrated_database, "SELECT count(*) FROM graph.connections")
    assert rows == [(2 * 80,)]  # with the trigger, and without
    lines = versions.table(results).splitlines()
    for line in lines[2:]:
        assert re.fullmatch(r"\| \d \| \d+ \| \d+ \| \d+ \| \d+ \| [\d.]+ \|", line), line
