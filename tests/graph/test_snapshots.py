"""Snapshots hold the graph as it was, with networkx's figures; damaged ones are rejected."""

import asyncio
import hashlib
import struct
import uuid

import networkx as nx
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import ngdata
from ngdata._arguments.texts import STR
from ngdata._client import components as of_components
from ngdata._client.components import clustering_coefficient
from ngdata._store import snapshots as stored
from ngdata.errors import ConfigError, InvalidQueryError, NGDataError, NotFoundError, ResultTooLarge
from tests.conftest import with_texts

LISTED = {
    "snapshot_id": STR,
    "label": STR,
    "created_at": "datetime64[us, UTC]",
    "node_count": "int64",
    "edge_count": "int64",
    "mean_degree": "float64",
    "clustering_coefficient": "float64",
}


def in_order(frame):
    return frame.sort_values("connection_id", ignore_index=True)


def test_a_snapshot_holds_the_graph_as_it_was(
    store, tokens, connections, graph_of, execute, server
):
    before = execute(server.database_url, "SELECT now()")[0][0]
    snapshot_id = store.graph.create_snapshot("first")
    snapshot = store.graph.load_snapshot(uuid.UUID(snapshot_id))

    assert snapshot.tokens.token_id.tolist() == sorted(tokens)
    expected = store.graph.connections()
    pd.testing.assert_frame_equal(in_order(snapshot.connections), in_order(expected))
    assert (snapshot.id, snapshot.label) == (snapshot_id, "first")
    assert repr(snapshot) == f"<Snapshot of {len(tokens)} tokens and {len(expected)} connections>"
    graph = graph_of(connections)
    assert nx.utils.edges_equal(
        snapshot.to_networkx().edges(keys=True), graph.edges(keys=True), directed=True
    )

    row = store.graph.list_snapshots().iloc[-1]
    assert row.snapshot_id == snapshot_id
    assert before <= row.created_at == snapshot.created_at
    assert (row.node_count, row.edge_count) == (len(tokens), len(connections))
    assert row.mean_degree == store.graph.get_degree().total_degree.mean()
    simple = nx.Graph((u, v) for u, v in graph.edges() if u != v)
    simple.add_nodes_from(tokens)
    assert row.clustering_coefficient == pytest.approx(nx.average_clustering(simple), abs=1e-12)


def test_clustering_equals_networkx(monkeypatch):
    rng = np.random.default_rng(2)
    for _ in range(60):
        count, edges = int(rng.integers(1, 30)), int(rng.integers(0, 150))
        # In parts of a few paths each, as a large graph is processed in larger parts.
        monkeypatch.setattr(of_components, "_PATHS_AT_ONCE", int(rng.integers(1, 50)))
        sources, targets = rng.integers(0, count, (2, edges))
        graph = nx.Graph((u, v) for u, v in zip(sources, targets, strict=True) if u != v)
        graph.add_nodes_from(range(count))
        result = clustering_coefficient(count, sources, targets)
        assert result == pytest.approx(nx.average_clustering(graph), abs=1e-12)
    assert clustering_coefficient(0, np.empty(0, int), np.empty(0, int)) is None


def test_the_list_is_ordered_and_typed(ng, execute, database_url):
    empty = ng.graph.list_snapshots()
    assert dict(empty.dtypes) == LISTED
    snapshot_ids = [ng.graph.create_snapshot(label) for label in (None, "b", "é'\\")]
    listed = ng.graph.list_snapshots()
    assert listed.snapshot_id.tolist() == snapshot_ids
    assert listed.label.fillna("none").tolist() == ["none", "b", "é'\\"]
    assert listed.created_at.is_monotonic_increasing
    assert listed.mean_degree.isna().all()
    assert listed.dtypes.equals(empty.dtypes)
    snapshot = ng.graph.load_snapshot(snapshot_ids[0])
    assert snapshot.label is None
    assert snapshot.connections.dtypes.equals(ng.graph.connections().dtypes)
    assert snapshot.tokens.empty
    execute(database_url, f"DELETE FROM graph.graph_snapshots WHERE id = '{snapshot_ids[1]}'")
    assert ng.graph.list_snapshots().snapshot_id.tolist() == [snapshot_ids[0], snapshot_ids[2]]


