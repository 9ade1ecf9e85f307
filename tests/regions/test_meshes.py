"""Hulls and meshes beside SciPy and trimesh: the same points inside, off the surface."""

import numpy as np
import pandas as pd
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial import ConvexHull

from ngdata import Box, Hull, Mesh, Sphere
from ngdata.regions.meshes import INSIDE, OUTSIDE
from tests.conftest import SCALE

RNG = np.random.default_rng(12)
# Nearer to the surface than this share of the size, either answer is right.
NEAR = 1e-9


def dented(subdivisions, depth):
    body = trimesh.creation.icosphere(subdivisions=subdivisions)
    x, y, z = body.vertices.T
    dents = 1 - depth * np.sin(3 * np.arctan2(y, x)) ** 2 * (1 - z**2)
    body.vertices = body.vertices * dents[:, None]
    return body


BODIES = {
    "box": trimesh.creation.box((1, 2, 3)),
    "dented": dented(3, 0.6),
    "torus": trimesh.creation.torus(1.0, 0.3),
    "capsule": trimesh.creation.capsule(1.0, 0.4),
    "two, apart": trimesh.util.concatenate(
        trimesh.creation.box((1, 1, 1)),
        trimesh.creation.icosphere(subdivisions=1).apply_translation((3, 3, 3)),
    ),
    "a hollow": trimesh.util.concatenate(
        trimesh.creation.box((2, 2, 2)), trimesh.creation.icosphere(subdivisions=2, radius=0.7)
    ),
}
TURNS = [np.eye(3), np.linalg.qr(RNG.normal(size=(3, 3)))[0]]


def turned(body, turn, size, by):
    result = body.copy()
    result.vertices = result.vertices @ TURNS[turn].T * size + by
    return result


@pytest.mark.parametrize("turn", [0, 1])
@pytest.mark.parametrize("name", BODIES)
def test_meshes_as_in_trimesh(name, turn):
    body = turned(BODIES[name], turn, 10.0, (5, -3, 100))
    mesh = Mesh(body.vertices, body.faces)
    low, high = body.bounds
    points = RNG.uniform(low - 0.5, high + 0.5, (400 * SCALE, 3))
    inside = mesh.contains(points)
    assert 0.01 < inside.mean() < 0.95
    expected = body.contains(points)
    differ = points[inside != expected]
    if len(differ):
        _, distances, _ = trimesh.proximity.closest_point(body, differ)
        assert distances.max() < NEAR * 100


@pytest.mark.parametrize("name", BODIES)
def test_cells_are_as_their_points(name):
    """A cell that is wholly inside, or outside, holds no other point."""
    body = turned(BODIES[name], 1, 1.0, (0, 0, 0))
    mesh = Mesh(body.vertices, body.faces)
    low = RNG.uniform(body.bounds[0] - 0.3, body.bounds[1], (400, 3))
    high = low + RNG.uniform(0, 0.5, (400, 1))
    is_inside, is_outside = mesh._cells(low, high)
    assert is_inside.any()
    assert is_outside.any()
    cells = np.flatnonzero(is_inside | is_outside)
    points = RNG.uniform(low[cells], high[cells], (50, len(cells), 3))
    assert (mesh.contains(points) == is_inside[cells]).all()
    assert (body.contains(points[0]) == is_inside[cells]).all()


def test_cells_that_end_on_the_outermost_face_are_undecided():
    """A point on that face may be in either of two cells, by rounding of its position."""
    body = trimesh.creation.box((1, 1, 1))
    mesh = Mesh(body.vertices, body.faces)
    for axis in range(3):
        for side in (-1, 1):
            low, high = np.full((1, 3), -0.25), np.full((1, 3), 0.25)
            ends = sorted((0.5 * side, 1.0 * side))
            low[0, axis], high[0, axis] = ends
            is_inside, is_outside = mesh._cells(low, high)
            assert not is_inside[0]
            assert not is_outside[0]


def test_the_grid_and_rays_agree():
    body = dented(4, 0.5)
    mesh = Mesh(body.vertices, body.faces)
    points = RNG.uniform(*mesh._extent, (50_000, 3))
    states = mesh._grid.states_at(points)
    by_ray = mesh._surface.has_inside(points)
    assert by_ray[states == INSIDE].all()
    assert not by_ray[states == OUTSIDE].any()


