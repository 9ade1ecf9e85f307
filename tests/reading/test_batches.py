"""Batches of searches, on the server and in a tree at the client, compared to brute force in NumPy.

Both ways must return the same frames, bit for bit: on grids, where everything ties, on duplicates, at
1e37 and where squares underflow.
"""

import math
import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial import cKDTree

import ngdata
from ngdata._arguments.texts import STR
from ngdata._reading import batch_costs, batches, trees
from ngdata._reading.region_sizes import LevelSize
from ngdata.errors import ConfigError, InvalidQueryError, NotFoundError, ResultTooLarge
from tests.conftest import empty, run, with_texts

RNG = np.random.default_rng(7)
AXES = [*"xyz"]
LATTICE = np.array(np.meshgrid(*[np.arange(3.0)] * 3)).reshape(3, -1).T
CLOUDS = {
    0: LATTICE,
    1: RNG.normal(size=(200, 3)),
    2: np.repeat(RNG.integers(-2, 3, size=(15, 3)).astype(float), 8, axis=0),
    3: RNG.uniform(-9.9e36, 9.9e36, size=(150, 3)),
    4: RNG.choice([-1.0, 1.0], (150, 3)) * 10.0 ** RNG.uniform(-320, 36.9, (150, 3)),
    5: RNG.integers(-5, 6, size=(150, 3)) * 1e-200,
    6: 1e6 + RNG.integers(-4, 5, size=(150, 3)) * np.spacing(1e6),
}
TYPES = np.array(["red", "green", "blue"])
WAYS = ("server", "client tree")
NO_ID = "00000000-0000-4000-8000-000000000000"


@pytest.fixture(scope="module")
def url(server):
    empty(server.database_url)
    yield server.database_url
    empty(server.database_url)


@pytest.fixture(scope="module")
def ng(url):
    with ngdata.connect(url) as client:
        yield client


@pytest.fixture(scope="module")
def tokens(ng):
    """Write the clouds, each on its own level, and one token that is on two of them."""
    frames = []
    for level, cloud in CLOUDS.items():
        frame = pd.DataFrame(cloud, columns=AXES)
        numbers = np.arange(len(frame))
        frame["token_type"] = TYPES[numbers % 3]
        frame["weight"] = numbers / 8
        frame["flags"] = numbers % 8
        frame["metadata"] = [{"even": int(number) % 2 == 0} for number in numbers]
        frame["token_id"] = ng.tokens.bulk_create(frame, level=level)
        frames.append(frame.assign(level=level))
    coords = np.full((1, 8, 3), np.nan)
    coords[0, [0, 1]] = (0.5, 0.5, 0.5), (0.0, 0.0, 0.0)
    both = pd.DataFrame({"token_type": ["both"], "weight": [0.0], "flags": [0]})
    both["token_id"] = ng.tokens.bulk_create(both, coords=coords)
    frames += [
        both.assign(level=level, **dict(zip(AXES, coords[0, level], strict=True)))
        for level in (0, 1)
    ]
    return with_texts(pd.concat(frames, ignore_index=True))


def in_both_ways(read, *arguments, **options):
    """Return the frame of a read, after both ways returned the same."""
    frames = []
    for way in WAYS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(batches, "forced_way", way)
            frames.append(read(*arguments, **options))
        assert frames[-1].attrs["ngdata"]["way"] == way or not len(frames[-1])
    pd.testing.assert_frame_equal(*frames, check_exact=True)
    assert [str(dtype) for dtype in frames[0].dtypes] == [str(dtype) for dtype in frames[1].dtypes]
    places = [{key: frame.attrs["ngdata"][key] for key in ("level", "unit")} for frame in frames]
    assert places[0] == places[1]
    return frames[0]


def distances(first, second):
    dx, dy, dz = (first - second).T
    with np.errstate(under="ignore"):
        return np.sqrt(dx * dx + dy * dy + dz * dz)


def expected(tokens, level, points, k=None, radii=math.inf, own=None, labels=None):
    """Return by brute force what a batch returns."""
    rows = tokens[tokens.level == level].sort_values("token_id", ignore_index=True)
    places, ids = rows[AXES].to_numpy(), rows.token_id.to_numpy()
    radii = np.broadcast_to(radii, len(points))
    near, away, queries = [], [], []
    for position, point in enumerate(points):
        distance = distances(places, point)
        # By id already.
        order = np.argsort(distance, kind="stable")
        is_near = distance[order] <= radii[position]
        if own is not None:
            is_near &= ids[order] != own[position]
        order = order[is_near][: len(rows) if k is None else k]
        near.append(order)
        away.append(distance[order])
        queries += [position if labels is None else labels[position]] * len(order)
    frame = rows.loc[np.concatenate(near), ["token_id", *AXES]].reset_index(drop=True)
    frame.insert(0, "query", pd.Series(queries, dtype="int64" if labels is None else STR))
    return frame.assign(distance=np.concatenate(away))


