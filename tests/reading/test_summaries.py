"""Groups of tokens compared with those of pandas, grids with NumPy, and samples with hashlib."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import math
import uuid
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ngdata
from ngdata._arguments.texts import STR
from ngdata._query import summaries
from ngdata._store import migrate
from ngdata.errors import InvalidQueryError, ResultTooLarge
from ngdata.ids import from_integers

TINY = 5e-324
COUNT = 400
RNG = np.random.default_rng(14)
INF = math.inf

# Each level has its own kind of trouble; tokens of even number are on all of them, others on two.
CLOUDS = {
    0: RNG.integers(-3, 4, (COUNT, 3)) * 0.5,
    1: RNG.choice([-1.0, 1.0], (COUNT, 3)) * 10.0 ** RNG.uniform(-323, 37, (COUNT, 3)),
    2: RNG.integers(-9, 10, (COUNT, 3)) * TINY,
    3: RNG.choice([-0.0, 0.0, 0.3, 0.7, -0.1, 1e37, -1e37, 2.0**53 + 2], (COUNT, 3)),
    4: RNG.normal(size=(COUNT, 3)),
}
TYPES = ["b", "a", "Z", "\u00e9", "it's", "\U0001f600", "\uffee"]
WEIGHTS = [0.0, -0.0, TINY, -TINY, 3 * TINY, 0.1, 0.2, 0.3, -1.5, 1e3, 2.5]
KINDS = [None, {}, {"kind": None}, {"kind": "Y"}, {"kind": "\u00e4"}, {"kind": "a"}, {"kind": 1.5}]
START = pd.Timestamp("2026-01-01", tz="UTC").as_unit("us")


@pytest.fixture(scope="module")
def store(new_migrated_database):
    """A client, and its tokens as a frame with the coordinates of each level."""
    coords = np.full((COUNT, 8, 3), np.nan)
    frame = pd.DataFrame(
        {
            "token_type": pd.Series(RNG.choice(TYPES, COUNT), dtype=STR),
            "weight": RNG.choice(WEIGHTS, COUNT),
            "flags": RNG.choice([0, 1, 6, 2**31 - 1], COUNT).astype("int32"),
            "timestamp": (START + pd.to_timedelta(RNG.integers(0, 5, COUNT), "us")).as_unit("us"),
            "metadata": RNG.choice(KINDS, COUNT),
        }
    )
    for level, cloud in CLOUDS.items():
        on_level = (np.arange(COUNT) % 2 == 0) | (level < 2)
        coords[on_level, level] = cloud[on_level]
    with new_migrated_database() as url, ngdata.connect(url, redis_url=None) as ng:
        frame["token_id"] = ng.tokens.bulk_create(frame, coords=coords, progress=False)
        times = ng.tokens.get(frame.token_id, columns=["created_at", "updated_at"])
        kinds = [(each or {}).get("kind") for each in frame.metadata]
        texts = [kind if kind is None else str(kind) for kind in kinds]
        frame["metadata.kind"] = pd.Series(texts, dtype=STR)
        frame = pd.concat([frame, times], axis=1)
        for level in range(8):
            for place, axis in enumerate("xyz"):
                frame[f"{axis}{level}"] = coords[:, level, place]
        yield ng, frame


def rows_on(frame, level, within=None, other=None):
    """Return the tokens that are on a level, and in a box on it or on another level."""
    rows = frame.rename(columns={f"{axis}{level}": axis for axis in "xyz"})
    is_inside = rows.x.notna()
    if within is not None:
        points = frame[[f"{axis}{level if other is None else other}" for axis in "xyz"]]
        is_inside &= ((points.to_numpy() >= within[0]) & (points.to_numpy() <= within[1])).all(1)
    return rows[is_inside]


EXACT = ("count", "nunique", "min", "max")
NUMBERS = ["x", "y", "z", "weight", "flags"]
OTHERS = ["token_type", "timestamp", "created_at", "updated_at", "metadata.kind"]
STATISTICS = st.one_of(
    st.just("count"),
    st.tuples(
        st.sampled_from(NUMBERS), st.sampled_from([*EXACT, "sum", "mean", "median", "std", "var"])
    ),
    st.tuples(st.sampled_from(OTHERS), st.sampled_from(EXACT)),
)
KEYS = st.lists(st.sampled_from([*NUMBERS, *OTHERS]), unique=True, max_size=3).map(
    lambda names: names or None
)
CORNERS = st.sampled_from([-INF, -1.0, 0.0, 0.5, 1.0, INF])
BOXES = st.tuples(st.tuples(*[CORNERS] * 3), st.tuples(*[CORNERS] * 3)).map(
    lambda corners: (tuple(np.minimum(*corners)), tuple(np.maximum(*corners)))
)


def check(frame, rows, keys, named):
    """Compare a summary with what pandas makes of the rows.

    The keys are columns: pairs of the values that make groups, and those that the summary shows.
    """
    shown = {name: values for name, (_, values) in keys.items()}
    groups = [values.rename(name) for name, (values, _) in keys.items()]
    if groups:
        grouped = rows.groupby(groups, dropna=True, sort=True)
    else:
        grouped = rows.groupby(np.zeros(len(rows), int))
    firsts = grouped.head(1).index
    order = grouped.ngroup()[firsts].sort_values().index
    assert frame.columns.tolist() == [*keys, *named]
    assert len(frame) == (len(order) if groups else 1)
    for name, values in shown.items():
        expected = values[order].reset_index(drop=True)
        pd.testing.assert_series_equal(frame[name], expected, check_names=False, check_exact=True)
    for name, statistic in named.items():
        of, function = ("token_id", "size") if statistic == "count" else statistic
        expected = grouped[of].agg(function).reset_index(drop=True)
        if not groups and not len(rows):
            assert (
                frame[name][0] == 0
                if function in (*EXACT[:2], "sum", "size")
                else (pd.isna(frame[name][0]))
            )
            continue
        if not groups and function in ("min", "max") and of == "flags":
            expected = expected.astype("Int64")
        if of == "flags" and function == "sum":
            expected = expected.astype("int64")  # in pandas it depends on the values
        if function in (*EXACT, "size", "median") or expected.dtype == "int64":
            pd.testing.assert_series_equal(
                frame[name], expected, check_names=False, check_exact=True
            )
            continue
        exact = [[Fraction(repr(each)) for each in map(float, group[of])] for _, group in grouped]
        assert frame[name].dtype == "float64"
        if function == "sum":
            assert frame[name].tolist() == [float(sum(each)) for each in exact]
        elif function == "mean":
            means = [float(sum(each) / len(each)) for each in exact]
            np.testing.assert_allclose(frame[name], means, rtol=2e-16, atol=0)
        else:
            spreads = [spread(each, function) for each in exact]
            np.testing.assert_allclose(frame[name], spreads, rtol=4e-16, atol=TINY)
        # Near those of pandas, as far as its own rounding allows.
        largest = grouped[of].agg(lambda each: each.abs().max()).to_numpy(float)
        power = 2 if function == "var" else 1
        counts = grouped.size().to_numpy()
        bound = 1e-14 * counts * largest**power + counts * TINY
        near = np.abs(frame[name] - expected) <= (
            bound if function != "std" else 1e-7 * largest + 1e-160
        )
        assert (near | (frame[name].isna() & expected.isna())).all()


def spread(values, function):
    """Return the variance or the standard deviation of fractions, rounded once."""
    if len(values) < 2:
        return math.nan
    mean = sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (len(values) - 1)
    with localcontext(prec=60):
        decimal = Decimal(variance.numerator) / variance.denominator
        return float(decimal.sqrt() if function == "std" else decimal)


@settings(max_examples=60)
@given(
    by=KEYS,
    level=st.sampled_from(sorted(CLOUDS)),
    box=st.none() | BOXES,
    other=st.none() | st.sampled_from([0, 2, 4]),
    statistics=st.lists(STATISTICS, max_size=4),
    token_type=st.none() | st.lists(st.sampled_from(TYPES), min_size=1, max_size=3),
    flags=st.none() | st.just(2),
    where=st.none() | st.just({"kind": "a"}),
)
@example(
    None,
    0,
    ((9,) * 3, (9,) * 3),
    None,
    ["count", ("flags", "max"), ("x", "mean")],
    None,
    None,
    None,
)
@example(None, 0, None, None, [("flags", "std"), ("flags", "var")], None, None, None)
@example(None, 2, None, None, [("x", "std"), ("weight", "var")], None, None, None)
@example(
    None, 0, ((9,) * 3, (9,) * 3), None,
    [("timestamp", "min"), ("metadata.kind", "max"), ("flags", "sum"), ("x", "median")],
    None, None, None,
)  # fmt: skip
def test_groups_are_those_of_pandas(
    store, by, level, box, other, statistics, token_type, flags, where
):
    ng, frame = store
    rows = rows_on(frame, level, box, other)
    if token_type is not None:
        rows = rows[rows.token_type.isin(token_type)]
    if flags is not None:
        rows = rows[rows["flags"] & flags == flags]
    if where is not None:
        rows = rows[rows["metadata.kind"] == "a"]
    named = {f"column {place}": statistic for place, statistic in enumerate(statistics)}
    within = box if other is None or box is None else (*box, other)
    with np.errstate(all="ignore"):
        summary = ng.tokens.aggregate(
            by, level, within=within, token_type=token_type, flags=flags, where=where, **named
        )
        keys = {name: (rows[name], rows[name]) for name in by or ()}
        check(summary, rows, keys, named or {"count": "count"})


SIZES = st.one_of(
    st.floats(1e-200, 1e37),
    st.floats(-200, 37).map(lambda power: max(1e-200, min(1e37, 10.0**power))),
    st.sampled_from([1e-200, 0.1, 0.5, 1.0, 1.5, 2.0, math.nextafter(2, 3), 3.0, 5.0, 7.0, 18.0, 1e37]),
)  # fmt: skip


@settings(max_examples=90)
@given(
    level=st.sampled_from(sorted(CLOUDS)),
    sizes=SIZES | st.tuples(SIZES, SIZES, SIZES),
    by=st.sampled_from([None, "token_type", ["metadata.kind", "flags"]]),
)
@example(level=2, sizes=(2.0, 5.0, 18.0), by=None)
@example(level=2, sizes=(9.0, 17.0, 1.5), by=None)
@example(level=1, sizes=1e-200, by=None)
@example(level=1, sizes=1e37, by="token_type")
@example(level=3, sizes=0.1, by=None)
def test_cells_are_those_of_numpy(store, level, sizes, by):
    ng, frame = store
    rows = rows_on(frame, level)
    names = [by] if isinstance(by, str) else by or []
    keys = {name: (rows[name], rows[name]) for name in names}
    for axis, size in zip("xyz", sizes if isinstance(sizes, tuple) else [sizes] * 3, strict=True):
        with np.errstate(all="ignore"):
            number = np.floor(rows[axis] / size)
            keys[axis] = number, (number + 0.5) * size
    named = {"n": "count", "heaviest": ("weight", "max")}
    check(ng.tokens.aggregate(by, level, cell=sizes, **named), rows, keys, named)


def test_cells_in_a_region_have_the_counts_of_density(store):
    ng, _ = store
    box = (-2, -2, -2), (1.75, 1.75, 1.75)
    cells = ng.tokens.aggregate(None, within=box, cell=(0.25, 0.25, 0.25))
    expected = ng.tokens.density((-2, -2, -2), (2, 2, 2), bins=16)
    pd.testing.assert_frame_equal(cells, expected[expected[[*"xyz"]].max(axis=1) < 1.75])


def test_what_a_summary_says_of_itself(store):
    ng, frame = store
    summary = ng.tokens.aggregate("token_type")
    assert summary.columns.tolist() == ["token_type", "count"]
    assert summary.token_type.tolist() == sorted(set(frame.token_type))
    assert summary.attrs["ngdata"]["level"] == 0
    plan = ng.explain(ng.tokens.aggregate, "token_type", n="count", cell=2.0)
    assert "GROUP BY" in plan.sql
    assert "Aggregate" in plan.text.splitlines()[0] + plan.text.splitlines()[1]
    assert "token_id" not in plan.sql
    again = ng.tokens.aggregate("token_type")
    assert again.attrs["ngdata"]["source"] == "memory"
    pd.testing.assert_frame_equal(again, summary)


def test_one_group_has_the_same_dtypes_without_tokens(store):
    ng, _ = store
    named = {
        "count": "count",
        "first": ("flags", "min"),
        "last": ("timestamp", "max"),
        "kind": ("metadata.kind", "max"),
        "bits": ("flags", "sum"),
        "weight": ("weight", "max"),
    }
    full, empty = ng.tokens.aggregate(None, **named), ng.tokens.aggregate(None, 7, **named)
    dtypes = ["int64", "Int64", "datetime64[us, UTC]", STR, "int64", "float64"]
    for summary in (full, empty):
        assert len(summary) == 1
        assert [str(dtype) for dtype in summary.dtypes] == dtypes
    assert empty.isna().iloc[0].tolist() == [False, True, True, True, False, True]
    assert not full.isna().any(axis=None)


@pytest.fixture
def english(server, execute):
    """A database whose own order of text is that of a dictionary: a, B, z, Z."""
    url = server.database_url.replace("/ngdata?", "/english?")
    execute(
        server.database_url,
        "CREATE DATABASE english TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'",
    )
    try:
        migrate.upgrade(url)
        yield url
    finally:
        execute(server.database_url, "DROP DATABASE english WITH (FORCE)")


def test_text_is_sorted_by_code_points_whatever_the_locale(english):
    texts = ["a", "B", "z", "Z", "\u00e9"]
    points = {axis: np.zeros(5) for axis in "xyz"}
    with ngdata.connect(english, redis_url=None) as ng:
        metadata = [{"a": text} for text in texts]
        ids = ng.tokens.bulk_create({**points, "token_type": texts, "metadata": metadata})
        assert ng.sql("SELECT 'a' < 'B' AS a").a.tolist() == [True]
        assert ng.tokens.aggregate("token_type").token_type.tolist() == sorted(texts)
        assert ng.tokens.aggregate("metadata.a")["metadata.a"].tolist() == sorted(texts)
        ends = {"low": ("token_type", "min"), "high": ("metadata.a", "max")}
        assert ng.tokens.aggregate(None, **ends).values.tolist() == [["B", "\u00e9"]]
        assert ng.tokens.sample(5).token_id.tolist() == by_hash(ids.to_frame())
        ng.experience.bulk_create({"event_type": texts, "timestamp": 0, "metadata": metadata})
        counts = ng.experience.count_events("D", ["metadata.a", "event_type"])
        assert counts.event_type.tolist() == sorted(texts)


def test_sums_are_the_same_in_any_order(store):
    """However the server reads the rows, and however many of its processes do."""
    ng, _ = store
    named = {"total": ("weight", "sum"), "mean": ("x", "mean"), "std": ("y", "std")}
    first = ng.tokens.aggregate("flags", 4, **named)
    for options in (
        {"cache": "off"},
        {"within": ((-INF,) * 3, (INF,) * 3)},
        {"within": ((-INF,) * 3, (INF,) * 3, 0)},
        {"where": None, "min_weight": -9.0},
    ):
        pd.testing.assert_frame_equal(
            ng.tokens.aggregate("flags", 4, **named, **options), first, check_exact=True
        )


def test_pandas_own_names_of_aggregations(store):
    ng, _ = store
    heaviest = pd.NamedAgg("weight", "max")
    a = ng.tokens.aggregate(["token_type", "flags"], heaviest=heaviest, n=np.str_("count"))
    b = ng.tokens.aggregate(("token_type", "flags"), heaviest=["weight", "max"], n="count")
    pd.testing.assert_frame_equal(a, b)
    names = {'a "quoted" %s {0} name': "count", "\u00e9" * 200: "count", "\u00e9" * 201: "count"}
    assert ng.tokens.aggregate(None, **names).columns.tolist() == list(names)


def test_the_async_client(store):
    ng, _ = store
    url = ng._wrapped._settings.database_url.get_secret_value()

    async def read():
        async with await ngdata.connect_async(url) as ang:
            return await ang.tokens.aggregate("flags", n="count"), await ang.tokens.sample(9)

    summary, sample = asyncio.run(read())
    pd.testing.assert_frame_equal(summary, ng.tokens.aggregate("flags", n="count"))
    pd.testing.assert_frame_equal(sample, ng.tokens.sample(9))


def test_a_summary_is_never_out_of_date(ng):
    """Metadata are not in the spatial index, so a summary of them depends on their table too."""
    point = {"x": [0.0], "y": [0.0], "z": [0.0]}
    token_id = ng.tokens.bulk_create({**point, "metadata": [{"a": "1"}]})[0]
    for value in ("2", "3"):
        ng.tokens.update(token_id, metadata={"a": value})
        for _ in range(2):
            assert ng.tokens.aggregate("metadata.a")["metadata.a"].tolist() == [value]
            named = {"least": ("metadata.a", "min")}
            assert ng.tokens.aggregate(None, **named).least.tolist() == [value]
            sample = ng.tokens.sample(1, columns=["metadata.a"])
            assert sample["metadata.a"].tolist() == [value]
    ng.tokens.update(token_id, coords={1: (5, 5, 5)})
    assert ng.tokens.aggregate(None, within=((4,) * 3, (6,) * 3, 1))["count"].tolist() == [1]
    ng.tokens.update(token_id, coords={1: (9, 9, 9)})
    assert ng.tokens.aggregate(None, within=((4,) * 3, (6,) * 3, 1))["count"].tolist() == [0]
    assert ng.tokens.sample(1, within=((4,) * 3, (6,) * 3, 1), cache="off").empty


def test_weights_at_the_ends_of_float64(ng):
    """PostgreSQL's own arithmetic refuses these."""
    kinds = {
        "large": [1e308, 1.5e308],
        "opposite": [-1.7e308, 1.7e308],
        "negative": [-1.7e308, -1.6e308, -1.5e308],
        "tiny": [TINY, 2 * TINY],
        "one of them": [TINY, 1.7e308],
        "half": [0.0, TINY],
        "none": [-0.0, -0.0],
    }
    weights = pd.Series(kinds).explode().rename_axis("token_type").rename("weight").astype(float)
    frame = weights.reset_index().assign(x=0.0, y=0.0, z=0.0)
    ng.tokens.bulk_create(frame)
    functions = ("min", "max", "nunique", "sum", "mean", "median", "std", "var")
    named = {f"the_{each}": ("weight", each) for each in functions}
    summary = ng.tokens.aggregate("token_type", **named).set_index("token_type")
    expected = pd.DataFrame(
        {
            "large": [1e308, 1.5e308, 2, INF, 1.25e308, 1.25e308, 2.5e307 * 2**0.5, INF],
            "opposite": [-1.7e308, 1.7e308, 2, 0, 0, 0, INF, INF],
            "negative": [-1.7e308, -1.5e308, 3, -INF, -1.6e308, -1.6e308, 1e307, INF],
            "tiny": [TINY, 2 * TINY, 2, 3 * TINY, 2 * TINY, 2 * TINY, TINY, 0],
            "one of them": [TINY, 1.7e308, 2, 1.7e308, 8.5e307, 8.5e307, 1.7e308 / 2**0.5, INF],
            "half": [0, TINY, 2, TINY, TINY, 0, TINY, 0],
            "none": [0, 0, 1, 0, 0, 0, 0, 0],
        },
        index=list(named),
    ).T
    np.testing.assert_allclose(summary.loc[expected.index], expected, rtol=1e-15)
    assert not np.signbit(summary.loc["none"].to_numpy(float)).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": "token_typ"}, "unknown column 'token_typ' in by.*did you mean 'token_type'"),
        ({"by": "level"}, r"unknown column 'level' in by; the columns here are .*metadata\.KEY"),
        ({"by": ["flags", "flags"]}, "by must be a sequence of different column names"),
        ({"by": []}, "by must be a sequence of different column names"),
        ({"by": 5}, "by must be a sequence"),
        ({"by": ["x"], "cell": 1}, "by must not name 'x' if there is a cell"),
        ({"cell": 0}, r"cell must be a number from 1e-200 to 1e\+37, or one for each axis, not 0"),
        ({"cell": (1, 1, -1)}, "cell must be"),
        ({"cell": (1, 1)}, "cell must be"),
        ({"cell": INF}, "cell must be"),
        ({"cell": True}, "cell must be"),
        ({"cell": "1"}, "cell must be"),
        ({"cell": math.nan}, "cell must be"),
        ({"n": "size"}, r"n must be 'count', the number of tokens, or \(column, function\)"),
        ({"n": "cuont"}, "did you mean 'count'"),
        ({"n": ("weight",)}, r"n must be .*not \('weight',\)"),
        ({"n": ("weight", max)}, "n must be"),
        ({"n": ("wieght", "max")}, "unknown column 'wieght' in n.*did you mean 'weight'"),
        ({"n": ("weight", "maximum")}, "unknown function 'maximum' of weight in n.*nunique"),
        (
            {"n": ("token_type", "mean")},
            "unknown function 'mean' of token_type in n; its functions",
        ),
        ({"n": ("timestamp", "sum")}, "unknown function 'sum' of timestamp"),
        ({"n": ("metadata.a", "meen")}, "unknown function 'meen' of metadata.a"),
        ({"token_typ": "a"}, "token_typ must be .*; did you mean 'token_type'"),
        ({"min_wieght": 0.5}, "min_wieght must be .*; did you mean 'min_weight'"),
        ({"flags_": "count", "by": "metadata.\0"}, "by must be text without NUL"),
        ({"a\0": "count"}, "the name of a column must be text without NUL"),
        ({"by": "weight", "weight": "count"}, "weight is the name of a key of the groups"),
        ({"cell": 1.0, "z": "count"}, "z is the name of a key"),
        ({"level": 8}, "level must be"),
        ({"within": ((0, 0, 0),)}, "within must be"),
        ({"within": ((1, 1, 1), (0, 0, 0))}, "are the two swapped"),
        ({"within": "box"}, "within must be"),
        ({"max_rows": 0}, "max_rows must be"),
        ({"cache": "of"}, "cache must be"),
    ],
)
def test_bad_arguments_of_aggregate(store, arguments, message):
    ng, _ = store
    with pytest.raises(InvalidQueryError, match=message):
        ng.tokens.aggregate(**{"by": None, **arguments})


