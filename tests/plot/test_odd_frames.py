"""Random frames of odd values: a figure that shows all of them, or an error of ngdata's own."""

import json
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ngdata import plot
from ngdata._arguments.texts import STR
from ngdata.errors import InvalidQueryError
from tests.conftest import SCALE
from tests.plot.conftest import all_points, as_json, as_set, hovers, points_of, traces

XYZ = ["x", "y", "z"]
few = settings(max_examples=120 * SCALE)

coordinates = st.one_of(
    st.floats(),
    st.sampled_from([0.0, -0.0, 1.0, 1e15, 1e-300, 1e30, 1.7e308, -1.7e308, 5e-324]),
    st.integers(-(2**70), 2**70).map(float),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([pd.NA, pd.NaT, np.nan, Decimal("1.5"), uuid.UUID(int=1)]),
    st.datetimes().map(lambda t: pd.Timestamp(t.replace(year=2000 + t.year % 200))),
    st.sampled_from([{"a": 1}, [1, 2], (), np.array([1, 2]), b"x", 1j, "<b>%{x}", "\ud800"]),
)
columns = st.one_of(
    st.lists(scalars, min_size=6, max_size=6).map(lambda v: pd.Series(v, dtype=object)),
    st.lists(st.text(max_size=3), min_size=6, max_size=6).map(pd.Series),
    st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6).map(
        lambda v: pd.Series(np.array(v, np.uint64))
    ),
    st.lists(st.floats(), min_size=6, max_size=6).map(pd.Series),
    st.sampled_from(
        [
            pd.Series([True, False] * 3),
            pd.Series([True, None] * 3, dtype="boolean"),
            pd.Series([1, None] * 3, dtype="Int64"),
            pd.Series(pd.to_datetime([0, 1, 2, 3, 4, None], unit="D", utc=True)),
            pd.Series(pd.to_timedelta([0, 1, 2, 3, 4, None], unit="D")),
            pd.Series(pd.period_range("2026", periods=6, freq="M")),
            pd.Series(pd.cut(range(6), 3)),
            pd.Series(pd.Categorical([*"aabbc", None], ordered=True)),
            pd.Series(["a", None] * 3, dtype="string[pyarrow]"),
            pd.Series([None] * 6),
        ]
    ),
)


def same_up_to_a_shift(drawn, true):
    """Return whether drawn points are true ones, moved and scaled, as float64 can tell."""
    if as_set(drawn) == as_set(true):
        return True
    # Halves: differences of the largest floats are none.
    a, b = (np.sort(points / 4, axis=0) for points in (drawn, true))
    a, b = a - a.min(axis=0), b - b.min(axis=0)
    size = b.max() / a.max() if a.max() else 1.0
    return bool(np.allclose(a * size, b, rtol=1e-6, atol=1e-6 * b.max()))


def check_is_whole(figure, frame):
    text = figure.to_json()
    # Strict: a browser reads neither NaN nor Infinity, nor half a surrogate pair.
    json.loads(text, parse_constant=lambda name: (_ for _ in ()).throw(ValueError(name)))
    text.encode()
    true = frame[XYZ].to_numpy(float)
    true = true[np.isfinite(true).all(axis=1)]
    drawn = all_points(figure)
    assert len(drawn) == len(true)
    missing = len(frame) - len(true)
    notes = str(as_json(figure)["layout"])
    assert missing == 0 or f"{missing} without finite x, y, z" in notes
    if not len(true):
        assert "nothing to draw" in notes
        return
    assert np.isfinite(drawn).all()
    scene = as_json(figure)["layout"]["scene"]
    for n, axis in enumerate(XYZ):
        low, high = scene[f"{axis}axis"]["range"]
        assert np.isfinite([low, high]).all()
        assert low < high
        assert (low <= drawn[:, n]).all()
        assert (drawn[:, n] <= high).all()
    assert np.isfinite(list(scene["camera"]["eye"].values())).all()
    assert min(scene["aspectratio"].values()) > 0
    assert same_up_to_a_shift(drawn, true)


@few
@given(st.lists(st.tuples(coordinates, coordinates, coordinates), min_size=6, max_size=6))
@example([(1.7e308, 0, 0), (-1.7e308, 0, 0)] * 3)
@example([(1e-320, 0, 0)] * 6)
@example([(1e16, 1, 2), (1e16 + 2, 1, 2)] * 3)
def test_any_coordinates_are_drawn(points):
    frame = pd.DataFrame(points, columns=XYZ)
    check_is_whole(plot.points(frame), frame)


