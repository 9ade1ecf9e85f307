"""Columns of any dtype with any objects in them: the right rows, or an error that names row and column."""

import datetime as dt
import math
import numbers
import uuid
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

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

ID = "00000000-0000-4000-8000-00000000000a"
EPOCH = pd.Timestamp(0, tz="UTC")

GOOD = {
    Uuid(): ID,
    Number(): 1.5,
    Integer(0, 9): 7,
    Text(): "a",
    Boolean(): True,
    Time(): EPOCH,
    JsonObject(): {"a": 1},
    Bytes(2): b"xx",
    Coordinates(): [0.0] * 8,
}
TYPES = list(GOOD)


def raising(base, method):
    """Return an object of a subclass, one of whose methods raises."""

    def fail(*_):
        raise RuntimeError(method * 1000)

    return type(f"Bad{method}", (base,), {method: fail})()


METHODS = (
    *("__eq__", "__ne__", "__lt__", "__hash__", "__bool__", "__len__", "__iter__", "__repr__"),
    *("__str__", "__float__", "__int__", "__index__", "__floordiv__", "__array__", "__class__"),
)


class Number2(numbers.Integral):
    """An integer that cannot do anything."""


Number2.__abstractmethods__ = frozenset()

OBJECTS = [
    *(raising(base, m) for base in (object, float, int, str, dict, Decimal) for m in METHODS[:-1]),
    type("BadClass", (), {"__class__": property(lambda self: 1 / 0)})(),
    Number2(),
    *map(Decimal, ("sNaN", "NaN", "Infinity", "2", "1e999")),
    Fraction(1, 3),
    *(None, pd.NA, pd.NaT, math.nan, math.inf, np.float32("nan"), np.datetime64("NaT", "s")),
    *(np.array(1.0), np.array([1, 2]), np.ma.masked, np.void(b"a"), np.str_("k"), np.bool_(1)),
    *(np.float16(1), np.longdouble(1), np.complex64(1), np.timedelta64(1, "s"), 1j),
    *({1, 2}, frozenset(), {"a": {1}}, {1: 2}, {}, [], [1], (1,), range(8), bytearray(b"xx")),
    *(b"x", memoryview(b"xxxx")[::2], (i for i in [1]), iter([1]), object(), type, len, ...),
    *(pd.DataFrame({"a": [1]}), pd.Series([1]), pd.Index([1]), pd.array([1]), NotImplemented),
    *(dt.date(2020, 1, 1), dt.datetime(2020, 1, 1), dt.time(1), dt.timedelta(1)),
    *(pd.Period("2020"), pd.Interval(0, 1), pd.Timestamp.max, pd.Timedelta(1)),
    pd.Timestamp(np.datetime64("20000-01-01", "s"), tz="UTC"),
    *("", "x", "1", "\ud800", "a\0", uuid.UUID(int=3), ID.upper()),
    *(True, -1, 0, 2**63, 2**64, 10**400, 10**5000, 2.0**70),
]


def column_of(value_type, item):
    """Return three values as objects, the second of which is the item."""
    good = next(good for key, good in GOOD.items() if type(key) is type(value_type))
    values = np.array([None] * 3, dtype=object)
    values[0], values[1], values[2] = good, item, good
    return pd.Series(values, index=[9, 9, 7], dtype=object)


def outcome(check):
    """Return what a check returns, and what it refuses; anything else that it raises fails the test."""
    try:
        return check(), None
    except InvalidQueryError as error:
        return None, str(error)


@pytest.mark.parametrize("value_type", TYPES, ids=lambda value_type: type(value_type).__name__)
def test_an_object_in_a_column_and_alone(value_type):
    good = value_type.check(GOOD[value_type], "c")
    refused = 0
    for item in OBJECTS:
        column = column_of(value_type, item)
        rows, error = outcome(
            lambda column=column: value_type.check_column(column, "c").to_pylist()
        )
        if error is None:
            assert len(rows) == 3
            assert rows[0] == rows[2] == good
        else:
            assert "c in row 1" in error
            assert len(error) <= 2000
            refused += 1
        if not value_type.is_missing(item):
            _, error = outcome(lambda item=item: value_type.check(item, "c"))
            assert error is None or error.startswith("c ")
            assert len(error or "") <= 2000
    assert refused > len(OBJECTS) / 2


def number(item):
    """Return what a number is in plain Python; None where it is missing."""
    if item is None or item is pd.NA or item is pd.NaT or item != item:
        return None
    if isinstance(item, bool) or not isinstance(item, int | float | Decimal | Fraction):
        raise ValueError
    value = float(item)
    if math.isinf(value):
        raise ValueError
    return value


def integer(item):
    value = number(item)
    if value is None:
        return None
    if isinstance(item, Decimal) or item != int(item) or not 0 <= item <= 9:
        raise ValueError
    return int(item)


