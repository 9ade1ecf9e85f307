"""The benchmarks of growth and of files at a small size: all rows are read, and their tables are complete."""

from __future__ import annotations

import asyncio
import re

from benchmarks import __main__ as command
from benchmarks import growth, scaling
from benchmarks.store import temporary
from tests.benchmarks.conftest import TOKENS


def test_stores_of_two_sizes(server):
    stores = []
    for tokens in (300, 900):
        with temporary(server.database_url, f"growth_{tokens}") as url:
            stores.append(asyncio.run(growth.measure(url, tokens, turns=2, part=200)))
    lines = growth.table(stores).splitlines()
    assert lines[0] == "| | 300 tokens | 900 tokens | growth |"
    assert len(lines) == 2 + 6 + 5
    for line in lines[2:]:
        assert re.fullmatch(r"\| [\w\s,:=]+ \| [\d.]+ \| [\d.]+ \| [\d.]* \|", line), line
    # A row of 8 levels takes more than its 3 numbers for each of them.
    assert all(each.heap > 100 and each.index > 100 for each in stores)
    assert all(0 < each.indexes < each.load for each in stores)


def test_readers_of_files(small_store):
    """The readers must agree, or the benchmark raises."""
    lines = scaling.files(small_store, TOKENS, turns=1).splitlines()
    assert "of 8 row groups in order" in lines[0]
    assert len(lines) == 4 + 5
    for line in lines[4:7]:
        assert re.fullmatch(r"\| \w+( \| [\d.]+){5} \|", line), line


def test_the_page_has_their_places():
    page = (command._DOCS / command._PAGE).read_text()
    for name in ("scaling", "growth"):
        assert name in command.PARTS
        assert "a table" in command.replaced(page, name, "a table")
