"""Paths that the server finds and those that are found in memory: the same, and which is used when."""

import networkx as nx
import numpy as np
import pandas as pd
import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import ngdata
from ngdata._arguments.texts import STR
from ngdata._query import paths
from tests.conftest import empty, with_texts

TOKENS = 40
KINDS = ["thin", "thick"]
DIRECTIONS = ["outgoing", "incoming", "both"]
SERVER = """
    SELECT step, source_id::text, target_id::text, connection_id::text, connection_type, weight
    FROM graph.shortest_path(%s::uuid, %s::uuid, %s, %s, %s, %s) ORDER BY step
"""


@pytest.fixture(scope="module")
def ng(server):
    empty(server.database_url)
    with ngdata.connect(server.database_url) as client:
        yield client
        client.tokens.delete(client.tokens.find(limit=10**6).token_id)


@pytest.fixture(scope="module")
def ids(ng):
    return ng.tokens.bulk_create({axis: [0.0] * TOKENS for axis in "xyz"}).tolist()


@pytest.fixture(scope="module")
def graph(ng, ids):
    """A few long ways, many ties of steps and of weights, and sums that floats round differently."""
    rng = np.random.default_rng(5)
    near = np.arange(TOKENS - 1)
    start = rng.integers(0, TOKENS - 3, 50)
    ends = np.concatenate([near, start]), np.concatenate([near + 1, start + rng.integers(0, 4, 50)])
    count = len(ends[0])
    frame = pd.DataFrame(
        {
            "source_id": np.array(ids)[ends[0]],
            "target_id": np.array(ids)[ends[1]],
            "connection_type": rng.choice(KINDS, count, p=[0.8, 0.2]),
            "weight": rng.choice([0.0, 0.1, 0.2, 0.3, 0.7, 1e-17, 1e16], count),
            "bidirectional": rng.random(count) < 0.3,
        }
    )
    frame["connection_id"] = ng.graph.bulk_create(frame)
    return frame


@pytest.fixture(scope="module")
def database(server):
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        yield connection


def expected_path(database, source, target, direction, kinds, weighted, max_depth):
    """Return the path that the server's function returns when it searches without any bound."""
    values = (source, target, direction, kinds, weighted, max_depth)
    rows = database.execute(SERVER, values).fetchall()
    columns = ["step", "source_id", "target_id", "connection_id", "connection_type", "weight"]
    expected = pd.DataFrame(rows, columns=columns).astype({"step": "int32"})
    return with_texts(expected) if rows else None


@settings(max_examples=150)
@given(
    source=st.integers(0, TOKENS - 1),
    target=st.integers(0, TOKENS - 1),
    weighted=st.booleans(),
    max_depth=st.none() | st.integers(1, 20),
    kinds=st.none() | st.just(KINDS[:1]),
    direction=st.sampled_from(DIRECTIONS),
    rounds=st.sampled_from([1, 3, 8]),
    soon=st.booleans(),
)
@example(0, TOKENS - 1, True, None, None, "both", 1, True)
@example(0, TOKENS - 1, True, 12, None, "outgoing", 1, False)
@example(0, 1, False, 1, None, "outgoing", 1, False)
def test_the_path_does_not_depend_on_who_finds_it(
    ng, ids, graph, database, source, target, weighted, max_depth, kinds, direction, rounds, soon
):
    ends = ids[source], ids[target]
    options = {"weighted": weighted, "max_depth": max_depth, "direction": direction}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "_MIN_ROUNDS", rounds)
        patch.setattr(paths, "_MIN_READ", 0)
        patch.setattr(paths, "SOON_READ", paths.SOON_READ if soon else 0)
        path = ng.graph.shortest_path(*ends, connection_type=kinds, **options)
    expected = expected_path(database, *ends, direction, kinds, weighted, max_depth)
    if expected is None:
        assert path is None if source != target else path.empty
    else:
        pd.testing.assert_frame_equal(path, expected)


@pytest.fixture(scope="module")
def scattered(server):
    """Thousands of tokens: the queue is processed in parts, and labels are corrected."""
    rng = np.random.default_rng(12)
    with ngdata.connect(server.database_url) as ng:
        ids = ng.tokens.bulk_create({axis: np.zeros(2000) for axis in "xyz"}, progress=False)
        frame = pd.DataFrame(
            {
                "source_id": rng.choice(ids, 9000),
                "target_id": rng.choice(ids[:1500], 9000),
                "connection_type": "scattered",
                "weight": rng.random(9000),
                "bidirectional": rng.random(9000) < 0.1,
            }
        )
        ng.graph.bulk_create(frame, progress=False)
        yield ng, ids.tolist()
        ng.tokens.delete(ids)


