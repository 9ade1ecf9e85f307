"""Boxes compared to NumPy: `low <= p <= high` in float64, for any points and bounds."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ngdata import EVERYWHERE

TINY = 5e-324
RNG = np.random.default_rng(2)

# Each level has its own kind of trouble.
CLOUDS = {
    0: RNG.normal(size=(400, 3)),
    1: 1e6 + RNG.integers(-4, 5, size=(400, 3)) * np.spacing(1e6),
    2: RNG.uniform(-1, 1, size=(400, 3)) * 1e37,
    3: RNG.integers(-3, 4, size=(400, 3)) * TINY,
    4: RNG.choice([-1.0, 1.0], (400, 3)) * 10.0 ** RNG.uniform(-320, 37, (400, 3)),
    5: np.array(np.meshgrid(*[np.arange(-3.0, 4.0)] * 3)).reshape(3, -1).T,
    6: RNG.choice([-0.0, 0.0, 1e-45, -1e-45, 1.4e-45, 2e-38, 16777217.0, -1e37, 1e37], (400, 3)),
    # 2**24 + 1 and others that float32 rounds to their neighbors.
    7: 2.0**24 + RNG.integers(-9, 10, size=(400, 3)) * 0.125,
}


@pytest.fixture(scope="module")
def points(store):
    frames = []
    for level, cloud in CLOUDS.items():
        frame = pd.DataFrame(cloud, columns=list("xyz"))
        frame["token_id"] = store.tokens.bulk_create(frame, level=level)
        frames.append(frame.assign(level=level))
    return pd.concat(frames, ignore_index=True)


def inside(points, low, high, level):
    result = points[points.level == level]
    p = result[["x", "y", "z"]].to_numpy()
    return result[((p >= low) & (p <= high)).all(axis=1)]


@st.composite
def boxes(draw, anywhere=True):
    """Bounds at a point's coordinate, one ulp to either side of it, anywhere, or infinite."""
    level = draw(st.sampled_from(sorted(CLOUDS)))
    cloud = CLOUDS[level]
    low, high = [], []
    for axis in range(3):
        on_point = st.integers(0, len(cloud) - 1).map(
            lambda row, axis=axis: float(cloud[row, axis])
        )
        bound = st.one_of(
            on_point,
            on_point.map(lambda v: math.nextafter(v, math.inf)),
            on_point.map(lambda v: math.nextafter(v, -math.inf)),
            st.just(0.0),
        )
        if anywhere:
            bound |= st.floats(allow_nan=False)
            bound |= st.sampled_from([math.inf, -math.inf, -0.0, 3.4028235e38, -1e38, 1e300])
        a = draw(bound)
        b = a if draw(st.integers(0, 9)) == 0 else draw(bound)
        low.append(min(a, b))
        high.append(max(a, b))
    return tuple(low), tuple(high), level


@settings(max_examples=250)
@given(box=boxes())
@example(box=((-math.inf,) * 3, (math.inf,) * 3, 2))
@example(box=((-0.0,) * 3, (0.0,) * 3, 6))
@example(box=((0.0, 0.0, 0.0), (-0.0, -0.0, -0.0), 6))
@example(box=((1e37,) * 3, (math.inf,) * 3, 6))
@example(box=((math.inf,) * 3, (math.inf,) * 3, 2))
@example(box=((-math.inf,) * 3, (-math.inf,) * 3, 2))
@example(box=((-math.inf, 1e6, -math.inf), (math.inf, 1e6, math.inf), 1))
def test_regions_equal_numpy(store, points, box):
    low, high, level = box
    result = store.tokens.find_in_region(low, high, level)
    expected = inside(points, low, high, level)

    columns = ["token_id", "x", "y", "z"]
    pd.testing.assert_frame_equal(
        result[columns].sort_values("token_id", ignore_index=True),
        expected[columns].sort_values("token_id", ignore_index=True),
        check_exact=True,
    )
    assert np.array_equal(
        np.signbit(result.sort_values("token_id")[["x", "y", "z"]]),
        np.signbit(expected.sort_values("token_id")[["x", "y", "z"]]),
    )
    assert store.tokens.count_in_region(low, high, level) == len(expected)