@few
@given(columns, st.booleans())
def test_any_column_is_a_colour_or_an_error(values, is_hovered):
    frame = pd.DataFrame({"x": np.arange(6.0), "y": 1.0, "z": 0.0}).assign(c=values)
    figure = plot.points(frame, color="c", hover="c" if is_hovered else None)
    check_is_whole(figure, frame)
    # Each point is in one group, and a category's points have its value.
    rows = np.concatenate([points_of(trace)[:, 0] for trace in traces(figure)])
    assert sorted(rows.tolist()) == frame.x.tolist()
    for trace in traces(figure):
        if isinstance(trace["marker"]["color"], str):
            texts = {row["c"] for row in hovers(trace)}
            assert len(texts) == 1 or "missing" in trace["name"] or "infinite" in trace["name"]


@pytest.mark.parametrize("dtype", [STR, object], ids=str)
def test_texts_that_are_equal_up_to_a_nul_are_two_categories(dtype):
    texts = pd.Series(["", "\0", "a", "a\0b", "a", "a\0b"], dtype=dtype)
    frame = pd.DataFrame({"x": np.arange(6.0), "y": 1.0, "z": 0.0}).assign(c=texts)
    groups = [points_of(trace)[:, 0].tolist() for trace in traces(plot.points(frame, color="c"))]
    assert sorted(groups) == [[0.0], [1.0], [2.0, 4.0], [3.0, 5.0]]


@few
@given(columns)
def test_any_column_is_a_size_or_an_error(values):
    frame = pd.DataFrame({"x": np.arange(6.0), "y": 1.0, "z": 0.0}).assign(c=values)
    try:
        figure = plot.points(frame, size="c")
    except InvalidQueryError:
        return
    (trace,) = traces(figure)
    sizes = np.asarray(trace["marker"]["size"], float)
    assert np.isfinite(sizes).all()
    assert (sizes > 0).all()
    check_is_whole(figure, frame)


@few
@given(columns, st.sampled_from(XYZ))
def test_any_column_is_a_coordinate_or_an_error(values, axis):
    frame = pd.DataFrame({"x": np.arange(6.0), "y": 1.0, "z": 0.0}).assign(**{axis: values})
    try:
        figure = plot.points(frame)
    except InvalidQueryError:
        return
    assert len(all_points(figure)) <= 6


@few
@given(columns, columns)
@example(pd.Series([0] * 3), pd.Series([1.7e308, 1.7e308, -1.7e308]))
def test_any_times_and_rewards_are_drawn_or_an_error(times, values):
    frame = pd.DataFrame({"timestamp": times, "reward": values})
    for draw in (plot.rewards, lambda f: plot.path(f.assign(x=1.0, y=2.0, z=np.arange(len(f))))):
        try:
            figure = draw(frame)
        except InvalidQueryError:
            continue
        json.loads(figure.to_json())


@pytest.mark.parametrize("argument", ["color", "size", "hover", "x"])
def test_a_value_that_pandas_cannot_look_at_names_its_column(argument):
    frame = pd.DataFrame({"x": [0.0, 1], "y": 0.0, "z": 0.0, "c": [Decimal("sNaN"), 1]})
    frame = frame.assign(x=frame.c) if argument == "x" else frame
    with pytest.raises(InvalidQueryError, match=r"the column '[cx]' cannot be read"):
        plot.points(frame, **({} if argument == "x" else {argument: "c"}))


@few
@given(st.lists(st.floats(-1e9, 1e9), min_size=2, max_size=40), st.floats(1e-3, 1e3))
def test_ticks_are_at_true_coordinates(values, offset):
    far = 1e12 * offset
    frame = pd.DataFrame({"x": np.array(values) + far, "y": 0.0, "z": 0.0})
    assume(frame.x.nunique() > 1)
    figure = plot.points(frame)
    axis = as_json(figure)["layout"]["scene"]["xaxis"]
    if "ticktext" not in axis:
        assert np.array_equal(all_points(figure)[:, 0], frame.x)
        return
    shift = frame.x[0] - all_points(figure)[0, 0]
    side = np.ptp(axis["range"])
    for tick, text in zip(axis["tickvals"], axis["ticktext"], strict=True):
        assert abs(float(text) - (tick + shift)) <= 0.01 * side + 1e-15 * far
