"""A region read in parts over several connections has the rows of one read."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ngdata._query.filters import TokenFilter
from ngdata._query.parallel_parts import slabs, sweeps
from ngdata._query.places import Place
from ngdata._query.regions import region
from ngdata._reading import parallel
from tests.properties.test_regions import CLOUDS, boxes

TYPES = ["a", "b"]


@pytest.fixture(scope="module")
def points(store):
    for level, cloud in CLOUDS.items():
        frame = pd.DataFrame(cloud, columns=list("xyz"))
        frame["token_type"] = np.resize(TYPES, len(frame))
        frame["metadata"] = [{"third": n % 3} if n % 5 else None for n in range(len(frame))]
        store.tokens.bulk_create(frame, level=level)
    return store


def in_order(frame):
    return frame.sort_values("token_id", ignore_index=True)


@pytest.mark.parametrize("method", ["sweeps", "slabs"])
@settings(max_examples=60)
@given(
    box=boxes(),
    kind=st.sampled_from([None, "a", ["a", "b"], "none"]),
    where=st.sampled_from([None, None, {"third": 1}]),
    columns=st.sampled_from([None, [*"xyz", "token_id", "metadata.third"]]),
)
@example(box=((-math.inf,) * 3, (math.inf,) * 3, 5), kind=None, where=None, columns=None)
@example(box=((-math.inf,) * 3, (math.inf,) * 3, 6), kind=None, where={"third": 1}, columns=None)
@example(box=((0.0,) * 3, (0.0,) * 3, 5), kind=None, where=None, columns=None)
def test_the_parts_have_the_rows_of_the_region(points, method, box, kind, where, columns):
    options = {"token_type": kind, "where": where, "columns": columns}
    with pytest.MonkeyPatch.context() as patch:
        alone = points.tokens.find_in_region(*box, **options, cache="off")
        patch.setattr(parallel, "_MIN_PARALLEL_ROWS", -1)
        patch.setattr(parallel, "_SWEEP_SHARE", -math.inf if method == "sweeps" else math.inf)
        together = points.tokens.find_in_region(*box, **options, cache="off")
        versioned = points.tokens.find_in_region(*box, **options)
    for result in (together, versioned):
        pd.testing.assert_frame_equal(in_order(result), in_order(alone), check_exact=True)
        assert np.array_equal(
            np.signbit(in_order(result)[["x", "y", "z"]]),
            np.signbit(in_order(alone)[["x", "y", "z"]]),
        )
    assert points.pool_status()["read"]["size"] > 1


@settings(max_examples=100)
@given(box=boxes(), parts=st.integers(2, 9), seed=st.integers(0, 9))
def test_slabs_touch_and_never_overlap(box, parts, seed):
    low, high, level = box
    whole = region(Place.of(low, high, level), TokenFilter())
    cloud = CLOUDS[level]
    inside = cloud[((cloud >= low) & (cloud <= high)).all(axis=1)]
    sample = np.random.default_rng(seed).permutation(inside)[: 10 * parts]
    result = [part.region.place.region for part in slabs(whole, sample, parts)]

    assert 1 <= len(result) <= parts
    (axis,) = {a for one in result for a in range(3) if one.min_coords[a] != low[a]} or {0}
    assert result[0].min_coords == tuple(low)
    assert result[-1].max_coords == tuple(high)
    for one, following in itertools.pairwise(result):
        assert following.min_coords[axis] == math.nextafter(one.max_coords[axis], math.inf)
    for place in inside:
        assert (
            sum(
                all(
                    a <= v <= b
                    for a, v, b in zip(one.min_coords, place, one.max_coords, strict=True)
                )
                for one in result
            )
            == 1
        )


@given(pages=st.integers(0, 50), parts=st.integers(1, 9))
def test_sweeps_cover_all_pages(pages, parts):
    whole = region(Place.of((0, 0, 0), (1, 1, 1), 2), TokenFilter())
    result = sweeps(whole, pages, parts)
    assert 1 <= len(result) <= parts
    assert "ctid >= '(0,0)'::tid" in result[0].sql
    assert "ctid <" not in result[-1].sql
    ends = [part.sql.split("ctid < '(")[1].split(",")[0] for part in result[:-1]]
    assert ends == [part.sql.split("ctid >= '(")[1].split(",")[0] for part in result[1:]]
    assert [int(end) for end in ends] == sorted({int(end) for end in ends})
