"""Any frame comes back from a Parquet file as it was, and other programs can read the file."""

import contextlib
import datetime as dt
import json
import uuid

import numpy as np
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ngdata._arguments.texts import STR
from ngdata.errors import InvalidQueryError
from ngdata.files import read_parquet, to_arrow, to_polars, write_parquet
from tests.cache.test_isolation import BOX, READS, RUN, filled, store  # noqa: F401
from tests.cache.test_isolation import frames as frames_of
from tests.conftest import SCALE, with_texts
from tests.properties.test_round_trip import DICTS, JSON
from tests.properties.test_round_trip import TEXTS as STORED_TEXTS

# Frames with columns that no read returns by itself.
FURTHER = {
    "all columns of connections": lambda ng, ids: ng.graph.connections(
        columns=["created_at", "metadata", "decay_rate", "target_id"]
    ),
    "all columns of neighbors": lambda ng, ids: ng.graph.get_neighbors(
        ids, columns=["metadata", "bidirectional", "distance"], within=9.0
    ),
    "all columns of events": lambda ng, ids: ng.experience.get_events(
        columns=["created_at", "metadata", "sequence_number", "event_id"]
    ),
    "flat events": lambda ng, ids: ng.experience.get_events(flatten=True),
    "a named index": lambda ng, ids: ng.tokens.get(ids).set_index("token_id"),
    "two indexes": lambda ng, ids: ng.tokens.find_in_region(*BOX).set_index(
        ["token_type", "token_id"]
    ),
    "a part": lambda ng, ids: ng.tokens.get(ids, columns=["coords", "metadata"])[1:],
}


def round_trip(frame, directory):
    write_parquet(frame, directory / "frame.parquet")
    return read_parquet(str(directory / "frame.parquet"))


def assert_same(result, frame):
    """Compare everything: values, also their types, dtypes, columns, index and attrs."""
    objects = [name for name in frame if frame[name].dtype == object]
    for name in objects:
        assert result[name].dtype == object
        for after, before in zip(result[name], frame[name], strict=True):
            if isinstance(before, np.ndarray):
                assert (after.shape, after.dtype) == (before.shape, before.dtype)
                assert np.array_equal(after, before, equal_nan=True)
                after[:] = 1  # the caller's own
            else:
                assert type(after) is type(before)
                assert after == before
    others = frame.drop(columns=objects)
    pd.testing.assert_frame_equal(result[others.columns], others, check_exact=True)
    assert result.columns.equals(frame.columns)
    assert type(result.index) is type(frame.index)
    assert result.attrs == frame.attrs


@pytest.mark.parametrize("name", READS | FURTHER)
def test_each_frame_comes_back(filled, tmp_path, name):  # noqa: F811
    ng, ids = filled
    result = (READS | FURTHER)[name](ng, ids)
    for frame in frames_of(result) if not isinstance(result, int) else ():
        assert len(frame)
        for part in (frame, frame[:0]):
            assert_same(round_trip(part, tmp_path), part)


