"""Neighborhoods of depth 3 from 10 starts: ngdata against the usual recursive query; shortest paths.

The usual one is what PostgreSQL's manual teaches, through `pandas.read_sql` over SQLAlchemy and
psycopg, in two forms: `paths` keeps the path that it came by (UNION ALL, and an array that tells
cycles), `union` keeps none and leaves it to UNION to drop what comes twice at one depth.  Both end
in DISTINCT ON, for the least depth.  A join by OR was the quickest way to write either; over a UNION
ALL of both ends the planner scans the table.

All run on one server, in turns; medians are reported, after all answers were found equal.  ngdata reads without its cache.  `answer` is the time to read the finished
answer, out of a table of its own, as ngdata reads: what no search can be quicker than.  A usual query
that takes longer than `--patience` is cancelled, and its time is reported as more than that.

The graphs, each with a tenth of its connections bidirectional, of two types and with random weights:

- `uniform`: each end drawn uniformly.  Hardly two paths meet, so nothing can be saved but the way to
  the frame.
- `rmat`: Graph500's R-MAT (a = 0.57, b = 0.19, c = 0.19, d = 0.05; Chakrabarti, Zhan and Faloutsos,
  "R-MAT: a recursive model for graph mining", 2004; graph500.org), edges beyond the number of
  tokens drawn anew.  A few tokens have thousands of connections, as in most networks that were
  measured.  As Graph500 has it, a start has at least one connection.
- `local`: each connection leads to one of the hundred tokens next to it on a ring.

`--snapshot` stores and loads the `uniform` graph, too.

`--paths` measures `shortest_path` instead, against reading all connections and asking networkx:
`ng.graph.connections()`, `networkx.from_pandas_edgelist`, `networkx.shortest_path`.  The graphs are
chains of several lengths from end to end, a random tree from one of its ends to the other, and a
graph in which each token has fifty connections.  Both ways in turns, without the cache, by steps and
by weight; `again` is ngdata with its cache, for a pair that was not asked for before, among
connections that were.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, Final

import adbc_driver_postgresql.dbapi as adbc
import asyncpg
import networkx as nx
import numpy as np
import pandas as pd
import psycopg
import sqlalchemy

_REACHED: Final = """
WITH RECURSIVE reached AS (
    SELECT start AS token_id, start AS neighbor_id, NULL::uuid AS connection_id,
        NULL::text AS connection_type, NULL::float8 AS weight, 0 AS depth{first}
    FROM unnest(CAST(:starts AS uuid[])) AS start
    {union}
    SELECT r.token_id, o.far, c.id, c.connection_type, c.weight, r.depth + 1{next}
    FROM reached AS r
    JOIN graph.connections AS c ON c.source_id = r.neighbor_id OR {back}
    CROSS JOIN LATERAL (
        SELECT CASE WHEN c.source_id = r.neighbor_id THEN c.target_id ELSE c.source_id END AS far
    ) AS o
    WHERE r.depth < :depth AND {fresh}
)
"""
_LEAST: Final = """
SELECT DISTINCT ON (token_id, neighbor_id) token_id::text, neighbor_id::text, connection_id::text,
    connection_type, weight, depth
