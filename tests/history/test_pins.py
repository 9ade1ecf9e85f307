"""Pins: what they are called, who may take them, what they survive, and what is refused."""

import contextlib
import json
import pickle
import subprocess
import threading

import numpy as np
import pandas as pd
import psycopg
import pytest

import ngdata
from ngdata._config.settings import load_settings
from ngdata._local.binaries import find_psql
from ngdata._store import owner_locks
from ngdata.admin.reindex import reindex
from tests.conftest import execute
from tests.history.conftest import TABLES, WHOLE, same

NOBODY = "00000000-0000-4000-8000-000000000000"


def points(client, count=20):
    chance = np.random.default_rng(count)
    x, y, z = chance.integers(0, 9, (3, count)).astype(float)
    return client.tokens.bulk_create({"x": x, "y": y, "z": z}).tolist()


def whole(client):
    return client.tokens.find_in_region(*WHOLE, cache="off")


def test_a_pin_is_a_value(ng):
    pin = ng.pin("first")
    assert (pin.label, pin.created_at.tz is not None) == ("first", True)
    assert pickle.loads(pickle.dumps(pin)) == pin
    assert eval(repr(pin), {"Pin": ngdata.Pin, "Timestamp": pd.Timestamp}) == pin
    assert hash(pin) == hash(ng.as_of("first").pin)
    with pytest.raises(AttributeError):
        pin.label = "second"


def test_the_moment_of_a_label_an_id_and_a_time(ng):
    ids = points(ng)
    first = ng.pin("first")
    ng.tokens.delete(ids[:5])
    second = ng.pin()
    ng.tokens.delete(ids[5:10])
    for moment, count in (
        ("first", 20),
        (first, 20),
        (first.id, 20),
        (first.created_at, 20),
        (second.created_at - pd.Timedelta("1us"), 20),
        (second, 15),
        (second.created_at.to_pydatetime(), 15),
        (second.created_at + pd.Timedelta("1us"), 15),
    ):
        past = ng.as_of(moment)
        assert len(whole(past)) == count, moment
        assert past.as_of(second).pin == second
    assert len(whole(ng)) == 10
    with ngdata.connect(
        ng._wrapped._settings.database_url.get_secret_value(), as_of="first"
    ) as past:
        assert past.pin == first
        assert len(whole(past)) == 20
    assert "as of pin 'first'" in repr(past)


@pytest.mark.parametrize(
    ("moment", "error", "message"),
    [
        ("frist", ngdata.errors.NotFoundError, "no pin is called 'frist'; did you mean 'first'"),
        (b"first", ngdata.errors.InvalidQueryError, "must be a pin, a label or a time"),
        (1, ngdata.errors.InvalidQueryError, "must be a pin, a label or a time"),
        (None, ngdata.errors.InvalidQueryError, "must be a pin, a label or a time"),
        (pd.NaT, ngdata.errors.InvalidQueryError, "must be a time, not NaT"),
        (
            pd.Timestamp("2020-01-01", tz="UTC"),
            ngdata.errors.NotFoundError,
            "the oldest is 'first'",
        ),
        (pd.Timestamp("2020-01-01"), ngdata.errors.InvalidQueryError, "zone"),
        (pd.Timestamp("2200-01-01", tz="UTC"), ngdata.errors.InvalidQueryError, "in the future"),
    ],
)
def test_moments_that_are_refused(ng, moment, error, message):
    ng.pin("first")
    for read in (
        ng.as_of,
        ng.diff,
        lambda m: ng.diff("first", m) if m is not None else ng.as_of(m),
    ):
        with pytest.raises(error, match=message.replace("pin must", "must")):
            read(moment)


@pytest.mark.parametrize("label", ["", "  ", "x" * 201, 5, "nul\0", "\ud800"])
def test_labels_that_are_refused(ng, label):
    with pytest.raises(ngdata.errors.InvalidQueryError, match="label"):
        ng.pin(label)
    assert ng.pins().empty