def assert_rows(frame, rows):
    pd.testing.assert_frame_equal(frame[rows.columns.tolist()], rows, check_exact=True)


@st.composite
def batches_of_points(draw):
    """A level, and points that are tokens' places, between two, or anywhere."""
    level = draw(st.sampled_from(sorted(CLOUDS)))
    cloud = CLOUDS[level]
    row = st.integers(0, len(cloud) - 1)
    points = []
    for _ in range(draw(st.integers(1, 6))):
        point = cloud[draw(row)]
        match draw(st.integers(0, 2)):
            case 1:
                point = point / 2 + cloud[draw(row)] / 2
            case 2:
                point = np.array([draw(st.floats(-1e37, 1e37)) for _ in range(3)])
        points.append(point)
    points = np.array(points)
    # A token's distance, or the next number to it.
    radius = float(distances(points[:1], cloud[draw(row)][np.newaxis])[0])
    toward = draw(st.sampled_from([radius, -math.inf, math.inf]))
    return level, points, max(0.0, math.nextafter(radius, toward))


@settings(max_examples=30)
@given(batch=batches_of_points(), k=st.integers(1, 40))
@example(batch=(0, LATTICE, 1.0), k=7)
@example(batch=(2, CLOUDS[2], 0.0), k=5)
@example(batch=(5, CLOUDS[5], 0.0), k=10)
@example(batch=(5, CLOUDS[5], 1e-200), k=160)
@example(batch=(3, CLOUDS[3][:9], math.inf), k=1)
def test_any_batch_of_points(ng, tokens, batch, k):
    level, points, radius = batch
    near = in_both_ways(ng.tokens.find_nearest_many, points, k, level)
    assert_rows(near, expected(tokens, level, points, k))
    near = in_both_ways(ng.tokens.find_nearest_many, points, k, level, max_distance=radius)
    assert_rows(near, expected(tokens, level, points, k, radius))
    radii = radius * np.linspace(0.5, 1, len(points))
    for given_radius in (radius, radii):
        around = in_both_ways(ng.tokens.find_within_many, points, given_radius, level)
        assert_rows(around, expected(tokens, level, points, radii=given_radius))


@pytest.mark.parametrize("level", CLOUDS)
def test_the_distances_are_those_of_the_reads_of_one_point(ng, tokens, level):
    points = CLOUDS[level][:5]
    many = in_both_ways(ng.tokens.find_nearest_many, points, 4, level)
    singles = [ng.tokens.find_nearest(point, 4, level) for point in points]
    pd.testing.assert_frame_equal(
        many.drop(columns="query"), pd.concat(singles, ignore_index=True), check_exact=True
    )
    radius = float(many.distance.max())
    around = in_both_ways(ng.tokens.find_within_many, points, radius, level)
    singles = [ng.tokens.find_within(point, radius, level) for point in points]
    pd.testing.assert_frame_equal(
        around.drop(columns="query"), pd.concat(singles, ignore_index=True), check_exact=True
    )


@pytest.mark.parametrize("level", CLOUDS)
def test_ids_are_left_out_of_their_own_rows_by_id(ng, tokens, level):
    """Never by distance: on duplicates, the others in the same place stay."""
    rows = tokens[tokens.level == level]
    ids, points = rows.token_id.tolist(), rows[AXES].to_numpy()
    near = in_both_ways(ng.tokens.find_nearest_many, ids, 3, level)
    assert_rows(near, expected(tokens, level, points, 3, own=ids, labels=ids))
    near = in_both_ways(ng.tokens.find_nearest_many, rows.token_id, 3, level, include_self=True)
    assert_rows(near, expected(tokens, level, points, 3, labels=ids))
    radii = np.linspace(0, 2, len(ids))
    around = in_both_ways(ng.tokens.find_within_many, ids, radii, level)
    assert_rows(around, expected(tokens, level, points, radii=radii, own=ids, labels=ids))


