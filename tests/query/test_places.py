"""Points and boxes as SQL; tests/properties compares the server's answers to NumPy's."""

import math
import re
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngdata import Box, Sphere
from ngdata._arguments.points import as_point
from ngdata._query.filters import TokenFilter
from ngdata._query.index_boxes import search_box
from ngdata._query.places import Place
from ngdata._query.regions import within_radius

NUMBERS = st.floats(allow_nan=False)


@pytest.mark.parametrize(
    "point",
    [
        (1, 2, 3),
        [1.0, 2, 3],
        np.array([1, 2, 3], np.uint8),
        np.array([1, 2, 3], np.float16),
        pd.Series([1, 2, 3], index=["x", "y", "z"]),
        pd.DataFrame({"x": [1], "y": [2], "z": [3]}).loc[0],
        (Decimal(1), Fraction(4, 2), np.int64(3)),
        range(1, 4),
        pd.Series([3, 1, 2], index=["z", "x", "y"]),
        pd.Series([9, 2.0, "a", 3, 1], index=[0, "y", "token_type", np.str_("z"), "x"]),
        pd.Series([1, 2, 3], index=[7, 8, 9]),
        {"z": 3, "y": Decimal(2), "x": np.float32(1)},
        MappingProxyType({"y": 2, "x": 1, "z": 3}),
        pd.DataFrame({"token_id": ["a"], "y": [2], "z": [3.0], "x": [1]}, index=["z"]),
    ],
)
def test_points_in_every_form(point):
    result = as_point(point)
    assert result == (1.0, 2.0, 3.0)
    assert {type(v) for v in result} == {float}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (pd.Series([1, 2, 3], index=["x", "y", "Z"]), "none is 'z'"),
        (pd.Series([1, 2, 3], index=["a", "b", "c"]), "none is 'x'"),
        (pd.Series([1, 2, 3, 4], index=["x", "y", "z", "y"]), "several are 'y'"),
        ({"x": 1, "y": 2}, "none is 'z'"),
        ({}, "none is 'x'"),
        ({0: 1, 1: 2, 2: 3}, r"none is 'x': \[0, 1, 2\]; rename the labels"),
        (pd.DataFrame([[1, 2, 3]]), "none is 'x'"),
        (pd.DataFrame([[1, 2, 3]] * 2, columns=[*"xyz"]), r"the frame has 2 rows; pass one row"),
        (pd.DataFrame(columns=[*"xyz"]), "the frame has 0 rows"),
        ({"x": 1, "y": "2", "z": 3}, "must be three numbers"),
        ({"x": 1, "y": None, "z": 3}, "must be three numbers"),
        ({"x": 1, "y": math.nan, "z": 3}, "must not contain NaN"),
    ],
)
def test_labels_that_name_no_point(value, problem):
    with pytest.raises(ValueError, match=f"point .*{problem}"):
        as_point(value)


def test_bounds_of_a_frame_are_taken_by_label():
    frame = pd.DataFrame({"z": [3, 6], "token_id": ["a", "b"], "x": [4, 1], "y": [2.0, 5.0]})
    low, high = frame[["z", "x", "y"]].min(), frame[["y", "z", "x"]].max()
    expected = Place(Box((1.0, 2.0, 3.0), (4.0, 5.0, 6.0)), 0)
    assert Place.of(low, high, 0) == Place.within((low.to_dict(), high)) == expected


def test_infinite_sides_have_no_exact_comparison():
    place = Place.of((-math.inf, 0, -math.inf), (math.inf, math.inf, 1), "motor")
    level, index, *exact = place.conditions()

    assert level == "level = 2"
    assert index.startswith("geom &&& ST_MakeLine(")
    assert exact == ["ST_Y(geom) >= '0.0'::float8", "ST_Z(geom) <= '1.0'::float8"]


@settings(deadline=None, derandomize=True, database=None)
@given(st.tuples(NUMBERS, NUMBERS, NUMBERS), st.tuples(NUMBERS, NUMBERS, NUMBERS))
def test_bounds_stay_below_the_float32_maximum(low, high):
    written = [float(v) for v in re.findall(r"'([^']+)'::float8", search_box(low, high))]
    for bound, result in zip((*low, *high), written, strict=True):
        assert result == bound if abs(bound) <= 1e38 else result == math.copysign(1e38, bound)


@pytest.mark.parametrize(
    ("window", "level"),
    [
        (((0, 0, 0), (1, 1, 1)), 0),
        ([(0, 0, 0), (1, 1, 1), "social"], 5),
        (Box((0, 0, 0), (1, 1, 1)), 0),
        ((Box((0, 0, 0), (1, 1, 1)),), 0),
        ((Box((0, 0, 0), (1, 1, 1)).on("social"), "social"), 5),
    ],
)
def test_windows(window, level):
    assert Place.within(window) == Place(Box((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)), level)


@pytest.mark.parametrize(
    "window",
    [
        None,
        "ab",
        (),
        ((0, 0, 0),),
        ((0, 0, 0), (1, 1, 1), 0, 0),
        5,
        (Sphere((0, 0, 0), 1), 0, 0),
    ],
)
def test_invalid_windows(window):
    with pytest.raises(ValueError, match=r"within must be a region|pass either a region"):
        Place.within(window)


@settings(deadline=None, derandomize=True, database=None)
@given(st.tuples(*[st.floats(-1e37, 1e37)] * 3), st.floats(0, allow_infinity=True), st.data())
def test_the_search_box_holds_all_points_at_the_radius(centre, radius, data):
    query = within_radius(centre, radius, 0, TokenFilter())
    box = re.search(r"ST_MakeLine\((.*?)\)\)", query.sql)[1]
    bounds = [float(v) for v in re.findall(r"'([^']+)'::float8", box)]
    axis = data.draw(st.integers(0, 2))
    c = centre[axis]
    # Bisect all floats for the outermost coordinates within the radius.
    for sign, bound in ((-1, bounds[axis]), (1, bounds[3 + axis])):
        inner, outer = c, sign * 1e37
        for _ in range(2200):
            middle = inner + (outer - inner) / 2
            if middle in (inner, outer):
                break
            with np.errstate(under="ignore"):
                inside = math.sqrt((middle - c) * (middle - c)) <= radius
            inner, outer = (middle, outer) if inside else (inner, middle)
        assert sign * inner <= sign * bound