@pytest.mark.parametrize("max_depth", [None, 9])
@pytest.mark.parametrize("weighted", [False, True])
def test_the_same_paths_in_a_larger_graph(scattered, database, monkeypatch, weighted, max_depth):
    ng, ids = scattered
    monkeypatch.setattr(paths, "_MIN_ROUNDS", 1)
    monkeypatch.setattr(paths, "_READ_PER_ROUND", 1 << 40)
    monkeypatch.setattr(paths, "SOON_READ", 1 << 40)
    for ends in zip(ids[1600:1616], ids[:16], strict=True):
        path = ng.graph.shortest_path(
            *ends, weighted=weighted, max_depth=max_depth, connection_type="scattered"
        )
        expected = expected_path(database, *ends, "outgoing", ["scattered"], weighted, max_depth)
        if expected is None:
            assert path is None
        else:
            pd.testing.assert_frame_equal(path, expected)


@pytest.fixture
def queries(ng, monkeypatch):
    """The queries that the reads of the client send."""
    sent = []
    reader = ng._wrapped._reader
    answer = reader.answer

    async def recorded(query, mode=None, max_rows=None):
        sent.append(query)
        return await answer(query, mode, max_rows)

    monkeypatch.setattr(reader, "answer", recorded)
    return sent


@pytest.fixture(scope="module")
def chain(ng):
    """A chain of 400 steps, and beside it a heavy connection from end to end."""
    ids = ng.tokens.bulk_create({axis: [0.0] * 401 for axis in "xyz"}).tolist()
    ng.graph.bulk_create(
        {
            "source_id": [*ids[:-1], ids[0]],
            "target_id": [*ids[1:], ids[-1]],
            "connection_type": ["chain"] * 400 + ["heavy"],
            "weight": [1.0] * 400 + [1000.0],
        }
    )
    yield ids
    ng.tokens.delete(ids)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_long_path_is_found_in_all_connections_which_are_read_once(ng, chain, queries, weighted):
    for end in (-1, -2):
        path = ng.graph.shortest_path(
            chain[0], chain[end], weighted=weighted, connection_type="chain"
        )
        assert path.target_id.tolist() == chain[1 : len(chain) + end + 1]
        assert path.attrs["ngdata"].keys() == {"source", "version", "milliseconds"}
    assert path.attrs["ngdata"]["source"] == "memory"
    assert [query.sql for query in queries].count(paths.arcs(["chain"]).sql) == 2


def test_a_light_path_beside_a_heavy_connection(ng, chain):
    kinds = iter(["chain", "heavy"])
    path = ng.graph.shortest_path(chain[0], chain[-1], weighted=True, connection_type=kinds)
    assert path.target_id.tolist() == chain[1:]
    assert len(ng.graph.shortest_path(chain[0], chain[-1])) == 1


def test_connections_are_not_all_read_where_that_is_not_needed(ng, chain, queries, monkeypatch):
    monkeypatch.setattr(paths, "SOON_READ", 0)
    kind = {"connection_type": "chain"}
    assert len(ng.graph.shortest_path(chain[0], chain[5], **kind)) == 5
    assert ng.graph.shortest_path(chain[0], chain[-1], max_depth=8, **kind) is None
    assert len(queries) == 2
    # Near an end of the chain, few tokens can be reached.
    assert ng.graph.shortest_path(chain[-1], chain[0], **kind) is None
    assert ng.graph.shortest_path(chain[-3], chain[0], **kind) is None
    assert ng.graph.shortest_path(chain[200], chain[2], **kind) is None
    assert ng.graph.shortest_path(chain[2], chain[200], direction="incoming", **kind) is None
    assert len(queries) == 10
    assert paths.arcs(["chain"]).sql not in {query.sql for query in queries}
    assert ng.graph.shortest_path(chain[300], chain[200], **kind) is None
    assert queries[-1].sql == paths.arcs(["chain"]).sql


