"""`shortest_path` compared to networkx, and the bounds and errors that networkx does not have."""

import asyncio
import uuid

import networkx as nx
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ngdata
from ngdata._arguments.texts import STR
from ngdata.errors import InvalidQueryError, NotFoundError

NODES = 18
COLUMNS = ["step", "source_id", "target_id", "connection_id", "connection_type", "weight"]
DTYPES = ["int32", STR, STR, STR, STR, "float64"]


def check_steps(path, source, target, graph, selected):
    """Check that each step is an arc of a selected connection, and starts where the last ended."""
    assert path.columns.tolist() == COLUMNS
    assert list(path.dtypes) == DTYPES
    assert path.step.tolist() == list(range(1, len(path) + 1))
    nodes = [source, *path.target_id]
    assert path.source_id.tolist() == nodes[:-1]
    assert nodes[-1] == target
    for step in path.itertuples():
        assert graph.has_edge(step.source_id, step.target_id, key=step.connection_id)
        row = selected[selected.connection_id == step.connection_id].iloc[0]
        assert (step.connection_type, step.weight) == (row.connection_type, row.weight)


def cheapest(graph, source, target, max_depth):
    """Return the least weight of a path of at most `max_depth` steps, by Bellman-Ford."""
    best = {source: 0.0}
    for _ in range(max_depth):
        following = dict(best)
        for u, v, weight in graph.edges(data="weight"):
            if u in best:
                following[v] = min(following.get(v, float("inf")), best[u] + weight)
        best = following
    return best.get(target)


@settings(max_examples=150)
@given(
    source=st.integers(0, NODES - 1),
    target=st.integers(0, NODES - 1),
    weighted=st.booleans(),
    max_depth=st.none() | st.integers(1, 5),
    kinds=st.none() | st.lists(st.sampled_from(["a", "b", "c'", "none"]), max_size=2),
    direction=st.sampled_from(["outgoing", "incoming", "both"]),
)
@example(source=0, target=0, weighted=True, max_depth=None, kinds=None, direction="both")
def test_paths_equal_networkx(
    store, tokens, connections, graph_of, source, target, weighted, max_depth, kinds, direction
):
    selected = (
        connections if kinds is None else connections[connections.connection_type.isin(kinds)]
    )
    graph = graph_of(selected, direction)
    a, b = tokens[source], tokens[target]

    path = store.graph.shortest_path(
        a, b, weighted=weighted, max_depth=max_depth, connection_type=kinds, direction=direction
    )

    if weighted:
        expected = cheapest(graph, a, b, NODES if max_depth is None else max_depth)
        if max_depth is None and expected is not None:
            assert expected == nx.dijkstra_path_length(graph, a, b)
    else:
        there = nx.has_path(graph, a, b)
        expected = nx.shortest_path_length(graph, a, b) if there else None
        if max_depth is not None and expected is not None and expected > max_depth:
            expected = None
    if expected is None:
        assert path is None
        return
    check_steps(path, a, b, graph, selected)
    assert (path.weight.sum() if weighted else len(path)) == expected
    assert max_depth is None or len(path) <= max_depth


@pytest.fixture(scope="module")
def large(server):
    """Thousands of tokens: enough for the queue to be processed in parts, and labels corrected."""
    import numpy as np

    rng = np.random.default_rng(11)
    with ngdata.connect(server.database_url) as ng:
        ids = ng.tokens.bulk_create({axis: np.zeros(3000) for axis in "xyz"}, progress=False)
        frame = pd.DataFrame(
            {
                "source_id": rng.choice(ids, 12_000),
                "target_id": rng.choice(ids[:1500], 12_000),
                "connection_type": "large",
                "weight": rng.integers(0, 64, 12_000) / 8,
                "bidirectional": rng.random(12_000) < 0.1,
            }
        )
        frame["connection_id"] = ng.graph.bulk_create(frame, progress=False)
        yield ng, ids, frame
        ng.tokens.delete(ids)


