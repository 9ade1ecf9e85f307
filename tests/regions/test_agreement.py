"""Random regions of every shape: `contains` in Python and the server agree on every token."""

import json
import math
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngdata import EVERYWHERE, NOWHERE, Box, HalfSpace, Hull, Mesh, OrientedBox, Region, Sphere
from tests.conftest import SCALE

TINY = 5e-324
RNG = np.random.default_rng(7)
LATTICE = np.array(np.meshgrid(*[np.arange(-2.0, 3.0)] * 3)).reshape(3, -1).T
NEXT = np.nextafter(LATTICE, RNG.choice([-9.0, 9.0], LATTICE.shape))
CLOUDS = {
    # On faces, edges and corners, and next to them.
    "physical": np.concatenate([LATTICE, NEXT, LATTICE / 3, RNG.normal(size=(150, 3))]),
    "motor": np.concatenate([LATTICE[::2] * 0.1, RNG.choice([-1.0, 1.0], (100, 3)) * 1e37 / 3]),
    "temporal": RNG.choice([-1.0, 0.0, 1.0], (300, 3)) * 10.0 ** RNG.uniform(-320, 37, (300, 3)),
}
LEVELS = (
    "physical",
    "sensory",
    "motor",
    "emotional",
    "cognitive",
    "social",
    "temporal",
    "abstract",
)
SIZE = 700

ROTATIONS = [np.linalg.qr(RNG.normal(size=(3, 3)))[0] for _ in range(3)]
ROTATIONS += [np.eye(3), np.array([[0.6, 0.8, 0.0], [-0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])]

CUBE = [(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]
FACES = [
    (0, 1, 3), (0, 3, 2), (4, 6, 7), (4, 7, 5), (0, 4, 5), (0, 5, 1),
    (2, 3, 7), (2, 7, 6), (0, 2, 6), (0, 6, 4), (1, 5, 7), (1, 7, 3),
]  # fmt: skip
OCTAHEDRON = [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)]
OCTANTS = [(a, b, c) for a in (0, 1) for b in (2, 3) for c in (4, 5)]


@pytest.fixture(scope="module")
def coords():
    """All tokens on all levels, NaN where undefined."""
    values = np.full((SIZE, 8, 3), np.nan)
    for name, cloud in CLOUDS.items():
        rows = RNG.permutation(SIZE)[: len(cloud)]
        values[rows, LEVELS.index(name)] = cloud
    # A token is somewhere.
    return values[~np.isnan(values).all(axis=(1, 2))]


@pytest.fixture(scope="module")
def tokens(store, coords):
    frame = pd.DataFrame({"token_type": ["a"] * len(coords)})
    return store.tokens.bulk_create(frame, coords=coords)


NUMBERS = st.one_of(
    st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0, 1 / 3]),
    st.sampled_from([TINY, -TINY, 1e-200, 1e37, -1e37, 0.1]),
    st.floats(-3, 3),
)
POINTS = st.tuples(NUMBERS, NUMBERS, NUMBERS)
SMALL = st.tuples(*[st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0])] * 3)
SIZES = st.one_of(
    st.sampled_from([0.0, 0.5, 1.0, math.sqrt(2), math.sqrt(3), 2.0]), st.floats(0, 4)
)


def corners(a, b):
    return Box(np.minimum(a, b), np.maximum(a, b))


def half_space(normal, point, offset):
    normal = normal if any(normal) else (0.0, 0.0, 1.0)
    return HalfSpace(normal, float(np.dot(normal, point)) if offset is None else offset)


def scaled_mesh(kind, size, by, turn):
    vertices, faces = (CUBE, FACES) if kind else (OCTAHEDRON, OCTANTS)
    return Mesh(np.array(vertices) @ ROTATIONS[turn] * size + by, faces)


def hull(points):
    points = np.array(points)
    try:
        return Hull(points)
    except ValueError:
        return Hull(np.concatenate([points, points[0] + np.array([*CUBE])]))


SHAPES = st.one_of(
    st.builds(corners, POINTS, POINTS),
    st.builds(Sphere, POINTS, SIZES),
    st.builds(half_space, POINTS, SMALL, st.one_of(st.none(), NUMBERS)),
    st.builds(OrientedBox, SMALL, st.sampled_from(ROTATIONS), st.tuples(SIZES, SIZES, SIZES)),
    st.builds(hull, st.lists(SMALL, min_size=4, max_size=12)),
    st.builds(scaled_mesh, st.booleans(), st.floats(0.1, 2), SMALL, st.integers(0, 4)),
    st.sampled_from([EVERYWHERE, NOWHERE]),
)
BOUND = st.one_of(
    SHAPES, st.builds(Region.on, SHAPES, st.sampled_from(["motor", "temporal", "physical"]))
)
REGIONS = st.recursive(
    BOUND,
    lambda parts: st.one_of(
        st.builds(lambda a, b: a | b, parts, parts),
        st.builds(lambda a, b: a & b, parts, parts),
        st.builds(lambda a, b: a - b, parts, parts),
        st.builds(lambda a, b: a ^ b, parts, parts),
        st.builds(lambda a: ~a, parts),
        st.builds(lambda a, by: a.moved(by), parts, SMALL),
        st.builds(Region.on, parts, st.sampled_from(["motor", "temporal"])),
    ),
    max_leaves=8,
)


@settings(max_examples=500 * SCALE)
@given(region=REGIONS, level=st.sampled_from(["physical", "physical", "motor", "temporal"]))
def test_the_server_agrees_with_contains(store, tokens, coords, region, level):
    number = LEVELS.index(level)
    is_defined = ~np.isnan(coords[:, number]).any(axis=1)
    expected = (
        region.contains(coords, level)
        if region._levels != {None}
        else region.contains(coords[:, number])
    )
    expected = is_defined & expected
    frame = store.tokens.find_in_region(region, level=level, columns=["token_id"], cache="off")
    assert sorted(frame.token_id) == sorted(tokens[expected]), region
    assert store.tokens.count_in_region(region, level=level, cache="off") == expected.sum()


@settings(max_examples=150 * SCALE)
@given(region=REGIONS)
def test_a_region_is_a_value(region):
    for other in (
        eval(repr(region)),
        pickle.loads(pickle.dumps(region)),
        Region.from_dict(json.loads(json.dumps(region.to_dict(), allow_nan=False))),
        ~~region,
        region | region,
        region & region,
    ):
        assert other == region
        assert hash(other) == hash(region)
        assert repr(other) == repr(region)
    assert region._repr_html_().startswith("<div>")


@settings(max_examples=150 * SCALE)
@given(a=BOUND, b=BOUND, c=BOUND)
def test_the_form_does_not_depend_on_the_order(a, b, c):
    assert (a | b) | c == c | (b | a)
    assert (a & b) & c == c & (b & a)
    assert ~(a | b) == ~a & ~b
    assert ~(a & b) == ~a | ~b
    assert a - b == a & ~b
    assert a ^ b == b ^ a


@settings(max_examples=100 * SCALE)
@given(region=REGIONS)
def test_bounds_hold_every_point(coords, region):
    unbound = region._each(lambda shape: shape._bound(None))
    points = coords.reshape(-1, 3)
    inside = unbound.contains(points)
    assert not (inside & ~unbound.bounds.contains(points)).any()