FILTERS = {
    "one type": ({"token_type": "red"}, lambda rows: rows.token_type == "red"),
    "types": ({"token_type": ["red", "blue"]}, lambda rows: rows.token_type.isin(["red", "blue"])),
    "flags": ({"flags": 5}, lambda rows: rows["flags"] & 5 == 5),
    "weight": ({"min_weight": 2.0}, lambda rows: rows.weight >= 2.0),
    "all": (
        {"token_type": "red", "flags": 1, "min_weight": 1.0},
        lambda rows: (rows.token_type == "red") & (rows["flags"] & 1 == 1) & (rows.weight >= 1),
    ),
}


@pytest.mark.parametrize("name", FILTERS)
def test_filters_are_for_the_rows_and_not_for_the_points(ng, tokens, name):
    options, passes = FILTERS[name]
    rows = tokens[tokens.level == 1]
    kept, ids = tokens[passes(tokens)], rows.token_id.tolist()
    points = rows[AXES].to_numpy()
    near = in_both_ways(ng.tokens.find_nearest_many, points, 4, 1, **options)
    assert_rows(near, expected(kept, 1, points, 4))
    near = in_both_ways(ng.tokens.find_nearest_many, ids, 4, 1, **options)
    assert_rows(near, expected(kept, 1, points, 4, own=ids, labels=ids))
    around = in_both_ways(ng.tokens.find_within_many, ids, 0.5, 1, include_self=True, **options)
    assert_rows(around, expected(kept, 1, points, radii=0.5, labels=ids))


def test_filters_and_columns_of_metadata(ng, tokens):
    kept = tokens[[isinstance(each, dict) and each["even"] for each in tokens.metadata]]
    near = ng.tokens.find_nearest_many(LATTICE, 3, where={"even": True})
    assert_rows(near, expected(kept, 0, LATTICE, 3))
    columns = ["token_id", "metadata.even", "distance"]
    near = ng.tokens.find_nearest_many(LATTICE, 1, columns=columns)
    assert near.columns.tolist() == ["query", *columns]
    assert set(near["metadata.even"]) <= {"true", "false"}
    ids = tokens.token_id[:3].tolist()
    assert len(ng.tokens.find_within_many(ids, 1.0, columns=["metadata"], where={"even": True}))


def test_columns_are_the_callers(ng, tokens):
    for columns in (["distance"], ["z", "weight"], ["timestamp", "token_id"], ["level", "x"]):
        for points in (LATTICE, tokens.token_id[:20]):
            near = in_both_ways(ng.tokens.find_nearest_many, points, 2, columns=columns)
            assert near.columns.tolist() == ["query", *columns]
            whole = ng.tokens.find_nearest_many(points, 2)
            pd.testing.assert_frame_equal(near, whole[["query", *columns]], check_exact=True)


FORMS = {
    "lists": lambda points: points.tolist(),
    "list of arrays": list,
    "integers": lambda points: points.astype(int),
    "float32": lambda points: points.astype(np.float32),
    "objects": lambda points: points.astype(object),
    "mapping": lambda points: {axis: points[:, n] for n, axis in enumerate("xyz")},
    "Arrow table": lambda points: __import__("pyarrow").table(FORMS["mapping"](points)),
    "Polars": lambda points: __import__("polars").DataFrame(FORMS["mapping"](points)),
    "nullable": lambda points: pd.DataFrame(points, columns=AXES).convert_dtypes(),
}


@pytest.mark.parametrize("form", FORMS)
def test_points_in_any_form(ng, tokens, form):
    near = ng.tokens.find_nearest_many(FORMS[form](LATTICE), 2)
    assert_rows(near, expected(tokens, 0, LATTICE, 2))


def test_a_frame_is_points_and_its_index_names_them(ng, tokens):
    rows = tokens[tokens.level == 0][["token_id", "z", "y", "x"]]
    frame = rows.set_axis([f"row {n}" for n in range(len(rows))])
    near = in_both_ways(ng.tokens.find_nearest_many, frame, 1)
    assert near["query"].tolist() == frame.index.tolist()
    assert near.token_id.tolist() == frame.token_id.tolist(), "each token itself"
    assert (near.distance == 0).all()
    near = ng.tokens.find_nearest_many(rows.iloc[::-1], 1)
    assert near["query"].tolist() == rows.index[::-1].tolist()
    assert near["query"].dtype == "int64"
    pairs = pd.MultiIndex.from_product([["a", "b"], [1]])
    near = ng.tokens.find_nearest_many(rows[:2].set_axis(pairs), 1)
    assert near["query"].tolist() == [("a", 1), ("b", 1)]