def test_rays_through_vertices_and_edges():
    """No cracks: points exactly above and below vertices and edges, where rays meet several triangles."""
    body = trimesh.creation.icosphere(subdivisions=2)
    mesh = Mesh(body.vertices, body.faces)
    v, (a, b) = body.vertices, body.edges_unique.T
    for ends in (v, (v[a] + v[b]) / 2, v[a] * 0.25 + v[b] * 0.75):
        below = ends * [1, 1, 0] - [0, 0, 5]
        assert not mesh.contains(below).any()
        # Inside below and above the middle, except at the rim of the body.
        near = np.abs(ends[:, 2]) > 0.2
        assert mesh.contains(ends[near] * [1, 1, 0.5]).all()
        assert not mesh.contains(ends[near] * [1, 1, 1.5]).any()


@settings(max_examples=25 * SCALE)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([1e-30, 1e-3, 1.0, 1e6, 1e30]))
def test_hulls_as_in_scipy(seed, size):
    random = np.random.default_rng(seed)
    points = random.normal(size=(random.integers(4, 60), 3)) * size
    hull, reference = Hull(points), ConvexHull(points / size)
    probes = random.normal(size=(500, 3))
    distances = (reference.equations[:, :3] @ probes.T + reference.equations[:, 3:]).max(axis=0)
    inside = hull.contains(probes * size)
    off = np.abs(distances) > NEAR
    assert (inside[off] == (distances <= 0)[off]).all()


@pytest.mark.parametrize("count", [600, 60])
def test_cells_of_hulls_are_as_their_points(count):
    """Of many facets, the surface answers; of few, the facets do."""
    points = RNG.normal(size=(count, 3))
    hull = Hull(points / np.linalg.norm(points, axis=1)[:, None] * 5 + (100, 0, 0))
    low = RNG.uniform((94, -6, -6), (104, 4, 4), (400, 3))
    high = low + RNG.uniform(0, 2, (400, 1))
    is_inside, is_outside = hull._cells(low, high)
    assert is_inside.any()
    assert is_outside.any()
    cells = np.flatnonzero(is_inside | is_outside)
    probes = RNG.uniform(low[cells], high[cells], (50, len(cells), 3))
    assert (hull.contains(probes) == is_inside[cells]).all()


@pytest.fixture(scope="module")
def store(server):
    import ngdata
    from tests.conftest import empty

    empty(server.database_url)
    with ngdata.connect(server.database_url) as client:
        points = np.concatenate([RNG.uniform(-1.5, 1.5, (6000, 3)), dented(2, 0.5).vertices])
        frame = pd.DataFrame(points, columns=list("xyz"))
        client.tokens.bulk_create(frame)
        yield client


@pytest.mark.parametrize("name", ["dented", "torus", "a hollow"])
def test_the_server_counts_as_contains_does(store, name):
    body = BODIES[name]
    mesh = Mesh(body.vertices, body.faces)
    everything = store.tokens.find_in_region(mesh.bounds)
    inside = mesh.contains(everything)
    for region in (mesh, mesh & Sphere((0, 0, 0), 2), mesh | Sphere((9, 9, 9), 1)):
        frame = store.tokens.find_in_region(region, cache="off")
        assert sorted(frame.token_id) == sorted(everything.token_id[inside])
    assert store.tokens.count_in_region(mesh.bounds - mesh) == (~inside).sum()
    # Without a bound, each point is tested.
    assert store.tokens.count_in_region(~mesh) == 6000 + 162 - inside.sum()


def test_moved():
    body = BODIES["torus"]
    mesh, points = Mesh(body.vertices, body.faces), RNG.uniform(-1, 1, (200, 3))
    moved = mesh.moved((8, 16, -4))
    by = np.array([8, 16, -4])
    assert (moved.contains(points + by) == mesh.contains(points)).mean() > 0.99
    points = body.vertices + by
    assert Hull(body.vertices).moved(by).bounds == Box(points.min(axis=0), points.max(axis=0))


def test_files(tmp_path):
    body = BODIES["dented"]
    for ending in ("stl", "obj", "ply", "off"):
        path = tmp_path / f"body.{ending}"
        body.export(path)
        mesh = Mesh.load(path)
        assert len(mesh.faces) == len(body.faces)
        assert mesh.contains([(0, 0, 0), (0, 0, 2)]).tolist() == [True, False]
