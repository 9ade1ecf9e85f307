"""A small store that must be unchanged after each test."""

import math

import pytest

import ngdata
from tests.conftest import empty

POINTS = {"x": [0.0, 1.0, 2.0], "y": [0.0, 1.0, 2.0], "z": [0.0, 1.0, 2.0]}


@pytest.fixture(scope="module")
def small_store(server):
    """A client and the ids of three tokens, with one connection and one event."""
    empty(server.database_url)
    with ngdata.connect(server.database_url) as client:
        ids = client.tokens.bulk_create(POINTS).tolist()
        client.graph.create_connection(ids[0], ids[1])
        client.experience.create_event("seen", 0, token_id=ids[0])
        yield client, ids


@pytest.fixture
def ng(small_store):
    return small_store[0]


@pytest.fixture
def ids(small_store):
    client, token_ids = small_store
    yield token_ids
    rows = client.tokens.find_in_region((-math.inf,) * 3, (math.inf,) * 3)
    assert sorted(rows.token_id) == sorted(token_ids)
    assert sorted(rows.x) == [0, 1, 2]
    assert rows.weight.tolist() == [1, 1, 1]
    assert len(client.graph.connections()) == 1
    assert len(client.experience.get_events()) == 1
