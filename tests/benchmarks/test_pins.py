"""The benchmark of pins at a small size: each read and each write runs, and its tables are complete."""

import re

from benchmarks import pins, store
from tests.benchmarks.conftest import TOKENS
from tests.conftest import run


def test_each_way_runs(server):
    # Of a store of its own: it is copied, which needs that nobody is connected to it.
    with store.copied(store.filled(server.database_url, TOKENS, TOKENS, TOKENS)) as url:
        result = run(pins.measured(url, TOKENS, turns=1, calls=5, bulk=10))
    assert len(result.reads) == len(pins.reads(TOKENS)) == 8
    assert set(result.bytes_per_row) == {"token", "connection", "event"}
    lines = pins.tables(result).splitlines()
    assert len(lines) == (2 + 8 + 1) + (3 + 6) + (3 + 3) + (3 + 10)
    figures = [line for line in lines if re.match(r"\| [^|]+ \| [\d.,]+ \|", line)]
    assert len(figures) == (8 + 1) + 6 + 3 + 10
