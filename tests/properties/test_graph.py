"""Neighbors and degrees compared to those of networkx's MultiDiGraph."""

import uuid

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.conftest import with_texts

NODES = 14
RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def tokens(store):
    token_ids = store.tokens.bulk_create({axis: np.zeros(NODES) for axis in "xyz"})
    return token_ids.tolist()


@pytest.fixture(scope="module")
def connections(store, tokens):
    """Few nodes and many edges: parallel, loops, bidirectional; and two nodes without edges."""
    count = 45
    frame = pd.DataFrame(
        {
            "source_id": RNG.choice(tokens[:-2], count),
            "target_id": RNG.choice(tokens[:-2], count),
            "connection_type": RNG.choice(["a", "b", "c'"], count),
            "weight": RNG.choice([0.0, 0.5, 1.0, -1.0], count),
            "bidirectional": RNG.random(count) < 0.3,
        }
    )
    frame["target_id"] = frame.target_id.where(RNG.random(count) > 0.1, frame.source_id)
    frame = pd.concat([frame, frame[:8].assign(bidirectional=~frame.bidirectional[:8])])
    frame = frame.reset_index(drop=True)
    frame["connection_id"] = store.graph.bulk_create(frame)
    return with_texts(frame)


def graph_of(connections, tokens):
    """Return a graph with an arc per connection, two per bidirectional one."""
    graph = nx.MultiDiGraph()
    graph.add_nodes_from(tokens)
    for c in connections.itertuples():
        graph.add_edge(c.source_id, c.target_id, data=c)
        if c.bidirectional and c.source_id != c.target_id:
            graph.add_edge(c.target_id, c.source_id, data=c)
    return graph


def neighbors(graph, start, direction, depth):
    """Search breadth first, keeping the least connection that leads from a depth to the next."""
    outgoing = {"outgoing": [True], "incoming": [False], "both": [True, False]}[direction]
    reached, frontier, rows = {start}, {start}, []
    for step in range(1, depth + 1):
        result = {}
        for is_out in outgoing:
            arcs = graph.out_edges if is_out else graph.in_edges
            for near in frontier:
                for u, v, c in arcs(near, data="data"):
                    far = v if is_out else u
                    if far not in reached:
                        # A connection that leads both ways is reported as outgoing.
                        result.setdefault(far, []).append((c.connection_id, not is_out, c))
        for far in sorted(result):
            connection_id, incoming, c = min(result[far], key=lambda f: f[:2])
            way = "incoming" if incoming else "outgoing"
            rows.append((start, far, connection_id, c.connection_type, c.weight, way, step))
        frontier = set(result)
        reached |= frontier
    return rows


COLUMNS = [
    "token_id",
    "neighbor_id",
    "connection_id",
    "connection_type",
    "weight",
    "direction",
    "depth",
]


@settings(max_examples=120)
@given(
    starts=st.lists(st.integers(0, NODES - 1), max_size=4),
    direction=st.sampled_from(["outgoing", "incoming", "both"]),
    depth=st.integers(1, 5),
    kinds=st.none() | st.lists(st.sampled_from(["a", "b", "c'", "none"]), max_size=2),
    min_weight=st.none() | st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0]),
    limit=st.none() | st.integers(0, 8),
)
@example(starts=[0, 0, 1, 0], direction="both", depth=1, kinds=None, min_weight=None, limit=None)
@example(
    starts=[*range(NODES)], direction="both", depth=32, kinds=None, min_weight=None, limit=None
)
@example(starts=[NODES - 1], direction="both", depth=2, kinds=None, min_weight=None, limit=None)
def test_neighbors_equal_networkx(
    store, tokens, connections, starts, direction, depth, kinds, min_weight, limit
):
    selected = connections
    if kinds is not None:
        selected = selected[selected.connection_type.isin(kinds)]
    if min_weight is not None:
        selected = selected[selected.weight >= min_weight]
    graph = graph_of(selected, tokens)
    starts = [tokens[place] for place in starts]
    expected = [
        row for start in dict.fromkeys(starts) for row in neighbors(graph, start, direction, depth)
    ][:limit]

    result = store.graph.get_neighbors(
        starts, direction, depth=depth, connection_type=kinds, min_weight=min_weight, limit=limit
    )

    assert result.columns.tolist() == COLUMNS
    assert list(result.itertuples(index=False, name=None)) == expected


@settings(max_examples=25)
@given(starts=st.lists(st.integers(0, NODES - 1), max_size=8))
@example(starts=[3, 3, NODES - 1, 0])
def test_degrees_equal_networkx(store, tokens, connections, starts):
    graph = graph_of(connections, tokens)
    starts = [tokens[place] for place in starts]
    result = store.graph.get_degree(starts)

    assert list(result.itertuples(index=False, name=None)) == [
        (t, graph.in_degree(t), graph.out_degree(t), graph.degree(t)) for t in dict.fromkeys(starts)
    ]


def test_degrees_of_all_tokens(store, tokens, connections):
    graph = graph_of(connections, tokens)
    result = store.graph.get_degree()

    assert result.token_id.tolist() == sorted(tokens)
    assert result.total_degree.tolist() == [graph.degree(t) for t in sorted(tokens)]
    assert result.in_degree.sum() == result.out_degree.sum() == graph.number_of_edges()


@settings(max_examples=25)
@given(
    source=st.none() | st.lists(st.integers(0, NODES - 1), max_size=4),
    target=st.none() | st.lists(st.integers(0, NODES - 1), max_size=4),
    kind=st.none() | st.sampled_from(["a", "c'", "none"]),
)
def test_connections_as_stored(store, tokens, connections, source, target, kind):
    expected = connections
    if source is not None:
        source = [tokens[place] for place in source]
        expected = expected[expected.source_id.isin(source)]
    if target is not None:
        target = [tokens[place] for place in target]
        expected = expected[expected.target_id.isin(target)]
    if kind is not None:
        expected = expected[expected.connection_type == kind]

    result = store.graph.connections(source, target, connection_type=kind)

    pd.testing.assert_frame_equal(
        result.sort_values("connection_id", ignore_index=True),
        expected[result.columns].sort_values("connection_id", ignore_index=True),
    )


def test_missing_starts(store, tokens, connections):
    from ngdata.errors import NotFoundError

    nobody = [str(uuid.uuid4()) for _ in range(5)]
    for read in (store.graph.get_neighbors, store.graph.get_degree):
        with pytest.raises(
            NotFoundError, match=f"no token in the store has any of these 5 ids: .*{nobody[0]}"
        ) as caught:
            read([tokens[0], *nobody])
        assert caught.value.missing == tuple(nobody)