def test_points_that_are_passed_twice_are_answered_twice(ng, tokens):
    ids = tokens.token_id[[3, 4, 3]].tolist()
    near = in_both_ways(ng.tokens.find_nearest_many, ids, 2)
    assert near["query"].tolist() == np.repeat(ids, 2).tolist()
    assert near.token_id[:2].tolist() == near.token_id[4:].tolist()


def test_one_id_and_ids_that_are_not_on_the_level(ng, tokens):
    lattice, other = tokens.token_id[0], tokens.token_id[tokens.level == 1].iloc[0]
    assert len(in_both_ways(ng.tokens.find_nearest_many, lattice, 2)) == 2
    near = in_both_ways(ng.tokens.find_nearest_many, [other, lattice], 2)
    assert near["query"].tolist() == [lattice] * 2
    with pytest.warns(UserWarning, match="no token has level 'abstract'"):
        assert not len(ng.tokens.find_nearest_many([other], 2, level=7))


@pytest.mark.parametrize("way", WAYS)
def test_unknown_ids(ng, tokens, way, monkeypatch):
    monkeypatch.setattr(batches, "forced_way", way)
    ids = [tokens.token_id[0], NO_ID, NO_ID]
    for read, argument in ((ng.tokens.find_nearest_many, 1), (ng.tokens.find_within_many, 1.0)):
        with pytest.raises(NotFoundError) as error:
            read(ids, argument)
        assert error.value.missing == (NO_ID,)
        with pytest.raises(NotFoundError):
            read(ids, argument, max_rows=1)


EMPTY = {
    "list": [],
    "array": np.empty((0, 3)),
    "frame": pd.DataFrame(columns=AXES, dtype=float),
    "ids": pd.Series([], dtype=STR),
}


@pytest.mark.parametrize("form", EMPTY)
def test_no_points(ng, tokens, form, recwarn):
    whole = ng.tokens.find_nearest_many(tokens.token_id[:2] if form == "ids" else LATTICE, 1)
    for frame in (
        ng.tokens.find_nearest_many(EMPTY[form]),
        ng.tokens.find_within_many(EMPTY[form], 1.0),
        ng.tokens.find_within_many(EMPTY[form], []),
    ):
        assert len(frame) == 0
        assert frame.dtypes[1:].to_dict() == whole.dtypes[1:].to_dict()
        assert frame["query"].dtype == (
            EMPTY[form].index.dtype if form == "frame" else whole["query"].dtype
        )
    assert not recwarn.list


def test_an_empty_level(ng, tokens):
    whole = in_both_ways(ng.tokens.find_nearest_many, LATTICE, 1)
    for read, argument in ((ng.tokens.find_nearest_many, 1), (ng.tokens.find_within_many, 1.0)):
        with pytest.warns(UserWarning, match="no token has level"):
            frame = in_both_ways(read, LATTICE, argument, 7)
        assert frame.dtypes.to_dict() == whole.dtypes.to_dict()
    with pytest.warns(UserWarning, match="no token has level"):
        assert in_both_ways(ng.tokens.pairs_within, 1.0, 7).dtypes.tolist() == [
            STR,
            STR,
            "float64",
        ]


# --- pairs -------------------------------------------------------------------------------------------


def expected_pairs(first, second, radius, is_ordered):
    first, second = (rows.sort_values("token_id", ignore_index=True) for rows in (first, second))
    away = np.array([distances(second[AXES].to_numpy(), place) for place in first[AXES].to_numpy()])
    ids, others = first.token_id.to_numpy(), second.token_id.to_numpy()
    is_pair = ids[:, None] != others if is_ordered else ids[:, None] < others
    rows, columns = np.nonzero(is_pair & (away <= radius))
    pairs = {"token_id": ids[rows], "other_id": others[columns], "distance": away[rows, columns]}
    return pd.DataFrame(pairs).astype({"token_id": STR, "other_id": STR})


BOX = ((0, 0, 0), (2, 2, 2))


def test_the_pairs_of_a_lattice(ng, tokens):
    pairs = in_both_ways(ng.tokens.pairs_within, 1.0, within=BOX, token_type=TYPES.tolist())
    assert len(pairs) == 54
    assert (pairs.distance == 1).all()
    diagonal = in_both_ways(ng.tokens.pairs_within, math.sqrt(2), token_type=TYPES.tolist())
    assert len(diagonal) == 54 + 3 * 3 * 8
    below = math.nextafter(math.sqrt(2), 0)
    assert len(in_both_ways(ng.tokens.pairs_within, below, token_type=TYPES.tolist())) == 54


