"""A region's answer of which some boxes are read anew: as if all of it had been read."""

import asyncio
import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ngdata
from ngdata import Box
from ngdata._query.filters import TokenFilter
from ngdata._query.places import Place
from ngdata._query.regions import region
from ngdata._reading.answer import Answer
from ngdata._reading.cache import cached_reader, outliving
from ngdata._reading.cache.mending import can_be_mended, max_boxes, rows_in_boxes
from ngdata._reading.derived import Derived
from tests.cache.conftest import WHOLE, outsider, points, run, same
from tests.conftest import execute

NUMBERS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 5e-324, 1e37, 0.1, 0.1 + 2**-55])
POINTS = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=12)
BOX = Box((0, 0, 0), (10, 10, 10))


@pytest.fixture(autouse=True)
def small_answers_too(monkeypatch):
    """Bring answers up to date that the database would return as quickly."""
    monkeypatch.setattr(outliving, "is_read_quickly", lambda query, answer: False)


@given(POINTS, POINTS, st.lists(st.tuples(POINTS.filter(bool)), max_size=3))
def test_rows_in_boxes_are_those_that_numpy_finds(places, written, around):
    table = pa.table(dict(zip("xyz", np.array(places).reshape(-1, 3).T.copy(), strict=True)))
    corners = [[*point, *point] for point in written]
    corners += [[*np.min(each, axis=0), *np.max(each, axis=0)] for (each,) in around]
    boxes = np.array(corners).reshape(-1, 6)
    expected = [
        row
        for row, place in enumerate(places)
        if any((box[:3] <= place).all() and (place <= box[3:]).all() for box in boxes)
    ]
    assert rows_in_boxes(table, boxes).tolist() == expected


def test_too_large_a_part_is_read_as_a_whole():
    values = np.arange(1000.0)
    table = pa.table({"x": values, "y": values, "z": values})
    few, many = np.array([[0, 0, 0, 299, 999, 999.0]]), np.array([[0, 0, 0, 300, 999, 999.0]])
    assert len(rows_in_boxes(table, few)) == 300
    assert rows_in_boxes(table, many) is None
    assert rows_in_boxes(table, np.repeat(few, 17, axis=0)) is None


def test_only_whole_regions_with_places_are_mended():
    place = Place(BOX, 0)
    for query, expected in (
        (region(place, TokenFilter()), True),
        (region(place, TokenFilter(), columns=["z", "x", "y"]), True),
        (region(place, TokenFilter(), columns=["token_id", "x"]), False),
        (region(place, TokenFilter(), limit=3), False),
    ):
        table = pa.table({column.name: [] for column in query.columns})
        assert can_be_mended(query, Answer(table, query.columns)) is expected
    assert max_boxes(Answer(pa.table({"x": np.zeros(1000)}), ())) == 74


@pytest.mark.parametrize("columns", [None, ["x", "y", "z", "weight"]])
@pytest.mark.parametrize("ids", ["text", "integer"])
def test_each_kind_of_change_is_mended(database_url, columns, ids):
    grid = list(itertools.product(range(8), range(4), range(4)))
    number = "00000000-0000-4000-8000-{:012d}".format
    statements = [
        # In, out, within, and at a place where there is another one, or a negative zero.
        "UPDATE tokens.tokens SET coord_x[1] = coord_x[1] + 0.5 WHERE coord_x[1] = 3"
        " AND coord_y[1] = 1",
        "UPDATE tokens.tokens SET coord_x[1] = 50 WHERE coord_x[1] = 2 AND coord_z[1] = 0",
        "UPDATE tokens.tokens SET coord_x[1] = 4 WHERE coord_x[1] = 50",
        "UPDATE tokens.tokens SET coord_x[1] = '-0' WHERE coord_x[1] = 5 AND coord_y[1] = 0",
        "DELETE FROM tokens.tokens WHERE coord_x[1] = 1 AND coord_y[1] = 2",
        "UPDATE tokens.tokens SET coord_x[1] = NULL, coord_y[1] = NULL, coord_z[1] = NULL"
        " WHERE coord_x[1] = 6 AND coord_y[1] = 0",
        "UPDATE tokens.tokens SET weight = 9 WHERE coord_x[1] = 0 AND coord_y[1] = 0",
        # Logged as one box, of which a part is in the region.
        "INSERT INTO tokens.tokens (coord_x, coord_y, coord_z) SELECT a, b, b FROM ("
        "SELECT ARRAY[9 + n / 100.0, NULL,NULL,NULL,NULL,NULL,NULL,NULL]::float8[] AS a,"
        " ARRAY[9,NULL,NULL,NULL,NULL,NULL,NULL,NULL]::float8[] AS b"
        " FROM generate_series(1, 300) AS n) AS t",
    ]
    options = {} if ids == "text" else {"ids": "integer"}
    with ngdata.connect(database_url, **options) as ng:
        names = range(len(grid)) if ids == "integer" else [number(n) for n in range(len(grid))]
        ng.tokens.bulk_create(points(*grid, token_id=list(names)))
        if ids == "integer":
            # Only ids of its own space have numbers.
            statements = [each for each in statements if not each.startswith("INSERT")]
        ng.tokens.find_in_region(BOX, columns=columns)
        for count, statement in enumerate(statements, 1):
            execute(database_url, statement)
            frame = ng.tokens.find_in_region(BOX, columns=columns)
            assert frame.attrs["ngdata"]["source"] == "mended", statement
            same(frame, ng.tokens.find_in_region(BOX, columns=columns, cache="off"))
            assert (ng.cache.stats().mended, ng.cache.stats().misses) == (count, 1)
        _, (_, answer) = ng._wrapped._reader.memory._entries.popitem()
        assert {column.num_chunks for column in answer.table.columns} == {1}


