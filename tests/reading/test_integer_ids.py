"""Token ids as integers: each read says the same in both forms, from every tier of the cache."""

import asyncio

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import redis

import ngdata
from ngdata._arguments.texts import STR
from ngdata._client.subgraph import Subgraph
from ngdata.errors import ConfigError, IntegrityError, InvalidQueryError, NotFoundError
from ngdata.ids import from_integers
from tests.cache.test_isolation import BOX, MOMENT, READS, RUN

SPACE = "flywire"
NUMBERS = np.array([7, 2**64 - 1, 720575940631797753, 2**63, 9, 0], np.uint64)
TOKEN_COLUMNS = ("token_id", "neighbor_id", "other_id", "source_id", "target_id")
POINTS = {axis: np.arange(6.0) for axis in "xyz"}


@pytest.fixture(scope="module")
def store(new_migrated_database):
    """A store of integer ids, for reading; all is written as integers."""
    with new_migrated_database() as url, integers(url) as ng:
        metadata = [{"a": [n]} for n in range(6)]
        ids = ng.tokens.bulk_create(
            pd.DataFrame({"token_id": NUMBERS, **POINTS, "metadata": metadata})
        )
        assert ids.dtype == np.uint64
        assert ids.tolist() == NUMBERS.tolist()
        ng.graph.bulk_create({"source_id": NUMBERS[:-1], "target_id": list(map(int, NUMBERS[1:]))})
        token_ids = pd.array([NUMBERS[0], None, NUMBERS[1]], "UInt64")
        ng.experience.bulk_create(
            {
                "event_type": ["seen"] * 3,
                "timestamp": [MOMENT] * 3,
                "token_id": token_ids,
                "trajectory_id": [RUN] * 3,
            }
        )
        ng.graph.create_snapshot()
        yield url


def integers(url, **settings):
    return ngdata.connect(url, ids="integer", id_space=SPACE, **settings)


@pytest.fixture(scope="module")
def clients(store, server):
    """Clients of both forms, over one Redis, and two more of integers: with no cache, with Redis."""
    redis.Redis.from_url(server.redis_url).flushall()
    with (
        ngdata.connect(store, redis_url=server.redis_url, id_space=SPACE) as text,
        integers(store, redis_url=server.redis_url) as number,
        integers(store, redis_url=server.redis_url) as other,
    ):
        yield text, number, other


def parts(result):
    """Return the frames of a result; None if it has none."""
    if isinstance(result, Subgraph):
        return [result.tokens, result.connections]
    return [result] if isinstance(result, pd.DataFrame) else None


def as_text(frame):
    names = [name for name in TOKEN_COLUMNS if name in frame and frame[name].dtype != STR]
    # The points of a batch are named by ids, if they are tokens.
    names += [name for name in ("query",) if name in frame and frame[name].dtype == "uint64"]
    return frame.assign(**{name: from_integers(frame[name], SPACE) for name in names})


def in_order(frame):
    ids = [name for name in frame.columns if name == "query" or name.endswith("_id")]
    return frame.sort_values(ids, ignore_index=True) if ids else frame


# `join` keeps the caller's own column of ids as it is.
@pytest.mark.parametrize("name", [name for name in READS if name != "tokens.join"])
def test_both_forms_of_each_read(clients, name):
    text, number, other = clients
    expected = READS[name](text, NUMBERS.tolist())
    ids = from_integers(NUMBERS, SPACE).tolist()
    for client, passed, cache in (
        (number, NUMBERS.tolist(), None),
        (number, ids, None),  # from this process
        (other, list(NUMBERS), None),  # from Redis
        (other, ids, "off"),
        (text, ids, None),
    ):
        result = READS[name](client, passed, **({} if cache is None else {"cache": cache}))
        frames = parts(result)
        if frames is None:
            assert result == expected
            continue
        for frame, wanted in zip(frames, parts(expected), strict=True):
            if client is not text and name != "tokens.join":
                for column in TOKEN_COLUMNS:
                    if column in frame:
                        may_miss = name.startswith("experience.") and "activity" not in name
                        assert frame[column].dtype == ("UInt64" if may_miss else "uint64")
            # The ids of a frame that `tokens.join` completes are the caller's own.
            pd.testing.assert_frame_equal(in_order(as_text(frame)), in_order(as_text(wanted)))


def test_the_tiers_are_used(clients):
    _, number, other = clients
    stats = number.cache.stats()
    assert stats.memory_hits > 0
    assert other.cache.stats().redis_hits > 0


def test_parts_of_a_larger_region(clients):
    text, number, _ = clients
    number.tokens.find_in_region(*BOX)
    inner = (0, 0, 0), (2, 2, 2)
    part = number.tokens.find_in_region(*inner)
    assert part.attrs["ngdata"]["source"] == "region"
    pd.testing.assert_frame_equal(
        in_order(as_text(part)), in_order(text.tokens.find_in_region(*inner))
    )


def test_streams_partitions_and_files(clients, tmp_path):
    text, number, _ = clients
    expected = in_order(text.tokens.find_in_region(*BOX))
    rows = pd.concat(number.tokens.iter_region(*BOX, chunk_rows=2))
    dask = number.tokens.to_dask(*BOX, npartitions=2)
    assert dask.dtypes["token_id"] == np.uint64
    for frame in (rows, dask.compute(scheduler="sync")):
        pd.testing.assert_frame_equal(in_order(as_text(frame)), expected)
    events = number.experience.to_dask(npartitions=2)
    assert events.dtypes["token_id"] == "UInt64"
    assert events.token_id.compute(scheduler="sync").dropna().tolist() == NUMBERS[:2].tolist()
    number.tokens.to_geoparquet(tmp_path / "file", *BOX)
    assert sorted(pq.read_table(tmp_path / "file")["token_id"].to_pylist()) == sorted(
        NUMBERS.tolist()
    )


