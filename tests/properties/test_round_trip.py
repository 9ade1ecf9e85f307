"""Values are read as they were written: numbers bit for bit, text and JSON equal."""

import datetime as dt
import math
import uuid

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ngdata._arguments.levels import LEVELS
from ngdata.errors import InvalidQueryError

COORDINATES = st.floats(-1e37, 1e37)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
TIMES = st.datetimes(timezones=st.just(dt.UTC))
FORMS = st.sampled_from(["in bulk", "one by one"])
# jsonb knows no negative zero.
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | FINITE.filter(lambda v: v != 0 or math.copysign(1, v) > 0)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
DICTS = st.none() | st.dictionaries(TEXTS, JSON, max_size=3)
LEVEL = st.none() | st.tuples(COORDINATES, COORDINATES, COORDINATES)

TOKENS = st.lists(
    st.fixed_dictionaries(
        {
            "levels": st.lists(LEVEL, min_size=8, max_size=8),
            "token_id": st.none() | st.uuids(),
            "token_type": TEXTS,
            "weight": FINITE,
            "flags": st.integers(0, 2**31 - 1),
            "timestamp": TIMES,
            "metadata": DICTS,
            "binary_data": st.none() | st.binary(min_size=64, max_size=64),
        }
    ),
    max_size=6,
    unique_by=lambda token: token["token_id"] or object(),
)

AWKWARD = [
    "",
    " ",
    "a,b",
    'q"q',
    "it's",
    "two\nlines",
    "\r\n",
    "\r",
    "\\",
    "\\.",
    "\\.\n",
    "a\n\\.\nb",
    "\\N",
    "NULL",
    "%s %% %(x)s",
    "\U0001f9e0",
    "e\u0301",
    "$1",
    "'; DROP TABLE tokens.tokens; --",
    "\t",
    "{}",
    "\ufeff",
    "\x7f\x01",
]
ALL_COLUMNS = [
    "token_id",
    "token_type",
    "weight",
    "flags",
    "timestamp",
    "coords",
    "metadata",
    "binary_data",
]


