"""The benchmark of the viewer at a small size: it draws all tokens, and its table is complete."""

from __future__ import annotations

import re

from benchmarks import view
from tests.benchmarks.conftest import TOKENS


def test_all_tokens_are_drawn(small_store):
    results = view.measured(small_store, turns=1)
    # Of so few tokens, the first picture has all, and a nearer look needs no read.
    assert [(name, row["points"]) for name, row in results.items()] == [("first picture", TOKENS)]
    assert 1_000 < view.notebook_growth(small_store) < 200_000
    lines = view.table(results).splitlines()
    assert re.fullmatch(r"\| [\w ]+ \| [\d,]+ \| \d+ \| \d+ \| \d+ \|", lines[2]), lines