def test_the_difference_of_two_snapshots(ng, execute, database_url):
    a, b, c = ng.tokens.bulk_create({axis: [0.0, 1.0, 2.0] for axis in "xyz"})
    stays, goes, weighs, turns = ng.graph.bulk_create(
        {"source_id": [a, a, b, c], "target_id": [b, c, c, a], "weight": [1.0, 2.0, 3.0, 4.0]}
    )
    before = ng.graph.create_snapshot()
    execute(
        database_url,
        f"DELETE FROM graph.connections WHERE id = '{goes}'",
        f"UPDATE graph.connections SET weight = 3.5 WHERE id = '{weighs}'",
        f"UPDATE graph.connections SET bidirectional = true WHERE id = '{turns}'",
    )
    comes = ng.graph.create_connection(c, b, "new", 0.5)
    after = ng.graph.create_snapshot()

    result = ng.graph.diff_snapshots(before, after)

    nan = float("nan")
    expected = pd.DataFrame(
        [
            (goes, "removed", a, c, "generic", 2.0, nan),
            (weighs, "changed", b, c, "generic", 3.0, 3.5),
            (turns, "changed", c, a, "generic", 4.0, 4.0),
            (comes, "added", c, b, "new", nan, 0.5),
        ],
        columns=["connection_id", "change", "source_id", "target_id", "connection_type",
                 "weight_before", "weight_after"],
    )  # fmt: skip
    pd.testing.assert_frame_equal(result, with_texts(in_order(expected)))
    back = ng.graph.diff_snapshots(after, before)
    assert sorted(back.change) == ["added", "changed", "changed", "removed"]
    nothing = ng.graph.diff_snapshots(after, after)
    assert nothing.empty
    assert nothing.dtypes.equals(result.dtypes)
    assert stays not in result.connection_id.tolist()


def test_a_concurrent_write_is_in_it_completely_or_not_at_all(ng, monkeypatch, database_url):
    """One statement reads all of it: a connection is in it with both of its ends, or not at all."""
    ids = ng.tokens.bulk_create({axis: [0.0] * 50 for axis in "xyz"})

    async def go():
        async with (
            await ngdata.connect_async(database_url) as one,
            await ngdata.connect_async(database_url) as two,
        ):

            async def write():
                for _ in range(15):
                    more = await two.tokens.bulk_create({axis: [0.0] * 5 for axis in "xyz"})
                    await two.graph.bulk_create({"source_id": more, "target_id": ids[:5]})

            async def read():
                return [await one.graph.create_snapshot() for _ in range(8)]

            _, snapshot_ids = await asyncio.gather(write(), read())
            return [await one.graph.load_snapshot(each) for each in snapshot_ids]

    for snapshot in asyncio.run(go()):
        there = set(snapshot.tokens.token_id)
        assert {*snapshot.connections.source_id, *snapshot.connections.target_id} <= there
        assert len(snapshot.connections) % 5 == 0


def test_a_missing_snapshot(ng):
    nobody = str(uuid.uuid4())
    snapshot_id = ng.graph.create_snapshot()
    for read in (
        lambda: ng.graph.load_snapshot(nobody),
        lambda: ng.graph.diff_snapshots(snapshot_id, nobody),
        lambda: ng.graph.diff_snapshots(nobody, snapshot_id),
    ):
        with pytest.raises(NotFoundError, match=f"no snapshot in the store has the id {nobody}"):
            read()
    with pytest.raises(InvalidQueryError, match=r"id must be a UUID, .*not 'first'"):
        ng.graph.load_snapshot("first")


@pytest.mark.parametrize("label", [3, b"x", "a\0b", "\ud800"])
def test_invalid_labels(ng, label):
    with pytest.raises(InvalidQueryError):
        ng.graph.create_snapshot(label)
    assert ng.graph.list_snapshots().empty


def test_a_read_only_client(ng, database_url):
    with (
        ngdata.connect(database_url, read_only=True) as reader,
        pytest.raises(ConfigError, match="may only read"),
    ):
        reader.graph.create_snapshot()
    assert ng.graph.list_snapshots().empty


