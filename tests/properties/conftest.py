"""A store per module, emptied once: a property reads one store many times."""

import pytest

import ngdata
from tests.conftest import empty


@pytest.fixture(scope="module")
def store(server):
    empty(server.database_url)
    with ngdata.connect(server.database_url) as client:
        yield client
