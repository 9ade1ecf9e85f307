"""Frames of reads: dtypes with and without rows, order, ownership; and what writes return."""

import asyncio
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import ngdata
from ngdata._arguments.texts import STR
from ngdata._query.model import Column, Kind
from ngdata._reading import frames
from ngdata._reading.frames import to_frame
from ngdata.errors import NGDataError
from tests.conftest import execute

ZERO, ONE, FAR, FARTHER = (0, 0, 0), (1, 1, 1), (1e9, 0, 0), (2e9, 1, 1)
REGION = {
    "token_id": STR,
    "level": "int32",
    "x": "float64",
    "y": "float64",
    "z": "float64",
    "token_type": STR,
    "weight": "float64",
    "flags": "int32",
    "timestamp": "datetime64[us, UTC]",
}
NOBODY = "00000000-0000-4000-8000-00000000dead"


@pytest.fixture
def ids(ng):
    """Return the ids of two connected tokens, each with an event."""
    new_ids = ng.tokens.bulk_create(
        {"x": [0, 1], "y": [0, 1], "z": [0, 1], "metadata": [{"a": [1]}, None]}
    )
    ng.graph.create_connection(*new_ids)
    for n in range(2):
        ng.experience.create_event("seen", n, {"n": [n]}, token_id=new_ids[n])
    return new_ids.tolist()


def reads(ng, ids):
    """Return each read with rows and without, and the dtypes of its columns."""
    return {
        "find_in_region": (
            lambda: ng.tokens.find_in_region(ZERO, ONE),
            lambda: ng.tokens.find_in_region(FAR, FARTHER),
            REGION,
        ),
        "find_nearest": (
            lambda: ng.tokens.find_nearest(ZERO, 2),
            lambda: ng.tokens.find_nearest(FAR, 2, max_distance=1),
            REGION | {"distance": "float64"},
        ),
        "find_within": (
            lambda: ng.tokens.find_within(ZERO, 9),
            lambda: ng.tokens.find_within(FAR, 9),
            REGION | {"distance": "float64"},
        ),
        "get": (
            lambda: ng.tokens.get(ids),
            lambda: ng.tokens.get(NOBODY, missing="skip"),
            {
                "token_id": STR,
                "token_type": STR,
                "weight": "float64",
                "flags": "int32",
                "timestamp": "datetime64[us, UTC]",
                "coords": "object",
            },
        ),
        "get on request": (
            lambda: ng.tokens.get(ids, columns=["binary_data", "metadata"]),
            lambda: ng.tokens.get([], columns=["binary_data", "metadata"]),
            {"binary_data": "object", "metadata": "object"},
        ),
        "density": (
            lambda: ng.tokens.density(ZERO, ONE),
            lambda: ng.tokens.density(FAR, FARTHER),
            {"x": "float64", "y": "float64", "z": "float64", "count": "int64"},
        ),
        "aggregate": (
            lambda: ng.tokens.aggregate(
                ["token_type", "flags", "timestamp"], n="count", a=("x", "sum"), b=("flags", "min")
            ),
            lambda: ng.tokens.aggregate(
                ["token_type", "flags", "timestamp"],
                within=(FAR, FARTHER),
                n="count",
                a=("x", "sum"),
                b=("flags", "min"),
            ),
            {
                "token_type": STR,
                "flags": "int32",
                "timestamp": "datetime64[us, UTC]",
                "n": "int64",
                "a": "float64",
                "b": "int32",
            },
        ),
        "sample": (
            lambda: ng.tokens.sample(2),
            lambda: ng.tokens.sample(2, within=(FAR, FARTHER)),
            REGION,
        ),
        "get_neighbors": (
            lambda: ng.graph.get_neighbors(ids),
            lambda: ng.graph.get_neighbors(ids[1]),
            {
                "token_id": STR,
                "neighbor_id": STR,
                "connection_id": STR,
                "connection_type": STR,
                "weight": "float64",
                "direction": STR,
                "depth": "int32",
            },
        ),
        "get_degree": (
            lambda: ng.graph.get_degree(),
            lambda: ng.graph.get_degree([]),
            {
                "token_id": STR,
                "in_degree": "int64",
                "out_degree": "int64",
                "total_degree": "int64",
            },
        ),
        "connections": (
            lambda: ng.graph.connections(),
            lambda: ng.graph.connections(NOBODY),
            {
                "connection_id": STR,
                "source_id": STR,
                "target_id": STR,
                "connection_type": STR,
                "weight": "float64",
                "bidirectional": "bool",
            },
        ),
        "get_events": (
            lambda: ng.experience.get_events(),
            lambda: ng.experience.get_events(5, 5),
            {
                "event_id": STR,
                "event_type": STR,
                "timestamp": "datetime64[us, UTC]",
                "token_id": STR,
                "reward": "float64",
                "priority": "float64",
                "trajectory_id": STR,
                "sequence_number": "Int64",
                "state_before": "object",
                "state_after": "object",
                "action": "object",
            },
        ),
    }


