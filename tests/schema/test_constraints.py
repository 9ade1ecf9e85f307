"""The values that the database refuses and accepts: each refusal names its constraint."""

import asyncio
import math
import uuid

import asyncpg
import pytest

NULLS = [None] * 8
ONE = [1.0] + [None] * 7


def in_rolled_back(url, body):
    """Run a coroutine function on a connection, and roll its transaction back."""

    async def go():
        connection = await asyncpg.connect(url)
        transaction = connection.transaction()
        await transaction.start()
        try:
            return await body(connection)
        finally:
            await transaction.rollback()
            await connection.close()

    return asyncio.run(go())


async def token(connection, **columns):
    columns = {"coord_x": ONE, "coord_y": ONE, "coord_z": ONE, **columns}
    names = ", ".join(f'"{name}"' for name in columns)
    places = ", ".join(f"${n}" for n in range(1, len(columns) + 1))
    return await connection.fetchval(
        f"INSERT INTO tokens.tokens ({names}) VALUES ({places}) RETURNING id", *columns.values()
    )


def with_element(value, place=0):
    return [value if n == place else 1.0 for n in range(8)]


REFUSED_TOKENS = [
    ("binary_data_64_bytes", {"binary_data": b"x" * 63}),
    ("binary_data_64_bytes", {"binary_data": b"x" * 65}),
    ("binary_data_64_bytes", {"binary_data": b""}),
    ("flags_not_negative", {"flags": -1}),
    ("weight_finite", {"weight": math.nan}),
    ("weight_finite", {"weight": math.inf}),
    ("weight_finite", {"weight": -math.inf}),
    *(
        ("coords_are_eight", {f"coord_{axis}": value})
        for axis in "xyz"
        for value in ([], [1.0] * 7, [1.0] * 9, [[1.0] * 8], [[1.0]] * 8, [[1.0] * 4] * 2)
    ),
    *(
        ("coords_in_range", {f"coord_{axis}": with_element(value, place)})
        for axis in "xyz"
        for place in (0, 7)
        for value in (math.nan, math.inf, -math.inf, math.nextafter(1e37, 1e38), -1.1e37)
    ),
    # A level out of range next to an undefined one: NULL must not hide it.
    (
        "coords_in_range",
        dict.fromkeys(("coord_x", "coord_y", "coord_z"), [None, math.nan] + [None] * 6),
    ),
    *(("coords_whole_levels", {f"coord_{axis}": NULLS}) for axis in "xyz"),
    *(
        ("coords_whole_levels", {"coord_x": [1.0] * 8, "coord_y": [1.0] * 8, "coord_z": z})
        for z in (with_element(None, 0), with_element(None, 7))
    ),
]


@pytest.mark.parametrize(("name", "columns"), REFUSED_TOKENS)
def test_a_token_that_is_refused(database_url, name, columns):
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        in_rolled_back(database_url, lambda connection: token(connection, **columns))

    assert refused.value.constraint_name == f"ck_tokens_{name}"


@pytest.mark.parametrize("axis", "xyz")
def test_an_array_that_starts_at_zero(database_url, axis):
    arrays = dict.fromkeys("xyz", "'{1,1,1,1,1,1,1,1}'")
    arrays[axis] = "'[0:7]={1,1,1,1,1,1,1,1}'"

    with pytest.raises(asyncpg.CheckViolationError) as refused:
        in_rolled_back(
            database_url,
            lambda c: c.execute(
                "INSERT INTO tokens.tokens (coord_x, coord_y, coord_z)"
                f" VALUES ({', '.join(arrays.values())})"
            ),
        )

    assert refused.value.constraint_name == "ck_tokens_coords_are_eight"


@pytest.mark.parametrize(
    "column",
    ["id", "coord_x", "coord_y", "coord_z", "flags", "weight", "timestamp", "token_type"],
)
def test_a_token_without_a_required_value(database_url, column):
    with pytest.raises(asyncpg.NotNullViolationError) as refused:
        in_rolled_back(database_url, lambda connection: token(connection, **{column: None}))

    assert refused.value.column_name == column


@pytest.mark.parametrize("time", ["infinity", "-infinity"])
def test_an_infinite_time_is_refused(database_url, time):
    for table, columns, values in (
        ("tokens.tokens", "coord_x, coord_y, coord_z", "array_fill(1, '{8}'), $1, $1"),
        ("experience.experience_events", "event_type", "'step'"),
    ):
        values = values.replace("$1", "array_fill(1, '{8}')")
        with pytest.raises(asyncpg.CheckViolationError) as refused:
            in_rolled_back(
                database_url,
                lambda c, t=table, n=columns, v=values: c.execute(
                    f"INSERT INTO {t} ({n}, \"timestamp\") VALUES ({v}, '{time}')"
                ),
            )
        assert refused.value.constraint_name == f"ck_{table.split('.')[1]}_timestamp_finite"


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"coord_x": NULLS, "coord_y": NULLS, "coord_z": NULLS},
        {"coord_x": [1e37] * 8, "coord_y": [-1e37] * 8, "coord_z": [5e-324] * 8},
        {"binary_data": bytes(64), "flags": 2**31 - 1, "weight": -1.7e308, "token_type": ""},
    ],
)
def test_a_token_that_is_accepted(database_url, columns):
    async def body(connection):
        id_ = await token(connection, **columns)
        return await connection.fetchrow("SELECT * FROM tokens.tokens WHERE id = $1", id_)

    row = in_rolled_back(database_url, body)
    assert {name: row[name] for name in columns} == columns
    assert row["created_at"] == row["updated_at"]