def test_an_analyst_can_read_snapshots_but_not_write(ng, execute, database_url):
    snapshot_id = ng.graph.create_snapshot("theirs")
    role = f"analyst_{uuid.uuid4().hex}"
    execute(database_url, f"CREATE ROLE {role}", f"SELECT tokens.grant_access('{role}', 'analyst')")
    try:
        with ngdata.connect(f"{database_url}&options=-c%20role%3D{role}") as analyst:
            assert analyst.graph.load_snapshot(snapshot_id).label == "theirs"
            a, b = ng.tokens.bulk_create({axis: [0.0, 1.0] for axis in "xyz"})
            ng.graph.create_connection(a, b)
            assert len(analyst.graph.shortest_path(a, b)) == 1
            with pytest.raises(ConfigError, match="lacks a right"):
                analyst.graph.create_snapshot()
    finally:
        execute(database_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.fixture
def stored_snapshot(ng, execute, database_url):
    """A snapshot of three connections, and a function that replaces its bytes."""
    ids = ng.tokens.bulk_create({axis: [0.0, 1.0, 2.0] for axis in "xyz"})
    ng.graph.bulk_create({"source_id": ids, "target_id": ids[::-1].to_numpy()})
    snapshot_id = ng.graph.create_snapshot()
    row = execute(
        database_url, f"SELECT data FROM graph.graph_snapshots WHERE id = '{snapshot_id}'"
    )

    def put(data):
        value = "NULL" if data is None else f"'\\x{data.hex()}'"
        execute(database_url, f"UPDATE graph.graph_snapshots SET data = {value}")
        return snapshot_id

    return ng, row[0][0], put


def sealed(rest):
    """Bytes with a valid mark and checksum, which do not prove that ngdata wrote them."""
    return b"ngdata graph 1\n" + hashlib.blake2b(rest, digest_size=32).digest() + rest


def head(text):
    return struct.pack("<I", len(text)) + text


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda _: None, "holds no graph"),
        (lambda _: b"", "not in this format"),
        (lambda data: b"x" + data[1:], "not in this format"),
        (lambda data: data[:-1], "checksum"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "checksum"),
        (lambda _: sealed(head(b"no json")), "cannot be read"),
        (lambda _: sealed(head(b"[]")), "head is missing"),
        (lambda _: sealed(head(b"\xff" * 9)), "cannot be read"),
        (lambda _: sealed(struct.pack("<I", 2**31)), "cannot be read"),
        (lambda data: sealed(data[47:] + b"more"), "length is not"),
    ],
)
def test_damaged_bytes(stored_snapshot, bad, message):
    ng, data, put = stored_snapshot
    snapshot_id = put(bad(data))
    with pytest.raises(NGDataError, match=message) as caught:
        ng.graph.load_snapshot(snapshot_id)
    assert str(caught.value).startswith(f"snapshot {snapshot_id} cannot be read: ")


def tables(**changes):
    ids = pa.array([bytes([n] * 16) for n in range(3)], pa.binary(16))
    columns = {
        "id": ids,
        "source": pa.array([0, 1, 2], pa.int32()),
        "target": pa.array([2, 1, 0], pa.int32()),
        "connection_type": pa.array(["a", "b", "a"]).dictionary_encode(),
        "weight": pa.array([1.0, 2.0, 3.0]),
        "bidirectional": pa.array([False] * 3),
    } | changes
    tokens = pa.table([columns.pop("tokens", ids)], schema=stored.TOKENS)
    return tokens, pa.table(list(columns.values()), schema=stored.CONNECTIONS)


