"""A short soak, by the code of `make soak`: all answers right, and nothing that only grows."""

from __future__ import annotations

from benchmarks import soak


def test_a_short_soak_has_right_answers_and_bounded_resources(server, migrated_database):
    result = soak.soak(migrated_database, server.redis_url, seconds=5, workers=32)
    assert result.failures == []
    # Every kind of step was made, so the answers of each were checked.
    assert set(result.calls) == set(soak.STEPS)
    highest = result.samples.max()
    # Six seconds are too short for a slope: these are the most that the pools and threads need.
    assert highest["server connections"] <= 2 * (2 * soak.CONNECTIONS + 1)
    assert highest["Redis clients"] <= 2 * 8 + 16
    # Those of the workers, of the connections, and one for each frame or batch that is being made.
    assert highest["threads"] <= 32 + 2 * soak.CONNECTIONS + 3 * 64
    # Eight for each table, and one for each write that runs.
    assert highest["version rows"] <= 5 * (8 + 64)


def test_the_verdict_of_a_soak():
    """A measure that grows is named, and one that swings is not."""
    seconds = [float(n) for n in range(30)]
    flat = dict.fromkeys((bound.name for bound in soak.BOUNDS), [100.0, 104.0] * 15)
    grown = flat | {"memory": [100.0 + 2 * n for n in range(30)]}
    assert soak.Soak.of(seconds, flat).not_flat == []
    assert soak.Soak.of(seconds, grown).not_flat == ["memory"]
    # What grows until it is warm, and then no more, is flat.
    warm = flat | {"memory": [100.0 + 10 * min(n, 9) for n in range(30)]}
    assert soak.Soak.of(seconds, warm).not_flat == []
    assert "not flat: memory" in soak.table(soak.Soak.of(seconds, grown))