@pytest.mark.parametrize("level", CLOUDS)
def test_pairs_are_those_of_brute_force(ng, tokens, level):
    rows = tokens[tokens.level == level]
    places = rows[AXES].to_numpy()
    for radius in (0.0, *np.quantile(distances(places, places[0]), [0.02, 0.2])):
        pairs = in_both_ways(ng.tokens.pairs_within, float(radius), level)
        assert_rows(pairs, expected_pairs(rows, rows, radius, False))
    red, blue = (rows[rows.token_type == colour] for colour in ("red", "blue"))
    pairs = in_both_ways(
        ng.tokens.pairs_within, float(radius), level, token_type="red", other_type="blue"
    )
    assert_rows(pairs, expected_pairs(red, blue, radius, True))
    both = rows[rows.token_type.isin(["red", "blue"])]
    pairs = in_both_ways(
        ng.tokens.pairs_within, float(radius), level, token_type="red", other_type=["red", "blue"]
    )
    assert_rows(pairs, expected_pairs(red, both, radius, True))


def test_pairs_agree_with_scipy(ng, tokens):
    rows = tokens[tokens.level == 1]
    expected = cKDTree(rows[AXES].to_numpy()).query_pairs(0.5)
    assert len(ng.tokens.pairs_within(0.5, 1)) == len(expected)


def test_pairs_on_two_levels(ng, tokens):
    """The token that is on both levels is never paired with itself."""
    first, second = tokens[tokens.level == 0], tokens[tokens.level == 1]
    for radius in (0.8, 2.0, 100.0):
        pairs = in_both_ways(ng.tokens.pairs_within, radius, 0, other_level="sensory")
        assert_rows(pairs, expected_pairs(first, second, radius, True))
    assert (pairs.token_id != pairs.other_id).all()
    same = in_both_ways(ng.tokens.pairs_within, 1.0, 0, other_level=0)
    assert_rows(same, expected_pairs(first, first, 1.0, True))


def test_pairs_in_a_region(ng, tokens):
    """Without a level of its own, the region is on the level of the read."""
    low, high = (-0.5, -0.5, -0.5), (0.5, 0.5, 0.5)
    for level in (0, 1):
        rows = tokens[tokens.level == level]
        inside = (np.abs(rows[AXES].to_numpy()) <= high).all(axis=1)
        pairs = in_both_ways(ng.tokens.pairs_within, 1.0, level, within=(low, high))
        assert_rows(pairs, expected_pairs(rows[inside], rows[inside], 1.0, False))
    # In a region of another level, only the token that is on both.
    pairs = in_both_ways(ng.tokens.pairs_within, 9.0, 0, within=(low, high, 1))
    assert not len(pairs)
    pairs = in_both_ways(ng.tokens.pairs_within, 9.0, 0, within=(low, high, 1), other_level=1)
    both = tokens[(tokens.level == 0) & (tokens.token_type == "both")]
    assert_rows(pairs, expected_pairs(both, rows[inside], 9.0, True))


def test_pairs_with_filters(ng, tokens):
    rows = tokens[(tokens.level == 1) & (tokens["flags"] & 1 == 1) & (tokens.weight >= 2)]
    pairs = in_both_ways(ng.tokens.pairs_within, 1.0, 1, flags=1, min_weight=2.0)
    assert_rows(pairs, expected_pairs(rows, rows, 1.0, False))
    even = tokens[(tokens.level == 1) & tokens.metadata.map(lambda each: each == {"even": True})]
    pairs = in_both_ways(ng.tokens.pairs_within, 1.0, 1, where={"even": True})
    assert_rows(pairs, expected_pairs(even, even, 1.0, False))


# --- limits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_too_many_rows_are_counted(ng, tokens, way, monkeypatch):
    monkeypatch.setattr(batches, "forced_way", way)
    ids = tokens.token_id[tokens.level == 0]
    for read, *arguments in (
        (ng.tokens.find_nearest_many, LATTICE, 5),
        (ng.tokens.find_nearest_many, ids, 999),
        (partial(ng.tokens.find_nearest_many, max_distance=1.0), LATTICE, 5),
        (partial(ng.tokens.find_nearest_many, max_distance=1.0, flags=1), ids, 5),
        (ng.tokens.find_within_many, LATTICE, 1.0),
        (ng.tokens.find_within_many, ids, 1.0),
        (ng.tokens.pairs_within, 1.0),
        (ng.tokens.pairs_within, math.inf),
    ):
        count = len(read(*arguments))
        assert len(read(*arguments, max_rows=count, cache="off")) == count
        with pytest.raises(ResultTooLarge) as error:
            read(*arguments, max_rows=count - 1, cache="off")
        assert (error.value.count, error.value.max_rows) == (count, count - 1)
    options = {"other_level": 1}
    count = len(ng.tokens.pairs_within(2.0, **options))
    with pytest.raises(ResultTooLarge) as error:
        ng.tokens.pairs_within(2.0, max_rows=1, **options)
    assert error.value.count == count


