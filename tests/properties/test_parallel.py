"""A region read in parts over several connections has the rows of one read, however it is cut."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ngdata._query.filters import TokenFilter
from ngdata._query.parallel_parts import slabs, sweeps
from ngdata._query.regions import region
from ngdata._query.space import Box
from ngdata._reading import parallel
from tests.properties.test_regions import CLOUDS, boxes

TYPES = ["a", "b"]


@pytest.fixture(scope="module")
def points(store):
    for level, cloud in CLOUDS.items():
        frame = pd.DataFrame(cloud, columns=list("xyz"))
        frame["token_type"] = np.resize(TYPES, len(frame))
        store.tokens.bulk_create(frame, level=level)
    return store


def in_order(frame):
    return frame.sort_values("token_id", ignore_index=True)


@pytest.mark.parametrize("way", ["sweeps", "slabs"])
@settings(max_examples=60)
@given(box=boxes(), kind=st.sampled_from([None, "a", ["a", "b"], "none"]))
@example(box=((-math.inf,) * 3, (math.inf,) * 3, 5), kind=None)
@example(box=((-math.inf,) * 3, (math.inf,) * 3, 6), kind=None)
@example(box=((0.0,) * 3, (0.0,) * 3, 5), kind=None)
def test_parts_are_the_region(points, way, box, kind):
    with pytest.MonkeyPatch.context() as patch:
        alone = points.tokens.find_in_region(*box, token_type=kind, cache="off")
        patch.setattr(parallel, "_MIN_PARALLEL_ROWS", -1)
        patch.setattr(parallel, "_SWEEP_SHARE", -math.inf if way == "sweeps" else math.inf)
        together = points.tokens.find_in_region(*box, token_type=kind, cache="off")
        versioned = points.tokens.find_in_region(*box, token_type=kind)
    for found in (together, versioned):
        pd.testing.assert_frame_equal(in_order(found), in_order(alone), check_exact=True)
        assert np.array_equal(
            np.signbit(in_order(found)[["x", "y", "z"]]),
            np.signbit(in_order(alone)[["x", "y", "z"]]),
        )
    assert points.pool_status()["read"]["size"] > 1


@settings(max_examples=100)
@given(box=boxes(), parts=st.integers(2, 9), seed=st.integers(0, 9))
def test_slabs_touch_and_never_overlap(box, parts, seed):
    low, high, level = box
    whole = region(Box.of(low, high, level), TokenFilter())
    cloud = CLOUDS[level]
    inside = cloud[((cloud >= low) & (cloud <= high)).all(axis=1)]
    sample = np.random.default_rng(seed).permutation(inside)[: 10 * parts]
    found = [part.region.box for part in slabs(whole, sample, parts)]

    assert 1 <= len(found) <= parts
    (axis,) = {a for one in found for a in range(3) if one.low[a] != low[a]} or {0}
    assert found[0].low == tuple(low)
    assert found[-1].high == tuple(high)
    for one, following in itertools.pairwise(found):
        assert following.low[axis] == math.nextafter(one.high[axis], math.inf)
    for place in inside:
        assert (
            sum(
                all(a <= v <= b for a, v, b in zip(one.low, place, one.high, strict=True))
                for one in found
            )
            == 1
        )


@given(pages=st.integers(0, 50), parts=st.integers(1, 9))
def test_sweeps_go_to_the_end_from_the_start(pages, parts):
    whole = region(Box.of((0, 0, 0), (1, 1, 1), 2), TokenFilter())
    found = sweeps(whole, pages, parts)
    assert 1 <= len(found) <= parts
    assert "ctid >= '(0,0)'::tid" in found[0].sql
    assert "ctid <" not in found[-1].sql
    ends = [part.sql.split("ctid < '(")[1].split(",")[0] for part in found[:-1]]
    assert ends == [part.sql.split("ctid >= '(")[1].split(",")[0] for part in found[1:]]
    assert [int(end) for end in ends] == sorted({int(end) for end in ends})
