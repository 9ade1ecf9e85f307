"""Invalid arguments of reads: a typed error names them before anything is sent."""

import datetime as dt
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ngdata.errors import InvalidQueryError, NotFoundError

MISSING = "00000000-0000-4000-8000-00000000dead"
ZERO, ONE = (0, 0, 0), (1, 1, 1)
POINTS = {"x": [0.0, 1.0, 2.0], "y": [0.0, 1.0, 2.0], "z": [0.0, 1.0, 2.0]}
NAIVE = dt.datetime(2024, 1, 1)


def refused(match):
    return pytest.raises(InvalidQueryError, match=match)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"level": 8}, "level must be an integer from 0 to 7 .* not 8"),
        ({"level": -1}, "not -1"),
        ({"level": 0.0}, "not 0.0"),
        ({"level": True}, "not True"),
        ({"level": None}, "not None"),
        ({"level": "physcial"}, "did you mean 'physical'"),
        ({"columns": "x"}, "columns must be a sequence .* not 'x'"),
        ({"columns": []}, r"columns must be a sequence .* not \[\]"),
        ({"columns": ["x", "x"]}, "different column names"),
        ({"columns": ["wieght"]}, "unknown column 'wieght'.*did you mean 'weight'"),
        ({"columns": [["x"]]}, "unknown column"),
        ({"columns": 5}, "not 5"),
        ({"token_type": 5}, "token_type must be text or a sequence of texts, not 5"),
        ({"token_type": ["a", None]}, "token_type must be text"),
        ({"token_type": b"a"}, "token_type must be text"),
        ({"token_type": "a\0b"}, "NUL"),
        ({"token_type": "\ud800"}, "token_type must be valid Unicode"),
        ({"flags": -1}, r"flags must be an integer from 0 to 2\*\*31 - 1, not -1"),
        ({"flags": 2**31}, "not 2147483648"),
        ({"flags": True}, "not True"),
        ({"flags": 1.0}, "not 1.0"),
        ({"min_weight": math.nan}, "min_weight must be a number, not nan"),
        ({"min_weight": "1"}, "not '1'"),
        ({"min_weight": True}, "not True"),
        ({"min_weight": 10**400}, "min_weight must be a number"),
    ],
)
def test_arguments_of_all_regional_reads(ng, ids, options, match):
    with refused(match):
        ng.tokens.find_in_region(ZERO, ONE, **options)
    with refused(match):
        ng.tokens.find_nearest(ZERO, **options)
    with refused(match):
        ng.tokens.find_within(ZERO, 1, **options)
    with refused(match):
        next(ng.tokens.iter_region(ZERO, ONE, **options))
    with refused(match):
        ng.tokens.sample(3, **options)
    if "columns" not in options:
        with refused(match):
            ng.tokens.aggregate(None, **options)
        with refused(match):
            ng.tokens.count_in_region(ZERO, ONE, **options)
        with refused(match):
            ng.tokens.density(ZERO, ONE, **options)


@pytest.mark.parametrize(
    ("low", "high", "match"),
    [
        ((0, 0, 2), ONE, "z runs from 2.0 to 1.0; are the two swapped"),
        ((math.inf, 0, 0), (-math.inf, 1, 1), "x runs from inf to -inf"),
        ((0, math.nan, 0), ONE, "min_coords must not contain NaN"),
        (ZERO, (1, 1, math.nan), "max_coords must not contain NaN"),
        (np.ma.array([0, 0, 0], mask=[1, 0, 0]), ONE, "min_coords must not contain NaN"),
        ((0, 0), ONE, r"min_coords must be three numbers \(x, y, z\), not \(0, 0\)"),
        (ZERO, [[1, 1, 1]], "max_coords must be three numbers"),
        ("000", ONE, "not '000'"),
        (("0", "0", "0"), ONE, "three numbers"),
        ((0, 0, "1"), ONE, "three numbers"),
        ((0, 0, None), ONE, "three numbers"),
        ((True, False, True), ONE, "three numbers"),
        (np.array([1, 2, 3], "M8[s]"), ONE, "three numbers"),
        ((1j, 0, 0), ONE, "three numbers"),
        ((0, 0, pd.NA), ONE, "three numbers"),
        ((10**400, 0, 0), ONE, "three numbers"),
        ((0, [1], 2), ONE, "three numbers"),
        (None, ONE, "not None"),
        (5, ONE, "not 5"),
    ],
)
def test_boxes(ng, ids, low, high, match):
    for read in (ng.tokens.find_in_region, ng.tokens.count_in_region, ng.tokens.density):
        with refused(match):
            read(low, high)