def test_the_limit_of_the_client(url, tokens):
    with ngdata.connect(url, max_rows=3) as client:
        for way in WAYS:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(batches, "forced_way", way)
                with pytest.raises(ResultTooLarge):
                    client.tokens.find_nearest_many(LATTICE, 1)
                assert len(client.tokens.find_nearest_many(LATTICE, 1, max_rows=None)) == 27


def test_pairs_are_counted_before_they_are_made(tokens, ng, monkeypatch):
    monkeypatch.setattr(batches, "forced_way", "client tree")
    monkeypatch.setattr(trees.TokenTree, "pairs", lambda *_: pytest.fail("they were made"))
    with pytest.raises(ResultTooLarge):
        ng.tokens.pairs_within(math.inf, 1, max_rows=10)


# --- ids as integers, sync and async, the cache --------------------------------------------------------


def test_integer_ids(migrated_database):
    numbers = np.array([2**64 - 1, 7, 5, 6], np.uint64)
    frame = pd.DataFrame({"token_id": numbers, "x": 0.0, "y": [0.0, 1, 1, 1], "z": 0.0})
    with ngdata.connect(migrated_database, ids="integer", id_space="a") as client:
        client.tokens.bulk_create(frame)
        near = in_both_ways(client.tokens.find_nearest_many, [2**64 - 1], 2)
        assert near[["query", "token_id"]].dtypes.tolist() == ["uint64", "uint64"]
        assert near.token_id.tolist() == [5, 6], "ties by id, as integers"
        near = in_both_ways(client.tokens.find_nearest_many, numbers, 1, token_type="default")
        assert near["query"].tolist() == numbers.tolist()
        pairs = in_both_ways(client.tokens.pairs_within, 0.5)
        assert pairs.dtypes.tolist() == ["uint64", "uint64", "float64"]
        assert pairs[["token_id", "other_id"]].values.tolist() == [[5, 6], [5, 7], [6, 7]]
        for way in WAYS:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(batches, "forced_way", way)
                with pytest.raises(NotFoundError) as error:
                    client.tokens.find_nearest_many([5, 9], 1)
            assert error.value.missing == (9,)
        assert client.tokens.find_nearest_many([], 1).token_id.dtype == "uint64"


def test_tokens_of_another_id_space_that_no_answer_has(migrated_database):
    """All tokens are candidates of a tree; only those of the answer need an integer."""
    frame = pd.DataFrame(
        {"token_id": np.arange(1, 5, dtype=np.uint64), "x": range(4), "y": 0, "z": 0}
    )
    with (
        ngdata.connect(migrated_database, ids="integer", id_space="a") as client,
        ngdata.connect(migrated_database) as other,
    ):
        client.tokens.bulk_create(frame)
        far = other.tokens.create({0: (500, 500, 500)})
        for read, arguments, options in (
            (client.tokens.find_nearest_many, ([(0, 0, 0), (3, 0, 0)], 1), {}),
            (client.tokens.find_within_many, ([(0, 0, 0)], 1.0), {}),
            (client.tokens.pairs_within, (1.0,), {}),
        ):
            frames = []
            for way in WAYS:
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(batches, "forced_way", way)
                    frames.append(read(*arguments, **options))
            pd.testing.assert_frame_equal(*frames)
        with pytest.raises(ConfigError, match=far):
            client.tokens.find_nearest_many([(500, 500, 500)], 1)


def test_async(url, tokens):
    async def read():
        async with await ngdata.connect_async(url) as client:
            near = await client.tokens.find_nearest_many(LATTICE, 2)
            return near, await client.tokens.pairs_within(1.0, within=BOX)

    near, pairs = run(read())
    assert_rows(near, expected(tokens, 0, LATTICE, 2))
    assert len(pairs) > 54


