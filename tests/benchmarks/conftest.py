"""A small store, filled like those of the benchmarks."""

from __future__ import annotations

import pytest

from benchmarks import store

TOKENS = 3000


@pytest.fixture(scope="session")
def small_store(server):
    """Return the URL of a small store, which is removed with the server."""
    return store.filled(server.database_url, TOKENS, 500, 500)
