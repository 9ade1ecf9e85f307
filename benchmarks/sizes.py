"""How many bytes a token takes, with one level and with eight, and what that is for a thousand million.

    python -m benchmarks.sizes --tokens 200000

The tokens are loaded with ``initial=True`` into new databases, and PostgreSQL says the size of each
table and index.  Those of a larger store are taken to be these bytes times its tokens, since rows and
the entries of indexes are of one size.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import pandas as pd

import ngdata
from benchmarks import store

__all__ = ["PARTS", "bytes_per_token", "main", "table"]

PARTS: Final = {
    "tokens, rows": "c.relname = 'tokens' AND c.relkind = 'r'",
    "tokens, indexes": "i.indrelid = 'tokens.tokens'::regclass",
    "levels, rows": "c.relname LIKE 'spatial\\_index\\_%' AND c.relkind = 'r'",
    "levels, index by place": "a.amname = 'gist'",
    "levels, index by id": "t.relname LIKE 'spatial\\_index\\_%' AND a.amname = 'btree'",
}
"""What is measured: the relations, as a condition on the catalog."""

_SIZE: Final = """
SELECT coalesce(sum(pg_table_size(c.oid)), 0)::float8
FROM pg_class AS c
LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
LEFT JOIN pg_class AS t ON t.oid = i.indrelid
LEFT JOIN pg_am AS a ON a.oid = c.relam
WHERE c.relnamespace = 'tokens'::regnamespace AND c.relkind IN ('r', 'i') AND ({part})
"""

_LARGE: Final = 1_000_000_000


def bytes_per_token(url: str, tokens: int, levels: int) -> dict[str, float]:
    """Load tokens, each on `levels` levels, into a new database; return the bytes of each part.

    Parameters
    ----------
    url : str
        Of any database of the server.
    tokens, levels : int
    """
    name = f"sizes_{tokens}_{levels}"
    store.new_database(url, name)
    own = url.replace("/ngdata?", f"/{name}?")
    coords = np.full((tokens, 8, 3), np.nan)
    coords[:, :levels] = np.random.default_rng(7).uniform(0, 1000, (tokens, levels, 3))
    frame = pd.DataFrame({"token_type": np.resize(["neuron", "segment"], tokens)})
    with ngdata.connect(own) as ng:
        ng.tokens.bulk_create(frame, coords=coords, initial=True, progress=False)
    with adbc.connect(own, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE tokens.tokens")
        sizes = {}
        for part, condition in PARTS.items():
            cursor.execute(_SIZE.format(part=condition))
            sizes[part] = cursor.fetchone()[0] / tokens
    return sizes


def table(one: Mapping[str, float], eight: Mapping[str, float], tokens: int = _LARGE) -> str:
    """Return the table of the page: bytes per token, and gigabytes of a store of that size."""
    lines = [
        f"| | bytes per token, one level | eight | GB of {tokens:,} tokens, one level | eight |",
        "|---|---:|---:|---:|---:|",
    ]
    rows = [*((part, one[part], eight[part]) for part in PARTS)]
    rows.append(("all", sum(one.values()), sum(eight.values())))
    indexes = [part for part in PARTS if "index" in part]
    rows.append(
        (
            "of these, indexes",
            sum(one[part] for part in indexes),
            sum(eight[part] for part in indexes),
        )
    )
    for part, least, most in rows:
        large = [f"{value * tokens / 1e9:,.0f}" for value in (least, most)]
        lines.append(f"| {part} | {least:,.0f} | {most:,.0f} | {' | '.join(large)} |")
    return "\n".join(lines)


def main(tokens: int, home: str | Path | None = None) -> str:
    """Measure a store of `tokens` tokens with one level and one with eight; return the table."""
    with store.server(home) as addresses:
        one, eight = (bytes_per_token(addresses.database_url, tokens, levels) for levels in (1, 8))
    return table(one, eight)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--home")
    options = parser.parse_args()
    print(main(options.tokens, options.home))
