"""Writes between `to_dask` and the read of a partition: any client's write is reported."""

from __future__ import annotations

import uuid

import pandas as pd
import pytest

import ngdata
from ngdata.errors import ConfigError, ConsistencyError
from tests.scaling.conftest import LIMITS, random_events, random_tokens, sizes, whole

# Statements as psql would send them.
WRITES = {
    "insert": "INSERT INTO tokens.tokens (coord_x, coord_y, coord_z) SELECT a, a, a"
    " FROM (SELECT array_fill(1::float8, ARRAY[8])) AS one (a)",
    "update": "UPDATE tokens.tokens SET weight = weight + 1",
    "delete": "DELETE FROM tokens.tokens WHERE weight > 0.5",
    "truncate": "TRUNCATE tokens.tokens CASCADE",
    "index alone": "UPDATE tokens.spatial_index SET weight = 2",
}


@pytest.fixture
def tokens(ng):
    return ng.tokens.bulk_create(random_tokens(1, 40))


@pytest.mark.parametrize("write", WRITES)
def test_every_kind_of_write_is_noticed(ng, database_url, execute, tokens, write):
    frame = ng.tokens.to_dask(*LIMITS, npartitions=4, consistent=True)
    assert len(whole(frame)) == 40
    execute(database_url, WRITES[write])
    with pytest.raises(ConsistencyError, match=r"before partition \d of 4 .* call to_dask again"):
        whole(frame)
    again = ng.tokens.to_dask(*LIMITS, npartitions=4, consistent=True)
    assert len(whole(again)) == ng.tokens.count_in_region(*LIMITS, cache="off")


def test_a_rolled_back_write_does_not_count(ng, database_url, execute, tokens):
    frame = ng.tokens.to_dask(*LIMITS, npartitions=2, consistent=True)
    execute(database_url, "BEGIN", WRITES["update"], "ROLLBACK")
    assert len(whole(frame)) == 40


def test_a_write_to_another_table_does_not_count(ng, tokens):
    frame = ng.tokens.to_dask(*LIMITS, npartitions=2, consistent=True)
    ng.graph.create_connection(tokens[0], tokens[1])
    ng.experience.bulk_create(random_events(1, 10))
    assert len(whole(frame)) == 40


def test_a_write_of_events(ng, tokens):
    ng.experience.bulk_create(random_events(2, 30))
    frame = ng.experience.to_dask(npartitions=3, consistent=True)
    ng.tokens.update(tokens[:1], weight=2.0)
    assert len(whole(frame)) == 30
    ng.experience.create_event("late")
    with pytest.raises(ConsistencyError):
        whole(frame)


def test_a_write_between_two_partitions(ng, tokens):
    frame = ng.tokens.to_dask(*LIMITS, npartitions=2, consistent=True)
    assert len(frame.partitions[0].compute(scheduler="synchronous")) == 20
    ng.tokens.update(tokens[:1], weight=2.0)
    with pytest.raises(ConsistencyError, match="partition 1 of 2"):
        frame.partitions[1].compute(scheduler="synchronous")


def test_without_consistent_each_partition_is_of_its_own_time(ng, tokens):
    frame = ng.tokens.to_dask(*LIMITS, npartitions=4)
    more = ng.tokens.bulk_create({"x": [-1e9, 1e9], "y": [0.0, 1e9], "z": [0.0, 0.0]})
    result = whole(frame)
    assert set(result.token_id) == {*tokens, *more}
    assert result.token_id.is_unique


def test_each_partition_carries_its_version(ng, tokens):
    frame = ng.tokens.to_dask(*LIMITS, npartitions=2)
    version = ng.tokens.find_in_region(*LIMITS).attrs["ngdata"]["version"]
    result = whole(frame)
    place = {"level": 0, "unit": None}
    assert result.attrs["ngdata"] == {"source": "database", "version": version} | place
    versions = frame.map_partitions(
        lambda part: part.attrs["ngdata"]["version"], meta=(None, object)
    )
    assert versions.compute(scheduler="synchronous").tolist() == [version] * 2
    parts = [frame.partitions[0].compute(scheduler="synchronous")]
    ng.tokens.update(tokens[:1], weight=2.0)
    parts.append(frame.partitions[1].compute(scheduler="synchronous"))
    assert parts[0].attrs["ngdata"]["version"] == version
    assert parts[1].attrs["ngdata"]["version"] != version
    assert "ngdata" not in pd.concat(parts).attrs


