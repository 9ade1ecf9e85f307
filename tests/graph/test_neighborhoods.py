"""Neighbors within a radius, connections in a region, subgraphs, degrees and components."""

import json
import uuid
from pathlib import Path

import networkx as nx
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ngdata._arguments.texts import STR
from ngdata._client.subgraph import Subgraph
from ngdata.errors import (
    ConfigError,
    EmptyResultWarning,
    InvalidQueryError,
    NotFoundError,
    ResultTooLarge,
)

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
    starts = [tokens[place] for place in starts]
    everywhere = store.graph.get_neighbors(starts, direction, depth=depth)
    defined = {0: range(NODES - 2), "sensory": range(NODES - 2, NODES), 7: []}[level]
    place = {tokens[n]: points[n] for n in defined}
    expected = []
    for row in everywhere.itertuples(index=False, name=None):
        if row[0] in place and row[1] in place:
            distance = float(np.sqrt(((place[row[0]] - place[row[1]]) ** 2).sum()))
            expected += [(*row, distance)] if distance <= radius else []

    result = store.graph.get_neighbors(
        starts, direction, depth=depth, within=radius, level=level, limit=limit
    )

    assert result.columns.tolist() == [*everywhere.columns, "distance"]
    assert result.distance.dtype == np.float64
    assert list(result.itertuples(index=False, name=None)) == expected[:limit]


@pytest.mark.parametrize("radius", [-1.0, float("nan"), "3", True, ((0, 0, 0), (1, 1, 1))])
def test_invalid_radii(store, tokens, radius):
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
def test_invalid_arguments_of_neighbors(store, tokens, options):
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

    result = store.graph.connections(
        source, connection_type=kind, within=(low, high), ends=ends, limit=limit
    )

    expected = expected[result.columns].sort_values("connection_id", ignore_index=True)[:limit]
    if limit is None:
        result = result.sort_values("connection_id", ignore_index=True)
    pd.testing.assert_frame_equal(result, expected)


def test_a_region_on_another_level(store, tokens, connections):
    everywhere = (-np.inf,) * 3, (np.inf,) * 3
    both = tokens[-2:]
    result = store.graph.connections(within=(*everywhere, "sensory"), ends="any")
    expected = connections[connections.source_id.isin(both) | connections.target_id.isin(both)]
    assert set(result.connection_id) == set(expected.connection_id)
    assert store.graph.connections(within=(*everywhere, 5)).empty


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"within": 3.0}, "within must be"),
        ({"within": ((0, 0, 0), (-1, 1, 1))}, "are the two swapped"),
        ({"within": ((0, 0, 0), (1, 1, 1)), "ends": "one"}, "ends must be 'both' or 'any'"),
        ({"ends": None}, "ends must be"),
        ({"limit": -1}, "limit must be"),
    ],
)
def test_invalid_regions_of_connections(store, options, message):
    with pytest.raises(InvalidQueryError, match=message):
        store.graph.connections(**options)


def test_a_region_is_found_by_the_spatial_index(celegans):
    head = (-30, -350, -70), (30, -250, 70)
    for ends in ("both", "any"):
        plan = celegans.explain(celegans.graph.connections, within=head, ends=ends)
        assert plan.uses_spatial_index
        assert "Join Filter" not in plan.text  # without a hash, each row is compared with each


def test_degrees_with_weights(store, tokens, connections, graph_of):
    graph = graph_of(connections)
    for starts in (None, [tokens[5], tokens[0], tokens[-1], tokens[5]]):
        result = store.graph.get_degree(starts, weighted=True)
        assert result.columns.tolist()[4:] == ["in_weight", "out_weight", "total_weight"]
        ids = sorted(tokens) if starts is None else list(dict.fromkeys(starts))
        assert result.token_id.tolist() == ids
        for name, degree in (("in", graph.in_degree), ("out", graph.out_degree)):
            assert result[f"{name}_weight"].tolist() == [degree(t, weight="weight") for t in ids]
        assert result.total_weight.tolist() == [graph.degree(t, weight="weight") for t in ids]
        plain = store.graph.get_degree(starts)
        pd.testing.assert_frame_equal(result[plain.columns], plain)
    assert store.graph.get_degree([], weighted=True).dtypes.equals(result.dtypes)


