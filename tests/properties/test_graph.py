"""Neighbors and degrees, against networkx's MultiDiGraph."""

import uuid

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

NODES = 14
RNG = np.random.default_rng(5)


@pytest.fixture(scope="module")
def tokens(store):
    made = store.tokens.bulk_create({axis: np.zeros(NODES) for axis in "xyz"})
    return made.tolist()


@pytest.fixture(scope="module")
def connections(store, tokens):
    """Few nodes and many edges: parallel ones, loops, both ways, and two nodes without any."""
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
    return frame


def graph_of(connections, tokens):
    """Each connection an arc, a bidirectional one two."""
    graph = nx.MultiDiGraph()
    graph.add_nodes_from(tokens)
    for c in connections.itertuples():
        graph.add_edge(c.source_id, c.target_id, data=c)
        if c.bidirectional and c.source_id != c.target_id:
            graph.add_edge(c.target_id, c.source_id, data=c)
    return graph


def neighbors(graph, start, direction, depth):
    """Breadth first, with the least connection that leads from a level to the next."""
    outgoing = {"outgoing": [True], "incoming": [False], "both": [True, False]}[direction]
    reached, frontier, rows = {start}, {start}, []
    for step in range(1, depth + 1):
        found = {}
        for is_out in outgoing:
            arcs = graph.out_edges if is_out else graph.in_edges
            for near in frontier:
                for u, v, c in arcs(near, data="data"):
                    far = v if is_out else u
                    if far not in reached:
                        # From one connection that leads both ways, outgoing is said.
                        found.setdefault(far, []).append((c.connection_id, not is_out, c))
        for far in sorted(found):
            connection_id, incoming, c = min(found[far], key=lambda f: f[:2])
            way = "incoming" if incoming else "outgoing"
            rows.append((start, far, connection_id, c.connection_type, c.weight, way, step))
        frontier = set(found)
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
def test_neighbors_are_networkxs(
    store, tokens, connections, starts, direction, depth, kinds, min_weight, limit
):
    kept = connections
    if kinds is not None:
        kept = kept[kept.connection_type.isin(kinds)]
    if min_weight is not None:
        kept = kept[kept.weight >= min_weight]
    graph = graph_of(kept, tokens)
    asked = [tokens[place] for place in starts]
    expected = [
        row for start in dict.fromkeys(asked) for row in neighbors(graph, start, direction, depth)
    ][:limit]

    found = store.graph.get_neighbors(
        asked, direction, depth=depth, connection_type=kinds, min_weight=min_weight, limit=limit
    )

    assert found.columns.tolist() == COLUMNS
    assert list(found.itertuples(index=False, name=None)) == expected


@settings(max_examples=25)
@given(starts=st.lists(st.integers(0, NODES - 1), max_size=8))
@example(starts=[3, 3, NODES - 1, 0])
def test_degrees_are_networkxs(store, tokens, connections, starts):
    graph = graph_of(connections, tokens)
    asked = [tokens[place] for place in starts]
    found = store.graph.get_degree(asked)

    assert list(found.itertuples(index=False, name=None)) == [
        (t, graph.in_degree(t), graph.out_degree(t), graph.degree(t)) for t in dict.fromkeys(asked)
    ]


def test_degrees_of_all(store, tokens, connections):
    graph = graph_of(connections, tokens)
    found = store.graph.get_degree()

    assert found.token_id.tolist() == sorted(tokens)
    assert found.total_degree.tolist() == [graph.degree(t) for t in sorted(tokens)]
    assert found.in_degree.sum() == found.out_degree.sum() == graph.number_of_edges()


@settings(max_examples=25)
@given(
    source=st.none() | st.lists(st.integers(0, NODES - 1), max_size=4),
    target=st.none() | st.lists(st.integers(0, NODES - 1), max_size=4),
    kind=st.none() | st.sampled_from(["a", "c'", "none"]),
)
def test_connections_are_those_stored(store, tokens, connections, source, target, kind):
    expected = connections
    if source is not None:
        source = [tokens[place] for place in source]
        expected = expected[expected.source_id.isin(source)]
    if target is not None:
        target = [tokens[place] for place in target]
        expected = expected[expected.target_id.isin(target)]
    if kind is not None:
        expected = expected[expected.connection_type == kind]

    found = store.graph.connections(source, target, connection_type=kind)

    pd.testing.assert_frame_equal(
        found.sort_values("connection_id", ignore_index=True),
        expected[found.columns].sort_values("connection_id", ignore_index=True),
    )


def test_a_start_that_is_no_token(store, tokens, connections):
    from ngdata.errors import NotFoundError

    nobody = [str(uuid.uuid4()) for _ in range(5)]
    for read in (store.graph.get_neighbors, store.graph.get_degree):
        with pytest.raises(
            NotFoundError, match=f"no token in the store has any of these 5 ids: .*{nobody[0]}"
        ) as caught:
            read([tokens[0], *nobody])
        assert caught.value.missing == tuple(nobody)