@settings(max_examples=15)
@given(box=boxes(), rows=st.integers(1, 150))
@example(box=((-math.inf,) * 3, (math.inf,) * 3, 0), rows=400)
@example(box=((-math.inf,) * 3, (math.inf,) * 3, 0), rows=1)
@example(box=((9.0,) * 3, (9.0,) * 3, 5), rows=3)
def test_chunks_have_the_rows_of_the_region(store, points, box, rows):
    pieces = list(
        store.tokens.iter_all(box[2], chunk_rows=rows)
        if box[:2] == EVERYWHERE
        else store.tokens.iter_region(*box, chunk_rows=rows)
    )
    whole = store.tokens.find_in_region(*box)

    assert all(len(piece) == rows for piece in pieces[:-1])
    assert all(0 < len(piece) <= rows for piece in pieces)
    assert sorted(i for piece in pieces for i in piece.token_id) == sorted(whole.token_id)
    assert all(piece.dtypes.equals(whole.dtypes) for piece in pieces)
    assert all(piece.index.equals(pd.RangeIndex(len(piece))) for piece in pieces)


@settings(max_examples=15)
@given(box=boxes(), limit=st.integers(0, 500))
def test_a_limit_keeps_the_first_by_id(store, points, box, limit):
    result = store.tokens.find_in_region(*box, limit=limit)
    assert result.token_id.tolist() == sorted(inside(points, *box).token_id)[:limit]


def histogram(points, low, high, level, bins):
    cloud = points[points.level == level][["x", "y", "z"]].to_numpy()
    counts, edges = np.histogramdd(cloud, bins, list(zip(low, high, strict=True)))
    cells = np.argwhere(counts)
    centres = [e[:-1] + (e[1:] - e[:-1]) / 2 for e in edges]
    return pd.DataFrame(
        {
            **{axis: centres[n][cells[:, n]] for n, axis in enumerate("xyz")},
            "count": counts[tuple(cells.T)].astype(np.int64),
        }
    )


@settings(max_examples=120)
@given(box=boxes(anywhere=False), bins=st.tuples(*[st.integers(1, 20)] * 3))
@example(box=((-3.0,) * 3, (3.0,) * 3, 5), bins=(6, 6, 6))
@example(box=((-3.0,) * 3, (3.0,) * 3, 5), bins=(1, 7, 3))
@example(box=((0.0, -3.0, 0.0), (0.0, 3.0, 0.0), 5), bins=(5, 6, 4))
@example(box=((0.0,) * 3, (0.0,) * 3, 0), bins=(4, 4, 4))
@example(box=((1e6,) * 3, (1e6 + 1e-9,) * 3, 1), bins=(10, 10, 10))
@example(box=((1e6,) * 3, (1e6,) * 3, 1), bins=(2, 2, 2))
@example(box=((-1e37,) * 3, (1e37,) * 3, 2), bins=(16, 16, 16))
@example(box=((1e37,) * 3, (1e37,) * 3, 6), bins=(3, 3, 3))
@example(box=((0.0,) * 3, (1.5e-323,) * 3, 3), bins=(16, 16, 16))
def test_density_equals_numpy_histogramdd(store, points, box, bins):
    low, high, level = box
    # NumPy's own edges are out of order in some boxes of a few of the smallest numbers.
    edges = [np.linspace(*side) for side in zip(low, high, np.add(bins, 1), strict=True)]
    assume(all((np.diff(edge) >= 0).all() for edge in edges))
    pd.testing.assert_frame_equal(
        store.tokens.density(low, high, bins, level),
        histogram(points, low, high, level, bins),
        check_exact=True,
    )


def test_density_counts_every_token_of_a_box_of_few_numbers(store, points):
    low, high = (1e-323, 0.0, 0.0), (1e-323, 0.0, 1.5e-323)
    counts = store.tokens.density(low, high, (1, 1, 5), 3)["count"]
    widened = ((low[0] - 0.5, -0.5, 0.0), (low[0] + 0.5, 0.5, high[2]))
    assert counts.sum() == store.tokens.count_in_region(*widened, 3) > 0


def test_one_number_of_bins_for_all_axes(store, points):
    one = store.tokens.density((-3,) * 3, (3,) * 3, 5)
    for same in (np.int64(5), (5, 5, 5), np.array([5, 5, 5])):
        pd.testing.assert_frame_equal(one, store.tokens.density((-3,) * 3, (3,) * 3, same))
    assert one["count"].sum() == store.tokens.count_in_region((-3,) * 3, (3,) * 3)