def test_a_table_that_is_too_large_is_never_read_as_a_whole(ng, chain, queries, monkeypatch):
    monkeypatch.setattr(paths, "_MAX_READ", 0)
    for weighted in (False, True):
        path = ng.graph.shortest_path(
            chain[0], chain[-1], weighted=weighted, connection_type="chain"
        )
        assert path.target_id.tolist() == chain[1:]
        lengths = ng.graph.shortest_lengths(chain[0], weighted=weighted, connection_type="chain")
        assert lengths.length.tolist() == list(range(401))
        assert lengths.token_id.tolist() == chain
    assert len(queries) == 4


def test_a_write_is_seen_by_a_long_path(ng, chain):
    options = {"connection_type": ["chain", "added"]}
    assert len(ng.graph.shortest_path(chain[0], chain[-1], **options)) == 400
    added = ng.graph.create_connection(chain[0], chain[390], "added")
    path = ng.graph.shortest_path(chain[0], chain[-1], **options)
    assert path.connection_id[0] == added
    assert len(path) == 11
    ng.graph.delete(added)
    assert len(ng.graph.shortest_path(chain[0], chain[-1], **options)) == 400


def test_integer_ids_on_a_long_path(server, ng):
    numbers = np.arange(30, dtype="uint64") * 3
    with ngdata.connect(server.database_url, ids="integer", id_space="paths") as number:
        number.tokens.bulk_create({"token_id": numbers, **{axis: np.zeros(30) for axis in "xyz"}})
        kind = {"connection_type": "numbered"}
        number.graph.bulk_create(
            pd.DataFrame({"source_id": numbers[:-1], "target_id": numbers[1:]}).assign(**kind)
        )
        path = number.graph.shortest_path(0, 87, **kind)
        assert path.source_id.dtype == path.target_id.dtype == np.uint64
        assert path.source_id.tolist() == numbers[:-1].tolist()
        lengths = number.graph.shortest_lengths(0, [87, 6, 0], **kind)
        assert lengths.token_id.dtype == np.uint64
        assert lengths.to_numpy().tolist() == [[0, 0], [6, 2], [87, 29]]
        number.tokens.delete(numbers)


def graph_of(frame, ids, direction):
    graph = nx.MultiDiGraph()
    graph.add_nodes_from(ids)
    for c in frame.itertuples():
        ends = (c.source_id, c.target_id)
        ways = {ends, ends[::-1]} if c.bidirectional or direction == "both" else {ends}
        for u, v in ways if direction != "incoming" else {way[::-1] for way in ways}:
            graph.add_edge(u, v, key=c.connection_id, weight=c.weight)
    return graph


def cheapest(graph, source, max_depth):
    """Return the least weights of paths of at most `max_depth` steps, by Bellman-Ford."""
    best = {source: 0.0}
    for _ in range(max_depth):
        following = dict(best)
        for u, v, weight in graph.edges(data="weight"):
            if u in best:
                following[v] = min(following.get(v, float("inf")), best[u] + weight)
        best = following
    return best


@settings(max_examples=100)
@given(
    source=st.integers(0, TOKENS - 1),
    targets=st.none() | st.lists(st.integers(0, TOKENS - 1), max_size=5),
    weighted=st.booleans(),
    max_depth=st.none() | st.integers(1, 12),
    kinds=st.none() | st.just("thin") | st.just("none"),
    direction=st.sampled_from(DIRECTIONS),
    most=st.sampled_from([0, 1 << 30]),
)
@example(0, None, True, None, None, "outgoing", 1 << 30)
@example(0, [], False, None, "none", "outgoing", 1 << 30)
def test_lengths_equal_networkx(
    ng, ids, graph, source, targets, weighted, max_depth, kinds, direction, most
):
    selected = graph if kinds is None else graph[graph.connection_type == kinds]
    whole = graph_of(selected, ids, direction)
    start = ids[source]
    if not weighted:
        expected = nx.single_source_shortest_path_length(whole, start, max_depth)
    elif max_depth is None:
        # Exactly equal: both add the weights from the source on.
        expected = nx.single_source_dijkstra_path_length(whole, start)
    else:
        expected = cheapest(whole, start, max_depth)
    if targets is not None:
        targets = [ids[place] for place in targets]
        expected = {token: length for token, length in expected.items() if token in targets}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "_MAX_READ", most)
        result = ng.graph.shortest_lengths(
            start,
            targets,
            weighted=weighted,
            max_depth=max_depth,
            connection_type=kinds,
            direction=direction,
        )

    assert result.columns.tolist() == ["token_id", "length"]
    assert list(result.dtypes) == [STR, "float64" if weighted else "int64"]
    in_order = sorted(expected.items(), key=lambda item: (item[1], item[0]))
    assert list(result.itertuples(index=False, name=None)) == in_order