def test_paths_in_a_larger_graph(large, graph_of):
    ng, ids, frame = large
    graph = graph_of(frame)
    for a, b in zip(ids[2000:2025], ids[:25], strict=True):
        for weighted, length in ((False, nx.shortest_path_length), (True, nx.dijkstra_path_length)):
            path = ng.graph.shortest_path(a, b, weighted=weighted, connection_type="large")
            try:
                expected = length(graph, a, b)
            except nx.NetworkXNoPath:
                assert path is None
                continue
            check_steps(path, a, b, graph, frame)
            assert (path.weight.sum() if weighted else len(path)) == expected


def test_a_long_chain(store):
    ids = store.tokens.bulk_create({axis: [0.0] * 300 for axis in "xyz"}).tolist()
    store.graph.bulk_create({"source_id": ids[:-1], "target_id": ids[1:]})
    for weighted in (False, True):
        path = store.graph.shortest_path(ids[0], ids[-1], weighted=weighted)
        assert path.target_id.tolist() == ids[1:]
        assert store.graph.shortest_path(ids[0], ids[-1], weighted=weighted, max_depth=298) is None
    store.tokens.delete(ids)


def test_the_path_is_the_same_each_time(store):
    ids = store.tokens.bulk_create({axis: [0.0] * 4 for axis in "xyz"}).tolist()
    a, b, c, d = ids
    kind = {"connection_type": "diamond"}
    connection_ids = store.graph.bulk_create(
        {"source_id": [a, a, b, c], "target_id": [b, c, d, d], "connection_type": ["diamond"] * 4}
    )
    paths = {
        tuple(store.graph.shortest_path(a, d, cache="off", **kind).connection_id) for _ in range(5)
    }
    assert len(paths) == 1
    assert len(set(connection_ids) & set(paths.pop())) == 2
    store.tokens.delete(ids)


def test_missing_ends(store, tokens):
    nobody = str(uuid.uuid4())
    for ends in ((tokens[0], nobody), (nobody, tokens[0]), (nobody, nobody)):
        with pytest.raises(NotFoundError, match=nobody) as caught:
            store.graph.shortest_path(*ends)
        assert caught.value.missing == (nobody,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_depth": 0}, "max_depth must be an integer from 1"),
        ({"max_depth": -1}, "max_depth must be an integer from 1"),
        ({"max_depth": 2.5}, "max_depth must be an integer from 1"),
        ({"direction": "outgoin"}, "did you mean 'outgoing'"),
        ({"connection_type": 3}, "connection_type must be text"),
        ({"cache": "always"}, "cache must be"),
    ],
)
def test_invalid_arguments(store, tokens, options, message):
    with pytest.raises(InvalidQueryError, match=message):
        store.graph.shortest_path(tokens[0], tokens[1], **options)
    with pytest.raises(InvalidQueryError, match=r"source must be a UUID, .*not 'x'"):
        store.graph.shortest_path("x", tokens[1])


def test_the_async_client_returns_the_same(server, store, tokens, connections):
    async def go():
        async with await ngdata.connect_async(server.database_url) as ang:
            return await ang.graph.shortest_path(tokens[0], tokens[1], direction="both")

    expected = store.graph.shortest_path(tokens[0], tokens[1], direction="both")
    pd.testing.assert_frame_equal(asyncio.run(go()), expected)


# The ones below begin with an empty store, so they come last.


def test_a_negative_weight_is_rejected(ng):
    a, b = ng.tokens.bulk_create({axis: [0.0, 1.0] for axis in "xyz"})
    ng.graph.create_connection(a, b, "good", 1.0)
    bad = ng.graph.create_connection(b, a, "bad", -2.0)
    with pytest.raises(InvalidQueryError, match=rf"connection {bad} has -2;.*connection_type="):
        ng.graph.shortest_path(a, b, weighted=True)
    assert len(ng.graph.shortest_path(a, b)) == 1
    assert ng.graph.shortest_path(a, b, weighted=True, connection_type="good").weight[0] == 1.0


def test_a_path_is_cached_until_a_write(ng):
    a, b, c = ng.tokens.bulk_create({axis: [0.0, 1.0, 2.0] for axis in "xyz"})
    ng.graph.bulk_create({"source_id": [a, b], "target_id": [b, c]})
    assert len(ng.graph.shortest_path(a, c)) == 2
    assert ng.graph.shortest_path(a, c).attrs["ngdata"]["source"] == "memory"
    ng.graph.create_connection(a, c)
    assert len(ng.graph.shortest_path(a, c)) == 1
