"""Columns on their way in: what they become, whatever pandas keeps them as."""

import datetime as dt

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngdata._store import columns
from ngdata._store.input_frames import incoming, one_row
from ngdata.errors import IntegrityError, InvalidQueryError

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@settings(deadline=None, derandomize=True, database=None)
@given(
    st.lists(st.integers(-(2**60), 2**60) | st.none(), min_size=1), st.sampled_from(["ns", "us"])
)
def test_times_round_down_on_both_sides_of_the_epoch(values, unit):
    series = pd.Series(pd.array(values, "Int64").astype("object"))
    stamps = pd.to_datetime(pd.Series(np.array([v or 0 for v in values]).astype(f"M8[{unit}]")))
    stamps = stamps.dt.tz_localize("UTC").where(series.notna())
    stamps = stamps[stamps.isna() | stamps.between("0001-01-01", "9999-12-31")].dt.tz_convert(
        "Asia/Tokyo"
    )
    by_row = stamps.astype(object)

    found = columns.times(stamps, "t", EPOCH).to_pylist()

    assert found == columns.times(by_row, "t", EPOCH).to_pylist()
    for given_stamp, moment in zip(stamps, found, strict=True):
        if given_stamp is pd.NaT:
            assert moment == EPOCH
        else:
            assert 0 <= (given_stamp - pd.Timestamp(moment)).value < 1000


@pytest.mark.parametrize(
    "dtype", ["int64", "uint8", "Int64", "float64", "Float64", object, "int64[pyarrow]"]
)
def test_integers_of_every_kind(dtype):
    found = columns.integers(pd.Series([1, 2, 200], dtype=dtype), "n", 0, 0, 255)
    assert found.to_pylist() == [1, 2, 200]
    assert found.type == pa.int64()


def test_integers_are_exact_to_64_bits():
    edge = [-(2**63), 2**63 - 1, 2**53 + 1, None]
    for series in (pd.Series(edge, dtype=object), pd.Series(pd.array(edge, "Int64"))):
        assert columns.integers(series, "n", None, -(2**63), 2**63 - 1).to_pylist() == edge
    frame = incoming(pa.table({"n": edge}), ["n"], [])
    assert columns.integers(frame.n, "n", None, -(2**63), 2**63 - 1).to_pylist() == edge
    unsigned = incoming(pa.table({"n": pa.array([2**63 - 1, None], pa.uint64())}), ["n"], [])
    assert columns.integers(unsigned.n, "n", 0, 0, 2**63 - 1).to_pylist() == [2**63 - 1, 0]


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "int8", "Float64", object, "double[pyarrow]"]
)
def test_floats_of_every_kind(dtype):
    found = columns.floats(pd.Series([1, 2], dtype=dtype), "f")
    assert found.tolist() == [1.0, 2.0]
    assert found.dtype == np.float64


def test_missing_is_the_default():
    nothing = pd.Series([None, np.nan, pd.NaT, pd.NA], dtype=object)
    assert columns.floats(nothing, "f", 1.5).tolist() == [1.5] * 4
    assert np.isnan(columns.floats(nothing, "f")).all()
    assert columns.integers(nothing, "n", 7, 0, 9).to_pylist() == [7] * 4
    assert columns.texts(nothing, "t", "d").to_pylist() == ["d"] * 4
    assert columns.booleans(nothing, "b", default=True).to_pylist() == [True] * 4
    assert columns.times(nothing, "t", EPOCH).to_pylist() == [EPOCH] * 4
    for take in (columns.dicts, lambda v, n: columns.blobs(v, n, 64)):
        assert take(nothing, "c").to_pylist() == [None] * 4
    assert columns.ids(nothing, "i", optional=True).to_pylist() == [None] * 4
    with pytest.raises(InvalidQueryError, match="t in row 0 must be given"):
        columns.texts(nothing, "t", None)


def test_keys_keep_what_is_given_and_make_the_rest():
    given_id = "00000000-0000-4000-8000-00000000000a"
    frame = pd.DataFrame({"id": [None, given_id.upper(), None]})
    made = columns.keys(frame, "id").to_pylist()
    assert made[1] == given_id
    assert len(set(made)) == 3
    with pytest.raises(IntegrityError, match=f"id {given_id} stands in rows 1 and 3"):
        columns.keys(pd.DataFrame({"id": [None, given_id, None, given_id]}), "id")


def test_a_frame_is_not_changed_on_its_way_in():
    frame = pd.DataFrame({"a": [1.0], "b": [{"k": [1]}]}, index=[5])
    before = frame.copy(deep=True)
    taken = incoming(frame, ["a"], ["b"])
    columns.floats(taken.a, "a")
    columns.dicts(taken.b, "b")
    pd.testing.assert_frame_equal(frame, before)


def test_single_values_stay_the_objects_that_they_are():
    values = {"a": [1, 2], "b": {"k": 1}, "c": np.int8(3), "d": None, "e": np.array([1, 2])}
    row = one_row(values)
    assert row.shape == (1, 5)
    assert all(row[name].iloc[0] is value for name, value in values.items())


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.float64(1.5), "1.5"),
        ("x" * 500, "'" + "x" * 199 + "..."),
        (10**5000, "a int too large to show"),
    ],
    ids=["plain", "long", "too large"],
)
def test_values_in_errors(value, shown):
    assert columns.shown(value) == shown
