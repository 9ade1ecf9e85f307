"""Metadata as a filter and as columns, in every read of tokens, compared with plain Python."""

import asyncio
import json
import random
import uuid

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ngdata
from ngdata._arguments.texts import STR
from ngdata.errors import InvalidQueryError, NGDataError, ResultTooLarge
from tests.conftest import SCALE, with_texts

KEYS = [
    "a",
    "b",
    "a.b",
    "b.a",
    "",
    ".",
    "0",
    "'",
    '"',
    "\\",
    "\\'",
    "é\u202e",
    "%s",
    "a" * 70,
    "$1",
]
SCALARS = ["", "x", "'\\\"", "true", "7", "ü", 7, 0, -1.5, True, False, None]
VALUES = st.recursive(
    st.sampled_from(SCALARS),
    lambda values: (
        st.lists(values, max_size=3) | st.dictionaries(st.sampled_from(KEYS), values, max_size=3)
    ),
    max_leaves=5,
)
METADATA = st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=4)
BOX = (-0.5,) * 3, (60.0, 60.0, 60.0)
ALL = (-1e9,) * 3, (1e9,) * 3


def is_number(value):
    return isinstance(value, int | float) and not isinstance(value, bool)


def contains(value, part):
    """Return whether JSON contains other JSON, as PostgreSQL documents ``@>``."""
    if isinstance(part, dict):
        return isinstance(value, dict) and all(
            key in value and contains(value[key], item) for key, item in part.items()
        )
    if isinstance(part, list):
        return isinstance(value, list) and all(
            any(contains(item, wanted) for item in value) for wanted in part
        )
    if is_number(part):
        return is_number(value) and value == part
    return type(value) is type(part) and value == part


def value_at(metadata, key):
    """Return the value of ``metadata.KEY``: that of the whole key, or else that at the path."""
    value = (metadata or {}).get(key)
    path = key.split(".")
    if value is None and len(path) > 1:
        value = metadata
        for part in path:
            if isinstance(value, dict):
                value = value.get(part)
            elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
                value = value[int(part)]
            else:
                return None
    return value


def same_text(text, value):
    """Return whether a cell of ``metadata.KEY`` is this value."""
    if value is None or pd.isna(text):
        return value is None and pd.isna(text)
    if isinstance(value, str):
        return text == value
    return json.loads(text) == value and type(json.loads(text)) is type(value)


def random_dict(rng, depth):
    """Return a dict that is nested at most this deep."""
    return {key: random_json(rng, depth - 1) for key in rng.sample(KEYS, rng.randint(1, 5))}


def random_json(rng, depth):
    kind = rng.choice(["dict", "list", "scalar"]) if depth else "scalar"
    if kind == "dict":
        return random_dict(rng, depth)
    if kind == "list":
        return [random_json(rng, depth - 1) for _ in range(rng.randint(0, 3))]
    return rng.choice(SCALARS)


@pytest.fixture(scope="module")
def store(new_migrated_database):
    """A client, and its tokens as a frame: some without metadata, all along one diagonal."""
    rng = random.Random(5)
    metadata = [random_dict(rng, 3) for _ in range(80)]
    metadata += [{"kind": "sensory", "side": "L", "n": 1}, None, {}, {"kind": ["motor"]}]
    places = np.arange(len(metadata), dtype=float)
    frame = pd.DataFrame({"x": places, "y": places, "z": places, "metadata": metadata})
    frame["token_type"] = np.resize(["cell", "cable"], len(frame))
    with new_migrated_database() as url, ngdata.connect(url) as client:
        frame["token_id"] = client.tokens.bulk_create(frame)
        yield client, with_texts(frame)


def rows_of(frame, where, box=ALL):
    matches = frame.metadata.map(lambda metadata: contains(metadata, where)).astype(bool)
    return frame[frame.x.between(box[0][0], box[1][0]) & matches]


