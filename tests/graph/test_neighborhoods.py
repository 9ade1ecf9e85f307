"""What lies around tokens: within a radius, in a region, as a subgraph; degrees and components."""

import uuid

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngdata._client.subgraph import Subgraph
from ngdata.errors import ConfigError, InvalidQueryError, NotFoundError, ResultTooLarge

NODES = 18
DIRECTIONS = ["outgoing", "incoming", "both"]


@settings(max_examples=60)
@given(
    starts=st.lists(st.integers(0, NODES - 1), max_size=4),
    direction=st.sampled_from(DIRECTIONS),
    depth=st.integers(1, 3),
    radius=st.sampled_from([0.0, 3.0, 27**0.5, 100.0, float("inf")]),
    level=st.sampled_from([0, "sensory", 7]),
    limit=st.none() | st.integers(0, 5),
)
def test_neighbors_within_a_radius(
    store, tokens, points, connections, starts, direction, depth, radius, level, limit
):
    asked = [tokens[place] for place in starts]
    everywhere = store.graph.get_neighbors(asked, direction, depth=depth)
    defined = {0: range(NODES - 2), "sensory": range(NODES - 2, NODES), 7: []}[level]
    place = {tokens[n]: points[n] for n in defined}
    expected = []
    for row in everywhere.itertuples(index=False, name=None):
        if row[0] in place and row[1] in place:
            distance = float(np.sqrt(((place[row[0]] - place[row[1]]) ** 2).sum()))
            expected += [(*row, distance)] if distance <= radius else []

    found = store.graph.get_neighbors(
        asked, direction, depth=depth, within=radius, level=level, limit=limit
    )

    assert found.columns.tolist() == [*everywhere.columns, "distance"]
    assert found.distance.dtype == np.float64
    assert list(found.itertuples(index=False, name=None)) == expected[:limit]


@pytest.mark.parametrize("radius", [-1.0, float("nan"), "3", True, ((0, 0, 0), (1, 1, 1))])
def test_a_radius_that_is_none(store, tokens, radius):
    with pytest.raises(InvalidQueryError, match="within must be a number of at least 0"):
        store.graph.get_neighbors(tokens[0], within=radius)


@pytest.mark.parametrize(
    "options",
    [
        {"depth": 0},
        {"depth": -1},
        {"depth": 33},
        {"depth": True},
        {"depth": 1.0},
        {"min_weight": float("nan")},
        {"min_weight": "1"},
        {"direction": "up"},
        {"direction": None},
        {"within": 1.0, "level": 8},
        {"limit": -1},
        {"max_rows": 0},
    ],
    ids=str,
)
def test_bad_arguments_of_neighbors(store, tokens, options):
    with pytest.raises(InvalidQueryError, match=next(reversed(options))):
        store.graph.get_neighbors(tokens[0], **options)


corner = st.integers(-5, 5)


@settings(max_examples=60)
@given(
    low=st.tuples(corner, corner, corner),
    size=st.tuples(*[st.integers(0, 8)] * 3),
    ends=st.sampled_from(["both", "any"]),
    kind=st.none() | st.sampled_from(["a", "c'"]),
    source=st.none() | st.lists(st.integers(0, NODES - 1), max_size=6),
    limit=st.none() | st.integers(0, 5),
)
def test_connections_in_a_region(
    store, tokens, points, connections, low, size, ends, kind, source, limit
):
    high = tuple(np.add(low, size))
    inside = {
        token
        for token, point in zip(tokens[:-2], points, strict=False)
        if (np.array(low) <= point).all() and (point <= np.array(high)).all()
    }
    counted = connections.source_id.isin(inside).astype(int) + connections.target_id.isin(inside)
    expected = connections[counted >= (2 if ends == "both" else 1)]
    if kind is not None:
        expected = expected[expected.connection_type == kind]
    if source is not None:
        source = [tokens[place] for place in source]
        expected = expected[expected.source_id.isin(source)]

    found = store.graph.connections(
        source, connection_type=kind, within=(low, high), ends=ends, limit=limit
    )

    expected = expected[found.columns].sort_values("connection_id", ignore_index=True)[:limit]
    if limit is None:
        found = found.sort_values("connection_id", ignore_index=True)
    pd.testing.assert_frame_equal(found, expected)