def test_lengths_in_the_connectome(celegans):
    wired = celegans.graph.connections(connection_type="chemical")
    whole = nx.from_pandas_edgelist(
        wired, "source_id", "target_id", "weight", create_using=nx.MultiDiGraph
    )
    start = min(wired.source_id)
    expected = nx.single_source_dijkstra_path_length(whole, start)
    result = celegans.graph.shortest_lengths(start, weighted=True, connection_type="chemical")
    assert dict(zip(result.token_id, result.length, strict=True)) == expected


def test_the_most_rows_of_lengths(ng, chain):
    kind = {"connection_type": "chain"}
    for most in (0, 1 << 30):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(paths, "_MAX_READ", most)
            with pytest.raises(ngdata.errors.ResultTooLarge) as caught:
                ng.graph.shortest_lengths(chain[1], max_rows=399, **kind)
            assert (caught.value.count, caught.value.max_rows) == (400, 399)
            assert len(ng.graph.shortest_lengths(chain[1], max_rows=400, **kind)) == 400
            assert len(ng.graph.shortest_lengths(chain[0], chain[:3], max_rows=3, **kind)) == 3


def test_missing_tokens_of_lengths(ng, ids):
    nobody, other = (f"00000000-0000-4000-8000-00000000000{n}" for n in (1, 2))
    for cache in ("strict", "strict", "off"):
        with pytest.raises(ngdata.errors.NotFoundError) as caught:
            ng.graph.shortest_lengths(nobody, [ids[0], other], cache=cache, max_rows=1)
        assert caught.value.missing == (nobody, other)


def test_a_negative_weight_is_rejected_by_lengths(ng, ids):
    bad = ng.graph.create_connection(ids[0], ids[1], "bad", -2.0)
    with pytest.raises(ngdata.errors.InvalidQueryError, match=rf"connection {bad} has -2;"):
        ng.graph.shortest_lengths(ids[0], weighted=True)
    assert ng.graph.shortest_lengths(ids[0], connection_type="bad").length.tolist() == [0, 1]
    ng.graph.delete(bad)


def test_sums_beyond_float64_are_no_lengths(ng, ids):
    ends = [(ids[0], ids[1]), (ids[1], ids[2])]
    heavy = [ng.graph.create_connection(*pair, "heavy", 1e308) for pair in ends]
    for options in ({}, {"max_depth": 5}):
        with pytest.raises(ngdata.errors.InvalidQueryError, match="exceed the largest float64"):
            ng.graph.shortest_lengths(ids[0], weighted=True, connection_type="heavy", **options)
    ng.graph.delete(heavy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_depth": 0}, "max_depth must be an integer from 1"),
        ({"direction": "outgoin"}, "did you mean 'outgoing'"),
        ({"connection_type": 3}, "connection_type must be text"),
        ({"weighted": 1}, "weighted must be True or False"),
        ({"targets": "x"}, "targets must be a UUID"),
        ({"source": "x"}, "source must be a UUID"),
        ({"max_rows": 0}, "max_rows must be"),
        ({"cache": "always"}, "cache must be"),
    ],
)
def test_invalid_arguments_of_lengths(ng, ids, options, message):
    for read in (ng.graph.shortest_lengths, lambda **o: ng.explain(ng.graph.shortest_lengths, **o)):
        with pytest.raises(ngdata.errors.InvalidQueryError, match=message):
            read(**{"source": ids[0], **options})


def test_paths_and_lengths_are_explained(ng, ids):
    for plan in (
        ng.explain(ng.graph.shortest_lengths, ids[0]),
        ng.explain(ng.graph.shortest_path, ids[0], ids[-1]),
    ):
        # Each token leads to its connections; one scan of them all for each step would not end.
        # After the search, `far` is known and one scan of them all may be the quickest.
        assert "Seq Scan on connections" not in plan.text.partition("CTE far")[0]
        assert not plan.uses_spatial_index