def test_the_cache_is_used_and_is_never_out_of_date(migrated_database):
    frame = pd.DataFrame(LATTICE, columns=AXES)
    with ngdata.connect(migrated_database) as client:
        client.tokens.bulk_create(frame)
        for way in WAYS:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(batches, "forced_way", way)
                for read, *arguments in (
                    (client.tokens.find_nearest_many, LATTICE, 2),
                    (client.tokens.find_within_many, LATTICE, 1.0),
                    (client.tokens.pairs_within, 1.0),
                ):
                    before = read(*arguments)
                    again = read(*arguments)
                    assert again.attrs["ngdata"]["source"] == "memory"
                    pd.testing.assert_frame_equal(before, again)
                    again["distance"] = -1.0
                    pd.testing.assert_frame_equal(before, read(*arguments))
                    [added] = client.tokens.bulk_create({"x": [0.0], "y": [0.0], "z": [0.0]})
                    assert (
                        added
                        in read(*arguments).token_id.tolist() + read(*arguments).iloc[:, 1].tolist()
                    )
                    client.tokens.delete(added)
                    pd.testing.assert_frame_equal(before, read(*arguments))
        read = client.tokens.find_nearest_many(LATTICE, 2, cache="off")
        assert read.attrs["ngdata"]["source"] == "database"


# --- the way -----------------------------------------------------------------------------------------


def test_large_batches_are_answered_by_a_tree(ng, tokens, monkeypatch):
    points = RNG.normal(size=(500, 3))
    near = ng.tokens.find_nearest_many(points, 10, 1)
    assert near.attrs["ngdata"]["way"] == "client tree"
    assert ng.tokens.find_nearest_many(points[:3], 10, 1).attrs["ngdata"]["way"] == "server"
    for module in ("scipy", "scipy.spatial"):
        monkeypatch.setitem(sys.modules, module, None)
    alone = ng.tokens.find_nearest_many(points, 10, 1)
    assert alone.attrs["ngdata"]["way"] == "server"
    pd.testing.assert_frame_equal(near, alone, check_exact=True)
    assert ng.tokens.pairs_within(1.0).attrs["ngdata"]["way"] == "server"


def test_a_tree_of_tokens_that_were_read_before_is_used_again(migrated_database, monkeypatch):
    monkeypatch.setattr(
        batches,
        "milliseconds_here",
        lambda batch, tokens, is_read=False, is_built=False: 0.0 if is_read else 1e9,
    )
    points = np.repeat(LATTICE, 4, axis=0)
    with ngdata.connect(migrated_database) as client:
        client.tokens.bulk_create(pd.DataFrame(LATTICE, columns=AXES))
        first = client.tokens.find_nearest_many(points, 2)
        assert first.attrs["ngdata"]["way"] == "server"
        everywhere = (-math.inf,) * 3, (math.inf,) * 3
        client.tokens.find_in_region(*everywhere)
        again = client.tokens.find_nearest_many(points, 2)
        assert (again.attrs["ngdata"]["way"], again.attrs["ngdata"]["source"]) == (
            "client tree",
            "memory",
        )
        pd.testing.assert_frame_equal(first, again, check_exact=True)
        client.tokens.bulk_create({"x": [0.0], "y": [0.0], "z": [0.0]})
        assert client.tokens.find_nearest_many(points, 2).attrs["ngdata"]["way"] == "server"


def test_explain_shows_the_read_that_is_done_first(ng, tokens):
    sql = ng.explain(ng.tokens.find_nearest_many, LATTICE[:3]).sql
    assert "FETCH FIRST 10 ROWS WITH TIES" in sql
    sql = ng.explain(ng.tokens.find_nearest_many, np.repeat(LATTICE, 99, axis=0), level=1).sql
    assert sql == ng.explain(ng.tokens.iter_all, 1).sql


def test_costs():
    """Few points are for the server, many in few tokens for a tree."""
    large, small = LevelSize(1e6, 1e6), LevelSize(1e3, 1e3)
    few, many = batch_costs.Batch(20, 10.0, 9), batch_costs.Batch(10_000, 10.0, 9)
    assert batch_costs.milliseconds_of_server(few, large) < batch_costs.milliseconds_here(few, 1e6)
    for size in (large, small):
        here = batch_costs.milliseconds_here(many, size.region_rows)
        assert here < batch_costs.milliseconds_of_server(many, size)
    rare = LevelSize(1e6, 10.0)
    assert batch_costs.milliseconds_of_server(few, rare) > batch_costs.milliseconds_here(few, 10.0)
    assert LevelSize.of(pages=1000, counted=50_000, expected=10).region_rows == 10
    assert LevelSize.of(pages=1000, counted=1_000, expected=10).region_rows > 50_000