def test_frames_with_and_without_rows_have_the_same_columns(ng, ids):
    for name, (full, empty, dtypes) in reads(ng, ids).items():
        for read, is_empty in ((full, False), (empty, True)):
            frame = read()
            assert frame.empty == is_empty, name
            assert dict(frame.dtypes) == dtypes, name
            assert frame.index.equals(pd.RangeIndex(len(frame))), name
        assert full().dtypes.equals(empty().dtypes), name


def test_changing_a_frame_changes_no_other_frame(ng, ids):
    for name, (read, _, _) in reads(ng, ids).items():
        before, changed = read(), read()
        for column in changed:
            first = changed[column].iloc[0]
            if isinstance(first, dict):
                next(iter(first.values())).append("changed")
                first["more"] = 1
            elif isinstance(first, np.ndarray):
                first[:] = 7
            elif changed[column].dtype == STR:
                changed.loc[0, column] = "changed"
            elif changed[column].dtype == "object":
                changed.at[0, column] = "changed"
            else:
                changed.loc[0, column] = changed[column].iloc[0] + (
                    pd.Timedelta(1, "D")
                    if column == "timestamp"
                    else 1
                    if changed[column].dtype != "bool"
                    else True
                )
        changed["another"] = 1
        del changed[changed.columns[0]]
        pd.testing.assert_frame_equal(read(), before, obj=name)


def test_two_rows_of_the_same_token_share_no_objects(ng, ids):
    frame = ng.tokens.get([ids[0], ids[0]], columns=["metadata", "coords"])
    frame.metadata[0]["a"].append(2)
    frame.coords[0][:] = 9

    assert frame.metadata[1] == {"a": [1]}
    assert frame.coords[1][0].tolist() == [0, 0, 0]


def test_ids_work_as_keys(ng, ids):
    places = ng.tokens.find_in_region(ZERO, ONE)
    edges = ng.graph.connections()

    assert places.set_index("token_id").loc[ids].x.tolist() == [0, 1]
    merged = edges.merge(places, left_on="source_id", right_on="token_id")
    assert merged.x.tolist() == [0]
    assert places.groupby("token_id").weight.sum().loc[ids].tolist() == [1, 1]
    assert places.token_id.isin(ids).all()
    assert (places.token_id == ids[0]).sum() == 1
    assert places.token_id.map(str.upper).str.lower().tolist() == places.token_id.tolist()


def test_columns_are_those_requested_in_their_order(ng, ids):
    for columns in (
        ["z", "token_id"],
        ("distance",),
        pd.Index(["x", "weight"]),
        np.array(["level"]),
    ):
        frame = ng.tokens.find_nearest(ZERO, 2, columns=columns)
        assert frame.columns.tolist() == list(columns)
        assert len(frame) == 2
    assert ng.tokens.get(ids, columns=["weight"]).columns.tolist() == ["weight"]
    assert ng.tokens.find_in_region(ZERO, ONE, columns=["y"], limit=1).columns.tolist() == ["y"]


def test_get_returns_a_row_per_id_in_the_order_of_the_ids(ng, ids):
    order = [ids[1], ids[0], ids[1]]
    frame = ng.tokens.get(order)

    assert frame.token_id.tolist() == order
    assert [c[0, 0] for c in frame.coords] == [1, 0, 1]
    assert all(c.shape == (8, 3) and c.dtype == np.float64 for c in frame.coords)
    assert np.isnan(frame.coords[0][1:]).all()


