"""`ngdata doctor`: it detects each kind of problem, and following its advice fixes it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from typer.testing import CliRunner

import ngdata
from ngdata._config.settings import load_settings
from ngdata._connections import revision
from ngdata._store import migrate
from ngdata.admin import cli
from ngdata.admin.doctor import Finding, examine, machine_checks, schema_checks
from ngdata.admin.reindex import reindex
from tests.conftest import execute
from tests.faults.conftest import wait_until

SERVERS = ["programs", "database", "PostgreSQL", "PostGIS", "schema"]
CONTENTS = ["triggers", "indexes", "spatial index", "replication", "statistics", "size"]
CHECKS = [*SERVERS, *CONTENTS, "Redis"]


def findings_of(url: str, **more: object) -> list[Finding]:
    return examine(load_settings(database_url=url, **more))


def problems(url: str, **more: object) -> list[Finding]:
    return [finding for finding in findings_of(url, **more) if finding.state == "wrong"]


def fill(url: str) -> str:
    with ngdata.connect(url) as ng:
        for n in range(5):
            ng.tokens.create({0: (n, n, n), 3: (1.0, 2.0, -0.0)})
    return url


@pytest.fixture
def own(migrated_database: str) -> str:
    """A database of its own that a test may damage, with a few tokens."""
    return fill(migrated_database)


@pytest.fixture(scope="module")
def repaired(new_migrated_database) -> Iterator[str]:
    """The same for several tests, each of which checks at its end that nothing is wrong any more."""
    with new_migrated_database() as url:
        yield fill(url)


def test_a_healthy_store(own, server):
    names: list[str] = []
    findings = examine(
        load_settings(database_url=own, redis_url=server.redis_url), on_check=names.append
    )
    assert [finding.check for finding in findings] == CHECKS
    assert {finding.state for finding in findings} == {"ok"}
    assert "in step: 10 points of 5 tokens" in {finding.observed for finding in findings}
    assert "spatial index" in names


def test_without_redis_is_only_a_note(own):
    assert [(f.check, f.state) for f in findings_of(own) if f.state != "ok"] == [("Redis", "note")]


def test_it_knows_every_trigger(own):
    rows = execute(
        own,
        "SELECT n.nspname || '.' || c.relname, tgname FROM pg_trigger JOIN pg_class AS c"
        " ON c.oid = tgrelid JOIN pg_namespace AS n ON n.oid = relnamespace"
        " WHERE NOT tgisinternal AND n.nspname IN ('tokens', 'graph', 'experience')",
    )
    assert set(rows) == schema_checks.ALWAYS | schema_checks.OTHER


@pytest.mark.parametrize("place_and_name", sorted(schema_checks.ALWAYS | schema_checks.OTHER))
def test_a_trigger_that_does_not_fire(repaired, place_and_name):
    place, name = place_and_name
    states = ["DISABLE TRIGGER"]
    # The state after pg_restore --disable-triggers.
    states += ["ENABLE TRIGGER"] if place_and_name in schema_checks.ALWAYS else []
    for state in states:
        execute(repaired, f"ALTER TABLE {place} {state} {name}")
        [finding] = problems(repaired)
        assert finding.check == "triggers"
        assert name in finding.observed
        assert finding.advice is not None
        execute(repaired, finding.advice.partition(";")[0])
        assert problems(repaired) == []


def test_a_missing_trigger(own):
    execute(own, "DROP TRIGGER index_insert ON tokens.tokens")
    [finding] = problems(own)
    assert finding.observed == "tokens.tokens lacks its trigger index_insert"


def test_rows_written_without_the_triggers(own):
    execute(
        own,
        "DELETE FROM tokens.spatial_index WHERE level = 0 AND ST_X(geom) = 1",
        "UPDATE tokens.spatial_index SET geom = ST_MakePoint(1, 2, 0.0) WHERE level = 3",
        "INSERT INTO tokens.spatial_index VALUES"
        " ('00000000-0000-0000-0000-000000000001', 7, ST_MakePoint(1, 2, 3), 'a', 1, 0, now())",
    )
    [finding] = problems(own)
    assert finding.observed.startswith(
        "not in step with 5 tokens: 1 points are missing, 1 belong to no token, 5 differ, on the levels"
        " physical, emotional, abstract; for instance of token "
    )
    assert finding.advice == "run `ngdata reindex` as the owner"
    reindex(load_settings(database_url=own))
    assert problems(own) == []


def test_an_index_that_is_missing(own):
    execute(own, "DROP INDEX graph.ix_connections_target_id_bidirectional")
    [finding] = problems(own)
    assert finding.check == "indexes"
    assert "ix_connections_target_id_bidirectional of graph.connections" in finding.observed
    assert finding.advice is not None
    execute(own, finding.advice)
    assert problems(own) == []


def test_an_index_that_is_not_valid(own):
    """As a failed CREATE INDEX CONCURRENTLY leaves it."""
    execute(
        own,
        "UPDATE pg_index SET indisvalid = false"
        " WHERE indexrelid = 'graph.ix_connections_source_id_target_id'::regclass",
    )
    [finding] = problems(own)
    assert "is not valid" in finding.observed
    assert finding.advice is not None
    execute(own, finding.advice)
    assert problems(own) == []


def test_a_spatial_index_of_two_dimensions(own):
    execute(
        own,
        "DROP INDEX tokens.ix_spatial_index_geom",
        "CREATE INDEX ix_spatial_index_geom ON tokens.spatial_index USING gist (geom)",
    )
    findings = problems(own)
    assert [f.observed.split()[0] for f in findings] == [
        f"tokens.spatial_index_{n}" for n in range(8)
    ]
    for finding in findings:
        assert finding.advice is not None
        execute(own, finding.advice)
    assert problems(own) == []


def test_a_schema_that_is_missing_older_or_newer(own, empty_database):
    execute(own, "UPDATE tokens.alembic_version SET version_num = '0002'")
    [finding] = problems(own)
    assert finding.observed == f"revision 0002, and this ngdata needs {revision.HEAD}"
    execute(own, f"UPDATE tokens.alembic_version SET version_num = '{revision.HEAD}'")
    migrate.downgrade(own)
    findings = problems(own)
    assert [(f.check, f.advice) for f in findings] == [("schema", "run `ngdata migrate`")]


def test_a_database_without_postgis(empty_database):
    findings = {f.check: f for f in problems(empty_database)}
    assert findings["PostGIS"].observed == "the database has no PostGIS"
    assert set(findings) == {"PostGIS", "schema"}


def test_a_logical_replica(own):
    execute(
        own,
        "CREATE SUBSCRIPTION replica CONNECTION 'host=nowhere' PUBLICATION all_of_it"
        " WITH (connect = false)",
    )
    try:
        [finding] = [f for f in findings_of(own) if f.check == "replication"]
        assert finding.state == "note"
        assert "ngdata reindex" in (finding.advice or "")
    finally:
        execute(
            own, "ALTER SUBSCRIPTION replica SET (slot_name = NONE)", "DROP SUBSCRIPTION replica"
        )


def test_statistics_that_are_old(own):
    execute(own, "ALTER TABLE tokens.tokens SET (autovacuum_enabled = false)")
    with ngdata.connect(own) as ng:
        ng.tokens.bulk_create({"x": [1.0] * 3_000, "y": [1.0] * 3_000, "z": [1.0] * 3_000})

    def stale() -> list[Finding]:
        return [
            f for f in findings_of(own) if f.check == "statistics" and "tokens.tokens" in f.observed
        ]

    # A backend reports its changes about once a second.
    wait_until(lambda: stale() != [])
    [finding] = stale()
    assert finding.state == "note"
    assert (finding.advice or "").startswith("ANALYZE tokens.tokens")
    execute(own, "ANALYZE tokens.tokens")
    wait_until(lambda: stale() == [])


def test_any_search_path_works(own):
    for path in ("tokens,graph,experience,public", "public,tokens"):
        url = own + f"&options=-c%20search_path%3D{path}"
        assert problems(url) == []


def test_an_analyst_may_run_it(own):
    execute(own, "CREATE ROLE inspector LOGIN")
    try:
        execute(own, "SELECT tokens.grant_access('inspector', 'analyst')")
        findings = findings_of(own + "&options=-c%20role%3Dinspector", read_only=True)
        assert [f for f in findings if f.state == "wrong"] == []
    finally:
        execute(own, "DROP OWNED BY inspector", "DROP ROLE inspector")


def test_a_missing_right_is_a_finding(own):
    execute(own, "CREATE ROLE stranger", "GRANT USAGE ON SCHEMA tokens TO stranger")
    execute(own, "GRANT SELECT ON tokens.alembic_version TO stranger")
    try:
        [finding] = problems(own + "&options=-c%20role%3Dstranger")
        assert finding.check == "spatial index"
        assert "permission denied" in finding.observed
    finally:
        execute(own, "DROP OWNED BY stranger", "DROP ROLE stranger")


SECRET = "s3cr3t%20word"
UNREACHABLE = f"postgresql://me:{SECRET}@127.0.0.1:1/neurograph"


def command(*arguments: str, **environment: str):
    return CliRunner().invoke(cli.app, ["doctor", *arguments], env=environment)


def test_servers_that_do_not_answer(tmp_path):
    result = command(
        "--json",
        NGDATA_DATABASE_URL=UNREACHABLE,
        NGDATA_REDIS_URL=f"redis://:{SECRET}@127.0.0.1:1/0",
    )
    assert result.exit_code == 1
    states = {f["check"]: f["state"] for f in json.loads(result.stdout)}
    assert states == {"programs": "ok", "database": "wrong", "Redis": "wrong"}
    for secret in (SECRET, "s3cr3t word"):
        assert secret not in result.output


def test_embedded_servers_that_do_not_run_are_not_started(tmp_path):
    home = tmp_path / "home"
    result = command("--json", NGDATA_HOME=str(home))
    assert result.exit_code == 1
    assert [f["advice"] for f in json.loads(result.stdout) if f["state"] == "wrong"] == [
        "run `ngdata up`, then `ngdata doctor` again"
    ]
    assert not home.exists()


def test_the_embedded_servers(server, database_url):
    """With nothing configured they are examined, and their disk too."""
    result = command("--json")
    assert result.exit_code == 0, result.output
    # Other tests leave some tables without statistics.
    checks = list(dict.fromkeys(f["check"] for f in json.loads(result.stdout)))
    assert checks == ["programs", "disk", *CHECKS[1:]]


def test_too_little_disk_space_is_wrong(server, monkeypatch):
    monkeypatch.setattr(machine_checks, "_MIN_FREE_BYTES", 1 << 80)
    assert [f.check for f in examine() if f.state == "wrong"] == ["disk"]


def test_programs_are_needed_for_the_embedded_servers_only(own, monkeypatch):
    from ngdata._local import binaries

    monkeypatch.setattr(binaries, "PLACES", [])
    monkeypatch.setenv("PATH", "/nonexistent")
    [elsewhere] = [f for f in findings_of(own) if f.check == "programs"]
    [here] = [f for f in examine() if f.check == "programs"]
    assert (elsewhere.state, here.state) == ("note", "wrong")
    assert "lacks" in here.observed
    assert "install" in here.observed


def test_the_table_for_people(own):
    result = command(NGDATA_DATABASE_URL=own, COLUMNS="160")
    assert result.exit_code == 0
    execute(own, "ALTER TABLE tokens.tokens DISABLE TRIGGER index_delete")
    result = command(NGDATA_DATABASE_URL=own, COLUMNS="160")
    assert result.exit_code == 1
    text = " ".join(result.stdout.split())
    assert "triggers wrong index_delete of tokens.tokens does not always fire" in text
    assert "-> ALTER TABLE tokens.tokens ENABLE ALWAYS TRIGGER index_delete" in text
    assert os.linesep * 2 not in result.stdout.strip()