@pytest.mark.parametrize(
    ("point", "match"),
    [
        ((0, 0, math.inf), "finite and at most 1e[+]37"),
        ((0, 0, 1.1e37), "at most 1e[+]37"),
        ((0, 0, math.nan), "point must not contain NaN"),
        ((0, 0), "point must be three numbers"),
        ("abc", "point must be three numbers"),
    ],
)
def test_points(ng, ids, point, match):
    with refused(match):
        ng.tokens.find_nearest(point)
    with refused(match):
        ng.tokens.find_within(point, 1)


@pytest.mark.parametrize("value", [-1, -math.inf, math.nan, "1", True, None, 1j, 10**400, [1]])
def test_radii(ng, ids, value):
    with refused("radius must be a number of at least 0"):
        ng.tokens.find_within(ZERO, value)
    if value is not None:
        with refused("max_distance must be a number of at least 0"):
            ng.tokens.find_nearest(ZERO, max_distance=value)


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", True, None, 2**31, math.nan, [1]])
def test_counts(ng, ids, value):
    with refused("k must be an integer from 1 to"):
        ng.tokens.find_nearest(ZERO, value)
    with refused("count must be an integer from 1 to"):
        ng.experience.get_recent_events(value)
    with refused("chunk_rows must be an integer from 1 to"):
        next(ng.tokens.iter_region(ZERO, ONE, chunk_rows=value))
    with refused("depth must be an integer from 1 to 32"):
        ng.graph.get_neighbors(ids, depth=value)
    with refused("bins must be an integer"):
        ng.tokens.density(ZERO, ONE, value)


@pytest.mark.parametrize(
    "bins", [(1, 2), (1, 2, 3, 4), (1, 1, 0), (1.0, 1, 1), "abc", (1, 1, 10**6)]
)
def test_bins(ng, ids, bins):
    with refused("bins must be an integer"):
        ng.tokens.density(ZERO, ONE, bins)


@pytest.mark.parametrize("high", [(1, math.inf, 1), (1, 1, 1.7e308)])
def test_a_density_needs_a_finite_box(ng, ids, high):
    with refused("density needs a region with finite bounds.*infinite bounds"):
        ng.tokens.density((-1e308, -1, -1e308), high)


@pytest.mark.parametrize("limit", [-1, 1.0, "1", True, math.nan])
def test_limits(ng, ids, limit):
    for read in (
        lambda: ng.tokens.find_in_region(ZERO, ONE, limit=limit),
        lambda: ng.tokens.find_within(ZERO, 1, limit=limit),
        lambda: ng.graph.get_neighbors(ids, limit=limit),
        lambda: ng.experience.get_events(limit=limit),
    ):
        with refused("limit must be None or an integer of at least 0"):
            read()


@pytest.mark.parametrize(
    "value",
    [
        "x",
        "",
        "0x0000000000000000000000000000aa",
        "0000_00000000000000000000000000a",
        "\u0660" * 32,
        f" {MISSING}",
        f"{MISSING}\n",
        f"{{{MISSING}",
        f"{MISSING}}}",
        "0" * 31,
        "0" * 33,
        f"{MISSING}'; DROP TABLE tokens.tokens; --",
        -1,
        2**64,
        1.0,
        True,
        None,
        math.nan,
        b"0" * 16,
        b"0" * 36,
        [MISSING],
    ],
)
def test_ids(ng, ids, value):
    for call in (
        ng.tokens.get,
        ng.tokens.delete,
        lambda token_ids: ng.tokens.update(token_ids, weight=2),
        ng.graph.get_neighbors,
        lambda token_ids: ng.graph.get_degree(token_ids),
        lambda token_ids: ng.graph.connections(source=token_ids),
        lambda token_ids: ng.graph.connections(target=token_ids),
        lambda token_ids: ng.experience.get_events(token_ids=token_ids),
    ):
        with refused(r"\[1\] must be a UUID, or an integer from 0 to 2\*\*64 - 1, not "):
            call([ids[0], value])
    with refused("target_id must be "):
        ng.graph.create_connection(ids[0], value)
    if value is not None:
        with refused("trajectory_id must be"):
            ng.experience.get_events(trajectory_id=value)
        if value == value:
            with refused("token_id must be"):
                ng.tokens.create({}, token_id=value)