@settings(max_examples=30 * SCALE)
@given(where=METADATA, data=st.data())
@example(where={"kind": "sensory"}, data=None)
@example(where={"kind": []}, data=None)
@example(where={"n": 1.0, "side": "L"}, data=None)
def test_the_filter_is_containment_of_json(store, where, data):
    client, frame = store
    if data is not None and data.draw(st.booleans()):
        # Most drawn filters match nothing: one made of a token's own metadata does.
        own = data.draw(st.sampled_from([m for m in frame.metadata if m]))
        keys = data.draw(st.lists(st.sampled_from(list(own)), min_size=1, unique=True))
        where = {key: own[key] for key in keys}
    expected = set(rows_of(frame, where).token_id)
    assert set(client.tokens.find(where=where).token_id) == expected
    inside = set(rows_of(frame, where, BOX).token_id)
    assert set(client.tokens.find_in_region(*BOX, where=where).token_id) == inside


@settings(max_examples=25 * SCALE)
@given(key=st.lists(st.sampled_from(KEYS), min_size=1, max_size=2).map(".".join))
@example(key="é.0.'")
@example(key="kind.0")
def test_a_column_is_the_text_of_the_value_of_any_key(store, key):
    client, frame = store
    name = f"metadata.{key}"
    for read in (
        client.tokens.find(columns=["token_id", name]),
        client.tokens.find_in_region(*ALL, columns=[name, "x", "token_id"]),
        client.tokens.get(frame.token_id, columns=["token_id", name]),
    ):
        assert read[name].dtype == STR
        texts = read.set_index("token_id")[name]
        for token_id, metadata in zip(frame.token_id, frame.metadata, strict=True):
            assert same_text(texts[token_id], value_at(metadata, key)), (key, metadata)


WHERE = {"kind": "sensory"}
NAMES = ["token_id", "metadata", "metadata.kind", "metadata.n", "created_at"]


def parts(frames):
    frames = list(frames)
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


READS = {
    "region": lambda t, **o: t.find_in_region(*ALL, columns=NAMES, **o),
    "limit": lambda t, **o: t.find_in_region(*ALL, columns=NAMES, limit=90, **o),
    "nearest": lambda t, **o: t.find_nearest((0, 0, 0), 100, columns=NAMES, **o),
    "near": lambda t, **o: t.find_nearest((0, 0, 0), 9, max_distance=500, columns=NAMES, **o),
    "within": lambda t, **o: t.find_within((0, 0, 0), 1e6, columns=NAMES, **o),
    "parts": lambda t, **o: parts(t.iter_region(*ALL, chunk_rows=7, columns=NAMES, **o)),
    "all": lambda t, **o: parts(t.iter_all(chunk_rows=7, columns=NAMES, **o)),
    "find": lambda t, **o: t.find(columns=NAMES, **o),
}


@pytest.mark.parametrize("read", READS)
def test_every_read_has_filter_and_columns(store, read):
    client, frame = store
    expected = rows_of(frame, WHERE)
    result = READS[read](client.tokens, where=WHERE)
    assert list(result.columns) == NAMES
    assert result.token_id.tolist() == expected.token_id.tolist()
    assert result.metadata.tolist() == expected.metadata.tolist()
    assert result["metadata.n"].tolist() == ["1"]
    empty = READS[read](client.tokens, where={"kind": "no such"})
    assert empty.empty
    if read not in ("parts", "all"):
        pd.testing.assert_series_equal(empty.dtypes, result.dtypes)
    everything = READS[read](client.tokens)
    if read != "near":
        assert set(everything.token_id) == set(frame.token_id)
    missing = everything["metadata.kind"].isna()
    assert everything["metadata.kind"][~missing].isin(["sensory", '["motor"]']).all()


def test_numbers_of_a_region(store):
    client, frame = store
    where = {"a": {}}
    rows = rows_of(frame, where, BOX)
    assert 0 < len(rows) < len(frame)
    assert client.tokens.count_in_region(*BOX, where=where) == len(rows)
    assert client.tokens.density(*BOX, bins=2, where=where)["count"].sum() == len(rows)
    near = client.tokens.find_nearest((30, 30, 30), 3, where=where).x
    assert (
        near.tolist() == sorted(frame.x[rows_of(frame, where).index], key=lambda x: abs(x - 30))[:3]
    )


