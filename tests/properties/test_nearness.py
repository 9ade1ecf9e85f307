"""Nearest tokens and tokens within a radius, compared to NumPy and SciPy: exact, ties by id.

The distance is ``sqrt(dx*dx + dy*dy + dz*dz)`` in float64, rounded after each step, in that order;
squares under 5e-324 vanish, on the server as in NumPy.
"""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

RNG = np.random.default_rng(3)
LATTICE = np.array(np.meshgrid(*[np.arange(-3.0, 4.0)] * 3)).reshape(3, -1).T

CLOUDS = {
    0: LATTICE,
    1: RNG.normal(size=(300, 3)).astype(np.float32).astype(np.float64),
    2: 1e6 + RNG.integers(-4, 5, size=(300, 3)) * np.spacing(1e6),
    3: RNG.uniform(-9.9e36, 9.9e36, size=(300, 3)),
    4: RNG.choice([-1.0, 1.0], (300, 3)) * 10.0 ** RNG.uniform(-320, 36.9, (300, 3)),
    5: RNG.integers(-5, 6, size=(300, 3)) * 1e-160,
    6: RNG.integers(-3, 4, size=(300, 3)) * 5e-324,
    7: np.repeat(RNG.normal(size=(30, 3)), 10, axis=0),
}


@pytest.fixture(scope="module")
def points(store):
    frames = []
    for level, cloud in CLOUDS.items():
        frame = pd.DataFrame(cloud, columns=list("xyz"))
        frame["token_id"] = store.tokens.bulk_create(frame, level=level)
        frames.append(frame.assign(level=level))
    return pd.concat(frames, ignore_index=True)


def by_distance(points, centre, level):
    result = points[points.level == level]
    dx, dy, dz = (result[["x", "y", "z"]].to_numpy() - np.asarray(centre)).T
    with np.errstate(under="ignore"):
        distance = np.sqrt(dx * dx + dy * dy + dz * dz)
    return result.assign(distance=distance).sort_values(["distance", "token_id"], ignore_index=True)


def assert_same(result, expected):
    columns = ["token_id", "x", "y", "z", "distance"]
    pd.testing.assert_frame_equal(
        result[columns], expected[columns].reset_index(drop=True), check_exact=True
    )


@st.composite
def spheres(draw):
    """A center on a point, between two, or anywhere; a point's distance, or one ulp from it."""
    level = draw(st.sampled_from(sorted(CLOUDS)))
    cloud = CLOUDS[level]
    row = st.integers(0, len(cloud) - 1)
    centre = cloud[draw(row)]
    match draw(st.integers(0, 2)):
        case 1:
            centre = (centre + cloud[draw(row)]) / 2
        case 2:
            centre = np.array([draw(st.floats(-1e37, 1e37)) for _ in range(3)])
    d = cloud[draw(row)] - centre
    with np.errstate(under="ignore"):
        radius = float(np.sqrt(d[0] * d[0] + d[1] * d[1] + d[2] * d[2]))
    ulp = draw(st.sampled_from([0.0, -math.inf, math.inf]))
    if ulp and radius + ulp != radius:
        radius = max(0.0, math.nextafter(radius, ulp))
    return tuple(centre.tolist()), radius, level


@settings(max_examples=250)
@given(sphere=spheres())
@example(sphere=((0.0, 0.0, 0.0), 3.0, 0))
@example(sphere=((0.5, 0.5, 0.5), math.sqrt(0.75), 0))
@example(sphere=((1.0, 1.0, 1.0), 0.0, 0))
@example(sphere=((0.0, 0.0, 0.0), math.inf, 3))
@example(sphere=((0.0, 0.0, 0.0), 0.0, 6))
@example(sphere=((0.0, 0.0, 0.0), 1e308, 4))
def test_the_sphere_is_closed(store, points, sphere):
    centre, radius, level = sphere
    expected = by_distance(points, centre, level)
    assert_same(
        store.tokens.find_within(centre, radius, level), expected[expected.distance <= radius]
    )


def test_points_beyond_the_rounded_radius(store):
    """At y = r the box ends at 0, but a point just beyond has the computed distance r, too."""
    r = 1.7759420662588217e25
    token_ids = store.tokens.bulk_create(
        {"x": [1e7, 1e7], "y": [-1e-20, -1e9], "z": [0, 0], "token_type": ["corner"] * 2}
    )
    result = store.tokens.find_within((1e7, r, 0.0), r, token_type="corner")
    near = store.tokens.find_nearest((1e7, r, 0.0), 5, max_distance=r, token_type="corner")
    store.tokens.delete(token_ids)

    assert result.token_id.tolist() == near.token_id.tolist() == sorted(token_ids)
    assert result.distance.tolist() == [r, r]


@settings(max_examples=200)
@given(
    sphere=spheres(), k=st.sampled_from([1, 2, 6, 7, 33, 299, 300, 10_000]), bounded=st.booleans()
)
@example(sphere=((0.0, 0.0, 0.0), 1.0, 0), k=3, bounded=False)
@example(sphere=((0.5, 0.5, 0.5), 1.0, 0), k=5, bounded=False)
def test_the_nearest_with_ties_by_id(store, points, sphere, k, bounded):
    centre, radius, level = sphere
    expected = by_distance(points, centre, level)
    if bounded:
        expected = expected[expected.distance <= radius]
    result = store.tokens.find_nearest(centre, k, level, max_distance=radius if bounded else None)
    assert_same(result, expected[:k])


@settings(max_examples=60)
@given(
    centre=st.tuples(*[st.sampled_from(np.arange(-8.0, 8.5, 0.5).tolist())] * 3),
    k=st.integers(1, 343),
)
def test_a_lattice_equals_scipy(store, points, centre, k):
    distance, _ = cKDTree(LATTICE).query(centre, k=[*range(1, k + 1)])
    result = store.tokens.find_nearest(centre, k)
    np.testing.assert_allclose(result.distance, distance, rtol=1e-15)

    # Of the tokens that tie at the end, those with the least ids.
    edge = result.distance.iloc[-1]
    ties = by_distance(points, centre, 0).query("distance == @edge").token_id
    assert (
        result.token_id[result.distance == edge].tolist()
        == sorted(ties)[: (result.distance == edge).sum()]
    )


def test_a_limit_keeps_the_first_by_id_in_order_of_distance(store, points):
    whole = by_distance(points, (0.0, 0.0, 0.0), 0).query("distance <= 2")
    selected = whole[whole.token_id.isin(sorted(whole.token_id)[:9])]
    assert_same(store.tokens.find_within((0, 0, 0), 2, limit=9), selected)
    assert store.tokens.find_within((0, 0, 0), 2, limit=0).empty
