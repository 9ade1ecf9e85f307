"""The benchmark of summaries at a small size: both ways agree, and its table is complete."""

from __future__ import annotations

import re

from benchmarks import summaries
from tests.benchmarks.conftest import TOKENS
from tests.conftest import run


def test_both_ways_return_the_same(small_store):
    results = run(summaries.measured(small_store, TOKENS, 500, turns=1))
    lines = summaries.tables(results).splitlines()
    assert len(lines) == 2 + len(results)
    for line in lines[2:]:
        assert re.fullmatch(r"\| [\w, ]+ \| \d+ \| \d+ \| [\d.]+ \|", line), line
