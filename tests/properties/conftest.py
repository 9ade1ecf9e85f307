"""A store per module, emptied once: a property looks at one store many times."""

import adbc_driver_postgresql.dbapi as adbc
import pytest
from hypothesis import HealthCheck, settings

import ngdata

# The same examples on every run, and no clock: machines differ.
settings.register_profile(
    "ngdata",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ngdata")


@pytest.fixture(scope="module")
def store(server):
    tables = "tokens.tokens, graph.connections, experience.experience_events"
    with adbc.connect(server.database_url, autocommit=True) as connection:
        connection.execute(f"TRUNCATE {tables}, experience.experience_trajectories").close()
    with ngdata.connect(server.database_url) as client:
        yield client
