"""`ngdata doctor`: each thing that can be wrong is found, and its advice, followed, puts it right."""

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
from ngdata.admin.doctor import Finding, catalog, examine, machine
from ngdata.admin.reindex import reindex
from tests.conftest import execute
from tests.faults.conftest import wait_until

SERVERS = ["programs", "database", "PostgreSQL", "PostGIS", "schema"]
CONTENTS = ["triggers", "indexes", "spatial index", "replication", "statistics", "size"]
CHECKS = [*SERVERS, *CONTENTS, "Redis"]


def looked_at(url: str, **more: object) -> list[Finding]:
    return examine(load_settings(database_url=url, **more))


def wrongs(url: str, **more: object) -> list[Finding]:
    return [finding for finding in looked_at(url, **more) if finding.state == "wrong"]


def filled(url: str) -> str:
    with ngdata.connect(url) as ng:
        for n in range(5):
            ng.tokens.create({0: (n, n, n), 3: (1.0, 2.0, -0.0)})
    return url


@pytest.fixture
def own(migrated_database: str) -> str:
    """A database to spoil, with a few tokens."""
    return filled(migrated_database)


@pytest.fixture(scope="module")
def put_right(new_migrated_database) -> Iterator[str]:
    """The same for several tests, each of which checks that it is put right at its end."""
    with new_migrated_database() as url:
        yield filled(url)


def test_a_store_that_is_well(own, server):
    seen: list[str] = []
    found = examine(
        load_settings(database_url=own, redis_url=server.redis_url), on_check=seen.append
    )
    assert [finding.check for finding in found] == CHECKS
    assert {finding.state for finding in found} == {"ok"}
    assert "in step: 10 points of 5 tokens" in {finding.found for finding in found}
    assert "spatial index" in seen


def test_without_redis_is_only_a_note(own):
    assert [(f.check, f.state) for f in looked_at(own) if f.state != "ok"] == [("Redis", "note")]


def test_it_knows_every_trigger(own):
    rows = execute(
        own,
        "SELECT n.nspname || '.' || c.relname, tgname FROM pg_trigger JOIN pg_class AS c"
        " ON c.oid = tgrelid JOIN pg_namespace AS n ON n.oid = relnamespace"
        " WHERE NOT tgisinternal AND n.nspname IN ('tokens', 'graph', 'experience')",
    )
    assert set(rows) == catalog.ALWAYS | catalog.OTHER


@pytest.mark.parametrize("place_and_name", sorted(catalog.ALWAYS | catalog.OTHER))
def test_a_trigger_that_does_not_fire(put_right, place_and_name):
    place, name = place_and_name
    states = ["DISABLE TRIGGER"]
    # What pg_restore --disable-triggers leaves behind.
    states += ["ENABLE TRIGGER"] if place_and_name in catalog.ALWAYS else []
    for state in states:
        execute(put_right, f"ALTER TABLE {place} {state} {name}")
        [found] = wrongs(put_right)
        assert found.check == "triggers"
        assert name in found.found
        assert found.advice is not None
        execute(put_right, found.advice.partition(";")[0])
        assert wrongs(put_right) == []


def test_a_trigger_that_is_lost(own):
    execute(own, "DROP TRIGGER index_insert ON tokens.tokens")
    [found] = wrongs(own)
    assert found.found == "tokens.tokens has lost its trigger index_insert"


def test_what_was_written_past_the_triggers(own):
    execute(
        own,
        "DELETE FROM tokens.spatial_index WHERE level = 0 AND ST_X(geom) = 1",
        "UPDATE tokens.spatial_index SET geom = ST_MakePoint(1, 2, 0.0) WHERE level = 3",
        "INSERT INTO tokens.spatial_index VALUES"
        " ('00000000-0000-0000-0000-000000000001', 7, ST_MakePoint(1, 2, 3), 'a', 1, 0, now())",
    )
    [found] = wrongs(own)
    assert found.found.startswith(
        "not in step with 5 tokens: 1 points are missing, 1 are of no token, 5 are different, on the"
        " levels physical, emotional, abstract; for instance of token "
    )
    assert found.advice == "run `ngdata reindex` as the owner"
    reindex(load_settings(database_url=own))
    assert wrongs(own) == []