def test_a_label_is_never_moved(ng):
    pin = ng.pin('it\'s "one" %s')
    with pytest.raises(ngdata.errors.IntegrityError, match="is never moved"):
        ng.pin(pin.label)
    assert ng.pins().pin_id.tolist() == [pin.id]
    ng.unpin(pin.label)
    again = ng.pin(pin.label)
    assert again.id != pin.id
    # A pin is looked up by its id: another one has its label now.
    with pytest.raises(ngdata.errors.NotFoundError):
        ng.as_of(pin)


def test_the_pins_that_are_kept(ng):
    assert list(ng.pins().columns) == ["pin_id", "label", "created_at", "rows", "bytes"]
    ids = points(ng)
    pins = [ng.pin("a"), ng.pin()]
    ng.tokens.update(ids[:3], weight=2.0)
    ng.tokens.update(ids[:4], weight=3.0)
    frame = ng.pins()
    assert frame.pin_id.tolist() == [pin.id for pin in pins]
    assert frame.created_at.tolist() == [pin.created_at for pin in pins]
    assert frame.label.isna().tolist() == [False, True]
    # Each of four tokens, and its point.
    assert frame.rows.tolist() == [0, 8]
    assert frame.bytes[1] > 8 * 50
    assert ng.as_of("a").pins().equals(frame)
    assert str(ng.pins().dtypes.created_at) == "datetime64[us, UTC]"


def test_without_a_pin_nothing_is_kept(ng, database_url):
    ng.unpin(ng.pin())
    ids = points(ng)
    ng.tokens.update(ids, weight=2.0)
    ng.tokens.delete(ids)
    for history in (*(f"{table}_history" for table in TABLES), "tokens.spatial_history"):
        assert execute(database_url, f"SELECT count(*) FROM {history}") == [(0,)]


def test_a_removed_pin_is_refused_by_every_read(ng):
    ids = points(ng)
    pin = ng.pin("gone")
    ng.graph.create_connection(*ids[:2])
    past = ng.as_of(pin)
    cached = past.tokens.find_in_region(*WHOLE)
    ng.unpin(pin)
    for read in (
        lambda: past.tokens.count_in_region(*WHOLE),
        lambda: past.tokens.get(ids),
        lambda: past.graph.connections(),
        lambda: list(past.tokens.iter_region(*WHOLE)),
        lambda: list(past.tokens.iter_region((99, 99, 99), (99, 99, 99))),
        lambda: past.experience.get_events(),
        lambda: ng.unpin(pin),
        lambda: ng.diff(pin),
    ):
        with pytest.raises(ngdata.errors.NotFoundError, match="'gone'"):
            read()
    # What this process keeps is true for ever.
    same(past.tokens.find_in_region(*WHOLE), cached)


def test_a_client_as_of_a_pin_does_not_write(ng):
    ids = points(ng)
    past = ng.as_of(ng.pin("then"))
    for write in (
        lambda: past.tokens.create({0: (1, 1, 1)}),
        lambda: past.tokens.bulk_create({"x": [], "y": [], "z": []}),
        lambda: past.tokens.update(ids[0], weight=2.0),
        lambda: past.tokens.delete(ids[0]),
        lambda: past.graph.create_connection(ids[0], ids[1]),
        lambda: past.graph.create_snapshot(),
        lambda: past.experience.create_event("seen"),
        lambda: past.experience.recorder(),
        lambda: past.set_level(0, unit="m"),
        lambda: past.unpin("then"),
        lambda: past.sql("SELECT 1 AS one"),
    ):
        with pytest.raises(ngdata.errors.InvalidQueryError, match="pin 'then'"):
            write()
    assert len(whole(ng)) == 20
    past.close()
    assert len(whole(ng)) == 20  # the connections are the live client's


def test_plans_are_of_the_pin(ng):
    points(ng, 2000)
    execute(ng._wrapped._settings.database_url.get_secret_value(), "ANALYZE")
    past = ng.as_of(ng.pin())
    ng.tokens.update(whole(ng).token_id[:50], weight=2.0)
    for read, options in (
        (past.tokens.find_nearest, [(5, 5, 5)]),
        (past.tokens.find_in_region, [(1, 1, 1), (1, 1, 1)]),
        (past.tokens.find_within, [(1, 1, 1), 0.5]),
    ):
        plan = past.explain(read, *options)
        assert plan.uses_spatial_index
        # Both are in the order of the distance, so that the nearest are found without the rest.
        assert "tokens_history" in plan.text
        assert "Seq Scan on spatial_index" not in plan.text
    assert "Merge Append" in past.explain(past.tokens.find_nearest, (5, 5, 5)).text
    with pytest.raises(ngdata.errors.InvalidQueryError, match="this one writes"):
        past.explain(past.tokens.delete, NOBODY)