def test_the_options_are_those_of_the_method(store):
    ng, _ = store
    options = inspect.signature(ng.tokens.aggregate).parameters
    assert tuple(options) == (*summaries.OPTIONS, "named")


def test_too_many_groups(store):
    ng, frame = store
    groups = frame.groupby(["token_type", "flags"]).ngroups
    assert len(ng.tokens.aggregate(["token_type", "flags"], max_rows=groups)) == groups
    with pytest.raises(ResultTooLarge, match=f"has {groups} rows, and max_rows is 3"):
        ng.tokens.aggregate(["token_type", "flags"], max_rows=3)


def by_hash(frame, seed=0):
    """Return the ids of tokens by the hash of a sample."""
    key = seed.to_bytes(8, "big", signed=True)
    hashes = {
        token_id: hashlib.sha256(key + uuid.UUID(token_id).bytes).digest()
        for token_id in frame.token_id
    }
    return sorted(hashes, key=hashes.get)


@settings(max_examples=40)
@given(
    n=st.integers(0, COUNT + 9),
    level=st.sampled_from([0, 2, 4]),
    seed=st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, -1, 2**63 - 1, -(2**63)]),
    box=st.none() | BOXES,
    other=st.none() | st.sampled_from([0, 2, 4]),
    is_filtered=st.booleans(),
    columns=st.none() | st.sampled_from([["token_id"], ["metadata.kind", "token_id", "y"], ["token_id", "metadata"]]),
)  # fmt: skip
def test_samples_have_the_least_hashes(store, n, level, seed, box, other, is_filtered, columns):
    ng, frame = store
    rows = rows_on(frame, level, box, other)
    options = {}
    if is_filtered:
        rows = rows[(rows["metadata.kind"] == "a") & (rows.weight >= 0)]
        options = {"where": {"kind": "a"}, "min_weight": 0}
    within = box if other is None or box is None else (*box, other)
    sample = ng.tokens.sample(n, level, within=within, seed=seed, columns=columns, **options)
    assert sample.token_id.tolist() == by_hash(rows, seed)[:n]
    rows = rows.set_index("token_id").loc[sample.token_id]
    region = ng.tokens.find_in_region((-INF,) * 3, (INF,) * 3, level, columns=columns)
    assert sample.dtypes.equals(region.dtypes)
    for name in set(sample.columns) - {"token_id", "level"}:
        if name == "metadata":
            assert sample[name].tolist() == rows[name].tolist()
        else:
            np.testing.assert_array_equal(sample[name], rows[name])