def test_results_with_methods(clients):
    _, number, _ = clients
    around = number.graph.subgraph(7, depth=32)
    graph = around.to_networkx()
    assert set(graph.nodes) == set(NUMBERS.tolist())
    assert all(type(node) is int for node in graph.nodes)
    matrix, ids = around.to_scipy()
    row, column = ids.get_indexer([NUMBERS[1], NUMBERS[2]])
    assert matrix[row, column] == 1.0
    path = number.graph.shortest_path(7, 0)
    assert path.source_id.tolist() == NUMBERS[:-1].tolist()


def test_async_clients(store):
    async def read():
        async with await ngdata.connect_async(store, ids="integer", id_space=SPACE) as ang:
            return await ang.tokens.get([0, 7])

    assert asyncio.run(read()).token_id.tolist() == [0, 7]


def test_settings(store, monkeypatch, tmp_path):
    file = tmp_path / "database.yaml"
    file.write_text("database: {postgres: {ids: integer, id_space: flywire}}")
    with ngdata.connect(store, config=file) as ng:
        assert ng.tokens.get(7).token_id.dtype == np.uint64
    monkeypatch.setenv("NGDATA_IDS", "integer")
    with (
        ngdata.connect(store) as ng,
        pytest.raises(ConfigError, match=r'of the id space .*ids="uuid"'),
    ):
        ng.tokens.find_in_region(*BOX)
    with pytest.raises(ConfigError, match=r"NGDATA_IDS|ids must be"):
        ngdata.connect(store, ids="int")


def test_errors_name_integers(clients):
    _, ng, _ = clients
    with pytest.raises(NotFoundError, match=r"no token in the store has the id 8$") as error:
        ng.tokens.get([7, 8])
    assert error.value.missing == (8,)
    for call in (
        lambda: ng.tokens.update([8, 7], weight=2.0),
        lambda: ng.graph.get_neighbors(8),
        lambda: ng.graph.shortest_path(7, 8),
    ):
        with pytest.raises(NotFoundError, match=r"the id 8$"):
            call()
    point = {"x": [1.0] * 2, "y": [1.0] * 2, "z": [1.0] * 2}
    for call, message in (
        (lambda: ng.graph.create_connection(7, 8), "target_id 8 names no token"),
        (lambda: ng.tokens.create({}, token_id=7), "token_id 7 already exists"),
        (
            lambda: ng.tokens.bulk_create({"token_id": [5, 7], **point}),
            "token_id 7 in row 1 already",
        ),
        (
            lambda: ng.tokens.bulk_create({"token_id": [5, 5], **point}),
            "token_id 5 appears in rows 0",
        ),
        (
            lambda: ng.graph.bulk_create({"source_id": [7, 8], "target_id": [7, 7]}),
            "source_id 8 in row 1 names no token",
        ),
        (lambda: ng.experience.create_event("a", token_id=8), "token_id 8 names no token"),
    ):
        with pytest.raises(IntegrityError, match=message):
            call()
    with pytest.raises(IntegrityError, match="token_id 8 names no token") as refused:  # noqa: SIM117
        with ng.experience.recorder() as record:
            record("a", token_id=8)
    assert refused.value.unwritten.token_id.tolist() == [8]


BAD = [[1.0, 2.5], [7, -1], pd.array([7, None], "Int64"), [7, True], [7, 2**64]]


@pytest.mark.parametrize("values", BAD, ids=str)
def test_bad_ids_are_refused_with_their_row(clients, values):
    text, number, _ = clients
    for ng in (text, number):
        with pytest.raises(InvalidQueryError, match=r"source_id in row [01] must be"):
            ng.graph.bulk_create({"source_id": values, "target_id": [7, 7]})


def test_a_client_of_uuids_names_the_integer_too(clients):
    text, _, _ = clients
    with pytest.raises(
        NotFoundError, match=r"the first is the integer 8 of the id space 'flywire'"
    ):
        text.tokens.get([8])
    with pytest.raises(InvalidQueryError, match="not '8'; pass the integer itself"):
        text.tokens.get("8")


def test_a_store_of_both_kinds(database_url):
    numbers = integers(database_url)
    with ngdata.connect(database_url, id_space=SPACE) as ng, numbers:
        token_id = ng.tokens.create({0: (1, 1, 1)})
        new = numbers.tokens.create({0: (2, 2, 2)})
        assert isinstance(new, int)
        assert ng.tokens.get(new).token_id[0] == from_integers(new, SPACE)
        more = numbers.tokens.bulk_create({"x": [2.0], "y": [2.0], "z": [2.0]})
        assert more.dtype == np.uint64
        message = f'{token_id}, which is not an integer of the id space .*ids="uuid"'
        for read in (
            lambda: numbers.tokens.find_in_region((0, 0, 0), (9, 9, 9)),
            lambda: numbers.tokens.get(token_id),
            lambda: list(numbers.tokens.iter_region((0, 0, 0), (9, 9, 9))),
        ):
            with pytest.raises(ConfigError, match=message):
                read()
        assert {pool["in_use"] for pool in numbers.pool_status().values()} == {0}
        assert numbers.tokens.find_in_region((0, 0, 0), (9, 9, 9), columns=["x"]).shape == (3, 1)
        # It could not be read with this client.
        with pytest.raises(InvalidQueryError, match=r"token_id in row 0 is .*give an integer"):
            numbers.tokens.bulk_create({"token_id": [token_id], "x": [1.0], "y": [1.0], "z": [1.0]})
        assert numbers.tokens.delete([token_id, new, *more]) == 3