def same_json(a, b):
    """Compare values and types: 1 == 1.0 == True in Python, but not in JSON."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_json(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same_json, a, b))
    return a == b


@settings(max_examples=60)
@given(tokens=TOKENS, form=FORMS)
@example(tokens=[], form="in bulk")
def test_tokens(store, tokens, form):
    nothing = (np.nan,) * 3
    coords = np.array([[p or nothing for p in t["levels"]] for t in tokens]).reshape(-1, 8, 3)
    frame = pd.DataFrame(
        {
            name: pd.Series([t[name] for t in tokens], dtype=object)
            for name in ALL_COLUMNS
            if name != "coords"
        }
    )
    if form == "in bulk":
        new_ids = store.tokens.bulk_create(frame, coords=coords)
    else:
        rows = zip(coords, frame.to_dict("records"), strict=True)
        new_ids = pd.Series([store.tokens.create(points, **row) for points, row in rows], dtype=str)
    result = store.tokens.get(new_ids, columns=ALL_COLUMNS)
    store.tokens.delete(new_ids)

    assert result.token_id.tolist() == new_ids.tolist()
    assert [
        i for i, t in zip(new_ids, tokens, strict=True) if t["token_id"] and str(t["token_id"]) != i
    ] == []
    assert result.token_type.tolist() == frame.token_type.tolist()
    assert result.weight.to_numpy().tobytes() == frame.weight.to_numpy(np.float64).tobytes()
    assert result["flags"].tolist() == frame["flags"].tolist()
    assert [t.to_pydatetime() for t in result.timestamp] == frame.timestamp.tolist()
    for before, after in zip(coords, result.coords, strict=True):
        there = ~np.isnan(before)
        assert np.array_equal(there, ~np.isnan(after))
        assert after[there].tobytes() == before[there].tobytes()
    for before, after in zip(frame.metadata, result.metadata, strict=True):
        assert same_json(before, after)
    assert result.binary_data.tolist() == frame.binary_data.tolist()


def test_awkward_texts_by_every_write_method(store):
    new_ids = store.tokens.bulk_create(
        {axis: np.zeros(len(AWKWARD)) for axis in "xyz"}
        | {"token_type": AWKWARD, "metadata": [{text: text} for text in AWKWARD]}
    )
    one_by_one = [
        store.tokens.create({0: (1, 1, 1)}, token_type=text, metadata={text: text})
        for text in AWKWARD
    ]
    changed = [store.tokens.create({0: (2, 2, 2)}) for _ in AWKWARD]
    for token, text in zip(changed, AWKWARD, strict=True):
        store.tokens.update(token, token_type=text, metadata={text: text})

    for ids in (new_ids, one_by_one, changed):
        result = store.tokens.get(ids, columns=["token_type", "metadata"])
        assert result.token_type.tolist() == AWKWARD
        assert result.metadata.tolist() == [{text: text} for text in AWKWARD]
    for text in AWKWARD:
        for types in (text, [text], [text, "none such"]):
            result = store.tokens.find_in_region((0, 0, 0), (2, 2, 2), token_type=types)
            assert sorted(result.x) == [0, 1, 2]
    assert store.tokens.delete([*new_ids, *one_by_one, *changed]) == 3 * len(AWKWARD)


def test_extreme_numbers(store):
    edges = [5e-324, -5e-324, -0.0, 0.1, 1 / 3, 2.2250738585072014e-308, 1e37, -1e37]
    weights = [*edges[:-2], 1.7976931348623157e308, -1.7976931348623157e308]
    new_ids = store.tokens.bulk_create({"x": edges, "y": edges, "z": edges, "weight": weights})
    whole = store.tokens.get(new_ids)
    index = store.tokens.find_in_region((-math.inf,) * 3, (math.inf,) * 3)
    store.tokens.delete(new_ids)

    index = index.set_index("token_id").loc[new_ids]
    for result in (index.x, index.z, np.array([c[0, 1] for c in whole.coords])):
        assert np.asarray(result).tobytes() == np.array(edges).tobytes()
    for result in (index.weight, whole.weight):
        assert result.to_numpy().tobytes() == np.array(weights).tobytes()


def test_each_level_by_its_name(store):
    token_id = store.tokens.create({name: (n, n + 0.5, -n) for n, name in enumerate(LEVELS)})
    for n, name in enumerate(LEVELS):
        for level in (n, name, np.int8(n)):
            result = store.tokens.find_in_region((n, n, -n), (n, n + 1, -n), level)
            assert (result.token_id.tolist(), result.level.tolist()) == ([token_id], [n])
    store.tokens.delete(token_id)


EVENTS = st.lists(
    st.fixed_dictionaries(
        {
            "event_type": TEXTS,
            "timestamp": TIMES,
            "state_before": DICTS,
            "state_after": DICTS,
            "action": DICTS,
            "reward": FINITE,
            "priority": st.none() | FINITE,
            "sequence_number": st.none() | st.integers(-(2**63), 2**63 - 1),
            "trajectory_id": st.none() | st.uuids(),
        }
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=40)
@given(events=EVENTS, form=FORMS)
def test_events(store, events, form):
    # A trajectory for each event: a sum over several may overflow.
    for event in events:
        event["trajectory_id"] = event["trajectory_id"] and uuid.uuid4()
    frame = pd.DataFrame(
        {name: pd.Series([e[name] for e in events], dtype=object) for name in events[0]}
    )
    token = store.tokens.create({})
    if form == "in bulk":
        new_ids = store.experience.bulk_create(frame.assign(token_id=token))
    else:
        new_ids = [store.experience.create_event(**event, token_id=token) for event in events]
    result = store.experience.get_events(token_ids=token).set_index("event_id").loc[new_ids]
    store.tokens.delete(token)

    assert result.event_type.tolist() == frame.event_type.tolist()
    assert [t.to_pydatetime() for t in result.timestamp] == frame.timestamp.tolist()
    assert result.reward.to_numpy().tobytes() == frame.reward.to_numpy(np.float64).tobytes()
    priority = [None if np.isnan(p) else p for p in result.priority]
    assert priority == frame.priority.tolist()
    sequence = [None if n is pd.NA else n for n in result.sequence_number]
    assert sequence == frame.sequence_number.tolist()
    for name in ("state_before", "state_after", "action"):
        assert all(map(same_json, frame[name], result[name]))
    trajectory = [None if t is np.nan or t != t else t for t in result.trajectory_id]
    assert trajectory == [t and str(t) for t in frame.trajectory_id]


def test_numpy_values_in_json(store):
    metadata = {
        "i": np.int8(3),
        "f": np.float32(0.5),
        "b": np.bool_(True),
        "a": np.array([[1, 2], [3, 4]]),
        "u": np.str_("text"),
        "deep": [{"x": np.array([1e300])}],
        "d": np.array(7.0),
    }
    token_id = store.tokens.create({}, metadata=metadata)
    result = store.tokens.get(token_id, columns=["metadata"]).metadata[0]
    expected = {
        "i": 3,
        "f": 0.5,
        "b": True,
        "a": [[1, 2], [3, 4]],
        "u": "text",
        "deep": [{"x": [1e300]}],
        "d": 7.0,
    }
    assert same_json(result, expected)
    store.tokens.delete(token_id)


@pytest.mark.parametrize(
    "form",
    [
        pa.table,
        pl.DataFrame,
        lambda columns: columns | {"metadata": pa.array(columns["metadata"])},
        lambda columns: columns | {"metadata": pl.Series(columns["metadata"])},
    ],
)
def test_missing_fields_of_structs_leave_integers_unchanged(store, form):
    metadata = [{"id": 2**53 + 1, "deep": {"n": [1, None]}}, {"id": None, "deep": None}, None]
    new_ids = store.tokens.bulk_create(
        form({name: [0.0] * 3 for name in "xyz"} | {"metadata": metadata})
    )
    result = store.tokens.get(new_ids, columns=["metadata"]).metadata.tolist()
    store.tokens.delete(new_ids)
    assert same_json(result, metadata)


def test_maps_of_arrow_are_dicts(store):
    kind = pa.map_(pa.string(), pa.int64())
    columns = {name: [0.0] * 2 for name in "xyz"}
    maps = pa.array([[("a", 1), ("b", None)], None], kind)
    new_ids = store.tokens.bulk_create(pa.table(columns | {"metadata": maps}))
    result = store.tokens.get(new_ids, columns=["metadata"]).metadata.tolist()
    store.tokens.delete(new_ids)
    assert result == [{"a": 1, "b": None}, None]

    twice = pa.array([[("a", 1), ("a", 2)], None], kind)
    with pytest.raises(InvalidQueryError, match=r"a map cannot become a dict: .*'a'"):
        store.tokens.bulk_create(pa.table(columns | {"metadata": twice}))


def test_times_in_all_kinds_of_columns(store):
    utc = pd.Series(
        pd.to_datetime(["1969-12-31T23:59:59.9999991Z", "2024-05-06T07:08:09.123456789Z"])
    )
    down = [
        pd.Timestamp("1969-12-31T23:59:59.999999Z"),
        pd.Timestamp("2024-05-06T07:08:09.123456Z"),
    ]
    zoned = utc.dt.tz_convert("Asia/Kathmandu")
    columns = [
        utc,
        zoned,
        zoned.astype(object),
        [t.isoformat() for t in zoned],
        pa.array(utc),
        pl.Series(utc),
        utc.astype(pd.ArrowDtype(pa.timestamp("ns", "UTC"))),
    ]
    for column in columns:
        frame = {"event_type": ["a", "b"], "timestamp": column}
        new_ids = store.experience.bulk_create(frame)
        result = store.experience.get_events().set_index("event_id").loc[new_ids]
        assert result.timestamp.tolist() == down
    milliseconds = [-1, 1_714_979_289_123]
    for column in (
        milliseconds,
        np.array(milliseconds),
        pd.array(milliseconds, "Int64"),
        pd.Series(milliseconds, dtype=object),
        np.array(milliseconds, float),
    ):
        new_ids = store.experience.bulk_create({"event_type": ["a", "b"], "timestamp": column})
        result = store.experience.get_events().set_index("event_id").loc[new_ids]
        assert result.timestamp.tolist() == [
            pd.Timestamp(ms, unit="ms", tz="UTC") for ms in milliseconds
        ]


IDS = [uuid.UUID(int=n) for n in (0xABC, 1, 0xFFFF << 100)]
TEXT_IDS = [str(i) for i in IDS]


@pytest.mark.parametrize(
    "form",
    [
        list,
        tuple,
        iter,
        np.array,
        pd.Series,
        pd.Index,
        lambda ids: [str(i) for i in ids],
        lambda ids: [str(i).upper() for i in ids],
        lambda ids: [f"{{{i}}}" for i in ids],
        lambda ids: [i.urn for i in ids],
        lambda ids: [i.hex for i in ids],
        lambda ids: [str(ids[0]), ids[1], ids[2].hex],
        lambda ids: np.array([str(i) for i in ids]),
        lambda ids: np.array([str(i) for i in ids], dtype=object),
        lambda ids: pd.Series([str(i) for i in ids], index=[7, 7, 7]),
        lambda ids: pd.Series([str(i) for i in ids], dtype=object),
        lambda ids: pd.Series([str(i) for i in ids], dtype="string[pyarrow]"),
        lambda ids: pd.Series([str(i) for i in ids], dtype=pd.ArrowDtype(pa.string())),
        lambda ids: pd.Series([str(i) for i in ids], dtype="category"),
        lambda ids: pd.Index([str(i) for i in ids]),
        lambda ids: pa.array([str(i) for i in ids]),
        lambda ids: pa.chunked_array([[str(ids[0])], [str(i) for i in ids[1:]]]),
        lambda ids: pa.array([i.bytes for i in ids], pa.uuid()),
        lambda ids: pl.Series([str(i) for i in ids]),
        lambda ids: dict.fromkeys(ids),
    ],
)
def test_ids_in_every_form(store, form):
    new_ids = store.tokens.bulk_create(
        {"x": [1, 2, 3], "y": [0] * 3, "z": [0] * 3, "token_id": pd.Series(IDS, dtype=object)}
    )
    edge = store.graph.create_connection(IDS[0], TEXT_IDS[1].upper())
    event = store.experience.create_event("seen", 0, token_id=IDS[2])
    try:
        assert new_ids.tolist() == TEXT_IDS
        assert store.tokens.get(form(IDS)).token_id.tolist() == TEXT_IDS
        assert store.graph.get_degree(form(IDS)).token_id.tolist() == TEXT_IDS
        assert store.graph.get_neighbors(form(IDS)).connection_id.tolist() == [edge]
        assert store.graph.connections(form(IDS), form(IDS)).connection_id.tolist() == [edge]
        assert store.experience.get_events(token_ids=form(IDS)).event_id.tolist() == [event]
        assert store.tokens.update(form(IDS), weight=2) == 3
    finally:
        assert store.tokens.delete(form(IDS)) == 3


@pytest.mark.parametrize(
    "form",
    [
        dict,
        pd.DataFrame,
        pa.table,
        pl.DataFrame,
        lambda columns: pa.table(columns).to_batches()[0],
        lambda columns: pd.DataFrame(columns).convert_dtypes(),
        lambda columns: pd.DataFrame(columns).convert_dtypes(dtype_backend="pyarrow"),
        lambda columns: pd.DataFrame(columns).astype(object),
        lambda columns: pd.DataFrame(columns)[[*reversed(columns)]],
    ],
)
def test_frames_of_every_kind(store, form):
    columns = {
        "x": [1.5, 2.5, 3.5],
        "y": [1, 2, 3],
        "z": [0.0, -0.0, 1e-300],
        "token_type": ["a", None, "c"],
        "weight": [0.5, None, 2.0],
        "flags": [1, None, 2**31 - 1],
        "timestamp": [dt.datetime(2024, 1, day, 0, 0, 0, day, tzinfo=dt.UTC) for day in (1, 2, 3)],
        "binary_data": [b"\0\xff" * 32, None, b"x" * 64],
    }
    new_ids = store.tokens.bulk_create(form(columns))
    result = store.tokens.get(new_ids, columns=ALL_COLUMNS)
    store.tokens.delete(new_ids)

    assert [c[0].tolist() for c in result.coords] == [[1.5, 1, 0], [2.5, 2, 0], [3.5, 3, 1e-300]]
    assert result.token_type.tolist() == ["a", "default", "c"]
    assert result.weight.tolist() == [0.5, 1.0, 2.0]
    assert result["flags"].tolist() == [1, 0, 2**31 - 1]
    assert [t.to_pydatetime() for t in result.timestamp] == columns["timestamp"]
    assert result.binary_data.tolist() == columns["binary_data"]