def test_a_large_sample_is_sent_like_a_region(new_migrated_database):
    """With ids as bytes and points as one column."""
    rng = np.random.default_rng(3)
    with new_migrated_database() as url, ngdata.connect(url, redis_url=None) as ng:
        cloud = pd.DataFrame(rng.normal(size=(3000, 3)), columns=list("xyz"))
        cloud["token_id"] = ng.tokens.bulk_create(cloud, level=5, progress=False)
        sample = ng.tokens.sample(2500, "social", seed=7)
        assert sample.token_id.tolist() == by_hash(cloud, 7)[:2500]
        expected = cloud.set_index("token_id").loc[sample.token_id]
        assert np.array_equal(sample[[*"xyz"]], expected)
        assert set(sample.level) == {5}
        assert sample.attrs["ngdata"]["level"] == 5
        pd.testing.assert_frame_equal(sample.head(100), ng.tokens.sample(100, 5, seed=7))
        assert ng.explain(ng.tokens.sample, 2500, 5).sql.count("sha256") == 2


def test_a_region_on_another_level_is_read_by_its_index(new_migrated_database, execute):
    """And only its few tokens are looked up on the level of the read."""
    coords = np.full((20_000, 8, 3), np.nan)
    coords[:, [0, 5]] = np.random.default_rng(4).uniform(0, 1000, (20_000, 2, 3))
    box = (100, 100, 100), (200, 200, 200)
    is_inside = ((coords[:, 0] >= 100) & (coords[:, 0] <= 200)).all(axis=1)
    with new_migrated_database() as url, ngdata.connect(url, redis_url=None) as ng:
        ids = ng.tokens.bulk_create({"weight": np.ones(20_000)}, coords=coords, progress=False)
        for _ in range(2):
            for read, argument in ((ng.tokens.aggregate, "token_type"), (ng.tokens.sample, 10)):
                plan = ng.explain(read, argument, 5, within=(*box, 0), analyze=True)
                assert plan.uses_spatial_index, plan.text
                assert "Seq Scan" not in plan.text, plan.text
            execute(url, "ANALYZE tokens.spatial_index")
        sample = ng.tokens.sample(20_000, "social", within=(*box, "physical"))
        assert set(sample.token_id) == set(ids[is_inside])