def test_an_index_that_is_missing(own):
    execute(own, "DROP INDEX graph.ix_connections_target_id_bidirectional")
    [found] = wrongs(own)
    assert found.check == "indexes"
    assert "ix_connections_target_id_bidirectional of graph.connections" in found.found
    assert found.advice is not None
    execute(own, found.advice)
    assert wrongs(own) == []


def test_an_index_that_is_not_valid(own):
    """As CREATE INDEX CONCURRENTLY leaves it behind when it fails."""
    execute(
        own,
        "UPDATE pg_index SET indisvalid = false"
        " WHERE indexrelid = 'graph.ix_connections_source_id_target_id'::regclass",
    )
    [found] = wrongs(own)
    assert "is not valid" in found.found
    assert found.advice is not None
    execute(own, found.advice)
    assert wrongs(own) == []


def test_a_spatial_index_of_two_dimensions(own):
    execute(
        own,
        "DROP INDEX tokens.ix_spatial_index_geom",
        "CREATE INDEX ix_spatial_index_geom ON tokens.spatial_index USING gist (geom)",
    )
    found = wrongs(own)
    assert [f.found.split()[0] for f in found] == [f"tokens.spatial_index_{n}" for n in range(8)]
    for finding in found:
        assert finding.advice is not None
        execute(own, finding.advice)
    assert wrongs(own) == []


def test_a_schema_that_is_missing_older_or_newer(own, empty_database):
    execute(own, "UPDATE tokens.alembic_version SET version_num = '0003'")
    [found] = wrongs(own)
    assert found.found == f"revision 0003, and this ngdata needs {revision.HEAD}"
    execute(own, f"UPDATE tokens.alembic_version SET version_num = '{revision.HEAD}'")
    migrate.downgrade(own)
    found = wrongs(own)
    assert [(f.check, f.advice) for f in found] == [("schema", "run `ngdata migrate`")]


def test_a_database_without_postgis(empty_database):
    found = {f.check: f for f in wrongs(empty_database)}
    assert found["PostGIS"].found == "the database has no PostGIS"
    assert set(found) == {"PostGIS", "schema"}


def test_a_logical_replica(own):
    execute(
        own,
        "CREATE SUBSCRIPTION replica CONNECTION 'host=nowhere' PUBLICATION all_of_it"
        " WITH (connect = false)",
    )
    try:
        [found] = [f for f in looked_at(own) if f.check == "replication"]
        assert found.state == "note"
        assert "ngdata reindex" in (found.advice or "")
    finally:
        execute(
            own, "ALTER SUBSCRIPTION replica SET (slot_name = NONE)", "DROP SUBSCRIPTION replica"
        )


def test_statistics_that_are_old(own):
    execute(own, "ALTER TABLE tokens.tokens SET (autovacuum_enabled = false)")
    with ngdata.connect(own) as ng:
        ng.tokens.bulk_create({"x": [1.0] * 3_000, "y": [1.0] * 3_000, "z": [1.0] * 3_000})

    def stale() -> list[Finding]:
        return [f for f in looked_at(own) if f.check == "statistics" and "tokens.tokens" in f.found]

    # A backend tells what it changed about once a second.
    wait_until(lambda: stale() != [])
    [found] = stale()
    assert found.state == "note"
    assert (found.advice or "").startswith("ANALYZE tokens.tokens")
    execute(own, "ANALYZE tokens.tokens")
    wait_until(lambda: stale() == [])


def test_any_search_path_will_do(own):
    for path in ("tokens,graph,experience,public", "public,tokens"):
        url = own + f"&options=-c%20search_path%3D{path}"
        assert wrongs(url) == []


