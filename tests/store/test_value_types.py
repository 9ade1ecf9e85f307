"""The types of values: whole columns of every dtype, and single values, by the same rules."""

import datetime as dt
import uuid
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngdata._arguments.texts import STR
from ngdata._store.input_frames import as_dataframe
from ngdata._store.value_types import (
    Boolean,
    Bytes,
    Coordinates,
    Integer,
    JsonObject,
    Number,
    Text,
    Time,
    Uuid,
)
from ngdata.errors import InvalidQueryError

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
ID = "00000000-0000-4000-8000-00000000000a"


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

    times = Time().check_column(stamps, "t", EPOCH).to_pylist()

    assert times == Time().check_column(by_row, "t", EPOCH).to_pylist()
    for stamp, time in zip(stamps, times, strict=True):
        if stamp is pd.NaT:
            assert time == EPOCH
        else:
            assert 0 <= (stamp - pd.Timestamp(time)).value < 1000


@pytest.mark.parametrize(
    "dtype", ["int64", "uint8", "Int64", "float64", "Float64", object, "int64[pyarrow]"]
)
def test_integers_of_every_dtype(dtype):
    integers = Integer(0, 255).check_column(pd.Series([1, 2, 200], dtype=dtype), "n", 0)
    assert integers.to_pylist() == [1, 2, 200]
    assert integers.type == pa.int64()


def test_integers_are_exact_to_64_bits():
    limits = [-(2**63), 2**63 - 1, 2**53 + 1, None]
    for series in (pd.Series(limits, dtype=object), pd.Series(pd.array(limits, "Int64"))):
        assert Integer().check_column(series, "n").to_pylist() == limits
    frame = as_dataframe(pa.table({"n": limits}), ["n"], [])
    assert Integer().check_column(frame.n, "n").to_pylist() == limits
    unsigned = as_dataframe(pa.table({"n": pa.array([2**63 - 1, None], pa.uint64())}), ["n"], [])
    assert Integer(0).check_column(unsigned.n, "n", 0).to_pylist() == [2**63 - 1, 0]


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "int8", "Float64", object, "double[pyarrow]"]
)
def test_numbers_of_every_dtype(dtype):
    numbers = Number().check_column(pd.Series([1, 2], dtype=dtype), "f")
    assert numbers.to_pylist() == [1.0, 2.0]
    assert numbers.type == pa.float64()


def test_a_missing_value_becomes_the_default():
    missing = pd.Series([None, np.nan, pd.NaT, pd.NA], dtype=object)
    for value_type, default in (
        (Number(), 1.5),
        (Integer(0, 9), 7),
        (Text(), "d"),
        (Boolean(), True),
        (Time(), EPOCH),
    ):
        assert value_type.check_column(missing, "c", default).to_pylist() == [default] * 4
    for value_type in (Number(), Integer(), Text(), Time(), JsonObject(), Bytes(64), Uuid()):
        assert value_type.check_column(missing, "c").to_pylist() == [None] * 4
        with pytest.raises(InvalidQueryError, match="c in row 0 must be given, not None"):
            value_type.check_column(missing, "c", required=True)


def test_times_that_nanoseconds_do_not_reach():
    times = ["0900-01-01T00:00:00.000001", "2300-01-01", None]
    column = pd.Series(np.array(times, "M8[us]")).dt.tz_localize("UTC")
    assert Time().check_column(column, "t").to_pylist() == [
        dt.datetime(900, 1, 1, microsecond=1, tzinfo=dt.UTC),
        dt.datetime(2300, 1, 1, tzinfo=dt.UTC),
        None,
    ]


@pytest.mark.parametrize("dtype", ["float64", "Float64", "double[pyarrow]", "Int64"])
def test_milliseconds_with_gaps_of_every_dtype(dtype):
    milliseconds = pd.Series([1_577_836_800_000, None], dtype=dtype)
    times = Time().check_column(milliseconds, "t", EPOCH)
    assert times.to_pylist() == [dt.datetime(2020, 1, 1, tzinfo=dt.UTC), EPOCH]


@pytest.mark.parametrize(
    ("values", "dtype", "row"),
    [
        (["a", None], STR, 1),
        ([1.0, np.nan, 2.0], "float64", 1),
        ([EPOCH, EPOCH, pd.NaT], "datetime64[us, UTC]", 2),
        ([ID, None], STR, 1),
    ],
    ids=["text", "number", "time", "id"],
)
def test_a_required_column_of_any_dtype_has_no_gaps(values, dtype, row):
    value_type = {STR: Uuid() if ID in values else Text(), "float64": Number()}.get(dtype, Time())
    with pytest.raises(InvalidQueryError, match=f"c in row {row} must be given"):
        value_type.check_column(pd.Series(values, dtype=dtype), "c", required=True)


SINGLE_VALUES = [
    (Uuid(), uuid.UUID(ID), ID, uuid.UUID(ID)),
    (Number(), 1, 1.0, 1.0),
    (Number(), Decimal("0.5"), 0.5, 0.5),
    (Number(), Fraction(1, 4), 0.25, 0.25),
    (Integer(0, 9), np.int8(3), 3, 3),
    (Integer(0, 9), 3.0, 3, 3),
    (Text(), "a", "a", "a"),
    (Boolean(), np.True_, True, True),
    (Time(), 0, EPOCH, EPOCH),
    (JsonObject(), {"a": np.arange(2)}, '{"a": [0, 1]}', {"a": [0, 1]}),
    (Bytes(2), memoryview(b"\0\xff"), "\\x00ff", b"\0\xff"),
    (Coordinates(), np.arange(8), [*map(float, range(8))], [*map(float, range(8))]),
]


@pytest.mark.parametrize(
    ("value_type", "value", "written", "attribute"), SINGLE_VALUES, ids=range(len(SINGLE_VALUES))
)
def test_a_single_value_is_checked_like_a_column(value_type, value, written, attribute):
    checked = value_type.check(value, "c")
    assert checked == written
    assert type(checked) is type(written)
    column = pd.Series([None, None], dtype=object)
    column.iat[1] = value
    assert value_type.check_column(column, "c").to_pylist() == [None, written]
    assert value_type.to_attribute(checked) == attribute
    assert type(value_type.to_attribute(checked)) is type(attribute)


def test_a_column_is_not_changed_by_its_check():
    frame = pd.DataFrame({"a": [1.0], "b": [{"k": [1]}]}, index=[5])
    before = frame.copy(deep=True)
    checked = as_dataframe(frame, ["a"], ["b"])
    Number().check_column(checked.a, "a")
    JsonObject().check_column(checked.b, "b")
    pd.testing.assert_frame_equal(frame, before)