def test_whole_tables_are_read(stored_snapshot):
    ng, _, put = stored_snapshot
    snapshot = ng.graph.load_snapshot(put(stored.encode(*tables())))
    assert snapshot.connections.weight.tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": pa.array([0, 1, 3], pa.int32())}, "not among its tokens"),
        ({"target": pa.array([0, -1, 2], pa.int32())}, "not among its tokens"),
        ({"weight": pa.array([1.0, float("nan"), 2.0])}, "not finite"),
        ({"weight": pa.array([1.0, float("inf"), 2.0])}, "not finite"),
        ({"weight": pa.array([1.0, None, 2.0])}, "missing"),
        ({"id": pa.array([b"x" * 16] * 3, pa.binary(16))}, "occurs twice"),
        ({"tokens": pa.array([b"x" * 16] * 3, pa.binary(16))}, "occurs twice"),
        ({"tokens": pa.array([b"x" * 16], pa.binary(16))}, "as many"),
    ],
)
def test_inconsistent_tables(stored_snapshot, changes, message):
    ng, _, put = stored_snapshot
    with pytest.raises(NGDataError, match=message):
        ng.graph.load_snapshot(put(stored.encode(*tables(**changes))))


def test_other_columns(stored_snapshot):
    ng, _, put = stored_snapshot
    tokens, connections = tables()
    with pytest.raises(NGDataError, match="columns are not"):
        ng.graph.load_snapshot(put(stored.encode(tokens, connections.drop_columns(["weight"]))))


def test_a_snapshot_larger_than_can_be_read_back(monkeypatch):
    monkeypatch.setattr(stored, "_MAX_STREAM_BYTES", 100)
    with pytest.raises(
        ResultTooLarge, match=r"3 connections takes .* bytes, and 100 can be read back"
    ):
        stored.encode(*tables())


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_a_snapshot_in_several_rows(ng, execute, database_url, monkeypatch, size):
    """Rows of any size hold the bytes together, and the same graph comes out."""
    ids = ng.tokens.bulk_create({axis: np.arange(9.0) for axis in "xyz"})
    ng.graph.bulk_create({"source_id": ids, "target_id": ids[::-1].to_numpy()})
    monkeypatch.setattr(stored, "_PART_BYTES", size)
    snapshot_ids = [ng.graph.create_snapshot(label) for label in ("one", "two")]
    [(whole,)] = execute(
        database_url,
        "SELECT sum(length(data)) FROM graph.graph_snapshots"
        f" WHERE '{snapshot_ids[0]}' IN (id, part_of)",
    )
    rows = "SELECT count(*) FROM graph.graph_snapshots"
    assert whole > 500
    assert execute(database_url, rows)[0][0] == 2 * -(-whole // size)

    assert ng.graph.list_snapshots().snapshot_id.tolist() == snapshot_ids
    for cache in ("off", "strict", "strict"):
        snapshot = ng.graph.load_snapshot(snapshot_ids[1], cache=cache)
        assert snapshot.label == "two"
        pd.testing.assert_frame_equal(
            snapshot.connections.sort_values("connection_id", ignore_index=True),
            ng.graph.connections()[snapshot.connections.columns].sort_values(
                "connection_id", ignore_index=True
            ),
        )
    assert ng.graph.diff_snapshots(*snapshot_ids).empty

    # A further part is not a snapshot, and goes with its own.
    parts = f"SELECT id::text FROM graph.graph_snapshots WHERE part_of = '{snapshot_ids[0]}'"
    [[part], *_] = (
        execute(database_url, f"{parts} ORDER BY part DESC") if size < whole else [[None]]
    )
    if part is not None:
        with pytest.raises(NotFoundError, match=part):
            ng.graph.load_snapshot(part)
        assert ng.graph.delete_snapshots(part) == 0
        execute(database_url, f"DELETE FROM graph.graph_snapshots WHERE id = '{part}'")
        with pytest.raises(NGDataError, match="cannot be read"):
            ng.graph.load_snapshot(snapshot_ids[0])
    assert ng.graph.delete_snapshots(snapshot_ids) == 2
    assert execute(database_url, rows) == [(0,)]


def test_a_changed_snapshot_is_read_again(stored_snapshot):
    ng, _, put = stored_snapshot
    snapshot_id = put(stored.encode(*tables()))
    assert ng.graph.load_snapshot(snapshot_id).connections.weight.sum() == 6.0
    put(stored.encode(*tables(weight=pa.array([1.0, 1.0, 1.0]))))
    assert ng.graph.load_snapshot(snapshot_id).connections.weight.sum() == 3.0