def test_ties_of_the_nearest_are_broken_by_id(new_migrated_database):
    with new_migrated_database() as url, ngdata.connect(url) as ng:
        corners = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
        frame = pd.DataFrame(corners * 4, columns=list("xyz"))
        frame["metadata"] = [{"odd": n % 3 == 0} for n in range(len(frame))]
        ids = ng.tokens.bulk_create(frame)
        odd = sorted(ids[[m["odd"] for m in frame.metadata]])
        for k in (1, 5, 11, 20):
            near = ng.tokens.find_nearest((0, 0, 0), k, where={"odd": True}, columns=["token_id"])
            assert near.token_id.tolist() == odd[:k]


def test_files_and_dask_have_json_as_text(store, tmp_path):
    client, frame = store
    columns = ["token_id", "metadata", "metadata.n", "metadata.a.b", "binary_data"]
    path = tmp_path / "tokens.parquet"
    assert client.tokens.to_geoparquet(path, columns=columns) == len(frame)
    table = pq.read_table(path).to_pandas().set_index("token_id")
    client.tokens.to_geoparquet(path, where=WHERE)
    assert pq.read_table(path)["token_id"].to_pylist() == rows_of(frame, WHERE).token_id.tolist()
    lazy = client.tokens.to_dask(*ALL, npartitions=3, columns=columns[:4], where={"a": {}})
    rows = lazy.compute().set_index("token_id")
    assert set(rows.index) == set(rows_of(frame, {"a": {}}).token_id)
    for token_id, metadata in zip(frame.token_id, frame.metadata, strict=True):
        text = table.metadata[token_id]
        assert (None if pd.isna(text) else json.loads(text)) == metadata
        assert same_text(table["metadata.a.b"][token_id], value_at(metadata, "a.b"))
        if token_id in rows.index:
            assert same_text(rows["metadata.a.b"][token_id], value_at(metadata, "a.b"))


def test_activity_of_tokens_with_metadata(store):
    client, frame = store
    for token_id in frame.token_id:
        client.experience.create_event("seen", 5, token_id=token_id)
    for options in ({}, {"start": 0, "end": 10}):
        active = client.experience.activity_in_region(*ALL, where={"a": {}}, **options)
        assert set(active.token_id) == set(rows_of(frame, {"a": {}}).token_id)


def test_find(store):
    client, frame = store
    whole = client.tokens.find()
    assert list(whole.columns) == ["token_id", "token_type", "weight", "flags", "timestamp"]
    asked = client.tokens.get(whole.token_id, columns=list(whole.columns))
    pd.testing.assert_frame_equal(whole, asked)
    assert set(whole.token_id) == set(frame.token_id)
    some = client.tokens.find(token_type="cable", columns=["coords", "token_id"], limit=5)
    first = frame[frame.token_type == "cable"].sort_values("token_id")[:5]
    assert some.token_id.tolist() == first.token_id.tolist()
    assert [c[0, 0] for c in some.coords] == first.x.tolist()
    assert client.tokens.find(token_type=["none"], flags=4, min_weight=2).empty
    with pytest.raises(ResultTooLarge, match=r"limit=") as error:
        client.tokens.find(max_rows=10)
    assert error.value.count == len(frame)


