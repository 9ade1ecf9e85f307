"""A store of a cube of tokens, far from the origin, and an explorer of it."""

from __future__ import annotations

import asyncio

import numpy as np
import pandas as pd
import pytest

import ngdata

COUNT = 3000
ORIGIN = np.array([1e6, -2e6, 0.0])


@pytest.fixture(scope="session")
def cube() -> pd.DataFrame:
    """The tokens: a cube with sides of 100."""
    random = np.random.default_rng(1)
    points = random.random((COUNT, 3)) * 100 + ORIGIN
    frame = pd.DataFrame(points, columns=list("xyz"))
    frame["token_type"] = np.array(["a", "b", "c"])[random.integers(3, size=COUNT)]
    frame["weight"] = random.random(COUNT)
    return frame


@pytest.fixture(scope="session")
def cube_url(new_migrated_database, cube):
    """The address of a store with them, and a chain of connections between them."""
    with new_migrated_database() as url:
        with ngdata.connect(url) as client:
            client.set_level("physical", unit="µm")
            ids = client.tokens.bulk_create(cube)
            links = {"source_id": ids[:-1].to_numpy(), "target_id": ids[1:].to_numpy()}
            client.graph.bulk_create(pd.DataFrame(links).assign(connection_type="next"))
        yield url


@pytest.fixture
def client(cube_url):
    with ngdata.connect(cube_url) as opened:
        yield opened


async def until(condition) -> None:
    """Wait for a condition in the event loop; a test's own limit ends a hang."""
    while not condition():
        await asyncio.sleep(0.02)