def test_a_region_on_another_level(store, tokens, connections):
    everywhere = (-np.inf,) * 3, (np.inf,) * 3
    both = tokens[-2:]
    found = store.graph.connections(within=(*everywhere, "sensory"), ends="any")
    expected = connections[connections.source_id.isin(both) | connections.target_id.isin(both)]
    assert set(found.connection_id) == set(expected.connection_id)
    assert store.graph.connections(within=(*everywhere, 5)).empty


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"within": 3.0}, "within must be"),
        ({"within": ((0, 0, 0), (-1, 1, 1))}, "are the two swapped"),
        ({"within": ((0, 0, 0), (1, 1, 1)), "ends": "one"}, "ends must be 'both' or 'any'"),
        ({"ends": None}, "ends must be"),
        ({"limit": -1}, "limit must be"),
    ],
)
def test_bad_regions_of_connections(store, options, said):
    with pytest.raises(InvalidQueryError, match=said):
        store.graph.connections(**options)


def test_a_region_is_found_by_the_spatial_index(celegans):
    head = (-30, -350, -70), (30, -250, 70)
    for ends in ("both", "any"):
        plan = celegans.explain(celegans.graph.connections, within=head, ends=ends)
        assert plan.uses_spatial_index
        assert "Join Filter" not in plan.text  # what is not hashed compares each with each


def test_degrees_with_weights(store, tokens, connections, graph_of):
    graph = graph_of(connections)
    for asked in (None, [tokens[5], tokens[0], tokens[-1], tokens[5]]):
        found = store.graph.get_degree(asked, weighted=True)
        assert found.columns.tolist()[4:] == ["in_weight", "out_weight", "total_weight"]
        ids = sorted(tokens) if asked is None else list(dict.fromkeys(asked))
        assert found.token_id.tolist() == ids
        for name, degree in (("in", graph.in_degree), ("out", graph.out_degree)):
            assert found[f"{name}_weight"].tolist() == [degree(t, weight="weight") for t in ids]
        assert found.total_weight.tolist() == [graph.degree(t, weight="weight") for t in ids]
        plain = store.graph.get_degree(asked)
        pd.testing.assert_frame_equal(found[plain.columns], plain)
    assert store.graph.get_degree([], weighted=True).dtypes.equals(found.dtypes)


@pytest.mark.parametrize("strong", [False, True])
@pytest.mark.parametrize("options", [{}, {"connection_type": "a"}, {"min_weight": 1.0}], ids=str)
def test_components_are_networkxs(store, tokens, connections, graph_of, strong, options):
    kept = connections
    if "connection_type" in options:
        kept = kept[kept.connection_type == "a"]
    if "min_weight" in options:
        kept = kept[kept.weight >= 1.0]
    search = nx.strongly_connected_components if strong else nx.weakly_connected_components
    expected = sorted(search(graph_of(kept)), key=lambda found: (-len(found), min(found)))

    found = store.graph.components(strong=strong, **options)

    assert [str(d) for d in found.dtypes] == ["str", "int64"]
    assert list(found.itertuples(index=False, name=None)) == [
        (token, number) for number, inside in enumerate(expected) for token in sorted(inside)
    ]


@settings(max_examples=60)
@given(
    starts=st.lists(st.integers(0, NODES - 1), max_size=4),
    depth=st.integers(0, 3),
    direction=st.sampled_from(DIRECTIONS),
    kind=st.none() | st.sampled_from(["a", "b"]),
)
def test_subgraphs_are_networkxs(
    store, tokens, connections, graph_of, starts, depth, direction, kind
):
    kept = connections if kind is None else connections[connections.connection_type == kind]
    asked = [tokens[place] for place in starts]
    steps = {}
    for start in asked:
        reached = nx.single_source_shortest_path_length(graph_of(kept, direction), start, depth)
        for token, step in reached.items():
            steps[token] = min(step, steps.get(token, step))

    found = store.graph.subgraph(asked, depth, direction=direction, connection_type=kind)

    assert found.tokens.token_id.tolist() == sorted(steps, key=lambda t: (steps[t], t))
    assert found.tokens.depth.tolist() == sorted(steps.values())
    among = kept[kept.source_id.isin(steps) & kept.target_id.isin(steps)]
    pd.testing.assert_frame_equal(
        found.connections,
        among[found.connections.columns].sort_values("connection_id", ignore_index=True),
    )
    graph = found.to_networkx()
    expected = graph_of(kept).subgraph(steps)
    assert dict(graph.nodes.items()).keys() == set(expected.nodes)
    assert {(*arc, w) for *arc, w in graph.edges(keys=True, data="weight")} == {
        (*arc, w) for *arc, w in expected.edges(keys=True, data="weight")
    }
    matrix, ids = found.to_scipy()
    assert matrix.format == "csr"
    assert ids.tolist() == found.tokens.token_id.tolist()
    dense = nx.to_numpy_array(expected, nodelist=ids.tolist()) if len(ids) else np.empty((0, 0))
    assert np.array_equal(matrix.toarray(), dense)


