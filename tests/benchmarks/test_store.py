"""The seeded store: the requested number of rows, the same rows every time, filled once."""

import uuid

import numpy as np

import ngdata
from benchmarks import store
from tests.benchmarks.conftest import TOKENS
from tests.conftest import execute

WHOLE = ((-np.inf,) * 3, (np.inf,) * 3)


def test_it_has_the_requested_rows(small_store):
    with ngdata.connect(small_store) as ng:
        counts = [ng.tokens.count_in_region(*WHOLE, level) for level in range(8)]
    assert counts == [TOKENS] + [TOKENS // 10] * 7
    tables = ("graph.connections", "experience.experience_events")
    assert [execute(small_store, f"SELECT count(*) FROM {t}")[0][0] for t in tables] == [500, 500]


def test_it_is_reproducible(small_store, server):
    read = "SELECT md5(string_agg(t::text, '' ORDER BY id)) FROM (SELECT id, coord_x, coord_y,"
    read += ' coord_z, token_type, weight, flags, "timestamp" FROM tokens.tokens LIMIT 1000) AS t'
    before = execute(small_store, read)
    assert store.filled(server.database_url, TOKENS, 500, 500) == small_store
    again = store.filled(server.database_url, 1000, 0, 0)
    first = execute(again, read)
    name = again.split("/")[3].split("?")[0]
    execute(server.database_url, f"DROP DATABASE {name} WITH (FORCE)")
    store.filled(server.database_url, 1000, 0, 0)
    assert execute(again, read) == first
    assert execute(small_store, read) == before


def test_ids_are_unique_and_valid():
    ids = [*store.token_ids(0, 5000), *store.token_ids(0, 5000, 1), *store.token_ids(0, 5000, 2)]
    assert len(set(ids)) == len(ids)
    assert all(str(uuid.UUID(i)) == i for i in ids[::97])
    assert store.token_ids(100, 5) == store.token_ids(0, 105)[100:]


def test_a_region_has_about_the_requested_rows(small_store):
    with ngdata.connect(small_store) as ng:
        assert 60 < ng.tokens.count_in_region(*store.box(100, TOKENS)) < 150
        assert ng.tokens.count_in_region(*store.box(TOKENS, TOKENS)) == TOKENS
