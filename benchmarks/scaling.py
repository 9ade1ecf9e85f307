"""Compare partitions and files of a region with one frame and with handwritten code.

``python -m benchmarks.scaling --tokens 1000000`` fills a store, runs each method once in each turn,
one after the other, and prints medians.  Dask's ways run on two worker processes, whose start is
not counted; where rows end up in workers, they are counted there and stay there.

`files` compares readers of a data set in Morton order with the same readers of the same rows in the order
of writing, and with the server: ``python -m benchmarks scaling`` writes its table.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import dask.dataframe
import duckdb
import geopandas
import numpy as np
import pandas as pd
import polars
import pyarrow.dataset
import pyarrow.parquet as pq
import sqlalchemy as sa
from distributed import Client, LocalCluster

import ngdata
from benchmarks import store
from benchmarks.store import box, filled, server, side
from ngdata.files import open_dataset

_COLUMNS: Final = ["token_id", "x", "y", "z", "token_type", "weight"]

Way = Callable[[], Any]
Corner = tuple[float, ...]


@dataclass
class Measured:
    """The seconds of each method, by its name, and the number of rows."""

    rows: int
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def median(self, way: str) -> float:
        """Return the median, in seconds."""
        return statistics.median(self.seconds[way])


def fingerprint(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a hash of the rows that does not depend on their order or partitions."""
    plain = frame[_COLUMNS].astype({"token_id": object, "token_type": object})
    hashes = pd.util.hash_pandas_object(plain, index=False).to_numpy()
    return pd.DataFrame({"rows": [len(frame)], "hash": [int(hashes.sum() % 2**63)]})


def total(prints: pd.DataFrame) -> tuple[int, int]:
    """Add the fingerprints of partitions."""
    return int(prints.rows.sum()), sum(int(h) for h in prints.hash) % 2**63


def by_hand(url: str, partitions: int) -> Any:
    """Return the usual Dask frame of a query: cut by equal steps of a column, read by SQLAlchemy."""
    index = sa.table(
        "spatial_index",
        *(sa.column(c) for c in ("token_id", "geom", "token_type", "weight", "level")),
        schema="tokens",
    )
    at = [getattr(sa.func, f"ST_{axis}")(index.c.geom).label(axis.lower()) for axis in "XYZ"]
    rows = (
        sa.select(
            sa.cast(index.c.token_id, sa.Text).label("token_id"),
            *at,
            index.c.token_type,
            index.c.weight,
            at[0].label("cut"),
        )
        .where(index.c.level == 0)
        .subquery()
    )
    engine_url = url.replace("postgresql://", "postgresql+psycopg://", 1)
    return dask.dataframe.read_sql_query(
        sa.select(rows), engine_url, index_col="cut", npartitions=partitions
    )


def as_file_by_hand(url: str, path: Path) -> None:
    """Read all points with GeoPandas, and write them."""
    engine = sa.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.connect() as connection:
        frame = geopandas.read_postgis(
            "SELECT token_id::text, geom, token_type, weight FROM tokens.spatial_index"
            " WHERE level = 0",
            connection,
            geom_col="geom",
        )
    engine.dispose()
    frame.to_parquet(path)


def ways_of(
    ng: ngdata.Client, url: str, tokens: int, partitions: int, folder: Path
) -> dict[str, Way]:
    """Return the methods to read all tokens of level 0."""
    corners = box(tokens, tokens)

    def in_partitions() -> Any:
        return ng.tokens.to_dask(*corners, npartitions=partitions, columns=_COLUMNS)

    return {
        "find_in_region": lambda: len(ng.tokens.find_in_region(*corners, columns=_COLUMNS)),
        "iter_region": lambda: sum(map(len, ng.tokens.iter_region(*corners, columns=_COLUMNS))),
        "to_dask, the call": in_partitions,
        "to_dask, computed": lambda: in_partitions().map_partitions(len).sum().compute(),
        "dask.read_sql_query, computed": lambda: (
            by_hand(url, partitions).map_partitions(len).sum().compute()
        ),
        "to_geoparquet": lambda: ng.tokens.to_geoparquet(
            folder / "ours.parquet", *corners, columns=_COLUMNS
        ),
        "read_postgis, to_parquet": lambda: as_file_by_hand(url, folder / "theirs.parquet"),
    }


