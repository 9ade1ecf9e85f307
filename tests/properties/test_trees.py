"""Searches in a tree in memory, compared to brute force on clouds that lead floats astray."""

import uuid

import numpy as np
import pyarrow as pa
import pytest

from ngdata._reading import trees
from ngdata._reading.trees import TokenTree, distances
from tests.conftest import SCALE

EVERYWHERE = 1e300


def clouds(rng, count):
    """Yield clouds of points: grids, duplicates, all sizes of floats, far outliers."""
    shape = (count, 3)
    yield rng.integers(-2, 3, shape).astype(float)
    yield rng.choice([-1.0, 1.0], shape) * 10.0 ** rng.uniform(-320, 36.9, shape)
    yield rng.integers(-5, 6, shape) * 10.0 ** rng.choice([-323, -200, -160, -150, 30, 36])
    yield 1e6 + rng.integers(-4, 5, shape) * np.spacing(1e6)
    yield np.repeat(rng.normal(size=(1, 3)), count, axis=0)
    yield rng.normal(size=shape) * np.where(
        rng.random(shape) < 0.5, 1, 10.0 ** rng.integers(-200, 36)
    )
    yield np.where(rng.random((count, 1)) < 0.9, rng.integers(-3, 4, shape) * 1e-3, 1e36)


def rows(found):
    return list(zip(*(column.tolist() for column in found), strict=True))


def nearest(away, ids, radii, k):
    """Return by brute force what is near each point; `away` is infinite where nothing may be."""
    result = []
    for point, distance in enumerate(away):
        order = np.lexsort((ids, distance))
        near = (distance[order] <= radii[point]) & np.isfinite(distance[order])
        result += [(point, int(row), float(distance[row])) for row in order[near][:k]]
    return result


@pytest.mark.parametrize("seed", range(5 * SCALE))
def test_any_cloud(seed):
    rng = np.random.default_rng(seed)
    count, points = int(rng.integers(1, 150)), int(rng.integers(1, 25))
    for places, others in zip(clouds(rng, count), clouds(rng, points), strict=True):
        ids = np.array([str(uuid.UUID(bytes=rng.bytes(16))) for _ in range(count)])
        columns = {axis: places[:, number] for number, axis in enumerate("xyz")}
        tree = TokenTree(pa.table({"token_id": pa.array(ids.tolist()), **columns}))
        own = np.where(rng.random(points) < 0.2, -1, rng.integers(0, count, points))
        for queries, itself in ((others, None), (places[own], own)):
            away = np.array([distances(query[np.newaxis], places) for query in queries])
            some = away[np.arange(points), rng.integers(0, count, points)]
            if itself is not None:
                away[np.flatnonzero(itself >= 0), itself[itself >= 0]] = np.inf
            for radii in (None, float(some[0]), some):
                limits = np.broadcast_to(EVERYWHERE if radii is None else radii, points)
                for k in (1, int(rng.integers(2, 9)), count):
                    expected = nearest(away, ids, limits, k)
                    assert rows(tree.nearest(queries, k, radii, itself)) == expected
                    assert tree.count_nearest(queries, k, radii, itself) == len(expected)
                    with pytest.MonkeyPatch.context() as patch:
                        # As for a large k: by what the spheres hold.
                        patch.setattr(trees, "_MANY_NEAREST", 0)
                        assert rows(tree.nearest(queries, k, radii, itself)) == expected
                if np.ndim(radii) == 0 and radii is not None:
                    every = nearest(away, ids, limits, count)
                    assert tree.count_within(queries, radii, itself) == len(every)
                expected = nearest(away, ids, limits, count)
                assert rows(tree.within(queries, limits, itself)) == expected
                assert tree.counts_within(queries, limits, itself).sum() == len(expected)
                assert tree.count_within(queries, limits, itself) == len(expected)
                assert tree.most_within(queries, limits).sum() >= len(expected)
        apart = np.array([distances(place[np.newaxis], places) for place in places])
        radius = float(apart[0, -1])
        first, second = np.nonzero((apart <= radius) & (ids[:, np.newaxis] < ids))
        order = np.lexsort((ids[second], ids[first]))
        pairs = tree.pairs(radius)
        assert pairs.points.tolist() == first[order].tolist()
        assert pairs.tokens.tolist() == second[order].tolist()
        assert pairs.distances.tolist() == apart[first, second][order].tolist()
        assert tree.most_pairs(radius) >= len(order)
        assert tree.count_pairs(radius) == len(order)
