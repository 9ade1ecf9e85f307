"""Frames of any library, and their indexes: as rows, or an error that names the column."""

from collections import OrderedDict
from collections.abc import Mapping

import geopandas
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ngdata._store import experience, graph, tokens
from ngdata._store.input_frames import as_dataframe
from ngdata.errors import InvalidQueryError

IDS = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(3)]
POINTS = {"x": [0.0, 1.0, 2.0], "y": [0.0] * 3, "z": [0.0] * 3}
FRAME = pd.DataFrame(POINTS)
MOMENTS = pd.date_range("2024-01-01", periods=3, tz="Asia/Tokyo")


def x_of(rows):
    return rows["coord_x"].combine_chunks().field("value").to_pylist()


# --- the index -------------------------------------------------------------------------------------


def test_a_named_index_is_the_column():
    for index in (pd.Index(IDS, name="token_id"), pd.Index([2, 1, 0], name="x")):
        frame = FRAME.drop(columns=[index.name], errors="ignore").set_index(index)
        column = FRAME.assign(**{index.name: index})
        written = tokens.check_frame(frame, 0, None)
        expected = tokens.check_frame(column, 0, None)
        assert x_of(written) == x_of(expected)
        if index.name == "token_id":
            assert written["id"].to_pylist() == IDS


def test_the_indexes_of_connections_and_events():
    ends = pd.DataFrame({"target_id": IDS}, index=pd.Index(IDS[::-1], name="source_id"))
    assert graph.check_frame(ends)["source_id"].to_pylist() == IDS[::-1]
    named = ends.reset_index().set_index(pd.Index(IDS, name="connection_id"))
    assert graph.check_frame(named)["id"].to_pylist() == IDS
    events = pd.DataFrame({"event_type": ["a"] * 3}, index=MOMENTS.rename("timestamp"))
    assert (
        experience.check_frame(events)["timestamp"].to_pylist() == MOMENTS.to_pydatetime().tolist()
    )
    both = events.assign(event_id=IDS, reward=[1, 2, 3]).set_index("event_id", append=True)
    written = experience.check_frame(both)
    assert written["id"].to_pylist() == IDS
    assert written["reward"].to_pylist() == [1.0, 2.0, 3.0]
    assert written["timestamp"].to_pylist() == MOMENTS.to_pydatetime().tolist()


def test_other_indexes_are_ignored():
    for name in (None, "neuron", "source_id", ("token_id",), 3, pd.NA):
        frame = FRAME.set_index(pd.Index(["a", "b", "c"], name=name))
        written = tokens.check_frame(frame, 0, None)
        assert x_of(written) == [0.0, 1.0, 2.0]
        assert "source_id" not in written.column_names
    levels = pd.MultiIndex.from_arrays([["p", "q", "r"], [7, 8, 9]], names=["part", "flags"])
    assert tokens.check_frame(FRAME.set_index(levels), 0, None)["flags"].to_pylist() == [7, 8, 9]


def test_an_index_of_a_frame_with_coords():
    index = pd.Index(IDS, name="token_id")
    written = tokens.check_frame(pd.DataFrame(index=index), 0, np.zeros((3, 8, 3)))
    assert written["id"].to_pylist() == IDS
    columns = {"weight": pd.Series([1.0, 2.0, 3.0], index=index)}
    assert tokens.check_frame(columns, 0, np.zeros((3, 8, 3)))["id"].to_pylist() == IDS


def test_a_bad_value_in_an_index_is_named_with_its_row():
    frame = FRAME.set_index(pd.Index([IDS[0], "x", None], name="token_id"))
    with pytest.raises(InvalidQueryError, match="token_id in row 1 must be a UUID"):
        tokens.check_frame(frame, 0, None)
    naive = FRAME.set_index(MOMENTS.tz_localize(None).rename("timestamp"))
    with pytest.raises(InvalidQueryError, match="timestamp in row 0 must have a time zone"):
        tokens.check_frame(naive, 0, None)


def test_a_name_of_both_a_column_and_the_index():
    frame = FRAME.assign(token_id=[*IDS[:2], None])
    for equal in (
        frame.set_index("token_id", drop=False),
        frame.astype({"token_id": object}).set_index(pd.Index(frame.token_id)),
        frame.set_index([["a"] * 3, "token_id"], drop=False),
    ):
        assert tokens.check_frame(equal, 0, None)["id"].to_pylist()[:2] == IDS[:2]
    for other in (IDS[::-1], IDS, ["a", "b", "c"]):
        differs = frame.set_index(pd.Index(other, name="token_id"))
        with pytest.raises(InvalidQueryError, match="a column and of the frame's index, and they"):
            tokens.check_frame(differs, 0, None)
    twice = pd.MultiIndex.from_arrays([IDS, IDS], names=["token_id", "token_id"])
    with pytest.raises(InvalidQueryError, match="two levels of the frame's index have the name to"):
        tokens.check_frame(FRAME.set_index(twice), 0, None)


