"""The benchmarks of the cache at a small size: what they compare agrees, their tables are whole."""

import asyncio
import re

from benchmarks import cache, versions
from ngdata import _local
from tests.conftest import execute


def test_all_ways_give_the_same_answer(server, migrated_database):
    addresses = _local.Addresses(migrated_database, server.redis_url)
    found = asyncio.run(cache.run(addresses, (1, 50), turns=5))
    lines = cache.table(found).splitlines()
    assert len(lines) == 2 + 7 + 6
    for line in lines[2:]:
        assert re.fullmatch(r"\| [\d,]+ \| [\w -]+ \| [\d.]+ \| [\d.]+ \| [\d.]+ \|", line), line


def test_writers_leave_the_rows_that_they_wrote(migrated_database):
    found = asyncio.run(versions.run(migrated_database, 80))
    assert [one.sessions for one in found] == [1, 4, 8]
    rows = execute(migrated_database, "SELECT count(*) FROM graph.connections")
    assert rows == [(2 * 80,)]  # with the trigger, and without
    lines = versions.table(found).splitlines()
    for line in lines[2:]:
        assert re.fullmatch(r"\| \d \| \d+ \| \d+ \| \d+ \| \d+ \| [\d.]+ \|", line), line