def test_an_analyst_may_look(own):
    execute(own, "CREATE ROLE looking LOGIN")
    try:
        execute(own, "SELECT tokens.grant_access('looking', 'analyst')")
        found = looked_at(own + "&options=-c%20role%3Dlooking", read_only=True)
        assert [f for f in found if f.state == "wrong"] == []
    finally:
        execute(own, "DROP OWNED BY looking", "DROP ROLE looking")


def test_who_may_not_look_is_told_so(own):
    execute(own, "CREATE ROLE stranger", "GRANT USAGE ON SCHEMA tokens TO stranger")
    execute(own, "GRANT SELECT ON tokens.alembic_version TO stranger")
    try:
        [found] = wrongs(own + "&options=-c%20role%3Dstranger")
        assert found.check == "spatial index"
        assert "permission denied" in found.found
    finally:
        execute(own, "DROP OWNED BY stranger", "DROP ROLE stranger")


SECRET = "s3cr3t%20word"
UNREACHABLE = f"postgresql://me:{SECRET}@127.0.0.1:1/neurograph"


def command(*arguments: str, **environment: str):
    return CliRunner().invoke(cli.app, ["doctor", *arguments], env=environment)


def test_servers_that_do_not_answer(tmp_path):
    done = command(
        "--json",
        NGDATA_DATABASE_URL=UNREACHABLE,
        NGDATA_REDIS_URL=f"redis://:{SECRET}@127.0.0.1:1/0",
    )
    assert done.exit_code == 1
    states = {f["check"]: f["state"] for f in json.loads(done.stdout)}
    assert states == {"programs": "ok", "database": "wrong", "Redis": "wrong"}
    for secret in (SECRET, "s3cr3t word"):
        assert secret not in done.output


def test_embedded_servers_that_do_not_run_are_not_started(tmp_path):
    home = tmp_path / "home"
    done = command("--json", NGDATA_HOME=str(home))
    assert done.exit_code == 1
    assert [f["advice"] for f in json.loads(done.stdout) if f["state"] == "wrong"] == [
        "run `ngdata up`; then this looks at them too"
    ]
    assert not home.exists()


def test_the_embedded_servers(server, database_url):
    """With nothing configured they are meant, and their disk is looked at too."""
    done = command("--json")
    assert done.exit_code == 0, done.output
    # Other tests leave several tables without statistics.
    checks = list(dict.fromkeys(f["check"] for f in json.loads(done.stdout)))
    assert checks == ["programs", "disk", *CHECKS[1:]]


def test_little_room_is_wrong(server, monkeypatch):
    monkeypatch.setattr(machine, "_LEAST_FREE", 1 << 80)
    assert [f.check for f in examine() if f.state == "wrong"] == ["disk"]


def test_programs_are_needed_for_the_embedded_servers_alone(own, monkeypatch):
    from ngdata._local import binaries

    monkeypatch.setattr(binaries, "PLACES", [])
    monkeypatch.setenv("PATH", "/nonexistent")
    [elsewhere] = [f for f in looked_at(own) if f.check == "programs"]
    [here] = [f for f in examine() if f.check == "programs"]
    assert (elsewhere.state, here.state) == ("note", "wrong")
    assert "lacks" in here.found
    assert "install" in here.found


def test_the_table_for_people(own):
    done = command(NGDATA_DATABASE_URL=own, COLUMNS="160")
    assert done.exit_code == 0
    execute(own, "ALTER TABLE tokens.tokens DISABLE TRIGGER index_delete")
    done = command(NGDATA_DATABASE_URL=own, COLUMNS="160")
    assert done.exit_code == 1
    text = " ".join(done.stdout.split())
    assert "triggers wrong index_delete of tokens.tokens does not always fire" in text
    assert "-> ALTER TABLE tokens.tokens ENABLE ALWAYS TRIGGER index_delete" in text
    assert os.linesep * 2 not in done.stdout.strip()