def test_a_write_of_metadata_outdates_every_answer(new_migrated_database, server):
    with (
        new_migrated_database() as url,
        ngdata.connect(url, redis_url=server.redis_url) as ng,
        ngdata.connect(url) as other,
    ):
        token = ng.tokens.create({0: (0, 0, 0)}, metadata={"kind": "old"})
        for kind in ("old", "new"):
            other.tokens.update(token, metadata={"kind": kind})
            for _ in range(2):
                for read in READS.values():
                    assert read(ng.tokens)["metadata.kind"].tolist() == [kind]
                    assert len(read(ng.tokens, where={"kind": kind})) == 1
                    if kind == "new":
                        assert read(ng.tokens, where={"kind": "old"}).empty
                joined = ng.tokens.join({"token_id": [token]}, columns=["metadata.kind"])
                assert joined["metadata.kind"].tolist() == [kind]
                assert ng.tokens.count_in_region(*ALL, where={"kind": kind}) == 1


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({}, "where must be a mapping of keys of metadata to values, with at least one key"),
        ([("a", 1)], "where must be a mapping"),
        ("a", "where must be a mapping"),
        ({1: 2}, "where has the key 1 of type int, but keys must be text"),
        ({"a": {"b": float("nan")}}, r"where\['a'\]\['b'\] is NaN, which JSON does not have"),
        ({"a": {1}}, r"where\['a'\] is of type set.*write a list"),
        ({"a\0": 1}, "where has the key 'a.x00', which holds NUL"),
        ({"a": pd.Timestamp(0)}, r"where\['a'\] is of type Timestamp"),
    ],
)
def test_filters_that_are_refused(store, where, message):
    client, _ = store
    for read in (client.tokens.find, lambda **o: client.tokens.find_in_region(*BOX, **o)):
        with pytest.raises(InvalidQueryError, match=message):
            read(where=where)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["metadata.a", "metadata.a"], "columns must be a sequence of different column names"),
        (["meta.a"], r"unknown column 'meta.a'; the columns here are .*metadata, .*metadata.KEY"),
        (["metadata.a\0"], "columns must be text without NUL"),
        (["metadata.\ud800"], "columns must be valid Unicode"),
        ("metadata.a", "columns must be a sequence"),
    ],
)
def test_columns_that_are_refused(store, columns, message):
    client, frame = store
    for read in (
        lambda: client.tokens.find(columns=columns),
        lambda: client.tokens.find_within((0, 0, 0), 1, columns=columns),
        lambda: client.tokens.get(frame.token_id, columns=columns),
        lambda: client.tokens.join(frame, columns=columns),
    ):
        with pytest.raises(InvalidQueryError, match=message):
            read()


# ------------------------------------------------------------------------------------------- join


def joined_by_pandas(frame, tokens, on, columns):
    """Return what `join` does, by pandas' merge."""
    right = tokens[["token_id", *columns]].rename(columns={"token_id": on})
    merged = frame.reset_index().merge(right, on=on, how="left").set_index("index")
    merged.index.name = frame.index.name
    return merged


@pytest.mark.parametrize("rows", [0, 1, 300])
def test_join_is_a_left_join_of_pandas(store, rows):
    client, tokens = store
    rng = np.random.default_rng(rows)
    known = [*tokens.token_id, None, str(uuid.UUID(int=7))]
    frame = pd.DataFrame(
        {
            "n": pd.array(rng.integers(0, 9, rows), "Int16"),
            "neighbor_id": pd.Series(rng.choice(known, rows), dtype=STR),
            "kind": pd.Categorical(rng.choice(["a", "b"], rows)),
            "at": pd.to_datetime(rng.integers(0, 9, rows), unit="s", utc=True),
        },
        index=pd.Index(rng.integers(0, 5, rows), name="index"),
    )
    before = frame.copy()
    columns = ["token_type", "x"]
    result = client.tokens.join(frame, on="neighbor_id", columns=columns)
    pd.testing.assert_frame_equal(frame, before)
    assert list(result.columns) == [*frame.columns, *columns]
    pd.testing.assert_frame_equal(result[list(frame.columns)], frame)
    expected = joined_by_pandas(frame, tokens, "neighbor_id", columns)
    pd.testing.assert_frame_equal(result, expected, check_dtype=rows > 0)
    assert list(result.dtypes[columns]) == [STR, "float64"]
    # A frame of its own, whatever is done to it.
    result["n"].array[:] = 9
    result.loc[:, "x"] = -1.0
    result.attrs["ngdata"]["source"] = "changed"
    pd.testing.assert_frame_equal(frame, before)
    assert frame.attrs == {}


def test_joined_columns_and_their_missing_values(store):
    client, tokens = store
    token = tokens.token_id[80]
    columns = [*"xyz", "token_type", "weight", "flags", "timestamp", "coords", "metadata"]
    columns += ["metadata.kind", "binary_data", "created_at"]
    frame = pd.DataFrame({"id": [uuid.UUID(token), None, token.upper(), uuid.UUID(int=1)]})
    result = client.tokens.join(frame, "id", columns, "physical", prefix="its ")
    assert list(result.columns) == ["id", *(f"its {name}" for name in columns)]
    row, last, again, unknown = (result.iloc[n].drop("id") for n in range(4))
    assert row["its x"] == row["its z"] == again["its y"] == 80.0
    assert row["its metadata"] == again["its metadata"] == tokens.metadata[80]
    assert row["its metadata.kind"] == "sensory"
    assert np.array_equal(row["its coords"][0], [80.0] * 3)
    assert last.isna().all()
    assert unknown.isna().all()
    assert str(result["its flags"].dtype) == "Int64"
    assert str(result["its timestamp"].dtype) == "datetime64[us, UTC]"
    elsewhere = client.tokens.join(frame, "id", ["x", "token_type"], level="motor")
    assert elsewhere.x.isna().all()
    assert elsewhere.token_type.tolist()[:1] == ["cell"]


