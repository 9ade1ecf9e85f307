"""The benchmark of batches at a small size: both ways, and the loop, return the same rows."""

import asyncio

from benchmarks import batches
from tests.benchmarks.conftest import TOKENS


def test_batches(small_store):
    """The benchmark compares the rows itself before it measures."""
    results = asyncio.run(
        batches.measured({TOKENS: small_store}, sizes=(2, 80), ks=(1, 20), turns=1, looped=5)
    )
    assert len(results.reads) == 2 * 2 * 2
    assert set(results.choices.values()) <= {batches.ways.SERVER, batches.ways.HERE}
    assert all(results.loss(key) > 0 for key in results.reads)
    table = batches.tables(results)
    assert len([line for line in table.splitlines() if line.startswith("| 3,000")]) == 8 + 3
    assert batches.ways.forced_way is None