# --- frames of any kind ----------------------------------------------------------------------------


class Subclass(pd.DataFrame):
    """A frame that answers differently."""

    @property
    def columns(self):
        raise RuntimeError("columns")

    def __getitem__(self, key):
        raise RuntimeError("getitem")


class BadMapping(Mapping):
    """A mapping whose columns cannot be read."""

    def __getitem__(self, key):
        raise RuntimeError(key * 5000)

    def __iter__(self):
        return iter("xyz")

    def __len__(self):
        return 3


class BadStream:
    """An Arrow stream that cannot be read."""

    def __arrow_c_stream__(self, requested_schema=None):
        raise RuntimeError("stream" * 1000)


class BadAttributes:
    """An object that has no attributes."""

    def __getattr__(self, name):
        raise RuntimeError(name)


class Foreign:
    """An array of another library: it has no more than `__array__`, a length and items."""

    def __init__(self, values):
        self.values = list(values)

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        raise AssertionError("the array is read at once")

    def __array__(self, dtype=None, copy=None):
        return np.array(self.values, dtype)


RECORDS = np.array([(0, 0, 0), (1, 0, 0), (2, 0, 0)], [("x", "f4"), ("y", ">f8"), ("z", "i2")])
FRAMES = {
    "pandas": lambda: FRAME,
    "subclass": lambda: Subclass(POINTS),
    "mapping": lambda: OrderedDict(POINTS),
    "mixed": lambda: {"x": pl.Series([0.0, 1, 2]), "y": pa.array([0.0] * 3), "z": (0, 0, 0)},
    "generators": lambda: {name: (v for v in values) for name, values in POINTS.items()},
    "0-d": lambda: POINTS | {"y": np.array(0.0)},
    "records": lambda: pd.DataFrame(RECORDS),
    "views": lambda: {name: RECORDS[name] for name in "xyz"},
    "arrow": lambda: pa.table(POINTS),
    "batch": lambda: pa.table(POINTS).to_batches()[0],
    "polars": lambda: pl.DataFrame(POINTS),
    "series": lambda: {n: pd.Series(v, index=[5, 6, 7]) for n, v in POINTS.items()},
    "aligned": lambda: {
        "x": pd.Series([2.0, 0.0, 1.0], index=[7, 5, 6]),
        "y": pd.Series([0.0] * 3, index=[5, 6, 7]),
        "z": 0.0,
    },
    "sparse": lambda: FRAME.astype("Sparse[float64, nan]"),
    "arrow dtypes": lambda: FRAME.convert_dtypes(dtype_backend="pyarrow"),
    "categories": lambda: FRAME.astype("category"),
    "structured array": lambda: RECORDS,
    "arrays of another library": lambda: {axis: Foreign(FRAME[axis]) for axis in "xyz"},
}


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_of_every_kind_hold_the_same_rows(kind):
    expected = FRAME["x"].tolist()
    if kind == "aligned":
        parts = FRAMES[kind]()
        expected = pd.DataFrame(parts)["x"].tolist()  # pandas' own alignment
    assert x_of(tokens.check_frame(FRAMES[kind](), 0, None)) == expected