def test_filters(ng):
    ng.tokens.bulk_create(
        {
            "x": range(6),
            "y": [0] * 6,
            "z": [0] * 6,
            "token_type": ["a", "b", "c", "a", "b", "c"],
            "flags": [0, 1, 2, 3, 7, 2**31 - 1],
            "weight": [-1, 0, 0.5, 1, 2, 3],
        }
    )
    box = (0, 0, 0), (9, 9, 9)

    def kept(**filters):
        places = sorted(ng.tokens.find_in_region(*box, **filters).x.astype(int))
        assert sorted(ng.tokens.find_nearest(ZERO, 9, **filters).x) == places
        assert sorted(ng.tokens.find_within(ZERO, 9, **filters).x) == places
        assert ng.tokens.count_in_region(*box, **filters) == len(places)
        assert ng.tokens.density(*box, **filters)["count"].sum() == len(places)
        assert sum(map(len, ng.tokens.iter_region(*box, **filters))) == len(places)
        return places

    assert kept() == [0, 1, 2, 3, 4, 5]
    assert kept(token_type="a") == [0, 3]
    assert kept(token_type=["a", "c"]) == [0, 2, 3, 5]
    assert kept(token_type=pd.Series(["b"])) == [1, 4]
    assert kept(token_type={"a", "none"}) == [0, 3]
    assert kept(token_type=[]) == []
    assert kept(flags=0) == [0, 1, 2, 3, 4, 5]
    assert kept(flags=1) == [1, 3, 4, 5]
    assert kept(flags=3) == [3, 4, 5]
    assert kept(flags=np.int32(2**31 - 1)) == [5]
    assert kept(min_weight=0.5) == [2, 3, 4, 5]
    assert kept(min_weight=-np.inf) == [0, 1, 2, 3, 4, 5]
    assert kept(min_weight=np.inf) == []
    assert kept(token_type=["a", "b"], flags=1, min_weight=1) == [3, 4]


def test_returned_ids_have_the_index_of_the_frame(ng):
    frame = pd.DataFrame({"x": [0.0, 1], "y": [0.0, 1], "z": [0.0, 1]}, index=["b", "a"])
    frame["token_id"] = ng.tokens.bulk_create(frame)
    assert ng.tokens.get(frame.token_id["a"]).coords[0][0, 0] == 1

    edges = pd.DataFrame({"source_id": frame.token_id, "target_id": frame.token_id[::-1].values})
    new_ids = ng.graph.bulk_create(edges)
    assert (new_ids.index.tolist(), new_ids.dtype, new_ids.name) == (
        ["b", "a"],
        STR,
        "connection_id",
    )
    assert ng.graph.connections(frame.token_id["a"]).connection_id.tolist() == [new_ids["a"]]

    new_ids = ng.experience.bulk_create(
        pd.DataFrame({"event_type": ["e"], "timestamp": 0}, index=[9])
    )
    assert (new_ids.index.tolist(), new_ids.dtype, new_ids.name) == ([9], STR, "event_id")


def test_the_number_of_tokens_follows_from_the_coordinates_alone(ng):
    coords = np.full((3, 8, 3), np.nan)
    coords[:, 3] = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    for frame in ({}, pa.table({}), pd.DataFrame(index=range(3)), {"weight": [1, 1, 1]}):
        new_ids = ng.tokens.bulk_create(frame, coords=coords)
        assert [c[3].tolist() for c in ng.tokens.get(new_ids).coords] == coords[:, 3].tolist()
    assert ng.tokens.count_in_region((-9,) * 3, (9,) * 3, "emotional") == 12
    assert ng.tokens.count_in_region((-9,) * 3, (9,) * 3) == 0


def test_masked_coordinates_are_undefined(ng):
    coords = np.ma.array(np.arange(48.0).reshape(2, 8, 3), mask=np.ones((2, 8, 3), bool))
    coords[1, 3] = [7, 8, 9]
    whole = np.ma.array(np.arange(24).reshape(8, 3), mask=np.arange(24).reshape(8, 3) > 2)
    new_ids = [*ng.tokens.bulk_create({}, coords=coords), ng.tokens.create(whole)]
    stored = np.array(ng.tokens.get(new_ids).coords.tolist())
    assert np.argwhere(~np.isnan(stored).any(axis=2)).tolist() == [[1, 3], [2, 0]]
    assert stored[1, 3].tolist() == [7, 8, 9]
    assert stored[2, 0].tolist() == [0, 1, 2]