FROM reached WHERE depth > 0 ORDER BY token_id, neighbor_id, depth, connection_id
"""
FORMS: Final = {
    "paths": {
        "union": "UNION ALL",
        "first": ", ARRAY[start] AS path",
        "next": ", r.path || o.far",
        "fresh": "o.far <> ALL (r.path)",
    },
    "union": {"union": "UNION", "first": "", "next": "", "fresh": "o.far <> r.token_id"},
}
BACK: Final = {
    "outgoing": "(c.bidirectional AND c.target_id = r.neighbor_id)",
    "both": "c.target_id = r.neighbor_id",
}
GRAPHS: Final = ("uniform", "rmat", "local")
DEPTH: Final = 3
STARTS: Final = 10
_ENOUGH: Final = 4000.0
_RMAT: Final = (0.57, 0.19, 0.19, 0.05)


def ends(kind: str, tokens: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the sources and targets of connections, as token numbers."""
    rng = np.random.default_rng(0)
    if kind == "local":
        sources = rng.integers(0, tokens, count)
        steps = rng.integers(1, 51, count) * rng.choice([-1, 1], count)
        return sources, (sources + steps) % tokens
    if kind == "uniform":
        return rng.integers(0, tokens, count), rng.integers(0, tokens, count)
    ends = np.empty((2, 0), np.int64)
    while ends.shape[1] < count:
        # A quadrant of the matrix for each bit of both numbers.
        quadrants = rng.choice(4, ((tokens - 1).bit_length(), count), p=_RMAT)
        both = np.zeros((2, count), np.int64)
        for quadrant in quadrants:
            both = both * 2 + np.stack([quadrant // 2, quadrant % 2])
        ends = np.concatenate([ends, both[:, (both < tokens).all(axis=0)]], axis=1)
    # Else a small number would mean many connections, and its token be one of the first rows.
    names = rng.permutation(tokens)
    return names[ends[0, :count]], names[ends[1, :count]]


def fill(ng: Any, kind: str, ids: pd.Series, connections: int) -> list[str]:
    """Connect tokens, and return ten of those that have connections."""
    sources, targets = ends(kind, len(ids), connections)
    rng = np.random.default_rng(2)
    ng.graph.bulk_create(
        pd.DataFrame(
            {
                "source_id": ids.to_numpy()[sources],
                "target_id": ids.to_numpy()[targets],
                "connection_type": rng.choice(["chemical", "electrical"], connections),
                "weight": rng.random(connections),
                "bidirectional": rng.random(connections) < 0.1,
            }
        ),
        progress=False,
    )
    known = ids[np.unique(np.concatenate([sources, targets]))]
    starts: list[str] = known.sample(STARTS, random_state=3).tolist()
    return starts


def run(url: str, statement: str) -> None:
    """Run a statement outside of a transaction."""

    async def execute() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(execute())


def milliseconds(ways: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Run the methods in turn, several times, and return medians; a slow one is not repeated."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            if sum(times[name]) < _ENOUGH:
                began = time.perf_counter()
                way()
                times[name].append((time.perf_counter() - began) * 1000)
    return {name: median(timings) for name, timings in times.items()}


def compare(
    ng: Any, url: str, starts: list[str], repeats: int, patience: int
) -> list[dict[str, Any]]:
    """Measure one graph in both directions; answers that differ are an error."""
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    values = {"starts": starts, "depth": DEPTH}
    rows = []
    with engine.connect() as connection, adbc.connect(url, autocommit=True) as arrow:
        for direction, back in BACK.items():
            reached = {name: _REACHED.format(back=back, **form) for name, form in FORMS.items()}

            def ours(direction: str = direction) -> pd.DataFrame:
                return ng.graph.get_neighbors(
                    starts, direction, depth=DEPTH, max_rows=None, cache="off"
                )

            def usual(form: str, end: str = _LEAST, reached: Any = reached) -> pd.DataFrame:
                text = sqlalchemy.text(reached[form] + end)
                return pd.read_sql(text, connection, params=values)

            keys = ["token_id", "neighbor_id"]
            answer = ours()
            ways: dict[str, Callable[[], Any]] = {}
            for form in FORMS:
                connection.exec_driver_sql(f"SET LOCAL statement_timeout = '{patience}s'")
                try:
                    expected = usual(form)
                except pd.errors.DatabaseError as error:
                    cause = getattr(error.__cause__, "orig", None)
                    if not isinstance(cause, psycopg.errors.QueryCanceled):
                        raise
                    continue
                finally:
                    connection.rollback()
                expected = expected.astype({"depth": "int32"}).sort_values(keys, ignore_index=True)
                actual = answer.sort_values(keys, ignore_index=True)[expected.columns]
                pd.testing.assert_frame_equal(actual, expected, check_dtype=False)
                ways[form] = lambda form=form, usual=usual: usual(form)

            with arrow.cursor() as cursor:
                cursor.adbc_ingest("answer", answer, mode="replace")

            def alone() -> pd.DataFrame:
                with arrow.cursor() as cursor:
                    cursor.execute("SELECT * FROM answer")
                    return cursor.fetch_arrow_table().to_pandas(split_blocks=True)

            timings = milliseconds({**ways, "ngdata": ours, "answer": alone}, repeats)
            slow = dict.fromkeys(FORMS.keys() - ways.keys(), patience * 1000.0)
            more = {name: ">" if name in slow else "" for name in (*FORMS, "ngdata", "answer")}
            timings |= slow
            rows.append(
                {"direction": direction, "rows": len(answer)}
                | {f"{name} ms": f"{sign}{timings[name]:.1f}" for name, sign in more.items()}
                | {f"x {n}": f"{more[n]}{timings[n] / timings['ngdata']:.1f}" for n in FORMS}
            )
    engine.dispose()
    return rows


def snapshot(ng: Any, url: str) -> None:
    """Store the graph that is there, load it, and compare it with the store."""
    began = time.perf_counter()
    snapshot_id = ng.graph.create_snapshot("benchmark")
    stored = time.perf_counter()
    loaded = ng.graph.load_snapshot(snapshot_id, cache="off")
    done = time.perf_counter()
    key = "connection_id"
    pd.testing.assert_frame_equal(
        loaded.connections.sort_values(key, ignore_index=True),
        ng.graph.connections(max_rows=None, cache="off").sort_values(key, ignore_index=True),
    )
    with adbc.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT octet_length(data)::int8 FROM graph.graph_snapshots")
        (size,) = cursor.fetchone()
    print(
        f"snapshot of {len(loaded.tokens):,} tokens and {len(loaded.connections):,} connections:"
        f" {size / 1e6:.1f} MB, stored in {stored - began:.1f} s, loaded in {done - stored:.1f} s"
    )


def path_graphs(options: argparse.Namespace) -> Iterator[tuple[str, int, np.ndarray, bool]]:
    """Return graphs: name, number of tokens, the ends of connections, whether they are two-way.

    The path to find leads from token 0 to the last one.
    """
    rng = np.random.default_rng(4)
    for steps in options.chains:
        numbers = np.arange(steps + 1)
        yield "chain", steps + 1, np.stack([numbers[:-1], numbers[1:]]), False
    count = options.tree
    tree = nx.from_prufer_sequence(rng.integers(0, count, count - 2).tolist())
    first = [*nx.single_source_shortest_path_length(tree, 0)][-1]
    last = [*nx.single_source_shortest_path_length(tree, first)][-1]
    order = [first, *(n for n in tree if n not in (first, last)), last]
    numbers = np.argsort(order)
    yield "tree", count, numbers[np.array(tree.edges).T], True
    count = options.dense
    # Without parallel connections, of which networkx's graph would keep the last one.
    pairs = rng.choice(count * count, 50 * count, replace=False)
    yield "dense", count, np.stack([pairs // count, pairs % count]), False


def find_paths(ng: Any, url: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure shortest paths in several graphs; answers that differ are an error."""
    rows = []
    for name, count, ends, is_two_way in path_graphs(options):
        ids = ng.tokens.bulk_create(
            {axis: np.zeros(count) for axis in "xyz"}, progress=False
        ).to_numpy()
        ng.graph.bulk_create(
            pd.DataFrame(
                {
                    "source_id": ids[ends[0]],
                    "target_id": ids[ends[1]],
                    "weight": np.random.default_rng(5).random(ends.shape[1]),
                    "bidirectional": is_two_way,
                }
            ),
            progress=False,
        )
        run(url, "VACUUM ANALYZE")
        kind = nx.Graph if is_two_way else nx.DiGraph
        for weight in (None, "weight"):

            def usual(
                kind: Any = kind, weight: Any = weight, ids: Any = ids
            ) -> tuple[Any, list[str]]:
                read = ng.graph.connections(max_rows=None, cache="off")
                graph = nx.from_pandas_edgelist(
                    read, "source_id", "target_id", weight, create_using=kind
                )
                return graph, nx.shortest_path(graph, ids[0], ids[-1], weight)

            def ours(weight: Any = weight, ids: Any = ids) -> pd.DataFrame:
                return ng.graph.shortest_path(
                    ids[0], ids[-1], weighted=weight is not None, cache="off"
                )

            others = iter(ids[::-1][1:])

            def again(weight: Any = weight, ids: Any = ids, others: Any = others) -> pd.DataFrame:
                return ng.graph.shortest_path(
                    ids[0], next(others), weighted=weight is not None, cache="strict"
                )

            path, (graph, expected) = ours(), usual()
            again()
            if weight is None:
                assert len(path) == len(expected) - 1
            else:
                assert np.isclose(path.weight.sum(), nx.path_weight(graph, expected, weight))
            timings = milliseconds(
                {"ngdata": ours, "networkx": usual, "again": again}, options.repeats
            )
            rows.append(
                {
                    "graph": name,
                    "connections": ends.shape[1],
                    "by": weight or "steps",
                    "steps": len(path),
                    **{f"{way} ms": f"{taken:.1f}" for way, taken in timings.items()},
                    "ngdata / networkx": f"{timings['ngdata'] / timings['networkx']:.2f}",
                }
            )
        run(url, "TRUNCATE tokens.tokens CASCADE")
    return rows


def main(arguments: list[str] | None = None) -> pd.DataFrame:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tokens", type=int, default=200_000)
    parser.add_argument("--connections", type=int, default=1_000_000)
    parser.add_argument("--graphs", nargs="+", choices=GRAPHS, default=GRAPHS)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--patience", type=int, default=60, help="seconds for a usual query")
    parser.add_argument("--snapshot", action="store_true", help="store and load the first graph")
    parser.add_argument("--paths", action="store_true", help="measure shortest paths instead")
    parser.add_argument("--chains", type=int, nargs="+", default=[100, 300, 1000, 3000, 10_000])
    parser.add_argument("--tree", type=int, default=20_000, help="tokens of the tree")
    parser.add_argument("--dense", type=int, default=1000, help="tokens of the dense graph")
    options = parser.parse_args(arguments)
    home = os.environ["NGDATA_HOME"] = tempfile.mkdtemp(prefix="ngdata benchmark ")
    import ngdata
    from ngdata import _local

    measured: list[dict[str, Any]] = []
    try:
        url = _local.up(durable=False).database_url
        with ngdata.connect(url) as ng:
            if options.paths:
                measured = find_paths(ng, url, options)
                options.graphs, options.tokens = [], 0
            points = np.random.default_rng(1).uniform(0, 1000, (options.tokens, 3))
            ids = ng.tokens.bulk_create(pd.DataFrame(points, columns=list("xyz")), progress=False)
            for number, kind in enumerate(options.graphs):
                starts = fill(ng, kind, ids, options.connections)
                # As a running server has them: statistics, and pages known to be visible to all.
                run(url, "VACUUM ANALYZE")
                measured += [
                    {"graph": kind, **row}
                    for row in compare(ng, url, starts, options.repeats, options.patience)
                ]
                if options.snapshot and not number:
                    snapshot(ng, url)
                run(url, "TRUNCATE graph.connections")
    finally:
        _local.down()
        shutil.rmtree(home, ignore_errors=True)
    table = pd.DataFrame(measured)
    print(table.to_string(index=False))
    return table


if __name__ == "__main__":
    main()