def test_two_calls_are_two_reads(ng):
    """Dask keeps results by name; a kept one must not be the result of a later call."""
    ng.tokens.bulk_create(random_tokens(2, 10))
    first, second = (ng.tokens.to_dask(*LIMITS, npartitions=2) for _ in range(2))
    assert not set(first.__dask_keys__()) & set(second.__dask_keys__())


@pytest.fixture
def limited_url(migrated_database, execute):
    """The URL of a user who may read the tokens, but not their versions."""
    name = f"limited_{uuid.uuid4().hex}"
    execute(
        migrated_database,
        f"CREATE ROLE {name}",
        f"GRANT USAGE ON SCHEMA tokens TO {name}",
        f"GRANT SELECT ON tokens.spatial_index, tokens.alembic_version TO {name}",
    )
    with ngdata.connect(migrated_database) as owner:
        owner.tokens.bulk_create(random_tokens(3, 20))
    yield f"{migrated_database}&options=-c%20role%3D{name}"
    execute(migrated_database, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_without_the_privilege_to_read_versions(limited_url):
    with ngdata.connect(limited_url) as ng:
        frame = ng.tokens.to_dask(*LIMITS, npartitions=3)
        result = whole(frame)
        assert len(result) == 20
        assert result.attrs["ngdata"]["version"] is None
        with pytest.raises(ConfigError, match=r"may not read tokens\.versions"):
            ng.tokens.to_dask(*LIMITS, npartitions=3, consistent=True)


def test_a_disabled_trigger(migrated_database, execute):
    with ngdata.connect(migrated_database) as ng:
        ng.tokens.bulk_create(random_tokens(4, 20))
        frame = ng.tokens.to_dask(*LIMITS, npartitions=2, consistent=True)
        execute(migrated_database, "ALTER TABLE tokens.spatial_index DISABLE TRIGGER renew_version")
        with pytest.raises(ConfigError, match="versions of the store") as raised:
            ng.tokens.to_dask(*LIMITS, npartitions=2, consistent=True)
        assert "the trigger renew_version of tokens.spatial_index is missing or does" in str(
            raised.value
        )
        assert "may not read" not in str(raised.value)
        with pytest.raises(ConsistencyError):
            whole(frame)  # whether it is unchanged can no longer be known
        assert sizes(ng.tokens.to_dask(*LIMITS, npartitions=2)) == [10, 10]


def test_a_policy_is_named_as_the_cause(migrated_database, limited_url, execute):
    execute(
        migrated_database,
        "GRANT SELECT ON tokens.versions, tokens.levels TO public",
        "ALTER TABLE tokens.spatial_index ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY all_rows ON tokens.spatial_index FOR SELECT USING (true)",
    )
    with ngdata.connect(limited_url) as ng, pytest.raises(ConfigError) as raised:
        ng.tokens.to_dask(*LIMITS, npartitions=3, consistent=True)
    text = str(raised.value)
    assert "a policy decides which rows of tokens.spatial_index this user sees" in text
    for other in ("may not read", "subscriber", "trigger", "inherits", "foreign table"):
        assert other not in text


def test_a_table_that_inherits_is_named_as_the_cause(migrated_database, execute):
    execute(
        migrated_database,
        "CREATE TABLE public.any_events (LIKE experience.experience_events)",
        "ALTER TABLE experience.experience_events INHERIT public.any_events",
    )
    with (
        ngdata.connect(migrated_database) as ng,
        pytest.raises(ConfigError, match="inherits from a table that is not one of") as raised,
    ):
        ng.experience.to_dask(npartitions=2, consistent=True)
    assert "experience.experience_events inherits" in str(raised.value)
    assert "trigger" not in str(raised.value)