MULTI = FRAME.set_axis(pd.MultiIndex.from_product([["x"], ["a", "b", "c"]]), axis=1)
BAD = {
    "None": (None, "the frame must be a DataFrame"),
    "text": ("x", "the frame must be a DataFrame"),
    "array": (np.zeros((3, 3)), "the frame must be a DataFrame"),
    "list": ([POINTS], "the frame must be a DataFrame"),
    "lazy": (pl.DataFrame(POINTS).lazy(), "the frame must be a DataFrame"),
    "set": (POINTS | {"y": {1, 2, 3}}, "column 'y' must be a sequence .* not a set"),
    "frame": (POINTS | {"metadata": FRAME}, "column 'metadata' must be a sequence .* not a DataFr"),
    "table": (POINTS | {"y": pa.table(POINTS)}, "y in row 0 must be a number"),
    "dict": (POINTS | {"metadata": {"a": 1}}, "the columns do not form a frame"),
    "lengths": (POINTS | {"y": [1]}, "the columns do not form a frame"),
    "2-d": (POINTS | {"y": np.zeros((3, 2))}, "the columns do not form a frame"),
    "mapping": (BadMapping(), "the columns do not form a frame"),
    "stream": (BadStream(), "the frame, a BadStream, cannot be read"),
    "attributes": (BadAttributes(), "the frame, a BadAttributes, cannot be read"),
    "multi": (MULTI, "the frame must have one name for each column"),
    "duplicate": (FRAME[["x", "y", "z", "x"]], "two columns of one name: 'x'"),
    "NA": (FRAME.assign(w=1).set_axis([*"xyz", pd.NA], axis=1), "unknown column"),
    "number": (POINTS | {3: [1] * 3}, "unknown column 3"),
    "long": (POINTS | {"c" * 10_000: [1] * 3}, "unknown column 'ccc"),
    "frames": (POINTS | {"metadata": [FRAME] * 3}, "metadata in row 0 must be a dict"),
    "row of sets": (POINTS | {"weight": [1, {2}, 3]}, "weight in row 1 must be a number"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_forms_no_frame(kind):
    frame, match = BAD[kind]
    with pytest.raises(InvalidQueryError, match=match) as caught:
        tokens.check_frame(frame, 0, None)
    assert len(str(caught.value)) <= 1000


@pytest.mark.parametrize(
    "coords",
    [[[1, 2], [3]], "abc", {1}, BadAttributes(), np.zeros((3, 8, 3), "M8[s]"), BadMapping(), pd.NA],
    ids=["ragged", "text", "set", "attributes", "times", "mapping", "NA"],
)
def test_coords_of_any_kind(coords):
    for frame in ({}, pd.DataFrame(index=range(3))):
        with pytest.raises(InvalidQueryError, match=r"^coords must") as caught:
            tokens.check_frame(frame, 0, coords)
        assert len(str(caught.value)) <= 1000


def test_a_frame_is_not_changed():
    frame = FRAME.set_index(pd.Index(IDS, name="token_id"))
    before = frame.copy(deep=True)
    columns = as_dataframe(frame, [*"xyz"], ["token_id"])
    columns["x"] = 9.0
    pd.testing.assert_frame_equal(frame, before)


# --- a GeoDataFrame --------------------------------------------------------------------------------


def geographic(frame, name="geometry"):
    points = geopandas.points_from_xy(frame.x, frame.y, frame.z)
    return geopandas.GeoDataFrame(frame.assign(**{name: points}), geometry=name)


@pytest.mark.parametrize("name", ["geometry", "place"])
def test_a_geodataframe_has_its_points_in_its_geometry(name):
    frame = geographic(FRAME.set_axis(list("abc")), name)
    for written in (
        tokens.check_frame(frame.drop(columns=["x", "y", "z"]), 6, None),
        tokens.check_frame(frame, 6, None),
    ):
        elements = [{"index": 6, "value": x} for x in POINTS["x"]]
        assert written["coord_x"].to_pylist() == elements
    changes = tokens.check_changes(frame.assign(token_id=IDS), 0)
    assert changes.rows["x"].to_pylist() == POINTS["x"]
    flat = geopandas.GeoDataFrame(
        {"z": [7, 8.0]}, geometry=geopandas.points_from_xy([1, 2], [3, 4])
    )
    heights = [
        element["value"] for element in tokens.check_frame(flat, 0, None)["coord_z"].to_pylist()
    ]
    assert heights == [7, 8]


def test_a_geometry_that_is_no_point_is_refused():
    frame = geographic(FRAME)
    bare = frame.drop(columns=["x", "y", "z"])
    area = bare.set_geometry(bare.buffer([0.1, 0, 0]).where([True, False, False], bare.geometry))
    empty = bare.set_geometry(bare.geometry.where([True, True, False]))
    flat = geopandas.GeoDataFrame(geometry=geopandas.points_from_xy([1, 2], [3, 4]))
    for problem, bad in {
        "geometry in row 0 must be a point, but is Polygon": area,
        "geometry in row 2 must be a point, but is empty": empty,
        r"geometry in row 0 has no z; .*assign\(z=": flat,
        "y is a column of the frame and differs from geometry": frame.assign(y=5.0),
    }.items():
        with pytest.raises(InvalidQueryError, match=problem):
            tokens.check_frame(bad, 0, None)


@pytest.mark.parametrize("kind", [dict, pd.DataFrame])
def test_rows_are_those_that_were_checked(kind):
    """An async caller may write to its arrays before the rows are sent."""
    arrays = {name: np.arange(4.0) for name in ("x", "y", "z", "weight")}
    arrays["flags"] = np.arange(4)
    arrays["coords"] = np.zeros((4, 8, 3))
    points = {name: array for name, array in arrays.items() if name != "coords"}
    frame = points if kind is dict else pd.DataFrame(points, copy=False)
    others = {name: points[name] for name in ("weight", "flags")}
    written = [tokens.check_frame(frame, 0, None), tokens.check_frame(others, 0, arrays["coords"])]
    before = [rows.to_pylist() for rows in written]
    for array in arrays.values():
        array[...] = 7
    assert [rows.to_pylist() for rows in written] == before
