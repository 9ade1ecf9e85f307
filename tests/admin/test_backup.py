"""Backup and restore by PostgreSQL's own tools: a restored store is the same, and passes the doctor."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import ngdata
from ngdata._config.settings import load_settings
from ngdata._local.binaries import find_psql
from ngdata._store import migrate
from ngdata.admin.doctor import Finding, examine
from ngdata.admin.doctor.schema_checks import ALWAYS
from ngdata.admin.reindex import reindex
from tests.conftest import execute

SCHEMAS = ["--schema=tokens", "--schema=graph", "--schema=experience"]
DERIVED = "--exclude-table-data=tokens.spatial_index*"
EVERYTHING = ((-99.0, -99.0, -99.0), (99.0, 99.0, 99.0))
TABLES = (
    "tokens.tokens",
    "tokens.spatial_index",
    "tokens.alembic_version",
    "graph.connections",
    "graph.graph_snapshots",
    "experience.experience_events",
    "experience.experience_trajectories",
)


def tool(name: str, *arguments: str | Path) -> None:
    """Run a program that is installed with psql."""
    result = subprocess.run(
        [find_psql().with_name(name), *arguments], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def problems(url: str) -> list[Finding]:
    return [f for f in examine(load_settings(database_url=url)) if f.state == "wrong"]


def contents(url: str) -> dict[str, str]:
    """Return a digest of all rows of each table."""
    return {
        table: execute(
            url, f"SELECT md5(string_agg(t::text, ';' ORDER BY t::text)) FROM {table} AS t"
        )[0][0]
        for table in TABLES
    }


@pytest.fixture
def filled(database_url: str) -> str:
    """A store with rows in each table."""
    random = np.random.default_rng(3)
    coords = random.normal(size=(200, 8, 3))
    coords[random.random((200, 8)) < 0.3] = np.nan
    coords[:5, 0] = -0.0
    with ngdata.connect(database_url) as ng:
        ids = ng.tokens.bulk_create(
            pd.DataFrame({"weight": random.random(200), "token_type": "back\\slash's"}),
            coords=coords,
        )
        ng.graph.bulk_create(pd.DataFrame({"source_id": ids[:50], "target_id": ids[50:100].values}))
        ng.experience.bulk_create(
            pd.DataFrame(
                {
                    "event_type": "seen",
                    "timestamp": pd.date_range("2026-01-01", periods=20, tz="UTC"),
                    "token_id": ids[:20],
                    "trajectory_id": "11111111-1111-4111-8111-111111111111",
                    "reward": random.random(20),
                    "state_after": [{"n": n, "none": None} for n in range(20)],
                }
            )
        )
    return database_url


def restore_into(url: str, dump: Path) -> None:
    execute(url, "CREATE EXTENSION postgis")
    tool("pg_restore", f"--dbname={url}", "--single-transaction", "--exit-on-error", dump)


def test_a_whole_store(filled, empty_database, tmp_path):
    dump = tmp_path / "store.dump"
    tool("pg_dump", filled, "--format=custom", *SCHEMAS, f"--file={dump}")
    restore_into(empty_database, dump)
    assert problems(empty_database) == []
    assert contents(empty_database) == contents(filled)
    with ngdata.connect(filled) as before, ngdata.connect(empty_database) as after:
        pd.testing.assert_frame_equal(
            after.tokens.find_in_region(*EVERYTHING, limit=1000),
            before.tokens.find_in_region(*EVERYTHING, limit=1000),
        )
        # It accepts writes like the original; events are numbered on from the restored ones.
        run = "11111111-1111-4111-8111-111111111111"
        steps = before.experience.get_trajectory(run)
        after.experience.create_event("late", timestamp=steps.timestamp[0], trajectory_id=run)
        order = after.experience.get_trajectory(run).event_type.tolist()
        assert order == ["seen", "late", *["seen"] * 19]
        after.tokens.create({0: (50.0, 50.0, 50.0)})
        assert after.tokens.count_in_region((50, 50, 50), (50, 50, 50)) == 1


def test_a_restored_store_is_under_alembic(filled, empty_database, tmp_path):
    """The revision is in the dump, so that later migrations apply."""
    dump = tmp_path / "store.dump"
    tool("pg_dump", filled, "--format=custom", *SCHEMAS, f"--file={dump}")
    restore_into(empty_database, dump)
    migrate.upgrade(empty_database)
    migrate.downgrade(empty_database, "0002")
    migrate.upgrade(empty_database)
    assert problems(empty_database) == []


def test_without_the_derived_index(filled, empty_database, tmp_path):
    """A smaller dump; a restore creates triggers after the data, so `ngdata reindex` derives it."""
    dump = tmp_path / "store.dump"
    tool("pg_dump", filled, "--format=custom", *SCHEMAS, DERIVED, f"--file={dump}")
    restore_into(empty_database, dump)
    assert [f.check for f in problems(empty_database)] == ["spatial index"]
    reindex(load_settings(database_url=empty_database))
    assert problems(empty_database) == []
    assert contents(empty_database) == contents(filled)


def test_tokens_alone_into_a_migrated_database(filled, migrated_database, tmp_path):
    """There the triggers exist before the data, and derive the index as rows are restored."""
    dump = tmp_path / "store.dump"
    tool("pg_dump", filled, "--format=custom", *SCHEMAS, DERIVED, f"--file={dump}")
    only = ["--data-only", "--schema=tokens", "--table=tokens", "--exit-on-error"]
    tool("pg_restore", f"--dbname={migrated_database}", *only, dump)
    assert problems(migrated_database) == []
    before, after = contents(filled), contents(migrated_database)
    for table in ("tokens.tokens", "tokens.spatial_index"):
        assert after[table] == before[table]


def test_disabled_triggers_are_not_restored_as_they_were(filled, migrated_database, tmp_path):
    """pg_restore --disable-triggers enables them again, but not as ALWAYS; the doctor detects it."""
    dump = tmp_path / "store.dump"
    tool("pg_dump", filled, "--format=custom", *SCHEMAS, DERIVED, f"--file={dump}")
    execute(migrated_database, "DELETE FROM tokens.alembic_version; DELETE FROM tokens.levels")
    options = ["--data-only", "--disable-triggers", "--exit-on-error"]
    tool("pg_restore", f"--dbname={migrated_database}", *options, dump)
    findings = problems(migrated_database)
    restored = [table for table, _ in ALWAYS if not table.startswith("tokens.spatial_index")]
    assert [f.check for f in findings] == ["triggers"] * len(restored) + ["spatial index"]
    for finding in findings[:-1]:
        assert finding.advice is not None
        execute(migrated_database, finding.advice.partition(";")[0])
    reindex(load_settings(database_url=migrated_database))
    assert problems(migrated_database) == []
    assert contents(migrated_database) == contents(filled)