@pytest.mark.parametrize("strong", [False, True])
@pytest.mark.parametrize("options", [{}, {"connection_type": "a"}, {"min_weight": 1.0}], ids=str)
def test_components_equal_networkx(store, tokens, connections, graph_of, strong, options):
    selected = connections
    if "connection_type" in options:
        selected = selected[selected.connection_type == "a"]
    if "min_weight" in options:
        selected = selected[selected.weight >= 1.0]
    search = nx.strongly_connected_components if strong else nx.weakly_connected_components
    expected = sorted(search(graph_of(selected)), key=lambda result: (-len(result), min(result)))

    result = store.graph.components(strong=strong, **options)

    assert list(result.dtypes) == [STR, "int64"]
    assert list(result.itertuples(index=False, name=None)) == [
        (token, number) for number, inside in enumerate(expected) for token in sorted(inside)
    ]


@settings(max_examples=60)
@given(
    starts=st.lists(st.integers(0, NODES - 1), max_size=4),
    depth=st.none() | st.integers(0, 3) | st.just(2**31 - 1),
    direction=st.sampled_from(DIRECTIONS),
    kind=st.none() | st.sampled_from(["a", "b"]),
)
def test_subgraphs_equal_networkx(
    store, tokens, connections, graph_of, starts, depth, direction, kind
):
    selected = connections if kind is None else connections[connections.connection_type == kind]
    starts = [tokens[place] for place in starts]
    steps = {}
    for start in starts:
        reached = nx.single_source_shortest_path_length(graph_of(selected, direction), start, depth)
        for token, step in reached.items():
            steps[token] = min(step, steps.get(token, step))

    result = store.graph.subgraph(starts, depth, direction=direction, connection_type=kind)

    assert result.tokens.token_id.tolist() == sorted(steps, key=lambda t: (steps[t], t))
    assert result.tokens.depth.tolist() == sorted(steps.values())
    among = selected[selected.source_id.isin(steps) & selected.target_id.isin(steps)]
    pd.testing.assert_frame_equal(
        result.connections,
        among[result.connections.columns].sort_values("connection_id", ignore_index=True),
    )
    graph = result.to_networkx()
    expected = graph_of(selected).subgraph(steps)
    assert dict(graph.nodes.items()).keys() == set(expected.nodes)
    assert {(*arc, w) for *arc, w in graph.edges(keys=True, data="weight")} == {
        (*arc, w) for *arc, w in expected.edges(keys=True, data="weight")
    }
    matrix, ids = result.to_scipy()
    assert matrix.format == "csr"
    assert ids.tolist() == result.tokens.token_id.tolist()
    dense = nx.to_numpy_array(expected, nodelist=ids.tolist()) if len(ids) else np.empty((0, 0))
    assert np.array_equal(matrix.toarray(), dense)


EVERYWHERE = (-np.inf,) * 3, (np.inf,) * 3


def in_region(tokens, points, low, high, level):
    """Return the tokens in a region of the store, without its server."""
    numbers = {0: range(NODES - 2), "sensory": range(NODES - 2, NODES), 7: []}[level]
    return {
        tokens[n] for n in numbers if ((np.array(low) <= points[n]) & (points[n] <= high)).all()
    }


@settings(max_examples=80)
@given(
    starts=st.none() | st.lists(st.integers(0, NODES - 1), max_size=4),
    low=st.tuples(corner, corner, corner),
    size=st.tuples(*[st.integers(3, 9)] * 3),
    level=st.sampled_from([0, 0, 0, "sensory", 7]),
    depth=st.none() | st.integers(0, 3),
    direction=st.sampled_from(DIRECTIONS),
    kind=st.none() | st.sampled_from(["a", "b"]),
)
def test_a_subgraph_of_a_region_equals_networkx(
    store, tokens, points, connections, graph_of, starts, low, size, level, depth, direction, kind
):
    high = tuple(np.add(low, size))
    inside = in_region(tokens, points, low, high, level)
    selected = connections if kind is None else connections[connections.connection_type == kind]
    if starts is None:
        steps = dict.fromkeys(inside, 0)
    else:
        starts, steps = [tokens[place] for place in starts], {}
        part = graph_of(selected, direction).subgraph(inside)
        for start in inside.intersection(starts):
            for token, step in nx.single_source_shortest_path_length(part, start, depth).items():
                steps[token] = min(step, steps.get(token, step))

    result = store.graph.subgraph(
        starts, depth, direction=direction, connection_type=kind, within=(low, high, level)
    )

    assert result.tokens.token_id.tolist() == sorted(steps, key=lambda t: (steps[t], t))
    assert result.tokens.depth.tolist() == sorted(steps.values())
    among = selected[selected.source_id.isin(steps) & selected.target_id.isin(steps)]
    pd.testing.assert_frame_equal(
        result.connections,
        among[result.connections.columns].sort_values("connection_id", ignore_index=True),
    )