def answers_agree(ng: ngdata.Client, url: str, tokens: int, partitions: int, folder: Path) -> None:
    """Raise unless all methods return the same rows, and our partitions have equal sizes."""
    corners = box(tokens, tokens)
    wanted = total(fingerprint(ng.tokens.find_in_region(*corners)))
    ours = ng.tokens.to_dask(*corners, npartitions=partitions).map_partitions(fingerprint).compute()
    theirs = by_hand(url, partitions).map_partitions(fingerprint).compute()
    assert wanted == total(ours) == total(theirs), (wanted, total(ours), total(theirs))
    assert ours.rows.max() - ours.rows.min() <= 1
    frames = [geopandas.read_parquet(folder / name) for name in ("ours.parquet", "theirs.parquet")]
    points = [f.set_geometry(f.geometry.name).geometry.to_wkb() for f in frames]
    prints = [
        frame.assign(point=point)[["token_id", "point"]].sort_values("token_id", ignore_index=True)
        for frame, point in zip(frames, points, strict=True)
    ]
    assert prints[0].astype(object).equals(prints[1].astype(object))


def run(url: str, tokens: int, partitions: int, turns: int, processes: bool = True) -> Measured:
    """Measure every method on a filled store."""
    results = Measured(tokens)
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=processes, dashboard_address=":0"
        ) as cluster,
        Client(cluster),
        ngdata.connect(url, cache="off") as ng,
    ):
        ways = ways_of(ng, url, tokens, partitions, Path(folder))
        for _ in range(turns):
            for name, way in ways.items():
                started = time.perf_counter()
                way()
                results.seconds.setdefault(name, []).append(time.perf_counter() - started)
        answers_agree(ng, url, tokens, partitions, Path(folder))
    return results


def table(results: Measured) -> str:
    """Return the results as Markdown."""
    lines = ["| rows | way | s | find_in_region / this |", "|---:|---|---:|---:|"]
    one = results.median("find_in_region")
    for way in results.seconds:
        took = results.median(way)
        lines.append(f"| {results.rows:,} | {way} | {took:.2f} | {one / took:.2f} |")
    return "\n".join(lines)


_REGION_ROWS: Final = 1_000
_GROUP_ROWS: Final = 10_000
_PARTITIONS: Final = 8


def load(url: str, tokens: int) -> None:
    """Load an empty store with the tokens of all benchmarks."""
    with ngdata.connect(url) as ng:
        parts = (
            store.tokens(first, min(50_000, tokens - first), tokens)
            for first in range(0, tokens, 50_000)
        )
        frames = (frame.assign(coords=list(coords)) for frame, coords in parts)
        ng.tokens.bulk_load(frames, initial=True, progress=False)


