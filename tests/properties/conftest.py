"""A store per module, emptied once: a property reads one store many times."""

import adbc_driver_postgresql.dbapi as adbc
import pytest

import ngdata


@pytest.fixture(scope="module")
def store(server):
    tables = "tokens.tokens, graph.connections, experience.experience_events"
    with adbc.connect(server.database_url, autocommit=True) as connection:
        connection.execute(f"TRUNCATE {tables}, experience.experience_trajectories").close()
    with ngdata.connect(server.database_url) as client:
        yield client
