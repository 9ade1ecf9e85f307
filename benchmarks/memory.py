"""Measure the memory of reads: the peak of one frame, and of an iteration of any length.

Each read runs in a process of its own, which reports its peak resident memory over that before the
read, and when the first frame came.

    python -m benchmarks.memory --tokens 1000000 --rows 5000000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any, Final

import adbc_driver_postgresql.dbapi as adbc

from benchmarks import store

__all__ = ["Memory", "crowded", "iterated", "main", "read_whole"]

_CHILD: Final = """
import json, resource, sys, time
import psutil
import ngdata

url, kind, chunk, options = *sys.argv[1:3], int(sys.argv[3]), json.loads(sys.argv[4])
whole = ((float("-inf"),) * 3, (float("inf"),) * 3)


def peak():
    # The high-water mark of this process alone: ru_maxrss of a child starts at its parent's.
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024


with ngdata.connect(url, **options) as ng:
    # All is imported, and each connection has been used.
    ng.tokens.find_in_region((0, 0, 0), (1, 1, 1))
    list(ng.tokens.iter_region((0, 0, 0), (1, 1, 1)))
    idle = psutil.Process().memory_info().rss
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")
    began = time.perf_counter()
    if kind == "iterate":
        rows, first = 0, None
        for part in ng.tokens.iter_region(*whole, chunk_rows=chunk):
            first = first or time.perf_counter() - began
            rows += len(part)
            size = int(part.memory_usage(deep=True).sum())
    else:
        frame = ng.tokens.find_in_region(*whole)
        rows, first = len(frame), time.perf_counter() - began
        size = int(frame.memory_usage(deep=True).sum())
    print(json.dumps({
        "rows": rows, "size": size, "over_idle": peak() - idle,
        "first": first, "seconds": time.perf_counter() - began,
    }))
"""


@dataclass
class Memory:
    """The memory and time of a read.

    Attributes
    ----------
    rows : int
    size : int
        Bytes of the frame, or of the last one, as pandas counts them.
    over_idle : int
        Bytes of peak resident memory over those before the read.
    first, seconds : float
        When the first frame came, and when all was read.
    """

    rows: int
    size: int
    over_idle: int
    first: float
    seconds: float


def _measured(url: str, kind: str, chunk_rows: int = 100_000, **options: Any) -> Memory:
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, url, kind, str(chunk_rows), json.dumps(options)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Memory(**json.loads(done.stdout))


def read_whole(url: str, cache: str = "strict") -> Memory:
    """Read level 0 as one frame."""
    return _measured(url, "whole", cache=cache)


def iterated(url: str, chunk_rows: int = 100_000) -> Memory:
    """Iterate over level 0."""
    return _measured(url, "iterate", chunk_rows)


def crowded(url: str, rows: int) -> str:
    """Create a database whose level 0 has `rows` rows, and return its URL."""
    name = f"crowded_{rows}"
    target = url.replace("/ngdata?", f"/{name}?")
    with adbc.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM pg_database WHERE datname = '{name}'")
        if cursor.fetchone()[0]:
            return target
        cursor.executescript(f"CREATE DATABASE {name}")
    from ngdata._store import migrate

    migrate.upgrade(target)
    side = store.side(rows)
    with adbc.connect(target, autocommit=True) as connection, connection.cursor() as cursor:
        # The triggers would take an hour, and only the index is read.
        cursor.executescript(
            "INSERT INTO tokens.spatial_index SELECT gen_random_uuid(), 0,"
            f" ST_MakePoint(random() * {side}, random() * {side}, random() * {side}),"
            " 'default', random(), 0, now()"
            f" FROM generate_series(1, {rows}) ORDER BY 3"
        )
        cursor.executescript("VACUUM ANALYZE tokens.spatial_index")
    return target


def tables(whole: dict[str, Memory], parts: Memory) -> str:
    """Return the results as Markdown."""
    mega = 1e6
    lines = [
        "| read | rows | frame, MB | peak over idle, MB | times the frame |",
        "|---|---:|---:|---:|---:|",
    ]
    lines += [
        f"| `find_in_region`, cache {cache} | {one.rows:,} | {one.size / mega:.0f}"
        f" | {one.over_idle / mega:.0f} | {one.over_idle / one.size:.2f} |"
        for cache, one in whole.items()
    ]
    lines.append(
        f"| `iter_region` | {parts.rows:,} | {parts.size / mega:.0f} each"
        f" | {parts.over_idle / mega:.0f} | |"
    )
    lines += [
        "",
        f"The first frame came after {parts.first:.2f} s, the last after {parts.seconds:.1f} s.",
    ]
    return "\n".join(lines)


def main(tokens: int = 1_000_000, rows: int = 5_000_000, home: str | None = None) -> str:
    """Measure on separate servers, print the table, and return it."""
    with store.server(home) as addresses:
        url = store.filled(addresses.database_url, tokens)
        whole = {cache: read_whole(url, cache) for cache in ("off", "strict")}
        text = tables(whole, iterated(crowded(addresses.database_url, rows)))
    print(text)
    return text


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--home", help="keep the filled store here between runs")
    arguments = parser.parse_args()
    main(arguments.tokens, arguments.rows, arguments.home)