def test_a_subgraph_of_a_region(celegans):
    head = (-30, -350, -70), (30, -250, 70)
    inside = celegans.tokens.find_in_region(*head)
    part = celegans.graph.subgraph(within=head)
    assert part.tokens.token_id.tolist() == sorted(inside.token_id)
    among = celegans.graph.connections(within=head)
    assert part.connections.connection_id.tolist() == sorted(among.connection_id)
    start = part.connections.source_id[0]
    # One row of the spatial index for each token that is met, however large the region is.
    plan = celegans.explain(celegans.graph.subgraph, start, None, within=EVERYWHERE)
    assert "Seq Scan" not in plan.text.partition("CTE members")[0].replace("Seq Scan on tokens", "")
    assert not plan.uses_spatial_index
    assert celegans.explain(celegans.graph.subgraph, None, within=head).uses_spatial_index
    whole = celegans.graph.subgraph(start, None)
    again = celegans.graph.subgraph(start, None, within=EVERYWHERE)
    pd.testing.assert_frame_equal(
        again.tokens.drop(columns="coords"), whole.tokens.drop(columns="coords")
    )
    pd.testing.assert_frame_equal(again.connections, whole.connections)


def test_invalid_regions_of_subgraphs(store, tokens, connections):
    with pytest.raises(InvalidQueryError, match=r"needs the ids of tokens, a region \(within=\)"):
        store.graph.subgraph(None)
    for ids in (None, tokens[0]):
        with pytest.raises(InvalidQueryError, match="within must be"):
            store.graph.subgraph(ids, within=3.0)
    nobody = str(uuid.uuid4())
    for region in (EVERYWHERE, (*EVERYWHERE, 7), ((90,) * 3, (91,) * 3)):
        with pytest.raises(NotFoundError) as caught:
            store.graph.subgraph([tokens[0], nobody], within=region)
        assert caught.value.missing == (nobody,)
    with pytest.raises(ResultTooLarge) as caught:
        store.graph.subgraph(within=EVERYWHERE, max_rows=10)
    whole = store.graph.subgraph(within=EVERYWHERE)
    assert caught.value.count == len(whole.tokens) + len(whole.connections)
    assert len(whole.tokens) == NODES - 2


def test_an_empty_region_is_explained(store, tokens, connections):
    with pytest.warns(EmptyResultWarning, match="no token has level 'abstract'"):
        part = store.graph.subgraph(within=(*EVERYWHERE, 7))
    full = store.graph.subgraph(tokens[:3])
    assert part.tokens.dtypes.equals(full.tokens.dtypes)


def test_a_subgraph_of_any_depth(celegans):
    """A neuron's skeleton is up to 98 steps long."""
    parents = celegans.graph.connections(connection_type="parent")
    tree = nx.from_pandas_edgelist(parents, "source_id", "target_id", create_using=nx.DiGraph)
    root = nx.dag_longest_path(tree)[-1]
    steps = nx.single_source_shortest_path_length(tree.reverse(), root)
    assert max(steps.values()) == 98
    for depth, direction in ((None, "incoming"), (None, "both"), (70, "incoming"), (70, "both")):
        result = celegans.graph.subgraph(root, depth, direction=direction, connection_type="parent")
        near = {token: step for token, step in steps.items() if depth is None or step <= depth}
        assert dict(zip(result.tokens.token_id, result.tokens.depth, strict=True)) == near
        assert len(result.connections) == len(near) - 1
    alone = celegans.graph.subgraph(root, None, direction="outgoing", connection_type="parent")
    assert alone.tokens.token_id.tolist() == [root]
    with pytest.raises(ResultTooLarge) as caught:
        celegans.graph.subgraph(root, None, connection_type="parent", max_rows=100)
    assert caught.value.count == 2 * len(steps) - 1
    plan = celegans.explain(celegans.graph.subgraph, root, None).text
    # Each token leads to its connections; one scan of them all for each step would not end.
    assert "Seq Scan on connections" not in plan.partition("CTE members")[0]