@pytest.mark.parametrize("table", [pd.DataFrame, pa.table])
def test_a_whole_table_of_ids(ng, ids, table):
    with refused("a whole table; pass the column"):
        ng.tokens.get(table({"token_id": ids}))


def test_missing_ids(ng, ids):
    for call in (
        ng.tokens.get,
        lambda value: ng.tokens.update(value, weight=9),
        ng.graph.get_neighbors,
        ng.graph.get_degree,
    ):
        with pytest.raises(NotFoundError, match=f"no token in the store has the id {MISSING}"):
            call([ids[0], MISSING])
    assert ng.tokens.get(ids).weight.tolist() == [1, 1, 1]
    assert ng.tokens.get([ids[2], MISSING, ids[0]], missing="skip").token_id.tolist() == [
        ids[2],
        ids[0],
    ]
    assert ng.tokens.delete(MISSING) == 0
    assert ng.graph.connections(MISSING).empty
    assert ng.experience.get_events(token_ids=MISSING).empty
    with refused("missing must be 'raise' or 'skip', not 'no'"):
        ng.tokens.get(ids, missing="no")


@pytest.mark.parametrize(
    ("noun", "read"),
    [
        ("token", lambda ng, a, b: ng.tokens.get([a, b])),
        ("token", lambda ng, a, b: ng.graph.get_neighbors([a, b])),
        ("token", lambda ng, a, b: ng.graph.get_degree([a, b])),
        ("token", lambda ng, a, b: ng.graph.subgraph([a, b])),
        ("token", lambda ng, a, b: ng.graph.shortest_path(a, b)),
        ("token", lambda ng, a, b: ng.graph.shortest_lengths(a, b)),
        ("snapshot", lambda ng, a, b: ng.graph.load_snapshot(b)),
        ("trajectory", lambda ng, a, b: ng.experience.get_trajectory(b)),
        ("trajectory", lambda ng, a, b: ng.experience.mean_position(b, "1s")),
        ("event", lambda ng, a, b: ng.experience.events_around(b)),
    ],
)
def test_a_cached_answer_raises_for_missing_ids_too(ng, ids, noun, read):
    for again in (False, True):
        hits = ng.cache.stats().hits
        with pytest.raises(
            NotFoundError, match=f"no {noun} in the store has the id {MISSING}"
        ) as caught:
            read(ng, ids[0], MISSING)
        assert caught.value.missing == (MISSING,)
        # The first may have been answered for another test, and outlived what was written since.
        assert ng.cache.stats().hits == hits + 1 or not again


@pytest.mark.parametrize("direction", ["out", "outgoin", "Both", None, 1, ["both"]])
def test_directions(ng, ids, direction):
    with refused("direction must be 'outgoing', 'incoming' or 'both'"):
        ng.graph.get_neighbors(ids, direction)


@pytest.mark.parametrize(
    ("time", "match"),
    [
        (NAIVE, "must have a time zone, but is .*; pass for instance"),
        (pd.Timestamp(NAIVE), "must have a time zone"),
        (np.datetime64(NAIVE), "must have a time zone"),
        ("2024-01-01", "must have a time zone"),
        ("yesterday evening", "must be a time, not .yesterday evening.; write text in ISO 8601"),
        (1.5, "must be a datetime or Timestamp with a time zone"),
        (True, "must be a time, not True"),
        (dt.date(2024, 1, 1), "must be a datetime"),
        (dt.time(1), "must be a datetime"),
        (np.timedelta64(1, "s"), "must be a datetime"),
        (10**20, "must be a time in the years 1 to 9999"),
        (-(10**15), "must be a time in the years 1 to 9999"),
        (
            dt.datetime(1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1))),
            "must be a time in the years 1 to 9999",
        ),
        (
            pd.Timestamp(np.datetime64("12000-01-01", "s")).tz_localize("UTC"),
            "in the years 1 to 9999, not 12000-01-01",
        ),
        ([], "must be a datetime"),
    ],
)
def test_times(ng, ids, time, match):
    for call in (
        lambda: ng.experience.get_events(time),
        lambda: ng.experience.get_events(None, time),
        lambda: ng.experience.create_event("seen", time),
        lambda: ng.tokens.create({}, timestamp=time),
        lambda: ng.tokens.update(ids[0], timestamp=time),
    ):
        with refused(match):
            call()
    frame = {"event_type": ["a", "b"], "timestamp": pd.Series([0, time], dtype=object)}
    with refused(f"timestamp in row 1 .*{match}"):
        ng.experience.bulk_create(frame)


