"""A small store, filled as the benchmarks fill theirs."""

from __future__ import annotations

import pytest

from benchmarks import store

TOKENS = 3000


@pytest.fixture(scope="session")
def small_store(server):
    """Its URL; the server's end is its end."""
    return store.filled(server.database_url, TOKENS, 500, 500)