def test_a_pin_waits_for_writers_and_names_them(ng, database_url, monkeypatch):
    monkeypatch.setattr(owner_locks, "LOCK_TIMEOUT_SECONDS", 0.5)
    ids = points(ng)
    with psycopg.connect(database_url, application_name="the slow one") as writer:
        writer.execute("UPDATE tokens.tokens SET weight = 3")
        with pytest.raises(ngdata.errors.NGDataError, match="the slow one") as caught:
            ng.pin("too early")
        assert str(writer.info.backend_pid) in str(caught.value)
        assert ng.pins().empty
        monkeypatch.undo()
        pinned = []
        thread = threading.Thread(target=lambda: pinned.append(ng.pin("after")))
        thread.start()
        writer.commit()
        thread.join()
    assert ng.as_of(pinned[0]).tokens.get(ids[:1]).weight.tolist() == [3.0]


def test_a_writer_that_needs_a_second_table_is_not_ended(ng, database_url):
    """A pin and such a writer wait for each other, and the pin gives way before the server looks."""
    ids = points(ng)
    with psycopg.connect(database_url) as writer:
        writer.execute("INSERT INTO experience.experience_events (event_type) VALUES ('seen')")
        pinned = []
        thread = threading.Thread(target=lambda: pinned.append(ng.pin()))
        thread.start()
        for token in ids:
            # Whenever the pin holds the lock on tokens, this waits.
            writer.execute("UPDATE tokens.tokens SET weight = 3 WHERE id = %s", [token])
            thread.join(0.05)
        writer.commit()
        thread.join()
    assert ng.as_of(pinned[0]).tokens.get(ids).weight.eq(3.0).all()


def test_an_old_snapshot_sees_the_pin(ng, database_url):
    """A writer whose snapshot is older than the pin keeps images for it."""
    ids = points(ng)
    with psycopg.connect(database_url) as writer:
        writer.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        writer.execute("SELECT count(*) FROM tokens.tokens")
        past = ng.as_of(ng.pin())
        before = whole(past)
        writer.execute("DELETE FROM tokens.tokens WHERE id = ANY (%s::uuid[])", [ids[:5]])
        with contextlib.suppress(psycopg.errors.ObjectNotInPrerequisiteState):
            writer.execute("SAVEPOINT here")
            writer.execute("TRUNCATE tokens.tokens CASCADE")
            pytest.fail("an old snapshot does not see what TRUNCATE removes")
        writer.execute("ROLLBACK TO SAVEPOINT here")
        writer.commit()
    assert len(whole(ng)) == 15
    same(whole(past), before, ["token_id"])


def test_truncate_and_the_index_made_anew(ng, database_url):
    ids = points(ng)
    ng.graph.create_connection(*ids[:2])
    past = ng.as_of(ng.pin())
    before, edges = whole(past), past.graph.connections(cache="off")
    execute(database_url, "TRUNCATE tokens.tokens CASCADE")
    reindex(load_settings(database_url=database_url))
    assert len(whole(ng)) == 0
    same(whole(past), before, ["token_id"])
    same(past.graph.connections(cache="off"), edges)