@pytest.mark.parametrize("time", ["", "NaT", np.datetime64("NaT", "s"), pd.NaT, math.nan])
def test_missing_times(ng, ids, time):
    with refused("start must be a time, not"):
        ng.experience.get_events(time)
    frame = {"event_type": ["a", "b"], "timestamp": pd.Series([0, time], dtype=object)}
    with refused("timestamp in row 1"):
        ng.experience.bulk_create(frame)


@pytest.mark.parametrize("column", [[NAIVE] * 2, pd.to_datetime([NAIVE] * 2).as_unit("s")])
def test_columns_of_naive_times(ng, ids, column):
    with refused("timestamp in row 0 must have a time zone, but is 2024-01-01 00:00:00"):
        ng.experience.bulk_create({"event_type": ["a", "b"], "timestamp": column})
    with refused("timestamp in row 0 must have a time zone, but is 2024-01-01 00:00:00"):
        ng.tokens.bulk_create({"x": [0, 0], "y": [0, 0], "z": [0, 0], "timestamp": column})


def test_a_column_of_naive_times_says_how_to_convert_it(ng, ids):
    times = pd.to_datetime([NAIVE] * 2)
    with refused(r"pass pd.to_datetime\(column, utc=True\)"):
        ng.experience.bulk_create({"event_type": ["a", "b"], "timestamp": times})


def test_a_start_after_the_end(ng, ids):
    with refused("start must not be after end.*swapped"):
        ng.experience.get_events(2, 1)


INJECTIONS = [
    "'; DROP TABLE tokens.tokens; --",
    "\\'; DROP TABLE tokens.tokens; --",
    "' OR '1'='1",
    "$$; DROP TABLE tokens.tokens; $$",
    "%s %(a)s %",
    "*/ DROP TABLE tokens.tokens; /*",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_text_is_never_executed(ng, ids, text):
    assert ng.tokens.find_in_region(ZERO, ONE, token_type=text).empty
    assert ng.tokens.find_in_region(ZERO, ONE, token_type=[text, text]).empty
    assert ng.tokens.density(ZERO, ONE, token_type=text).empty
    assert ng.graph.get_neighbors(ids, connection_type=text).empty
    assert ng.graph.connections(connection_type=[text, "b"]).empty
    assert ng.experience.get_events(event_type=text).empty
    for call in (
        lambda: ng.tokens.find_in_region(ZERO, ONE, columns=[text]),
        lambda: ng.tokens.find_in_region(ZERO, ONE, level=text),
        lambda: ng.tokens.find_in_region(ZERO, ONE, limit=text),
        lambda: ng.tokens.find_in_region(ZERO, ONE, flags=text),
        lambda: ng.tokens.find_in_region(ZERO, ONE, min_weight=text),
        lambda: ng.tokens.find_nearest(ZERO, text),
        lambda: ng.tokens.get(text),
        lambda: ng.tokens.get(ids, columns=[text]),
        lambda: ng.graph.get_neighbors(ids, text),
        lambda: ng.graph.get_degree([text]),
        lambda: ng.experience.get_events(text),
        lambda: ng.experience.get_events(trajectory_id=text),
        lambda: ng.tokens.bulk_create(POINTS | {text: [1, 1, 1]}),
        lambda: ng.graph.create_connection(ids[0], text),
    ):
        with pytest.raises(InvalidQueryError):
            call()
