"""A store whose tables Citus has distributed is refused at connect: it would lose rows silently.

Citus itself is not installed; its catalog is made by hand, as its installation does.
"""

from __future__ import annotations

import asyncio

import pytest

import ngdata
from ngdata._reading import parallel
from ngdata.errors import ConfigError
from tests.round_trips import counted

CATALOG = (
    "CREATE SCHEMA IF NOT EXISTS citus",
    'CREATE TABLE citus.pg_dist_partition (logicalrelid regclass NOT NULL, partmethod "char")',
    "GRANT USAGE ON SCHEMA citus TO public",
    "GRANT SELECT ON citus.pg_dist_partition TO public",
)
# As Citus does; the table's name is found without a schema then.
INTO_PG_CATALOG = "ALTER TABLE citus.pg_dist_partition SET SCHEMA pg_catalog"


def distribute(schema: str, table: str) -> str:
    return f"INSERT INTO {schema}.pg_dist_partition VALUES ('{table}', 'h')"


@pytest.mark.parametrize("schema", ["citus", "pg_catalog"])
def test_a_distributed_store_is_refused_at_connect(migrated_database, execute, schema):
    execute(migrated_database, *CATALOG, *([INTO_PG_CATALOG] * (schema == "pg_catalog")))
    execute(
        migrated_database,
        "CREATE TABLE public.others (id int)",
        distribute(schema, "public.others"),
    )
    with ngdata.connect(migrated_database) as ng:
        ng.tokens.create({0: (0, 0, 0)})
    execute(
        migrated_database,
        distribute(schema, "tokens.tokens"),
        distribute(schema, "graph.connections"),
    )
    expected = r"has distributed graph\.connections, tokens\.tokens by Citus.*undistribute_table"
    with pytest.raises(ConfigError, match=expected):
        ngdata.connect(migrated_database)

    async def connect():
        await ngdata.connect_async(migrated_database)

    with pytest.raises(ConfigError, match=expected):
        asyncio.run(connect())
    execute(migrated_database, f"DELETE FROM {schema}.pg_dist_partition")
    with ngdata.connect(migrated_database) as ng:
        assert len(ng.tokens.find()) == 1


def test_a_relation_of_that_name_without_the_column_is_not_citus(migrated_database, execute):
    execute(
        migrated_database,
        "CREATE SCHEMA citus",
        "CREATE TABLE citus.pg_dist_partition (name text)",
        "INSERT INTO citus.pg_dist_partition VALUES ('tokens.tokens')",
    )
    with ngdata.connect(migrated_database) as ng:
        assert len(ng.tokens.find()) == 0


def test_looking_for_citus_takes_no_round_trip(migrated_database, execute):
    """The one more that is counted with the catalog shows that the count sees it."""

    def round_trips():
        with counted(migrated_database) as proxy:
            with ngdata.connect(proxy.url, cache="off"):
                pass
            return proxy.count

    round_trips()
    without = round_trips()
    execute(migrated_database, *CATALOG)
    assert without < round_trips()


def test_a_table_without_pages_is_not_told_to_be_migrated(migrated_database, execute, monkeypatch):
    """A read of parts of a table by its pages, where a view stands in its place."""
    execute(
        migrated_database,
        "ALTER TABLE tokens.spatial_index RENAME TO spatial_rows",
        "CREATE VIEW tokens.spatial_index AS SELECT * FROM tokens.spatial_rows",
    )
    monkeypatch.setattr(parallel, "_MIN_PARALLEL_ROWS", -1)
    monkeypatch.setattr(parallel, "_SWEEP_SHARE", -1.0)
    with (
        ngdata.connect(migrated_database) as ng,
        pytest.raises(ConfigError, match=r"ctid.* has no pages of its own") as raised,
    ):
        ng.tokens.find_in_region((0, 0, 0), (1, 1, 1), cache="off")
    assert "migrate" not in str(raised.value)
