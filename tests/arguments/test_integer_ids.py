"""Integers as ids: the layout, the round trip, and what is refused."""

import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ngdata
from ngdata._arguments.texts import STR
from ngdata.errors import InvalidQueryError
from ngdata.ids import from_integers, to_integers
from tests.conftest import SCALE

LARGEST = 2**64 - 1
SPACES = st.sampled_from(["", "flywire", "naïve \U0001f9e0"])

# Never changed: stores hold these ids.
VECTORS = {
    ("", 0): "ddd9c407-67f9-8000-8000-000000000000",
    ("", 1): "ddd9c407-67f9-8000-8000-000000000001",
    ("", 0xDEADBEEF): "ddd9c407-67f9-8000-8000-0000deadbeef",
    ("", 2**62 - 1): "ddd9c407-67f9-8000-bfff-ffffffffffff",
    ("", 2**62): "ddd9c407-67f9-8001-8000-000000000000",
    ("", 2**63): "ddd9c407-67f9-8002-8000-000000000000",
    ("", LARGEST): "ddd9c407-67f9-8003-bfff-ffffffffffff",
    ("flywire", 0): "63abc6a5-9621-8000-8000-000000000000",
    ("flywire", 720575940631797753): "63abc6a5-9621-8000-8a00-00000f0d1ff9",
    ("naïve \U0001f9e0", 5): "29ecd7ce-3658-8000-8000-000000000005",
}


@pytest.mark.parametrize(("space", "number"), VECTORS)
def test_the_layout(space, number):
    text = VECTORS[space, number]
    assert from_integers(number, space) == text
    assert to_integers(text, space) == number
    parsed = uuid.UUID(text)
    assert (parsed.version, parsed.variant) == (8, uuid.RFC_4122)


@settings(max_examples=30 * SCALE)
@given(st.lists(st.integers(0, LARGEST)), SPACES)
def test_there_and_back(numbers, space):
    ids = from_integers(numbers, space)
    assert ids.dtype == STR
    assert to_integers(ids, space).tolist() == numbers
    assert to_integers(ids, space).dtype == np.uint64
    assert [from_integers(number, space) for number in numbers] == ids.tolist()
    # Ids sort as their integers do.
    assert sorted(ids) == from_integers(sorted(numbers), space).tolist()


@settings(max_examples=30 * SCALE)
@given(st.lists(st.integers(0, 100) | st.none(), min_size=1))
def test_every_form_of_a_column(numbers):
    expected = [None if number is None else from_integers(number) for number in numbers]
    index = [f"row {place}" for place in range(len(numbers))]
    forms = [numbers, pa.array(numbers, pa.int16()), pd.Series(numbers, dtype=object)]
    forms += [pd.array(numbers, dtype) for dtype in ("Int8", "UInt64", "int64[pyarrow]")]
    forms += [pl.Series(numbers, dtype=pl.UInt8), np.array(numbers, object)]
    if None not in numbers:
        forms += [pd.Index(numbers), iter(numbers), pd.RangeIndex(len(numbers)).take(range(0))]
        forms += [np.array(numbers, dtype) for dtype in ("i1", "u1", ">i4", "u8")]
    for form in forms:
        ids = from_integers(form)
        wanted = [] if isinstance(form, pd.RangeIndex | pd.Index) and not len(form) else expected
        assert ids.astype(object).where(ids.notna(), None).tolist() == wanted
        back = to_integers(ids)
        assert back.dtype == ("UInt64" if None in wanted else "uint64")
        assert back.dropna().tolist() == [
            number for number in numbers[: len(wanted)] if number is not None
        ]
    series = pd.Series(numbers, index=index, dtype="Int64", name="body")
    ids = from_integers(series)
    assert (ids.index.tolist(), ids.name) == (index, "body")
    assert to_integers(ids).index.tolist() == index


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (1.5, "values .*not 1.5; floats hold integers exactly only up to"),
        ([1.0, 2.0], r"values\[0\] .*not 1.0; floats"),
        (np.array([1.0, 7.2e17, 2.5]), r"values\[1\] .*not 7.2e\+17; floats"),
        (pd.Series([1, 2.5, None], index=list("abc")), r"values\[1\] .*not 2.5; floats"),
        (pd.array([0.5], "Float64"), r"values\[0\] .*not 0.5; floats"),
        ([1, -1], r"values\[1\] must be an integer from 0 to 2\*\*64 - 1, not -1"),
        (pd.Series([3, -4]), r"values\[1\] .*not -4"),
        ([2**64], r"values\[0\] .*not 18446744073709551616"),
        ([1, True], r"values\[1\] .*not True"),
        (np.array([True]), r"values\[0\] .*not True"),
        (True, "not True"),
        (["7"], r"values\[0\] .*not '7'"),
        ([Decimal(7)], r"values\[0\] .*not Decimal"),
        ("7", "not '7'"),
        (None, "not None"),
        (pd.DataFrame({"a": [1]}), "values must be an integer or a sequence"),
        (np.array([[1]]), "values"),
    ],
)
def test_other_values_are_refused(values, match):
    with pytest.raises(InvalidQueryError, match=match):
        from_integers(values)


@pytest.mark.parametrize(
    ("ids", "match"),
    [
        (
            [None, VECTORS["", 1], str(uuid.UUID(int=7))],
            r"ids\[2\] is 0{8}-.*-0{11}7, which is not an int",
        ),
        (VECTORS["flywire", 0], "ids is 63abc6a5.*perhaps of another id space"),
        ([VECTORS["", 1].replace("-8000-8", "-8004-8")], r"ids\[0\]"),
        ([VECTORS["", 1].replace("-8000-8", "-8000-c")], r"ids\[0\]"),
        (["x"], r"ids\[0\] must be a UUID"),
        (5, "ids must be an id"),
        (pd.DataFrame({"a": ["x"]}), "ids is a whole table"),
    ],
)
def test_other_ids_are_refused(ids, match):
    with pytest.raises(InvalidQueryError, match=match):
        to_integers(ids)


def test_the_module_is_an_attribute_of_the_package():
    assert "ids" in dir(ngdata)
    assert ngdata.ids.from_integers is from_integers