TEXTS = st.none() | st.text(max_size=5)
INSTANTS = st.none() | st.integers(-(2**62), 2**62)
POINTS = st.none() | st.lists(
    st.floats(width=64) | st.just(float("nan")), min_size=24, max_size=24
).map(lambda values: np.array(values).reshape(8, 3))
COLUMNS = {
    "text": TEXTS,
    "Int64": st.none() | st.integers(-(2**63), 2**63 - 1),
    "UInt64": st.none() | st.integers(0, 2**64 - 1),
    "uint64": st.integers(0, 2**64 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "bool": st.booleans(),
    "float64": st.floats(),
    "datetime64[us, UTC]": INSTANTS,
    "timedelta64[us]": INSTANTS,
    "dicts": DICTS,
    "json": JSON,
    "bytes": st.none() | st.binary(max_size=5),
    "coords": POINTS,
    "flags": st.none() | st.booleans(),
    "decimals": st.none() | st.decimals(-9, 9, places=2),
    "dates": st.none() | st.dates(),
    "times": st.none() | st.datetimes(timezones=st.just(dt.UTC)),
}
INDEXES = [
    pd.RangeIndex(3),
    pd.RangeIndex(4, 10, 2),
    pd.Index(["a", "b", "a"], dtype=STR, name="token_id"),
    pd.Index([5, 5, 7]),
    pd.DatetimeIndex(["2026-01-01"] * 3, tz="UTC", name="time").as_unit("us"),
    pd.MultiIndex.from_arrays([pd.array(["a", "b", "a"], STR), [1, 1, 2]], names=["kind", None]),
]


@st.composite
def random_frames(draw):
    names = st.sampled_from(["x", "a b", "naïve", "", "coords", "binary_data", "metadata", "é\n"])
    rows = draw(st.sampled_from([0, 3]))
    columns = {}
    for name in draw(st.lists(names, min_size=1, max_size=4, unique=True)):
        kind = draw(st.sampled_from(sorted(COLUMNS)))
        values = draw(st.lists(COLUMNS[kind], min_size=rows, max_size=rows))
        if any(character in kind for character in "0123456789") or kind in ("text", "bool"):
            columns[name] = pd.Series(values, dtype=STR if kind == "text" else kind)
        else:
            cells = np.empty(rows, object)
            for row, value in enumerate(values):
                cells[row] = value
            columns[name] = pd.Series(cells)
    frame = pd.DataFrame(columns, index=range(rows)).set_axis(draw(st.sampled_from(INDEXES))[:rows])
    frame.attrs = draw(st.none() | st.dictionaries(STORED_TEXTS, JSON, max_size=2)) or {}
    return frame


@settings(max_examples=60 * SCALE)
@given(random_frames())
@example(pd.DataFrame({"a": pd.Series([{}, [1, {}], 2**70, None, 1.5, True], dtype=object)}))
@example(pd.DataFrame({"a": pd.Series([uuid.UUID(int=1), None], dtype=object)}))
@example(pd.DataFrame({"a": pd.Categorical(["b", None, "a"])}))
def test_random_frames_come_back(tmp_path, frame):
    before = frame.copy()
    assert_same(round_trip(frame, tmp_path), frame)
    pd.testing.assert_frame_equal(frame, before)


def test_a_frame_without_columns_keeps_its_rows(tmp_path):
    for index in ([], ["a", "b"], range(3)):
        frame = pd.DataFrame(index=index)
        assert round_trip(frame, tmp_path).index.tolist() == list(index)


def test_other_programs_read_the_file(filled, tmp_path):  # noqa: F811
    ng, ids = filled
    frame = ng.tokens.get(ids, columns=["token_id", "timestamp", "coords", "metadata"])
    write_parquet(frame, tmp_path / "tokens.parquet")
    plain = pd.read_parquet(tmp_path / "tokens.parquet")
    columns = ["token_id", "timestamp"]
    pd.testing.assert_frame_equal(with_texts(plain[columns]), frame[columns])
    assert plain.attrs == frame.attrs
    texts = [None if pd.isna(value) else json.loads(value) for value in plain.metadata]
    assert texts == frame.metadata.tolist()
    assert np.array_equal(np.stack(plain.coords[0]), frame.coords[0], equal_nan=True)
    for table in (pl.read_parquet(tmp_path / "tokens.parquet"), to_polars(frame)):
        assert table["coords"].dtype == pl.Array(pl.Float64, (8, 3))
        assert table["token_id"].to_list() == frame.token_id.tolist()
        points = np.stack([row.to_numpy() for row in table["coords"]])
        assert np.array_equal(points, np.stack(frame.coords), equal_nan=True)
    assert to_arrow(frame).schema.field("metadata").type == "large_string"


def test_an_index_in_polars():
    frame = pd.DataFrame({"x": [1, 2]}, index=pd.Index(["a", "b"], name="who"))
    assert to_polars(frame).columns == ["x", "who"]
    assert to_polars(frame.rename_axis(None)).columns == ["x"]


def test_an_index_of_consecutive_integers_is_a_column_too(tmp_path):
    frame = pd.DataFrame({"x": [1.0, 2.0]}, index=pd.RangeIndex(20, 22, name="token_id"))
    assert to_polars(frame).columns == ["x", "token_id"]
    write_parquet(frame, tmp_path / "f.parquet")
    assert pl.read_parquet(tmp_path / "f.parquet")["token_id"].to_list() == [20, 21]
    pd.testing.assert_frame_equal(read_parquet(tmp_path / "f.parquet"), frame)


def objects(*values):
    return pd.Series(values, dtype=object)


class Cell:
    def __repr__(self):
        raise ValueError("no repr")


NAN = float("nan")
REFUSED = [
    (pd.DataFrame({7: [1]}), r"column 0 is 7; write frame.rename\(columns=str\)"),
    (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two are 'a'"),
    (pd.DataFrame({"a": objects({}, {"x": [NAN]})}), r"'a' in row 1 .* a\['x'\]\[0\] is NaN"),
    (pd.DataFrame({"a": objects({}, {2: 3})}), "'a' in row 1 .* key 2 of type int"),
    (pd.DataFrame({"a": objects(None, [1], {1})}), "'a' in row 2 .* of type set"),
    (pd.DataFrame({"a": objects("b", "\ud800")}), "'a' in row 1 .* half a surrogate"),
    (pd.DataFrame({"a": objects("b", Cell())}), "'a' in row 1 .* type Cell"),
    (pd.DataFrame({"a": objects(np.zeros(3), np.zeros((2, 2)))}), "'a' cannot .* row 1 is array"),
    (pd.DataFrame({"a": [1j]}), "'a' cannot be written: row 0 is 1j.*complex128"),
    (pd.DataFrame({"m": objects({})}, index=pd.Index([1], name="m")), "the index and a column"),
    (pd.DataFrame({"m": [1]}, index=pd.Index([1j])), "the index cannot be written: row 0 is 1j"),
    (pd.Series([1], name="a"), "frame must be a pandas DataFrame.*series.to_frame"),
    (None, "frame must be a pandas DataFrame"),
]


@pytest.mark.parametrize(("frame", "message"), REFUSED)
def test_refused_frames_name_column_and_row(tmp_path, frame, message):
    (tmp_path / "frame.parquet").write_text("as before")
    with pytest.raises(InvalidQueryError, match=message):
        write_parquet(frame, tmp_path / "frame.parquet")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["as before"]


def test_refused_attrs(tmp_path):
    frame = pd.DataFrame({"x": [1]})
    frame.attrs["unit"] = {"µm"}
    with pytest.raises(InvalidQueryError, match=r"attrs\['unit'\] is of type set"):
        write_parquet(frame, tmp_path / "frame.parquet")


@pytest.mark.parametrize("path", ["no such directory/file", ".", 3, None, "\0", b"\xff/x"])
@pytest.mark.parametrize("way", ["write", "read"])
def test_refused_paths(tmp_path, monkeypatch, path, way):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidQueryError, match="path"):
        write_parquet(pd.DataFrame({"x": [1]}), path) if way == "write" else read_parquet(path)


DAMAGES = {
    b"ngdata": [
        b"{",
        b"[]",
        b"\xff",
        b'{"objects": 1}',
        b'{"objects": {"nobody": "json"}}',
        b'{"objects": {"dicts": "pickle"}}',
        b'{"objects": {"dicts": []}}',
        b'{"objects": {"dicts": "coords"}}',
        b'{"objects": {"coords": "json"}}',
        b'{"objects": {"words": "json"}}',
        b'{"objects": {"deep": "json"}}',
    ],
    b"PANDAS_ATTRS": [b"{", b"3"],
    b"pandas": [b"{", b'{"columns": [{}]}'],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in DAMAGES.items() for value in values]
)
def test_damaged_metadata_are_refused(tmp_path, key, value):
    coords = np.zeros((8, 3))
    columns = {"coords": objects(coords), "dicts": objects({}), "words": ["no JSON"]}
    table = to_arrow(pd.DataFrame(columns | {"deep": ["[" * 10**5]}))
    table = table.replace_schema_metadata(table.schema.metadata | {key: value})
    pq.write_table(table, tmp_path / "damaged.parquet")
    with pytest.raises(InvalidQueryError, match=r"damaged\.parquet' cannot be read as a frame"):
        read_parquet(tmp_path / "damaged.parquet")