def test_missing_values_become_the_defaults(ng):
    frame = pd.DataFrame({"x": [0.0, 0, 0], "y": 0.0, "z": 0.0})
    for name in ("token_id", "token_type", "weight", "flags", "timestamp", "metadata"):
        frame[name] = pd.Series([None, np.nan, pd.NaT], dtype=object)
    new_ids = ng.tokens.bulk_create(frame)
    stored = ng.tokens.get(
        new_ids, columns=["token_type", "weight", "flags", "timestamp", "metadata"]
    )

    assert new_ids.is_unique
    assert stored.drop(columns="timestamp").to_dict("list") == {
        "token_type": ["default"] * 3,
        "weight": [1.0] * 3,
        "flags": [0] * 3,
        "metadata": [None] * 3,
    }
    assert stored.timestamp.nunique() == 1


def test_update_changes_only_the_named_columns(ng):
    first = {"token_type": "a", "weight": 2.0, "flags": 3, "metadata": {"k": 1}}
    token, other = (
        ng.tokens.create({0: ONE, "motor": (2, 2, 2)}, timestamp=0, binary_data=b"r" * 64, **first)
        for _ in range(2)
    )
    everything = [*first, "timestamp", "binary_data", "coords"]
    whole = ng.tokens.get(token, columns=everything)

    def changed(**changes):
        assert ng.tokens.update([token, token], **changes) == 1
        stored = ng.tokens.get(token, columns=everything)
        differing = {
            name
            for name in everything
            if not np.array_equal(stored[name][0], whole[name][0], equal_nan=name == "coords")
        }
        return differing, stored.loc[0]

    assert changed(weight=5)[0] == {"weight"}
    assert changed(weight=..., flags=7)[0] == {"weight", "flags"}
    names, row = changed(weight=None, flags=None, token_type=None, metadata=None, binary_data=None)
    assert names == {"weight", "flags", "token_type", "metadata", "binary_data"}
    assert (row["weight"], row["flags"], row.token_type, row.metadata) == (1, 0, "default", None)
    assert row.binary_data is None
    assert changed(metadata={})[1].metadata == {}
    assert changed(timestamp=1)[1].timestamp == pd.Timestamp(1, unit="ms", tz="UTC")

    coords = changed(coords={"physical": (5, 5, 5)})[1].coords
    assert (coords[0].tolist(), coords[2].tolist()) == ([5, 5, 5], [2, 2, 2])
    coords = changed(coords={2: None, "abstract": (8, 8, 8)})[1].coords
    assert np.isnan(coords[2]).all()
    assert coords[7].tolist() == [8, 8, 8]
    assert ng.tokens.find_nearest((5, 5, 5), 1).token_id.tolist() == [token]
    assert ng.tokens.find_nearest((2, 2, 2), 2, "motor").token_id.tolist() == [other]
    assert ng.tokens.find_nearest((8, 8, 8), 2, "abstract").weight.tolist() == [1]
    everywhere = np.arange(24.0).reshape(8, 3)
    assert changed(coords=everywhere)[1].coords.tolist() == everywhere.tolist()
    assert np.isnan(changed(coords=np.full((8, 3), np.nan))[1].coords).all()
    assert ng.tokens.find_in_region((-99,) * 3, (99,) * 3).token_id.tolist() == [other]

    # The other token is unchanged.
    pd.testing.assert_frame_equal(ng.tokens.get(other, columns=list(first)), whole[[*first]])


def test_deleting_tokens_deletes_their_connections_but_not_their_events(ng, ids):
    assert ng.tokens.delete([ids[0], ids[0], NOBODY]) == 1

    assert ng.graph.connections().empty
    assert ng.tokens.find_in_region(ZERO, ONE).token_id.tolist() == [ids[1]]
    assert ng.graph.get_degree(ids[1]).total_degree.tolist() == [0]
    events = ng.experience.get_events()
    assert events.token_id.fillna("none").tolist() == ["none", ids[1]]
    assert events.state_before.tolist() == [{"n": [0]}, {"n": [1]}]


def test_sync_and_async_clients_return_the_same(ng, ids, database_url):
    async def go():
        async with await ngdata.connect_async(database_url) as ang:
            return await ang.tokens.find_nearest(ZERO, 2), [
                part async for part in ang.tokens.iter_region(ZERO, ONE, chunk_rows=1)
            ]

    nearest, parts = asyncio.run(go())
    pd.testing.assert_frame_equal(nearest, ng.tokens.find_nearest(ZERO, 2))
    assert sorted(pd.concat(parts).token_id) == sorted(ids)