@pytest.mark.parametrize("column", ["weight", "decay_rate"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_connection_that_is_refused(database_url, column, value):
    async def body(connection):
        one = await token(connection)
        await connection.execute(
            f"INSERT INTO graph.connections (source_id, target_id, {column}) VALUES ($1, $1, $2)",
            one,
            value,
        )

    with pytest.raises(asyncpg.CheckViolationError) as refused:
        in_rolled_back(database_url, body)

    assert refused.value.constraint_name == f"ck_connections_{column}_finite"


def test_loops_and_parallel_connections(database_url):
    async def body(connection):
        one = await token(connection)
        await connection.execute(
            "INSERT INTO graph.connections (source_id, target_id) VALUES ($1, $1), ($1, $1)", one
        )
        return await connection.fetch(
            "SELECT connection_type, weight, bidirectional FROM graph.connections"
        )

    assert [tuple(r) for r in in_rolled_back(database_url, body)] == [("generic", 1.0, False)] * 2


@pytest.mark.parametrize(
    ("name", "statement"),
    [
        ("fk_connections_source_id", "graph.connections (source_id, target_id) VALUES ($1, $2)"),
        ("fk_connections_target_id", "graph.connections (target_id, source_id) VALUES ($1, $2)"),
        (
            "fk_experience_events_token_id",
            "experience.experience_events (event_type, token_id) SELECT 'x', $1::uuid WHERE $2::uuid <> $1",
        ),
    ],
)
def test_an_id_that_does_not_exist(database_url, name, statement):
    async def body(connection):
        await connection.execute(f"INSERT INTO {statement}", uuid.uuid4(), await token(connection))

    with pytest.raises(asyncpg.ForeignKeyViolationError) as refused:
        in_rolled_back(database_url, body)

    assert refused.value.constraint_name == name


@pytest.mark.parametrize(
    ("name", "column", "value"),
    [
        ("ck_experience_events_reward_finite", "reward", math.nan),
        ("ck_experience_events_reward_finite", "reward", -math.inf),
        ("ck_experience_events_priority_finite", "priority", math.inf),
    ],
)
def test_an_event_that_is_refused(database_url, name, column, value):
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        in_rolled_back(
            database_url,
            lambda c: c.execute(
                f"INSERT INTO experience.experience_events (event_type, {column}) VALUES ('x', $1)",
                value,
            ),
        )

    assert refused.value.constraint_name == name


def test_a_snapshot_counts_from_zero(database_url):
    async def body(connection):
        await connection.execute(
            "INSERT INTO graph.graph_snapshots (node_count, edge_count) VALUES (0, 0), (0, -1)"
        )

    with pytest.raises(asyncpg.CheckViolationError) as refused:
        in_rolled_back(database_url, body)

    assert refused.value.constraint_name == "ck_graph_snapshots_counts_not_negative"


def test_deleting_a_token_deletes_its_connections_and_keeps_its_events(database_url):
    async def body(connection):
        one, two, three = [await token(connection) for _ in range(3)]
        await connection.executemany(
            "INSERT INTO graph.connections (source_id, target_id) VALUES ($1, $2)",
            [(one, two), (two, one), (two, three), (one, one)],
        )
        await connection.executemany(
            "INSERT INTO experience.experience_events (event_type, token_id) VALUES ($1, $2)",
            [("a", one), ("b", two)],
        )
        await connection.execute("DELETE FROM tokens.tokens WHERE id = $1", one)
        return (
            (one, two, three),
            await connection.fetch("SELECT source_id, target_id FROM graph.connections"),
            await connection.fetch(
                "SELECT event_type, token_id FROM experience.experience_events ORDER BY 1"
            ),
        )

    (_, two, three), connections, events = in_rolled_back(database_url, body)
    assert [tuple(r) for r in connections] == [(two, three)]
    assert [tuple(r) for r in events] == [("a", None), ("b", two)]


def test_connections_and_events_follow_a_token_to_its_new_id(database_url):
    async def body(connection):
        one, new = await token(connection), uuid.uuid4()
        await connection.execute(
            "INSERT INTO graph.connections (source_id, target_id) VALUES ($1, $1)", one
        )
        await connection.execute(
            "INSERT INTO experience.experience_events (event_type, token_id) VALUES ('a', $1)", one
        )
        await connection.execute("UPDATE tokens.tokens SET id = $1", new)
        ids = await connection.fetchrow(
            "SELECT source_id, target_id, token_id"
            " FROM graph.connections, experience.experience_events"
        )
        return new, tuple(ids)

    new, ids = in_rolled_back(database_url, body)
    assert ids == (new, new, new)


def test_updated_at_follows_any_update(database_url):
    async def go():
        connection = await asyncpg.connect(database_url)
        try:
            one = await token(connection)
            await connection.execute("UPDATE tokens.tokens SET updated_at = '2000-01-01Z'")
            return await connection.fetchrow("SELECT * FROM tokens.tokens WHERE id = $1", one)
        finally:
            await connection.close()

    row = asyncio.run(go())
    assert row["updated_at"] > row["created_at"]