def test_a_subgraphs_tokens_are_those_that_get_gives(store, tokens, connections):
    found = store.graph.subgraph(tokens[:3], 1)
    whole = store.tokens.get(found.tokens.token_id)
    pd.testing.assert_frame_equal(
        found.tokens.drop(columns=["depth", "coords"]), whole.drop(columns="coords")
    )
    assert np.array_equal(np.stack(found.tokens.coords), np.stack(whole.coords), equal_nan=True)
    node = found.to_networkx().nodes[tokens[0]]
    assert node["token_type"] == "default"
    assert node["depth"] == 0
    assert repr(found) == (
        f"<Subgraph of {len(found.tokens)} tokens and {len(found.connections)} connections>"
    )


def test_a_subgraph_of_nothing_has_the_same_columns(store, tokens, connections):
    full, empty = store.graph.subgraph(tokens[:3]), store.graph.subgraph([])
    assert empty.tokens.dtypes.equals(full.tokens.dtypes)
    assert empty.connections.dtypes.equals(full.connections.dtypes)
    assert empty.to_scipy()[0].shape == (0, 0)


def test_bad_subgraphs(store, tokens, connections):
    nobody = str(uuid.uuid4())
    with pytest.raises(NotFoundError, match=nobody):
        store.graph.subgraph([tokens[0], nobody])
    for depth in (-1, 33, False, 1.5):
        with pytest.raises(InvalidQueryError, match="depth"):
            store.graph.subgraph(tokens[0], depth)
    with pytest.raises(InvalidQueryError, match="direction"):
        store.graph.subgraph(tokens[0], direction="")
    with pytest.raises(ResultTooLarge) as caught:
        store.graph.subgraph(tokens, max_rows=10)
    assert caught.value.count == NODES + len(connections)


def test_what_a_missing_library_is_answered(monkeypatch):
    part = Subgraph(pd.DataFrame({"token_id": []}), pd.DataFrame())
    monkeypatch.setitem(__import__("sys").modules, "networkx", None)
    monkeypatch.setitem(__import__("sys").modules, "scipy.sparse", None)
    monkeypatch.setitem(__import__("sys").modules, "scipy", None)
    with pytest.raises(ConfigError, match=r"to_networkx needs networkx.*ngdata\[graph\]"):
        part.to_networkx()
    with pytest.raises(ConfigError, match=r"to_scipy needs scipy.*ngdata\[graph\]"):
        part.to_scipy()


def test_the_connectome(celegans):
    from ngdata.datasets.sample import read_sample

    sample = read_sample()
    neurons = set(sample.neurons.token_id)
    wired = sample.connections[sample.connections.connection_type != "parent"]
    graph = nx.DiGraph()
    graph.add_nodes_from(neurons)
    graph.add_edges_from(zip(wired.source_id, wired.target_id, strict=True))
    starts = sorted(neurons)[:12]
    kinds = ["chemical", "electrical"]
    found = celegans.graph.get_neighbors(starts, depth=3, connection_type=kinds)
    for start, rows in found.groupby("token_id"):
        steps = nx.single_source_shortest_path_length(graph, start, 3)
        del steps[start]
        assert dict(zip(rows.neighbor_id, rows.depth, strict=True)) == steps
    whole = celegans.graph.subgraph(starts, 0, connection_type=kinds)
    expected = wired[wired.source_id.isin(starts) & wired.target_id.isin(starts)]
    assert set(whole.connections.connection_id) == set(expected.connection_id)