def files(url: str, tokens: int, turns: int) -> str:
    """Return the time of a region of 1,000 rows in ordered and unordered files, as Markdown."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ngdata.connect(url, cache="off") as ng,
        duckdb.connect() as connection,
    ):
        paths = {name: Path(folder) / name for name in ("shuffled", "as sent", "in Morton order")}
        shuffled, sent, ordered = paths.values()
        shuffled.mkdir()
        sent.mkdir()
        ng.tokens.to_geoparquet(ordered, partitions=_PARTITIONS)
        ng.tokens.to_geoparquet(sent / "part-0.parquet", chunk_rows=_GROUP_ROWS)
        rows = pq.read_table(sent / "part-0.parquet")
        pq.write_table(
            rows.take(np.random.default_rng(0).permutation(len(rows))),
            shuffled / "part-0.parquet",
            row_group_size=_GROUP_ROWS,
            compression="zstd",
        )
        del rows
        edge = side(min(_REGION_ROWS, tokens))
        random = np.random.default_rng(1)

        def bounds(low: Corner, high: Corner) -> zip[tuple[str, float, float]]:
            return zip("xyz", low, high, strict=True)

        def by_duckdb(path: Path, low: Corner, high: Corner) -> int:
            between = (f"{axis} BETWEEN {a!r} AND {b!r}" for axis, a, b in bounds(low, high))
            where = " AND ".join(between)
            query = f"SELECT token_id, x, y, z FROM '{path}/*.parquet' WHERE {where}"
            return len(connection.sql(query).to_arrow_table())

        def by_polars(path: Path, low: Corner, high: Corner) -> int:
            frame = polars.scan_parquet(f"{path}/*.parquet").select("token_id", "x", "y", "z")
            for axis, a, b in bounds(low, high):
                frame = frame.filter(polars.col(axis).is_between(a, b))
            return len(frame.collect())

        def by_pyarrow(path: Path, low: Corner, high: Corner) -> int:
            field = pyarrow.dataset.field
            where = pyarrow.dataset.scalar(True)
            for axis, a, b in bounds(low, high):
                where = where & (field(axis) >= a) & (field(axis) <= b)
            rows = pyarrow.dataset.dataset(path, format="parquet")
            return len(rows.to_table(columns=["token_id", "x", "y", "z"], filter=where))

        data_set = open_dataset(ordered)
        columns = ["token_id", "x", "y", "z"]
        ways: dict[str, Callable[[Corner, Corner], int]] = {
            f"{name}, {path.name}": functools.partial(read, path)
            for name, read in (
                ("DuckDB", by_duckdb),
                ("Polars", by_polars),
                ("PyArrow", by_pyarrow),
            )
            for path in paths.values()
        }
        ways["open_dataset, ordered"] = lambda low, high: len(
            data_set.find_in_region(low, high, columns=columns)
        )
        ways["find_in_region of the server"] = lambda low, high: len(
            ng.tokens.find_in_region(low, high, columns=columns)
        )
        results = Measured(tokens)

        def groups_read(low: Corner, high: Corner) -> int:
            return int(data_set.find_in_region(low, high).attrs["ngdata"]["row_groups"])

        middle = (side(tokens) - edge) / 2
        in_the_middle = groups_read((middle,) * 3, (middle + edge,) * 3)
        groups = []
        for _ in range(turns):
            # Another cube each time: one in the middle is cut by every plane of the order.
            corner = random.random(3) * (side(tokens) - edge)
            low, high = tuple(corner.tolist()), tuple((corner + edge).tolist())
            counts = set()
            for name, way in ways.items():
                started = time.perf_counter()
                counts.add(way(low, high))
                results.seconds.setdefault(name, []).append(time.perf_counter() - started)
            assert len(counts) == 1, counts
            groups.append(groups_read(low, high))
        lines = [
            f"{turns} cubes of about {_REGION_ROWS:,} of {tokens:,} tokens; of {data_set.row_groups} row groups in "
            f"order, they need {min(groups)} to {max(groups)}, {np.median(groups):.0f} in the median; one in the very "
            f"middle needs {in_the_middle}.",
            "",
            f"| reader | {', ms | '.join(paths)}, ms | shuffled / in order | as sent / in order |",
            "|---|---:|---:|---:|---:|---:|",
        ]
        for name in ("DuckDB", "Polars", "PyArrow"):
            each = [results.median(f"{name}, {path}") * 1000 for path in paths]
            times = " | ".join(f"{milliseconds:.1f}" for milliseconds in each)
            ratios = " | ".join(f"{before / each[-1]:.1f}" for before in each[:-1])
            lines.append(f"| {name} | {times} | {ratios} |")
        others = ("open_dataset, ordered", "find_in_region of the server")
        lines += [f"| {name} | | | {results.median(name) * 1000:.1f} | | |" for name in others]
    return "\n".join(lines)


def main() -> None:
    """Measure on separate servers, and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--tokens", type=int, default=1_000_000)
    options.add_argument("--partitions", type=int, default=16)
    options.add_argument("--turns", type=int, default=3)
    options.add_argument("--home", help="where the servers' data are kept for the next time")
    arguments = options.parse_args()
    with server(arguments.home) as addresses:
        url = filled(addresses.database_url, arguments.tokens, 0, 0)
        print(table(run(url, arguments.tokens, arguments.partitions, arguments.turns)))


if __name__ == "__main__":
    main()