def test_damaged_bytes_are_refused_or_read(tmp_path):
    frame = pd.DataFrame({"a": objects({"n": 1}, None), "b": [1.5, 2.5]})
    write_parquet(frame, tmp_path / "frame.parquet")
    intact = (tmp_path / "frame.parquet").read_bytes()
    random = np.random.default_rng(0)
    damaged = tmp_path / "damaged.parquet"
    for _ in range(60 * SCALE):
        data = bytearray(intact)
        data[random.integers(len(data))] = random.integers(256)
        damaged.write_bytes(data[: random.integers(len(data) // 2, 2 * len(data))])
        with contextlib.suppress(InvalidQueryError):
            read_parquet(damaged)


def test_files_of_other_programs_are_read_as_pandas_reads_them(tmp_path):
    frame = pd.DataFrame({"x": [1.5], "s": ["a"]}, index=pd.Index([3], name="n"))
    frame.to_parquet(tmp_path / "pandas.parquet")
    assert_same(read_parquet(tmp_path / "pandas.parquet"), with_texts(frame))
    pl.DataFrame({"x": [1.5]}).write_parquet(tmp_path / "polars.parquet")
    assert read_parquet(tmp_path / "polars.parquet").x.tolist() == [1.5]


def test_a_file_is_replaced_once_the_new_one_is_complete(tmp_path, monkeypatch):
    path, frame = tmp_path / "frame.parquet", pd.DataFrame({"x": [1]})
    write_parquet(frame, path)
    path.chmod(0o600)

    def interrupted(table, sink, **options):
        sink.write(b"PAR1")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pq, "write_table", interrupted)
        write_parquet(frame + 1, path)
    assert list(tmp_path.iterdir()) == [path]
    assert_same(read_parquet(path), frame)
    write_parquet(frame + 1, path)
    assert_same(read_parquet(path), frame + 1)
    assert path.stat().st_mode & 0o777 == 0o600