def test_columns_of_connections_and_neighbors(store, tokens, connections):
    written = connections.sort_values("connection_id", ignore_index=True)
    columns = ["metadata", "created_at", "connection_id", "decay_rate", "bidirectional"]
    result = store.graph.connections(columns=columns, limit=len(written))
    assert result.columns.tolist() == columns
    assert str(result.created_at.dtype) == "datetime64[us, UTC]"
    assert result.created_at.nunique() == 1
    names = ["metadata", "connection_id", "decay_rate", "bidirectional"]
    pd.testing.assert_frame_equal(result[names], written[names])
    everywhere = (-np.inf,) * 3, (np.inf,) * 3
    inside = store.graph.connections(columns=["metadata"], within=everywhere, limit=3)
    assert inside.columns.tolist() == ["metadata"]
    whole = store.graph.get_neighbors(tokens, "both", depth=3, within=9.0)
    expected = whole[["depth", "distance", "connection_id"]].merge(result, how="left")
    columns = ["metadata", "distance", "depth", "bidirectional", "decay_rate", "created_at"]
    result = store.graph.get_neighbors(tokens, "both", depth=3, within=9.0, columns=columns)
    pd.testing.assert_frame_equal(result, expected[columns])
    assert store.graph.get_neighbors([], columns=columns[2:]).dtypes.equals(result.dtypes[2:])
    assert store.graph.get_neighbors(tokens, columns=["neighbor_id"]).columns == ["neighbor_id"]


@pytest.mark.parametrize("columns", [["metdata"], ["distance"], [], "weight", ["weight"] * 2, 3])
def test_invalid_columns(store, tokens, columns):
    for read in (store.graph.get_neighbors, store.graph.connections):
        with pytest.raises(InvalidQueryError, match="column"):
            read(tokens[0], columns=columns)


def plain_example():
    """Return a subgraph of everything that files of graphs have no place for."""
    coords = np.full((8, 3), np.nan)
    coords[2] = 1.5, -2.0, 1e300
    points = np.empty(3, object)
    points[:2] = [coords, np.zeros((8, 3))]
    time = pd.Timestamp("2026-01-01T00:00:00.000001Z")
    tokens = pd.DataFrame(
        {
            "token_id": np.array([0, 2**64 - 1, 7], "uint64"),
            "token_type": ['<a & "b">', "né\x0b☃", None],
            "flags": pd.array([2**31, 0, 1], "int64"),
            "timestamp": [time, pd.NaT, time],
            "coords": points,
            "metadata": [{"k": [1, "é"]}, None, {}],
            "metadata.cell type": ["x", None, "y"],
            "metadata.cell-type": [None, "z", None],
            "label": ["l", "m", None],
            "2D": pd.array([1, None, 2], "Int64"),
            "binary_data": [b"\0\xff", None, b""],
            "duration": [pd.Timedelta("1.5s"), pd.NaT, pd.Timedelta(0)],
        }
    )
    connections = pd.DataFrame(
        {
            "connection_id": ["k1", "k2", "k3", "k4"],
            "source_id": tokens.token_id[[0, 0, 1, 2]].array,
            "target_id": tokens.token_id[[1, 1, 0, 2]].array,
            "connection_type": ["a", "b", "a", "a"],
            "weight": [1.0, 0.25, np.nan, np.inf],
            "bidirectional": [True, False, False, True],
            "metadata": [None, {"w": None}, None, None],
        }
    )
    return Subgraph(tokens, connections)


def read_json(path):
    return nx.node_link_graph(json.loads(Path(path).read_text()))


def write_json(graph, path):
    Path(path).write_text(json.dumps(nx.node_link_data(graph), allow_nan=False))


def as_in_gml(attributes):
    """Return attributes as GML has them: no bools, and integers of 32 bits."""
    return {
        name: str(value)
        if isinstance(value, int) and value >= 2**31
        else int(value)
        if isinstance(value, bool)
        else value
        for name, value in attributes.items()
    }


@pytest.mark.parametrize(
    ("write", "read", "of_format", "added"),
    [
        (nx.write_graphml, nx.read_graphml, dict, ()),
        (nx.write_gexf, nx.read_gexf, dict, ("label", "id")),
        (nx.write_gml, nx.read_gml, as_in_gml, ()),
        (write_json, read_json, dict, ()),
    ],
    ids=["graphml", "gexf", "gml", "json"],
)
def test_plain_graphs_come_back_from_files(
    store, tokens, connections, tmp_path, write, read, of_format, added
):
    for part in (plain_example(), store.graph.subgraph(tokens), store.graph.subgraph([])):
        graph = part.to_networkx(attributes="plain")
        whole = part.to_networkx()
        assert list(graph) == [str(token) for token in whole]
        assert graph.number_of_edges() == whole.number_of_edges()
        write(graph, tmp_path / "graph")
        result = nx.MultiDiGraph(read(tmp_path / "graph"))
        assert set(result) == set(graph)
        for elements, expected in (
            (dict(result.nodes.items()), dict(graph.nodes.items())),
            (dict(result.edges.items()), dict(graph.edges.items())),
        ):
            assert elements.keys() == expected.keys()
            for key, attributes in elements.items():
                for name in added:
                    attributes.pop(name, None)
                assert attributes == of_format(expected[key])