def boolean(item):
    if item is None or item is pd.NA or item is pd.NaT or item != item:
        return None
    if not isinstance(item, bool):
        raise ValueError
    return item


def text(item):
    if item is None or item is pd.NA or item is pd.NaT or item != item:
        return None
    if not isinstance(item, str) or "\0" in item or any("\ud800" <= c <= "\udfff" for c in item):
        raise ValueError
    return item


PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 10),
    st.integers(),
    st.floats(),
    st.sampled_from([0.0, 3.0, 9.0, -0.0, 2.5, pd.NA, pd.NaT, Decimal(3), Fraction(6, 2)]),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.text(max_size=3),
)


@given(st.lists(PLAIN, min_size=1, max_size=5), st.sampled_from(range(4)))
def test_columns_of_plain_objects_against_plain_python(items, which):
    value_type, rule = [
        (Number(), number),
        (Integer(0, 9), integer),
        (Boolean(), boolean),
        (Text(), text),
    ][which]
    values = np.empty(len(items), dtype=object)
    values[:] = items
    column = pd.Series(values, dtype=object)
    expected, bad = [], None
    for row, item in enumerate(items):
        try:
            expected.append(rule(item))
        except (ValueError, OverflowError):
            bad = row
            break
    if bad is None:
        assert value_type.check_column(column, "c").to_pylist() == expected
        return
    with pytest.raises(InvalidQueryError, match=f"c in row {bad} must be"):
        value_type.check_column(column, "c")


NUMERIC = [
    *("int8", "uint16", ">i4", "<i8", "uint64", "float32", ">f8", "float64", "g", "Int8", "UInt32"),
    *("Float32", "Float64", "int16[pyarrow]", "float[pyarrow]", "double[pyarrow]", "category"),
    *("Sparse[int64]", "Sparse[float64, nan]", "object", "decimal128(10, 2)[pyarrow]"),
]


def numeric_column(dtype, values):
    if dtype.startswith("decimal128"):
        return pd.Series(map(Decimal, values), dtype=pd.ArrowDtype(pa.decimal128(10, 2)))
    if dtype.startswith((">", "<")) or dtype == "g":
        return pd.Series(np.array(values, dtype))
    return pd.Series(values, dtype=dtype)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.sampled_from(NUMERIC))
def test_every_numeric_dtype_holds_the_same_numbers(values, dtype):
    column = numeric_column(dtype, values)
    expected = column.astype(object).tolist()  # pandas' own answer
    assert Number().check_column(column, "c").to_pylist() == [float(v) for v in expected]
    if "decimal" not in dtype:
        assert Integer(0, 9).check_column(column, "c").to_pylist() == values
    assert Number().to_numpy(column, "c").tolist() == values
    for value_type in (Text(), Boolean(), Uuid(), JsonObject(), Bytes(2)):
        with pytest.raises(InvalidQueryError, match="c in row 0 must be"):
            value_type.check_column(column, "c")


def test_arrays_that_numpy_views():
    record = np.zeros(3, np.dtype([("pad", "i1"), ("value", ">f8")]))
    record["value"] = 1, 2, 3
    unaligned = record["value"]
    assert not unaligned.flags.aligned
    read_only = np.broadcast_to(np.float64(2), 3)
    strided = np.arange(12.0).reshape(3, 4)[:, 1]
    for values, expected in ((unaligned, [1, 2, 3]), (read_only, [2, 2, 2]), (strided, [1, 5, 9])):
        assert Number().check_column(pd.Series(values), "c").to_pylist() == expected


TIMES = ["2020-01-01 00:00:00.123456789", "1969-12-31 23:59:59.999999999", None]
TIME_COLUMNS = {
    "numpy": lambda t: t,
    "zone": lambda t: t.dt.tz_convert("Asia/Tokyo"),
    "object": lambda t: t.astype(object),
    "category": lambda t: t.astype("category"),
    "arrow": lambda t: t.astype(pd.ArrowDtype(pa.timestamp("ns", "Europe/Paris"))),
}


@pytest.mark.parametrize("kind", TIME_COLUMNS)
def test_times_of_every_dtype(kind):
    column = pd.Series(pd.to_datetime(TIMES, utc=True, format="ISO8601"))
    expected = [t if t is pd.NaT else t.floor("us") for t in column]
    written = Time().check_column(TIME_COLUMNS[kind](column), "c").to_pylist()
    assert [pd.NaT if t is None else pd.Timestamp(t) for t in written] == expected


