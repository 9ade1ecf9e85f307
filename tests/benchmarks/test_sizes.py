"""The bytes per token that the page on large stores is computed from."""

from __future__ import annotations

import pytest

from benchmarks import sizes


def test_sizes_are_those_of_the_store_and_grow_with_the_levels(server, execute):
    one, eight = (sizes.bytes_per_token(server.database_url, 3_000, n) for n in (1, 8))
    try:
        assert list(one) == list(eight) == list(sizes.PARTS)
        for part in sizes.PARTS:
            assert 3 <= one[part] <= 400
            if part.startswith("levels"):
                assert eight[part] / one[part] == pytest.approx(8, rel=0.5)
        assert eight["tokens, indexes"] == pytest.approx(one["tokens, indexes"], rel=0.3)
        # Each further level is three more coordinates in the row.
        assert one["tokens, rows"] + 7 * 24 * 0.7 < eight["tokens, rows"]
        url = server.database_url.replace("/ngdata?", "/sizes_3000_8?")
        ((whole,),) = execute(
            url,
            "SELECT sum(pg_total_relation_size(oid))::float8 FROM pg_class WHERE relkind = 'r' AND"
            " relnamespace = 'tokens'::regnamespace AND relname ~ '^(tokens|spatial_index_.)$'",
        )
        assert sum(eight.values()) * 3_000 == pytest.approx(whole, rel=0.05)
    finally:
        for levels in (1, 8):
            execute(server.database_url, f"DROP DATABASE sizes_3000_{levels} WITH (FORCE)")


def test_the_table_multiplies():
    parts = dict.fromkeys(sizes.PARTS, 100.0)
    text = sizes.table(parts, {part: 2 * size for part, size in parts.items()}, 10**9)
    assert "GB of 1,000,000,000 tokens" in text
    assert "| all | 500 | 1,000 | 500 | 1,000 |" in text
    assert "| of these, indexes | 300 | 600 | 300 | 600 |" in text
