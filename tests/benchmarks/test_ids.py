"""The benchmark of integer ids at a small size: each way runs, and its tables are complete."""

import re

from benchmarks import ids


def test_each_way_runs(server, monkeypatch, execute):
    url = ids.filled(server.database_url, 300)
    try:
        results = ids.measured(url, server.redis_url, 100, 300, turns=2)
    finally:
        execute(
            server.database_url, f"DROP DATABASE {url.split('/')[3].split('?')[0]} WITH (FORCE)"
        )
    lines = ids.tables(results, ids.conversions(100, turns=1), 100).splitlines()
    rows = [line for line in lines if re.search(r"text|integer", line) and "| read |" not in line]
    assert len(rows) == 2 * len(results) + 4
    for result in results.values():
        assert result.bytes["integer"] < result.bytes["text"]