def test_roles(ng, database_url):
    """An analyst reads as of a pin, a writer pins; nobody but the owner writes a history."""
    ids = points(ng)
    ng.pin("ours")
    ng.tokens.delete(ids[:5])
    with role(database_url, "analyst") as url, ngdata.connect(url) as analyst:
        past = analyst.as_of("ours")
        assert len(whole(past)) == 20
        assert len(analyst.diff("ours")) == 5
        assert past.graph.shortest_path(ids[6], ids[7]) is None
        for write in (analyst.pin, lambda: analyst.unpin("ours")):
            with pytest.raises(ngdata.errors.ConfigError, match="may not"):
                write()
    with role(database_url, "writer") as url, ngdata.connect(url) as writer:
        writer.tokens.delete(ids[5:7])
        pin = writer.pin("theirs")
        assert len(whole(writer.as_of("ours"))) == 20
        writer.unpin(pin)
        with psycopg.connect(url) as connection:
            for statement in (
                "DELETE FROM tokens.tokens_history",
                "UPDATE tokens.spatial_history SET weight = 3",
                "TRUNCATE graph.connections_history",
                "INSERT INTO tokens.pins (number, levels) VALUES (99, '[]')",
                "SELECT setval('tokens.pin_numbers', 1)",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(statement)
                connection.rollback()


def test_a_policy_that_hides_rows(ng, database_url):
    points(ng)
    ng.pin("all")
    with role(database_url, "analyst") as url:
        name = url.split("://")[1].split("@")[0].split(":")[0]
        execute(
            database_url,
            "ALTER TABLE tokens.tokens ENABLE ROW LEVEL SECURITY",
            f"CREATE POLICY few ON tokens.tokens FOR SELECT TO {name} USING (weight > 5)",
        )
        try:
            with (
                ngdata.connect(url) as analyst,
                pytest.raises(ngdata.errors.ConfigError, match="row-level security"),
            ):
                analyst.as_of("all")
        finally:
            execute(
                database_url,
                "DROP POLICY few ON tokens.tokens",
                "ALTER TABLE tokens.tokens DISABLE ROW LEVEL SECURITY",
            )


def test_a_store_that_would_not_keep_images(ng, database_url):
    points(ng)
    execute(database_url, "ALTER TABLE graph.connections DISABLE TRIGGER keep_delete")
    try:
        with pytest.raises(ngdata.errors.ConfigError, match="keep_"):
            ng.pin()
    finally:
        execute(database_url, "ALTER TABLE graph.connections ENABLE ALWAYS TRIGGER keep_delete")


@contextlib.contextmanager
def role(url, access):
    """A role with some access, as a URL; it lives in the database's cluster."""
    name = f"pins_{access}"
    execute(url, f"CREATE ROLE {name} LOGIN", f"SELECT tokens.grant_access('{name}', '{access}')")
    try:
        yield f"{url}&options=-c%20role%3D{name}"
    finally:
        execute(url, f"SELECT tokens.grant_access('{name}', 'none')", f"DROP ROLE {name}")


def test_a_dump_and_its_restoration(ng, database_url, empty_database, tmp_path):
    ids = points(ng)
    ng.graph.create_connection(*ids[:2])
    first, expected = ng.pin("first"), whole(ng)
    ng.tokens.delete(ids[:5])
    second, then = ng.pin("second"), whole(ng)
    ng.tokens.update(ids[5:9], weight=4.0)
    dump = tmp_path / "store.dump"
    schemas = ["--schema=tokens", "--schema=graph", "--schema=experience"]
    for command in (
        ["pg_dump", "-Fc", *schemas, "-f", dump, "-d", database_url],
        ["psql", "-qc", "CREATE EXTENSION postgis", "-d", empty_database],
        ["pg_restore", "-d", empty_database, dump],
    ):
        program = find_psql().with_name(command[0])
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    with ngdata.connect(empty_database) as restored:
        assert restored.as_of("first").pin == first
        same(whole(restored.as_of("first")), expected, ["token_id"])
        restored.tokens.delete(ids[9:])
        third = restored.pin("third")
        assert third.number > second.number
        same(whole(restored.as_of("second")), then, ["token_id"])
        assert len(restored.diff("second", "third")) == 4 + len(ids[9:])
        for label in ("second", "first", "third"):
            restored.unpin(label)


def test_frames_say_their_moment_as_json(ng):
    points(ng)
    pin = ng.pin("then")
    attrs = whole(ng.as_of(pin)).attrs["ngdata"]
    assert json.loads(json.dumps(attrs))["pin"] == {
        "id": pin.id,
        "label": "then",
        "created_at": pin.created_at.isoformat(),
    }
    assert "pin" not in whole(ng).attrs["ngdata"]