def test_plain_attributes():
    graph = plain_example().to_networkx(attributes="plain")
    assert graph.nodes["0"] == {
        "token_type": '<a & "b">',
        "flags": 2**31,
        "timestamp": "2026-01-01T00:00:00.000001+00:00",
        "x_motor": 1.5,
        "y_motor": -2.0,
        "z_motor": 1e300,
        "metadata": '{"k": [1, "é"]}',
        "metadata_cell_type": "x",
        "label_": "l",
        "a2D": 1,
        "binary_data": "00ff",
        "duration": 1.5,
    }
    assert graph.nodes[str(2**64 - 1)]["token_type"] == "né\ufffd☃"
    assert graph.nodes[str(2**64 - 1)]["metadata_cell_type_"] == "z"
    assert graph.edges[str(2**64 - 1), "0", "k1"] == graph.edges["0", str(2**64 - 1), "k1"]
    assert graph.edges["7", "7", "k4"] == {"connection_type": "a", "bidirectional": True}
    with pytest.raises(InvalidQueryError, match="attributes must be 'frame' or 'plain'"):
        plain_example().to_networkx(attributes="simple")


def test_tokens_of_a_subgraph_equal_those_of_get(store, tokens, connections):
    result = store.graph.subgraph(tokens[:3], 1)
    whole = store.tokens.get(result.tokens.token_id)
    pd.testing.assert_frame_equal(
        result.tokens.drop(columns=["depth", "coords"]), whole.drop(columns="coords")
    )
    assert np.array_equal(np.stack(result.tokens.coords), np.stack(whole.coords), equal_nan=True)
    node = result.to_networkx().nodes[tokens[0]]
    assert node["token_type"] == "default"
    assert node["depth"] == 0
    assert repr(result) == (
        f"<Subgraph of {len(result.tokens)} tokens and {len(result.connections)} connections>"
    )


def test_an_empty_subgraph_has_the_same_columns(store, tokens, connections):
    full, empty = store.graph.subgraph(tokens[:3]), store.graph.subgraph([])
    assert empty.tokens.dtypes.equals(full.tokens.dtypes)
    assert empty.connections.dtypes.equals(full.connections.dtypes)
    assert empty.to_scipy()[0].shape == (0, 0)


def test_invalid_arguments_of_subgraph(store, tokens, connections):
    nobody = str(uuid.uuid4())
    with pytest.raises(NotFoundError, match=nobody):
        store.graph.subgraph([tokens[0], nobody])
    for depth in (-1, 2**31, False, 1.5):
        with pytest.raises(InvalidQueryError, match="depth"):
            store.graph.subgraph(tokens[0], depth)
    with pytest.raises(InvalidQueryError, match="direction"):
        store.graph.subgraph(tokens[0], direction="")
    with pytest.raises(ResultTooLarge) as caught:
        store.graph.subgraph(tokens, max_rows=10)
    assert caught.value.count == NODES + len(connections)


def test_a_missing_library_raises_config_error(monkeypatch):
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
    result = celegans.graph.get_neighbors(starts, depth=3, connection_type=kinds)
    for start, rows in result.groupby("token_id"):
        steps = nx.single_source_shortest_path_length(graph, start, 3)
        del steps[start]
        assert dict(zip(rows.neighbor_id, rows.depth, strict=True)) == steps
    whole = celegans.graph.subgraph(starts, 0, connection_type=kinds)
    expected = wired[wired.source_id.isin(starts) & wired.target_id.isin(starts)]
    assert set(whole.connections.connection_id) == set(expected.connection_id)


@pytest.mark.parametrize("max_rows", [1, 3, 1000])
def test_unknown_ids_are_no_rows_of_the_answer(store, tokens, max_rows):
    unknown = [str(uuid.UUID(int=n)) for n in range(1, 6)]
    for read in (store.graph.get_neighbors, store.graph.get_degree, store.graph.subgraph):
        for cache in ("strict", "strict", "off"):
            with pytest.raises(NotFoundError) as caught:
                read([unknown[0], *tokens, *unknown[1:]], max_rows=max_rows, cache=cache)
            assert caught.value.missing == tuple(unknown)
            with pytest.raises(ResultTooLarge):
                read(tokens, max_rows=1, cache=cache)
