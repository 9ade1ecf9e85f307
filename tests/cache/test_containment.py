"""A region inside a region: the same set of rows as from the server, without reading any."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import ngdata
from ngdata import EVERYWHERE, NOWHERE, Box, HalfSpace, Hull, Sphere
from tests.cache.conftest import same
from tests.conftest import SCALE

TYPES = ["soma", "axon", "dendrite"]
COLUMNS = [
    "metadata.side",
    "token_id",
    "level",
    "x",
    "y",
    "z",
    "token_type",
    "weight",
    "flags",
    "timestamp",
]
GRID = [-math.inf, -1.0, -0.0, 0.0, 5e-324, 1.0, math.nextafter(1.0, 2.0), 2.0, 1e37, math.inf]


@pytest.fixture(scope="module")
def store(server):
    """Tokens on and next to the faces of the boxes; level 3 holds half of those of level 0."""
    import adbc_driver_postgresql.dbapi as adbc

    with adbc.connect(server.database_url, autocommit=True) as connection:
        connection.execute("TRUNCATE tokens.tokens CASCADE").close()
    rng = np.random.default_rng(6)
    finite = [value for value in GRID if math.isfinite(value)]
    frame = pd.DataFrame(rng.choice(finite, (400, 3)), columns=list("xyz"))
    frame["token_type"] = rng.choice(TYPES, 400)
    frame["weight"] = rng.choice([0.0, 0.1, 0.5, 1.0, -1.0], 400)
    frame["flags"] = rng.choice([0, 1, 2, 3, 7, 2**31 - 1], 400)
    frame["metadata"] = [{"side": "LR"[n % 2], "n": n} for n in range(400)]
    with ngdata.connect(server.database_url) as client:
        client.tokens.bulk_create(frame)
        client.tokens.bulk_create(frame.iloc[:200], level=3)
        yield client


@st.composite
def regions(draw):
    bounds = [sorted(draw(st.tuples(*[st.sampled_from(GRID)] * 2))) for _ in range(3)]
    low, high = zip(*bounds, strict=True)
    options = {
        "token_type": st.sampled_from(
            [None, None, "soma", ("soma",), ["soma", "axon"], TYPES, [], ["soma", "soma"]]
        ),
        "flags": st.sampled_from([None, None, 0, 1, 2, 3, 2**31 - 1]),
        "min_weight": st.sampled_from([None, None, -math.inf, -1.0, 0.1, 0.5, math.inf]),
        "columns": st.sampled_from([None, None, None])
        | st.permutations(COLUMNS).map(lambda c: c[:6]),
        "limit": st.sampled_from([None] * 6 + [1000]),
    }
    level = draw(st.sampled_from([0, 0, 0, "physical", 3]))
    return (low, high, level), {name: draw(values) for name, values in options.items()}


def inside(outer, inner):
    """Shrink a region towards another, so that most of those drawn lie inside it."""
    (low, high, level), options = outer
    (a, b, _), more = inner
    new_low = tuple(max(x, y) for x, y in zip(low, a, strict=True))
    new_high = tuple(min(x, y) for x, y in zip(high, b, strict=True))
    assume(all(x <= y for x, y in zip(new_low, new_high, strict=True)))
    narrow = {name: options[name] for name in ("token_type", "flags", "min_weight")}
    if options["token_type"] is None:
        narrow["token_type"] = more["token_type"]
    if more["flags"] is not None:
        narrow["flags"] = more["flags"] | (options["flags"] or 0)
    if more["min_weight"] is not None and options["min_weight"] is not None:
        narrow["min_weight"] = max(more["min_weight"], options["min_weight"])
    return (new_low, new_high, level), narrow | {"columns": more["columns"], "limit": more["limit"]}


@given(outer=regions(), inner=regions(), shrink=st.booleans())
@settings(max_examples=150 * SCALE)
def check_rows(store, outer, inner, shrink):
    if shrink:
        outer = outer[0], outer[1] | {"columns": None, "limit": None}
        inner = inside(outer, inner)
    store._wrapped._reader.memory.clear()
    for box, options in (outer, inner, inner):
        frame = store.tokens.find_in_region(*box, **options)
        plain = store.tokens.find_in_region(*box, **options, cache="off")
        assert list(frame.columns) == list(plain.columns)
        same(frame, plain)


def test_the_rows_are_those_of_the_server(store):
    """The property would also hold if no region was answered from a larger one."""
    before = store.cache.stats().region_hits
    check_rows(store)
    assert store.cache.stats().region_hits - before > 20


def test_zooming_in_reads_no_rows(store, server):
    """For a hundred regions inside one, only versions are read from the server."""
    with ngdata.connect(server.database_url) as ng:
        ng.tokens.find_in_region((-2, -2, -2), (3, 3, 3))
        rng = np.random.default_rng(1)
        for number in range(100):
            low = rng.uniform(-2, 1, 3)
            frame = ng.tokens.find_in_region(low, low + 1.5)
            assert frame.attrs["ngdata"]["source"] == "region", number
        stats = ng.cache.stats()
        assert (stats.misses, stats.region_hits) == (1, 100)
        # The answer to the last zoom is itself kept.
        ng.tokens.find_in_region(low, low + 1.5)
        assert ng.cache.stats().memory_hits == 1


BALL = Sphere((0.5, 0.5, 0.5), 0.75)
CUT = Box((0, 0, 0), (1, 1, 1)) & HalfSpace((1, 1, 1), 2)
HULL = Hull([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)])


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (Box((-1, -1, -1), (2, 2, 2)), BALL),
        (Box((-1, -1, -1), (2, 2, 2)), BALL - CUT),
        (Box((-1, -1, -1), (2, 2, 2)), BALL ^ HULL),
        (EVERYWHERE, HalfSpace((1, 0, 0), 0)),
        (EVERYWHERE, ~BALL),
        (Sphere((0.5, 0.5, 0.5), 2), Box((0, 0, 0), (1, 1, 1))),
        (HalfSpace((1, 1, 1), 9), HULL | BALL),
        (BALL, BALL & HalfSpace((1, 0, 0), 0)),
        (BALL, BALL - HULL),
        (BALL | Sphere((5, 5, 5), 1), Sphere((0.5, 0.5, 0.5), 0.125)),
        (BALL & Box((0, 0, 0), (1, 1, 1)).on(3), BALL & Box((0, 0, 0), (1, 1, 1)).on(3)),
        (Box((0, 0, 0), (1, 1, 1)), NOWHERE),
    ],
)
def test_any_region_in_one_that_is_kept_is_answered_from_memory(store, server, outer, inner):
    with ngdata.connect(server.database_url) as ng:
        ng.tokens.find_in_region(outer)
        frame = ng.tokens.find_in_region(inner, token_type="soma")
        assert frame.attrs["ngdata"]["source"] == "region"
        same(frame, ng.tokens.find_in_region(inner, token_type="soma", cache="off"))


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (BALL, Box((0, 0, 0), (1, 1, 1))),
        (Box((0, 0, 0), (1, 1, 1)), BALL),
        (Box((0, 0, 0), (1, 1, 1)), ~BALL),
        (~BALL, EVERYWHERE),
        (BALL, BALL.on(3)),
        (BALL.on(3), BALL),
        (EVERYWHERE, BALL & EVERYWHERE.on(3)),
        (BALL & HULL, BALL),
        (HULL, HULL.moved((0.25, 0, 0))),
    ],
)
def test_a_region_that_is_not_surely_inside_is_read(store, server, outer, inner):
    with ngdata.connect(server.database_url) as ng:
        ng.tokens.find_in_region(outer)
        frame = ng.tokens.find_in_region(inner)
        assert frame.attrs["ngdata"]["source"] == "database"


def test_a_write_outdates_the_larger_region(store, server):
    with ngdata.connect(server.database_url) as ng:
        ng.tokens.find_in_region((0, 0, 0), (2, 2, 2))
        token = ng.tokens.create({0: (0.5, 0.5, 0.5)})
        assert token in set(ng.tokens.find_in_region((0.5,) * 3, (0.5,) * 3).token_id)
        ng.tokens.delete(token)
        assert ng.tokens.find_in_region((0.5,) * 3, (0.5,) * 3).empty
        assert ng.cache.stats().region_hits == 0


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ({"limit": 1000}, {}),
        ({"limit": 0}, {}),
        ({"columns": ["token_id"]}, {}),
        ({"columns": ["token_id", "x", "y"]}, {"columns": ["token_id"]}),
        ({"token_type": "soma"}, {}),
        ({"token_type": "soma"}, {"token_type": ["soma", "axon"]}),
        ({"where": {"side": "L"}}, {}),
        ({}, {"where": {"side": "L"}}),
        ({"where": {"side": "L"}}, {"where": {"side": "L", "n": 2}}),
        ({}, {"columns": ["x", "y", "z", "metadata.n"]}),
        ({"flags": 1}, {}),
        ({"flags": 3}, {"flags": 1}),
        ({"min_weight": 0.5}, {"min_weight": 0.1}),
        ({"min_weight": -math.inf}, {}),
        ({}, {"level": 3}),
        ({}, {"limit": 10}),
    ],
)
def test_a_region_that_may_miss_rows_or_columns_is_not_used(store, server, outer, inner):
    with ngdata.connect(server.database_url) as ng:
        ng.tokens.find_in_region((0, 0, 0), (2, 2, 2), **outer)
        frame = ng.tokens.find_in_region((0, 0, 0), (1, 1, 1), **inner)
        assert frame.attrs["ngdata"]["source"] == "database"


def test_only_the_columns_that_the_filter_needs_are_required(store, server):
    """Equal faces and filters need no column; a different face needs only its axis."""
    box = ((0, 0, 0), (2, 2, 2))
    with ngdata.connect(server.database_url) as ng:
        ng.tokens.find_in_region(*box, columns=["token_id", "x"], flags=1)
        for low, high, columns in (
            (*box, ["token_id"]),
            ((1, 0, 0), (2, 2, 2), ["token_id"]),
            ((0, 0, 0), (1, 2, 2), ["x", "token_id"]),
        ):
            options = {"columns": columns, "flags": 1}
            frame = ng.tokens.find_in_region(low, high, **options)
            assert frame.attrs["ngdata"]["source"] == "region"
            same(frame, ng.tokens.find_in_region(low, high, **options, cache="off"))


def test_a_region_with_equal_metadata_is_used(store, server):
    """Until a write changes nothing but metadata, which other programs may do too."""
    columns = ["token_id", "x", "y", "z", "metadata.n", "metadata"]
    with ngdata.connect(server.database_url) as ng:
        ng.tokens.find_in_region((0, 0, 0), (2, 2, 2), where={"side": "L"}, columns=columns)
        for sources in (["region", "memory"], ["database", "memory"]):
            for source in sources:
                options = {"where": {"side": "L"}, "columns": columns[:5]}
                frame = ng.tokens.find_in_region((0, 0, 0), (1, 2, 2), **options)
                assert frame.attrs["ngdata"]["source"] == source
                same(frame, ng.tokens.find_in_region((0, 0, 0), (1, 2, 2), **options, cache="off"))
            store.tokens.update(frame.token_id[0], metadata={"side": "L", "n": -1})
        assert "-1" in set(frame["metadata.n"])


def test_a_limited_number_of_regions_is_searched(store, server):
    """The 32 used last, so the search stays short however many regions are kept."""
    with ngdata.connect(server.database_url) as ng:
        ng.tokens.find_in_region((0, 0, 0), (2, 2, 2))
        places = itertools.product(range(10, 14), repeat=3)
        for place in itertools.islice(places, 40):
            ng.tokens.find_in_region(place, place)
        frame = ng.tokens.find_in_region((0, 0, 0), (1, 1, 1))
        assert frame.attrs["ngdata"]["source"] == "database"


def test_ttl_counts_from_the_read_of_the_larger_region(store, server):
    with ngdata.connect(server.database_url, cache="ttl", default_ttl=1000) as ng:
        reader = ng._wrapped._reader
        ng.tokens.find_in_region((0, 0, 0), (2, 2, 2))
        ng.tokens.find_in_region((0, 0, 0), (1, 1, 1))
        times = {answer.read_at for _, answer in reader.memory._entries.values()}
        assert len(times) == 1
        assert ng.cache.stats().region_hits == 1