def test_many_blocks_of_candidates(tokens, ng, monkeypatch):
    points = tokens[tokens.level == 2][AXES].to_numpy()
    whole = in_both_ways(ng.tokens.find_within_many, points, 2.0, 2)
    monkeypatch.setattr(trees, "_AT_ONCE", 64)
    pd.testing.assert_frame_equal(
        whole, in_both_ways(ng.tokens.find_within_many, points, 2.0, 2), check_exact=True
    )
    near = in_both_ways(ng.tokens.find_nearest_many, points, 9, 2)
    assert_rows(near, expected(tokens, 2, points, 9))


# --- bad input ---------------------------------------------------------------------------------------

BAD_POINTS = {
    "one point": ((0.0, 0.0, 0.0), "one point is"),
    "two columns": (np.zeros((4, 2)), r"shape \(4, 2\)"),
    "one dimension": (np.zeros(3), "must be an"),
    "three dimensions": (np.zeros((2, 3, 3)), "must be an"),
    "ragged": ([(0, 0, 0), (0, 0)], "must be an"),
    "text": ([("a", "b", "c")], "must be an"),
    "bools": (np.zeros((2, 3), bool), "must be an"),
    "NaN": ([(0, 0, 0), (0, np.nan, 0)], "row 1 is"),
    "masked": (np.ma.array(np.zeros((1, 3)), mask=True), "row 0 is"),
    "infinite": ([(0, 0, np.inf)], "must be finite"),
    "too large": ([(0, 0, 1.1e37)], "at most 1e[+]37"),
    "frame without x": (pd.DataFrame({"token_id": ["a"], "y": 0, "z": 0}), "frame.'token_id'."),
    "frame of text": (pd.DataFrame({"x": ["a"], "y": ["b"], "z": ["c"]}), "column x"),
    "frame with NA": (
        pd.DataFrame({"x": pd.array([None], "Float64"), "y": [0], "z": [0]}),
        "row 0 is",
    ),
    "a number among points": ([(0, 0, 0), 5], "must be an"),
    "a Series of points": (pd.Series([(0, 0, 0)]), "must be an"),
    "no id": (["a"], "must be a UUID"),
    "floats": (pd.Series([1.5]), "must be a UUID"),
    "None": (None, "points"),
}


@pytest.mark.parametrize("name", BAD_POINTS)
def test_points_that_are_refused(ng, name):
    points, message = BAD_POINTS[name]
    for read, argument in ((ng.tokens.find_nearest_many, 1), (ng.tokens.find_within_many, 1.0)):
        with pytest.raises(InvalidQueryError, match=message):
            read(points, argument)


def test_other_arguments_that_are_refused(ng):
    nearest, within = ng.tokens.find_nearest_many, ng.tokens.find_within_many
    for read, arguments, options, message in (
        (nearest, (LATTICE, 0), {}, "k must be"),
        (nearest, (LATTICE, 1.5), {}, "k must be"),
        (nearest, (LATTICE, 1), {"max_distance": -1}, "max_distance must be"),
        (nearest, (LATTICE, 1), {"include_self": 1}, "include_self must be"),
        (nearest, (LATTICE, 1, "inner"), {}, "level"),
        (nearest, (LATTICE,), {"columns": ["query"]}, "unknown column"),
        (nearest, (LATTICE,), {"max_rows": 0}, "max_rows"),
        (nearest, (LATTICE,), {"cache": "always"}, "cache"),
        (within, (LATTICE, -1), {}, "radius must be"),
        (within, (LATTICE, math.nan), {}, "radius must be"),
        (within, (LATTICE, None), {}, "radius must be"),
        (within, (LATTICE, [1.0, 2.0]), {}, "one for each of the 27 points, but has 2"),
        (within, (LATTICE, np.full(27, -1.0)), {}, r"radius\[0\] must be"),
        (within, (LATTICE, np.zeros((27, 1))), {}, "one dimension"),
        (within, (LATTICE, "far"), {}, "radius must be"),
        (within, (LATTICE, {*range(27)}), {}, "in their order"),
        (ng.tokens.pairs_within, (-1,), {}, "radius must be"),
        (ng.tokens.pairs_within, (math.nan,), {}, "radius must be"),
        (ng.tokens.pairs_within, (1,), {"other_level": 9}, "other_level"),
        (ng.tokens.pairs_within, (1,), {"within": 5}, "within must be"),
        (ng.tokens.pairs_within, (1,), {"within": ((1, 1, 1), (0, 0, 0))}, "swapped"),
        (ng.tokens.pairs_within, (1,), {"max_rows": "all"}, "max_rows"),
    ):
        with pytest.raises(InvalidQueryError, match=message):
            read(*arguments, **options)
