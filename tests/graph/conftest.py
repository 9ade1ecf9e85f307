"""A store per module, emptied once, with a small random graph of all kinds of connections."""

import networkx as nx
import numpy as np
import pandas as pd
import pytest

import ngdata
from tests.conftest import empty, with_texts

NODES = 18


@pytest.fixture(scope="module")
def store(server):
    empty(server.database_url)
    with ngdata.connect(server.database_url) as client:
        yield client


@pytest.fixture(scope="module")
def points():
    """The tokens' coordinates on level 0; the last two are defined only on level 1."""
    return np.random.default_rng(3).integers(-4, 5, (NODES, 3)).astype(float)


@pytest.fixture(scope="module")
def tokens(store, points):
    coords = np.full((NODES, 8, 3), np.nan)
    coords[:-2, 0] = points[:-2]
    coords[-2:, 1] = points[-2:]
    return store.tokens.bulk_create(pd.DataFrame(index=range(NODES)), coords=coords).tolist()


@pytest.fixture(scope="module")
def connections(store, tokens):
    """Parallel, loops, bidirectional, and a token without connections; weights sum exactly."""
    rng = np.random.default_rng(7)
    count = 40
    frame = pd.DataFrame(
        {
            "source_id": rng.choice(tokens[:-1], count),
            "target_id": rng.choice(tokens[:-1], count),
            "connection_type": rng.choice(["a", "b", "c'"], count),
            "weight": rng.choice([0.0, 0.25, 0.5, 1.0, 4.0], count),
            "bidirectional": rng.random(count) < 0.2,
            "decay_rate": rng.choice([0.5, np.nan], count),
            "metadata": [None if n % 3 else {"n": [n]} for n in range(count)],
        }
    )
    frame["target_id"] = frame.target_id.where(rng.random(count) > 0.1, frame.source_id)
    frame = pd.concat([frame, frame[:4].assign(weight=0.125)], ignore_index=True)
    frame["connection_id"] = store.graph.bulk_create(frame)
    return with_texts(frame)


@pytest.fixture(scope="module")
def graph_of(tokens):
    """Return a function that makes a graph: an arc per connection, two per bidirectional one."""

    def make(connections, direction="outgoing"):
        graph = nx.MultiDiGraph()
        graph.add_nodes_from(tokens)
        for c in connections.itertuples():
            ends = (c.source_id, c.target_id)
            ways = {ends, ends[::-1]} if c.bidirectional or direction == "both" else {ends}
            for u, v in ways if direction != "incoming" else {way[::-1] for way in ways}:
                graph.add_edge(u, v, key=c.connection_id, weight=c.weight)
        return graph

    return make