def test_join_by_integers_and_by_the_index(new_migrated_database):
    with (
        new_migrated_database() as url,
        ngdata.connect(url) as ng,
        ngdata.connect(url, ids="integer") as whole,
    ):
        points = {"token_id": [5, 2**64 - 1], "x": [1.0, 2.0], "y": [0.0] * 2, "z": [0.0] * 2}
        ng.tokens.bulk_create(points)
        for client in (ng, whole):
            numbers = pd.Series([2**64 - 1, 5, None, 6], dtype="UInt64")
            result = client.tokens.join(pd.DataFrame({"pre": numbers}), "pre", ["x"])
            pd.testing.assert_series_equal(result.pre, numbers, check_names=False)
            assert result.x.fillna(-1).tolist() == [2.0, 1.0, -1.0, -1.0]
        frame = pd.DataFrame({"a": [1, 2]}, index=pd.Index([5, 6], name="token_id"))
        result = whole.tokens.join(frame)
        assert list(result.columns) == ["a", "token_type", "x", "y", "z"]
        assert result.index.equals(frame.index)
        assert result.x.fillna(-1).tolist() == [1.0, -1.0]
        read = whole.tokens.find(columns=["token_id", "metadata.a"])
        assert set(read.token_id) == {5, 2**64 - 1}
        assert str(read.token_id.dtype) == "uint64"


def test_join_reads_once_and_accepts_other_frames(store):
    polars = pytest.importorskip("polars")
    client, tokens = store
    ids = [tokens.token_id[0]] * 3
    for frame in (polars.DataFrame({"token_id": ids}), {"token_id": ids}):
        assert client.tokens.join(frame).x.tolist() == [0.0] * 3
    assert "pk_tokens" in client.explain(client.tokens.join, {"token_id": ids}).text

    async def joined():
        async with await ngdata.connect_async(client._wrapped._settings.database_url) as ang:
            return await ang.tokens.join({"token_id": ids}, columns=["metadata.kind"])

    assert len(asyncio.run(joined())) == 3


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        ({"a": ["x"]}, {}, "the frame has no column 'token_id'; pass on="),
        ({"token_ids": ["x"]}, {}, "did you mean 'token_ids'"),
        ({"token_id": [None, None, "x"]}, {}, "token_id in row 2 must be a UUID.* not 'x'"),
        ({"token_id": [7.0]}, {}, "token_id in row 0 must be a UUID.*not 7.0"),
        ({"token_id": [[1]]}, {}, "token_id.*cannot be read as ids"),
        ({"token_id": [], "x": []}, {}, "already has the column 'x'; pass prefix="),
        ({"token_id": [], "to_x": []}, {"prefix": "to_"}, "already has the column 'to_x'"),
        ({"token_id": []}, {"prefix": 1}, "prefix must be text"),
        ({"token_id": []}, {"on": 1}, "on must be text"),
        ({"token_id": []}, {"level": 9}, "level"),
        ({"token_id": []}, {"columns": ["token_id"]}, "unknown column 'token_id'"),
        (pd.DataFrame([[1, 2]], columns=["token_id"] * 2), {}, "two columns of the name"),
        (pd.DataFrame({("a", "token_id"): [1]}), {}, "one name for each column"),
        (5, {}, "must be a DataFrame"),
    ],
)
def test_joins_that_are_refused(store, frame, options, message):
    client, _ = store
    with pytest.raises(NGDataError, match=message) as error:
        client.tokens.join(frame, **options)
    assert isinstance(error.value, InvalidQueryError)
