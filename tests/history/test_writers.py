"""As of a pin, the store is the copy taken at the pin, whatever random writers did since."""

import psycopg
import pytest

import ngdata
from ngdata._query.moments import as_of_sql
from tests.conftest import SCALE
from tests.history.conftest import TABLES, WHOLE, same
from tests.history.writers import Writers


@pytest.mark.parametrize("seed", range(2 * SCALE))
def test_a_pin_is_the_copy_taken_at_it(migrated_database, copies_of, seed):
    with ngdata.connect(migrated_database) as client:
        copies = copies_of(client, migrated_database)
        with Writers(migrated_database, 8, seed) as writers:
            for number in range(4):
                writers.wait(30)
                copies.pin()
                if number == 2:
                    client.unpin(copies.pins.pop(1))
                compare(client, copies)
            writers.wait(30)
        assert not writers.errors
        assert writers.committed >= 150
        compare(client, copies)
        # Whichever goes first, what the others need stays.
        for pin in [copies.pins[-1], *copies.pins[:-1]]:
            client.unpin(pin)
            copies.pins.remove(pin)
            compare(client, copies)
        with psycopg.connect(migrated_database) as connection:
            assert_nothing_is_kept(connection)


def compare(client, copies):
    with psycopg.connect(copies.url, autocommit=True) as connection:
        for pin in copies.pins:
            for table in TABLES:
                copied = f"copy_{pin.number}.{table.partition('.')[2]}"
                columns = ", ".join(
                    f'"{name}"'
                    for (name,) in connection.execute(
                        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass"
                        " AND attnum > 0 ORDER BY attnum",
                        [copied],
                    )
                )
                past = as_of_sql(f"SELECT {columns} FROM {table} AS t", pin)
                assert rows(connection, past) == rows(connection, f"SELECT {columns} FROM {copied}")
    for pin in copies.pins:
        past = client.as_of(pin)
        for level in range(3):
            region = past.tokens.find_in_region(*WHOLE, level, cache="off")
            same(region, frame_of_copy(client, pin, level), by=["token_id"])


def rows(connection, statement):
    return connection.execute(f"SELECT t::text FROM ({statement}) AS t ORDER BY 1").fetchall()


def frame_of_copy(client, pin, level):
    """Return the copy's tokens on a level as a region's frame."""
    coords = ", ".join(f"coord_{axis}[{level + 1}] AS {axis}" for axis in "xyz")
    frame = client.sql(
        f"SELECT id AS token_id, {level} AS level, {coords}, token_type, weight, flags,"
        f' "timestamp" FROM copy_{pin.number}.tokens WHERE coord_x[{level + 1}] IS NOT NULL'
    )
    return frame.astype({"level": "int32", "flags": "int32"})


def assert_nothing_is_kept(connection):
    for history in (*(f"{table}_history" for table in TABLES), "tokens.spatial_history"):
        assert connection.execute(f"SELECT count(*) FROM {history}").fetchone() == (0,)
    assert connection.execute("SELECT is_called FROM tokens.pin_numbers").fetchone() == (False,)