def test_a_mended_answer_is_another_one(ng):
    """Who holds the earlier one, or made something of it, is not disturbed."""
    token = ng.tokens.create({0: (1, 1, 1)})
    derived = Derived(lambda table: table.num_rows)
    reader = ng._wrapped._reader
    frame = ng.tokens.find_in_region(BOX)
    [(_, first)] = reader.memory._entries.values()
    assert derived.of(first) == 1
    ng.tokens.create({0: (99, 1, 1)})
    ng.tokens.find_in_region(BOX)
    [(_, outlived)] = reader.memory._entries.values()
    assert outlived is not first
    assert outlived in derived
    ng.tokens.create({0: (2, 1, 1)})
    assert len(ng.tokens.find_in_region(BOX)) == 2
    [(_, mended)] = reader.memory._entries.values()
    assert mended not in derived
    assert derived.of(mended) == 2
    assert (first.table.num_rows, outlived.table.num_rows, len(frame)) == (1, 1, 1)
    assert frame.token_id.tolist() == [token]


def test_a_smaller_region_is_cut_out_of_one_that_was_written(database_url):
    with ngdata.connect(database_url) as ng:
        ids = list(ng.tokens.bulk_create(points(*itertools.product(range(4), repeat=3))))
        ng.tokens.find_in_region(BOX)
        inner = ((0, 0, 0), (1, 1, 1))
        ng.tokens.update(ids[-1], weight=5)
        frame = ng.tokens.find_in_region(*inner)
        assert frame.attrs["ngdata"]["source"] == "region"
        ng.tokens.update(ids[0], weight=5)
        other = ((0, 0, 0), (2, 1, 1))
        frame = ng.tokens.find_in_region(*other)
        assert frame.attrs["ngdata"]["source"] == "mended"
        same(frame, ng.tokens.find_in_region(*other, cache="off"))
        assert ng.cache.stats().misses == 1


def test_many_callers_mend_once(database_url, monkeypatch):
    started = []
    bring = cached_reader.bring_up_to_date

    def counted(*arguments):
        started.append(1)
        return bring(*arguments)

    monkeypatch.setattr(cached_reader, "bring_up_to_date", counted)

    async def main():
        async with await ngdata.connect_async(database_url) as ang, outsider(database_url) as other:
            await ang.tokens.bulk_create(points((0, 0, 0), (1, 1, 1)))
            await ang.tokens.find_in_region(BOX)
            await other.execute("UPDATE tokens.tokens SET weight = 3 WHERE coord_x[1] = 1")
            frames = await asyncio.gather(*(ang.tokens.find_in_region(BOX) for _ in range(8)))
            assert all(frame.weight.max() == 3 for frame in frames)
            assert len(started) == 1
            stats = await ang.cache.stats()
            assert (stats.mended, stats.misses) == (1, 1)

    run(main())