# Without a server --------------------------------------------------------------------------------


@pytest.mark.parametrize("is_pandas_2", [False, True])
def test_to_frame_by_kind(is_pandas_2, monkeypatch):
    if is_pandas_2:
        monkeypatch.setattr(frames, "_from_blocks", None)
    columns = [Column(kind.name, kind) for kind in Kind]
    table = pa.table(
        {
            "TEXT": ["a", None],
            "TOKEN_ID": ["a", "b"],
            "OPTIONAL_TOKEN_ID": ["a", None],
            "TOKEN_NUMBER": pa.array([0, 2**64 - 1], pa.uint64()),
            "OPTIONAL_TOKEN_NUMBER": pa.array([2**64 - 1, None], pa.uint64()),
            "FLOAT": [-0.0, None],
            "INTEGER": pa.array([1, 2], pa.int32()),
            "OPTIONAL_INTEGER": pa.array([2**63 - 1, None], pa.int64()),
            "BOOLEAN": [True, False],
            "TIME": pa.array([-62_135_596_800_000_000, None], pa.timestamp("us", "UTC")),
            "JSON": ['{"a": [1, 1.0, null]}', None],
            "BYTES": [b"\0", None],
            "COORDS": [[float(n) for n in range(23)] + [None], None],
        }
    )
    frame = to_frame(table, columns)

    assert list(frame.dtypes) == [
        STR,
        STR,
        STR,
        "uint64",
        "UInt64",
        "float64",
        "int32",
        "Int64",
        "bool",
        "datetime64[us, UTC]",
        "object",
        "object",
        "object",
    ]
    row = frame.loc[0]
    assert np.signbit(row.FLOAT)
    assert row.OPTIONAL_INTEGER == 2**63 - 1
    assert row.OPTIONAL_TOKEN_NUMBER == frame.TOKEN_NUMBER[1] == 2**64 - 1
    assert row.TIME.isoformat() == "0001-01-01T00:00:00+00:00"
    assert row.JSON == {"a": [1, 1.0, None]}
    assert [type(v) for v in row.JSON["a"]] == [int, float, type(None)]
    assert row.COORDS[:, 0].tolist() == list(range(8))
    assert row.COORDS[0].tolist() == [0, 8, 16]
    assert np.isnan(row.COORDS[7, 2])
    row = frame.loc[1]
    optional = [row.OPTIONAL_INTEGER, row.OPTIONAL_TOKEN_ID, row.OPTIONAL_TOKEN_NUMBER]
    assert pd.isna([row.TEXT, row.FLOAT, *optional, row.TIME]).all()
    assert [row.JSON, row.BYTES, row.COORDS] == [None, None, None]


def test_to_frame_copies():
    table = pa.table({"x": [1.0, 2.0]})
    frame = to_frame(table, [Column("x", Kind.FLOAT)])
    frame.loc[:, "x"] = 9.0
    assert table["x"].to_pylist() == [1, 2]


def test_a_name_of_one_frames_columns_is_not_that_of_others():
    table, columns = pa.table({"x": [1.0]}), [Column("x", Kind.FLOAT)]
    for make in (to_frame, frames.to_shared_frame):
        make(table, columns).columns.name = "mine"
        assert make(table, columns).columns.name is None


def test_an_answer_in_many_parts():
    part = pa.table({"c": pa.array([[1.0] * 24, None], pa.list_(pa.float64())), "t": ["a", "b"]})
    whole = pa.concat_tables([part, part.slice(1), part.slice(0, 0), part])
    frame = to_frame(whole, [Column("c", Kind.COORDS), Column("t", Kind.TEXT)])
    assert [c is None for c in frame.c] == [False, True, True, False, True]
    assert frame.t.tolist() == ["a", "b", "b", "a", "b"]


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 3000 + "]" * 3000])
def test_json_that_python_cannot_read_is_reported_with_its_row(ng, database_url, text):
    event = ng.experience.create_event("odd", 0)
    execute(database_url, f"UPDATE experience.experience_events SET state_before = '{text}'")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        with pytest.raises(
            NGDataError, match=f"the JSON of event_id {event} was written by another program"
        ):
            ng.experience.get_events()
    else:
        # Python reads deeper lists from 3.12 on.
        value, depth = ng.experience.get_events().state_before[0], 1
        while value:
            (value,) = value
            depth += 1
        assert depth == 3000