def test_samples_of_integer_ids(new_migrated_database):
    numbers = np.array([0, 7, 2**62, 2**64 - 1, 9], np.uint64)
    with (
        new_migrated_database() as url,
        ngdata.connect(url, redis_url=None, ids="integer", id_space="flywire") as ng,
    ):
        places = np.zeros(5)
        ng.tokens.bulk_create({"token_id": numbers, "x": places, "y": places, "z": places})
        sample = ng.tokens.sample(4, seed=-3)
        assert sample.token_id.dtype == np.uint64
        texts = from_integers(numbers, "flywire")
        expected = by_hash(pd.DataFrame({"token_id": texts}), -3)[:4]
        assert from_integers(sample.token_id, "flywire").tolist() == expected
        assert ng.tokens.aggregate(None, n="count").n.tolist() == [5]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": -1}, "n must be an integer from 0 to"),
        ({"n": 1.0}, "n must be an integer from 0 to"),
        ({"n": True}, "n must be an integer from 0 to"),
        ({"n": 2**31}, "n must be an integer from 0 to"),
        ({"seed": 2**63}, "seed must be an integer from"),
        ({"seed": 0.5}, "seed must be an integer from"),
        ({"seed": None}, "seed must be an integer from"),
        ({"columns": ["metadat"]}, "unknown column 'metadat'"),
        ({"columns": ["distance"]}, "unknown column 'distance'"),
        ({"level": "motr"}, "did you mean 'motor'"),
        ({"within": 5}, "within must be"),
        ({"min_weight": "1"}, "min_weight must be"),
    ],
)
def test_bad_arguments_of_sample(store, arguments, message):
    ng, _ = store
    with pytest.raises(InvalidQueryError, match=message):
        ng.tokens.sample(**{"n": 1, **arguments})