OTHER = {
    "period": pd.Series(pd.period_range("2020", periods=3)),
    "interval": pd.Series(pd.interval_range(0, 3)),
    "complex": pd.Series([1j, 2, 3]),
    "timedelta": pd.Series(pd.to_timedelta([1, 2, 3])),
    "duration": pd.Series([1, 2, 3], dtype=pd.ArrowDtype(pa.duration("s"))),
    "without zone": pd.Series(pd.to_datetime([1, 2, 3])),
    "date": pd.Series([1, 2, 3], dtype=pd.ArrowDtype(pa.date32())),
    "list": pd.Series([[1]] * 3, dtype=pd.ArrowDtype(pa.list_(pa.int8()))),
    "bytes": pd.Series(np.array([b"abc"] * 3)),
    "too late": pd.Series(
        pd.arrays.ArrowExtensionArray(pa.array([2**62] * 3, pa.timestamp("s", "UTC")))
    ),
}


@pytest.mark.parametrize("kind", OTHER)
@pytest.mark.parametrize("value_type", TYPES, ids=lambda value_type: type(value_type).__name__)
def test_a_dtype_that_no_column_has(value_type, kind):
    with pytest.raises(InvalidQueryError, match="c in row 0 must"):
        value_type.check_column(OTHER[kind], "c")


@pytest.mark.parametrize(
    ("dtype", "value", "value_type", "written"),
    [
        ("boolean", True, Boolean(), True),
        ("bool[pyarrow]", True, Boolean(), True),
        ("Sparse[bool]", True, Boolean(), True),
        ("category", True, Boolean(), True),
        ("category", "a", Text(), "a"),
        (pd.ArrowDtype(pa.large_string()), "a", Text(), "a"),
        (pd.ArrowDtype(pa.dictionary(pa.int8(), pa.string())), "a", Text(), "a"),
        (pd.StringDtype("python"), "a", Text(), "a"),
        (pd.StringDtype("pyarrow"), "a", Text(), "a"),
        ("category", ID.upper(), Uuid(), ID),
        (pd.ArrowDtype(pa.string()), ID.upper(), Uuid(), ID),
        (pd.ArrowDtype(pa.binary(2)), b"xx", Bytes(2), "\\x7878"),
        (pd.ArrowDtype(pa.struct([("a", pa.int64())])), {"a": 1}, JsonObject(), '{"a": 1}'),
    ],
    ids=range(13),
)
def test_other_dtypes_hold_their_values(dtype, value, value_type, written):
    column = pd.Series([value, value], dtype=dtype)
    assert value_type.check_column(column, "c").to_pylist() == [written, written]


# --- integers of another unit ----------------------------------------------------------------------


def milliseconds(values):
    return [
        None
        if v is None
        else (dt.datetime(1970, 1, 1) + v * dt.timedelta(milliseconds=1)).replace(tzinfo=dt.UTC)
        for v in values
    ]


UNITS = {"s": 10**9, "us": 10**3, "ns": 1}


@pytest.mark.parametrize(
    "dtype", ["int64", "Int64", "float64", "object", "int64[pyarrow]", "uint64"]
)
@pytest.mark.parametrize("unit", UNITS)
def test_integers_of_another_unit_are_refused_with_the_unit(unit, dtype):
    times = pd.Series(pd.to_datetime(["1980-01-01", "2024-05-05", "2200-12-31"], utc=True))
    numbers = times.dt.as_unit("ns").astype("int64") // UNITS[unit]
    with pytest.raises(
        InvalidQueryError, match="c must be in milliseconds since the epoch"
    ) as caught:
        Time().check_column(numbers.astype(dtype), "c")
    name = {"s": "seconds", "us": "microseconds", "ns": "nanoseconds"}[unit]
    assert f"looks like {name}" in str(caught.value)
    assert f'pd.to_datetime(column, unit="{unit}", utc=True)' in str(caught.value)
    # The step that the error names leads to the times.
    right = pd.to_datetime(numbers, unit=unit, utc=True)
    assert Time().check_column(right, "c").to_pylist() == times.tolist()


@pytest.mark.parametrize(
    "values",
    [
        [0, 900],
        [0, 1_700_000_000],
        [1_700_000_000_000, 1_700_000_000],
        [-1_700_000_000_000],
        [315_532_799],
        [253_402_300_799_999],
    ],
    ids=range(6),
)
def test_other_integers_are_milliseconds(values):
    assert Time().check_column(pd.Series(values), "c").to_pylist() == milliseconds(values)


def test_a_single_integer_of_another_unit():
    with pytest.raises(
        InvalidQueryError, match=r"milliseconds.*looks like seconds.*pass 1700000000000"
    ):
        Time().check(1_700_000_000, "timestamp")


def test_a_signaling_nan_is_named_with_its_row():
    for value_type, match in ((Number(), "a number, not nan"), (Text(), "text, not Decimal")):
        with pytest.raises(InvalidQueryError, match=f"c in row 1 must be {match}"):
            value_type.check_column(column_of(value_type, Decimal("sNaN")), "c")
