"""Single rows: the same values, errors and messages as in a frame, in three round trips."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import uuid

import numpy as np
import pandas as pd
import pytest

import ngdata
from ngdata._config.settings import load_settings
from ngdata._connections.opening import open_database
from ngdata.errors import IntegrityError, InvalidQueryError, NGDataError
from tests.conftest import execute
from tests.round_trips import counted

A, B, LOST = (f"00000000-0000-4000-8000-00000000000{digit}" for digit in "abc")
RUN = "00000000-0000-4000-8000-00000000000d"
FIRST = dt.datetime(1, 1, 1, tzinfo=dt.UTC)
LAST = dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC)
LEVELS = np.full((8, 3), np.nan)
LEVELS[1], LEVELS[7] = (0.1, -0.0, 1e37), (5e-324, 1 / 3, -123456789.123456789)
TEXT = "é'\\\"\t\n,{}NULL \\N ∀🧠"
JSON = {TEXT: [1e23, -0.0, 2**70, True, None, {"a": {"": []}}], "n": np.arange(2), "u": "\u2028"}

RELATIONS = {
    "tokens": ("tokens.tokens", "created_at, updated_at"),
    "graph": ("graph.connections", "created_at"),
    "experience": ("experience.experience_events", "created_at, entry_number"),
}


def write_as(form, ng, kind, values):
    """Write one row of a namespace by its method for one row, or as a frame; return its id."""
    if form == "single":
        create = {
            "tokens": lambda coords=None, **rest: ng.tokens.create(coords, **rest),
            "graph": ng.graph.create_connection,
            "experience": ng.experience.create_event,
        }
        return create[kind](**values)
    coords = values.get("coords")
    columns = {
        name: pd.Series([value], dtype=object)
        for name, value in values.items()
        if name != "coords" and value is not None
    }
    frame = pd.DataFrame(columns, index=[0])
    if kind == "tokens":
        return ng.tokens.bulk_create(frame, coords=np.asarray(coords)[np.newaxis])[0]
    return getattr(ng, kind).bulk_create(frame)[0]


@pytest.fixture
def tokens(ng):
    """Two tokens, and a trajectory that has ended."""
    for token_id in (A, B):
        ng.tokens.create(LEVELS, token_id=token_id)
    ng.experience.start_trajectory(RUN)
    ng.experience.end_trajectory(RUN)


ROWS = {
    "a token": ("tokens", {"coords": LEVELS, "timestamp": 0}),
    "a whole token": (
        "tokens",
        {
            "coords": LEVELS,
            "token_type": TEXT,
            "weight": 5e-324,
            "flags": 2**31 - 1,
            "timestamp": FIRST,
            "metadata": JSON,
            "binary_data": bytes(range(64)),
        },
    ),
    "a token of other types": (
        "tokens",
        {
            "coords": np.zeros((8, 3), np.float32),
            "token_type": "",
            "weight": np.float32(0.1),
            "flags": 3.0,
            "timestamp": pd.Timestamp("1969-12-31 23:59:59.999999999", tz="Asia/Tokyo"),
            "metadata": {},
            "binary_data": bytearray(64),
        },
    ),
    "a connection": ("graph", {"source_id": A, "target_id": B}),
    "a whole connection": (
        "graph",
        {
            "source_id": uuid.UUID(A),
            "target_id": A.upper(),
            "connection_type": TEXT,
            "weight": -0.0,
            "decay_rate": 1.7976931348623157e308,
            "bidirectional": np.True_,
            "metadata": JSON,
        },
    ),
    "an event": ("experience", {"event_type": "seen", "timestamp": LAST}),
    "a whole event": (
        "experience",
        {
            "event_type": TEXT,
            "timestamp": 1_700_000_000_001,
            "token_id": A,
            "state_before": JSON,
            "state_after": {"deep": [[[{}]]]},
            "action": {"": ""},
            "reward": 0.1 + 0.2,
            "priority": -1e-300,
            "trajectory_id": LOST,
            "sequence_number": -(2**63),
            "metadata": JSON,
        },
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_single_row_is_stored_as_a_frame_of_one_row(ng, database_url, tokens, name):
    kind, values = ROWS[name]
    relation, generated = RELATIONS[kind]
    hidden = f"'{{id, {generated}}}'::text[]"
    stored = []
    for form in ("single", "bulk"):
        row_id = write_as(form, ng, kind, values)
        row = f"FROM {relation} AS t WHERE id = '{row_id}'"
        # The row as text is exact, but has the generated columns; as JSON it has no -0.
        exact = {"tokens": "coord_x, coord_y, coord_z, weight", "graph": "weight, decay_rate"}
        columns = exact.get(kind, "reward, priority")
        shown = f"SELECT to_jsonb(t) - {hidden}, ROW({columns}, metadata)::text {row}"
        stored += execute(database_url, shown)
    assert stored[0] == stored[1]


@pytest.mark.parametrize("name", [name for name in ROWS if ROWS[name][0] == "tokens"])
def test_an_update_stores_what_create_stores(ng, database_url, tokens, name):
    values = dict.fromkeys(ROWS["a whole token"][1]) | ROWS[name][1]
    created = ng.tokens.create(**values)
    ng.tokens.update(A, **values)
    row = "coord_x, coord_y, coord_z, token_type, weight, flags, timestamp, metadata, binary_data"
    rows = f"SELECT ROW({row})::text FROM tokens.tokens WHERE id IN ('{A}', '{created}')"
    first, second = execute(database_url, rows)
    assert first == second


BAD = {
    "an infinite weight": ("tokens", {"coords": LEVELS, "weight": math.inf}),
    "a large flag": ("tokens", {"coords": LEVELS, "flags": 2**31}),
    "short bytes": ("tokens", {"coords": LEVELS, "binary_data": b"x"}),
    "a naive time": ("tokens", {"coords": LEVELS, "timestamp": dt.datetime(2020, 1, 1)}),
    "half a surrogate pair": ("tokens", {"coords": LEVELS, "token_type": "\ud800"}),
    "NUL": ("experience", {"event_type": "a\0", "timestamp": 1}),
    "NaN in JSON": ("experience", {"event_type": "a", "timestamp": 1, "action": {"a": [math.nan]}}),
    "a key of JSON": ("graph", {"source_id": A, "target_id": B, "metadata": {1: 2}}),
    "an id of the wrong form": ("graph", {"source_id": "x", "target_id": B}),
    "a number for a bool": ("graph", {"source_id": A, "target_id": B, "bidirectional": 1}),
    "a set": ("experience", {"event_type": "a", "timestamp": 1, "state_after": {1}}),
    "a bool for a number": ("experience", {"event_type": "a", "timestamp": 1, "reward": True}),
    "a fraction": ("experience", {"event_type": "a", "timestamp": 1, "sequence_number": 0.5}),
    "a token that exists": ("tokens", {"coords": LEVELS, "token_id": A}),
    "a lost source": ("graph", {"source_id": LOST, "target_id": B}),
    "a lost target": ("graph", {"source_id": A, "target_id": LOST}),
    "both lost": ("graph", {"source_id": LOST, "target_id": LOST}),
    "a lost token": ("experience", {"event_type": "a", "timestamp": 1, "token_id": LOST}),
    "an ended trajectory": (
        "experience",
        {"event_type": "a", "timestamp": 1, "trajectory_id": RUN},
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_single_row_is_refused_as_in_a_frame(ng, database_url, tokens, name):
    kind, values = BAD[name]
    errors = []
    for form in ("single", "bulk"):
        with pytest.raises(NGDataError) as caught:
            write_as(form, ng, kind, values)
        errors.append(caught.value)
    single, bulk = errors
    assert type(single) is type(bulk)
    assert type(single) in (IntegrityError, InvalidQueryError)
    assert str(single) == str(bulk).replace(" in row 0", "")
    assert single.sqlstate == bulk.sqlstate
    counts = [f"SELECT count(*) FROM {relation}" for relation, _ in RELATIONS.values()]
    assert [execute(database_url, count)[0][0] for count in counts] == [2, 0, 0]


def test_a_trajectory_that_exists_is_named(ng):
    ng.experience.start_trajectory(RUN)
    with pytest.raises(IntegrityError, match=f"^trajectory_id {RUN} already exists; nothing was"):
        ng.experience.start_trajectory(RUN)


def test_a_single_write_takes_three_round_trips(database_url, tokens):
    """BEGIN, the statement, COMMIT; and one more where a connection prepares it."""
    with counted(database_url) as trips, ngdata.connect(trips.url) as ng:
        runs = [ng.experience.start_trajectory() for _ in range(2)]
        created = [ng.tokens.create(LEVELS) for _ in range(2)]
        edges = [ng.graph.create_connection(A, B) for _ in range(3)]
        events = [ng.experience.create_event("a") for _ in range(3)]
        calls = {
            "create": lambda: ng.tokens.create({0: (1, 2, 3)}),
            "create_connection": lambda: ng.graph.create_connection(A, B),
            "create_event": lambda: ng.experience.create_event("a", token_id=A, trajectory_id=LOST),
            "update": lambda: ng.tokens.update(A, weight=2.0, coords={1: (4, 5, 6)}),
            "delete": lambda: ng.tokens.delete(created.pop()),
            "graph.update": lambda: ng.graph.update(edges[0], weight=2.0, target_id=A),
            "graph.delete": lambda: ng.graph.delete(edges.pop()),
            "update_event": lambda: ng.experience.update_event(events[0], reward=2.0, timestamp=0),
            "delete_events": lambda: ng.experience.delete_events(events.pop()),
            "start_trajectory": ng.experience.start_trajectory,
            "end_trajectory": lambda: ng.experience.end_trajectory(runs.pop()),
            "delete_trajectories": lambda: ng.experience.delete_trajectories(LOST),
        }
        for name, call in calls.items():
            counts = []
            for _ in range(2):
                before = trips.count
                call()
                counts.append(trips.count - before)
            assert counts[0] <= 4, name
            assert counts[1] == 3, name


def test_a_list_of_ids_is_planned_for_itself(ng, database_url):
    """A plan that is kept takes a list for a short one."""
    ids = ng.tokens.bulk_create({"x": range(2_000), "y": [0.0] * 2_000, "z": [0.0] * 2_000})
    for token_id in ids[:8]:
        assert ng.tokens.update(token_id, weight=2.0) == 1
    assert ng.tokens.update(ids, weight=3.0) == 2_000
    assert execute(database_url, "SELECT DISTINCT weight FROM tokens.tokens") == [(3.0,)]
    assert ng.tokens.delete(ids[0]) == 1
    assert ng.tokens.delete(ids) == 1_999


def test_a_connection_keeps_a_bounded_number_of_statements(database_url):
    kept = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'ngdata\\_%'"

    async def main():
        async with (
            open_database(load_settings(database_url=database_url)) as database,
            database.transaction() as connection,
        ):
            for number in range(120):
                text = f"DELETE FROM tokens.tokens WHERE weight = $1::int + {number}"
                statement = await connection.prepare(text)
                assert await statement.fetch(1) == []
            assert await connection.fetchval(kept) <= 101
            assert await connection.prepare(text) is statement
            for single_use in (
                await connection.prepare(text, name=""),
                await connection.prepare("SELECT $1::int"),
                await connection.prepare(f"{text} OR {' OR '.join(['false'] * 1000)}"),
            ):
                assert single_use.get_name() == ""

    asyncio.run(main())


def test_many_writers_share_few_connections(database_url):
    async def main():
        async with await ngdata.connect_async(database_url, pool_max_size=4) as ang:
            ids = await asyncio.gather(*(ang.tokens.create({0: (n, 0, 0)}) for n in range(50)))
            status = (await ang.pool_status())["write"]
            assert (status["in_use"], status["waiting"]) == (0, 0)
            assert status["size"] <= 4
            stored = await ang.tokens.get(ids)
            assert [coords[0, 0] for coords in stored.coords] == list(range(50))

    asyncio.run(main())


@pytest.mark.parametrize("year", [1969, 20_000])
def test_an_end_returns_the_row_that_is_listed(ng, database_url, year):
    """Also of times that only other programs write."""
    run = ng.experience.start_trajectory(RUN, metadata=JSON)
    execute(
        database_url,
        "INSERT INTO experience.experience_events (event_type, timestamp, reward, trajectory_id)"
        f" VALUES ('a', make_timestamptz({year}, 1, 1, 0, 0, 0.000001), 0.1, '{run}'),"
        f" ('b', make_timestamptz({year}, 12, 31, 23, 59, 59.999999), 0.2, '{run}')",
    )
    ended = ng.experience.end_trajectory(run)
    pd.testing.assert_frame_equal(ended, ng.experience.list_trajectories(cache="off"))
    assert ended.event_count[0] == 2
    assert {*ended.attrs["ngdata"]} == {"source", "version", "milliseconds"}