def test_a_cancelled_caller_leaves_nothing_open(database_url):
    async def main():
        async with await ngdata.connect_async(database_url) as ang, outsider(database_url) as other:
            await ang.tokens.bulk_create(points((0, 0, 0), (1, 1, 1)))
            await ang.tokens.find_in_region(BOX)
            await other.execute("UPDATE tokens.tokens SET weight = 3 WHERE coord_x[1] = 1")
            transaction = other.transaction()
            await transaction.start()
            # What brings the answer up to date waits for this lock.
            await other.execute("LOCK TABLE tokens.changes IN ACCESS EXCLUSIVE MODE")
            task = asyncio.create_task(ang.tokens.find_in_region(BOX))
            await asyncio.sleep(0.2)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            assert await other.fetchval(waiting) == 0
            await transaction.rollback()
            same(
                await ang.tokens.find_in_region(BOX),
                await ang.tokens.find_in_region(BOX, cache="off"),
            )

    run(main())


def test_too_many_changes_are_read_as_a_whole(database_url):
    with ngdata.connect(database_url) as ng:
        ids = list(ng.tokens.bulk_create(points(*itertools.product(range(10), repeat=3))))
        region = ng.tokens.find_in_region(*WHOLE)
        assert len(region) == 1000
        # 80 places, and 74 are the most.
        execute(
            database_url,
            "UPDATE tokens.tokens SET weight = 2 WHERE coord_x[1] = 0 AND coord_y[1] < 8",
        )
        frame = ng.tokens.find_in_region(*WHOLE)
        assert frame.attrs["ngdata"]["source"] == "database"
        ng.tokens.update(ids[0], weight=7)
        assert ng.tokens.find_in_region(*WHOLE).attrs["ngdata"]["source"] == "mended"


def test_a_role_that_may_not_read_the_log_reads_as_a_whole(database_url):
    role = "without_log"
    execute(
        database_url,
        f"DROP ROLE IF EXISTS {role}",
        f"CREATE ROLE {role}",
        f"SELECT tokens.grant_access('{role}', 'analyst')",
    )
    try:
        with (
            ngdata.connect(database_url) as owner,
            ngdata.connect(f"{database_url}&options=-c%20role%3D{role}") as ng,
        ):
            owner.tokens.create({0: (1, 1, 1)})
            ng.tokens.find_in_region(BOX)
            owner.tokens.create({0: (2, 1, 1)})
            assert ng.tokens.find_in_region(BOX).attrs["ngdata"]["source"] == "mended"
            execute(database_url, f"REVOKE SELECT ON tokens.changes FROM {role}")
            for count in (3, 4):
                owner.tokens.create({0: (count, 1, 1)})
                frame = ng.tokens.find_in_region(BOX)
                assert (len(frame), frame.attrs["ngdata"]["source"]) == (count, "database")
            assert ng.tokens.find_in_region(BOX).attrs["ngdata"]["source"] == "memory"
    finally:
        execute(database_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.usefixtures("patient_redis")
def test_another_client_mends_what_redis_has(database_url, own_redis):
    async def main():
        async with (
            await ngdata.connect_async(database_url, redis_url=own_redis.url) as one,
            await ngdata.connect_async(database_url, redis_url=own_redis.url) as two,
        ):
            await one.tokens.bulk_create(points((0, 0, 0), (1, 1, 1)))
            await one.tokens.find_in_region(BOX)
            await one._reader.flush()
            await one.tokens.create({0: (50, 1, 1)})
            frame = await two.tokens.find_in_region(BOX)
            assert frame.attrs["ngdata"]["source"] == "redis"
            await two._reader.flush()
            two._reader.memory.clear()
            await one.tokens.create({0: (5, 1, 1)})
            frame = await two.tokens.find_in_region(BOX)
            assert frame.attrs["ngdata"]["source"] == "mended"
            same(frame, await one.tokens.find_in_region(BOX, cache="off"))
            stats = await two.cache.stats()
            assert (stats.outlived, stats.mended, stats.hits, stats.misses) == (1, 1, 2, 0)

    run(main())


def test_small_regions_and_lookups_are_read_again(database_url, monkeypatch):
    """The log takes as long to read as they do."""
    monkeypatch.undo()
    with ngdata.connect(database_url) as ng:
        grid = points(*itertools.product(range(10), repeat=3))
        ids = list(ng.tokens.bulk_create(grid))
        for few, many in ((100, 1000), (5, 105)):
            reads = (
                lambda many=many: ng.tokens.find_in_region((0, 0, 0), (many // 100 - 1, 9, 9)),
                lambda many=many: ng.tokens.get(ids[:many]),
                lambda few=few: ng.tokens.find_nearest((0, 0, 0), few),
            )
            for read in reads:
                read()
            ng.tokens.create({0: (20, 20, 20)})
            sources = [read().attrs["ngdata"]["source"] for read in reads]
            large = "memory" if many == 1000 else "database"
            assert sources == [large, "memory", "database"]
