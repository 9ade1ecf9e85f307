"""The seeded store that the benchmarks read: tokens, connections and events, the same every time.

Tokens lie in a cube with one of them per unit of volume, however many there are: a region of n
rows is a cube of side ``n ** (1 / 3)`` in a store of any size.  Every tenth token has all eight
levels.  It is filled through `bulk_create`, so with all triggers on.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import pandas as pd

import ngdata
from ngdata import _local
from ngdata._store import migrate

__all__ = [
    "box",
    "copied",
    "filled",
    "new_database",
    "server",
    "side",
    "temporary",
    "token_ids",
    "tokens",
]

_PART: Final = 100_000
_TYPES: Final = np.array(["neuron", "muscle", "sensor", "concept", "event"])
_BEGIN: Final = 1_700_000_000_000
"""Milliseconds since the epoch at which the first event stands; they are a second apart."""


@contextmanager
def server(home: str | os.PathLike[str] | None = None, *, durable: bool = False) -> Iterator[Any]:
    """Run separate embedded servers; with a `home`, their data are kept."""
    with contextlib.ExitStack() as stack:
        place = home or stack.enter_context(tempfile.TemporaryDirectory(prefix="ngdata-bench-"))
        before = os.environ.get("NGDATA_HOME")
        os.environ["NGDATA_HOME"] = str(place)
        try:
            yield _local.up(Path(place), durable=durable)
        finally:
            _local.down(Path(place))
            if before is None:
                del os.environ["NGDATA_HOME"]
            else:
                os.environ["NGDATA_HOME"] = before


def side(tokens: int) -> float:
    """Return the side of the cube that a store of `tokens` tokens fills."""
    return float(tokens ** (1 / 3))


def box(rows: int, tokens: int) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return the corners of a region of about `rows` rows: a cube at the origin, or the whole store."""
    edge = side(min(rows, tokens)) if rows < tokens else side(tokens) + 1
    return (0.0, 0.0, 0.0), (edge, edge, edge)


def token_ids(first: int, count: int, kind: int = 0) -> list[str]:
    """Return the ids of the tokens, connections (`kind` 1) or events (2) numbered from `first`."""
    # Mixed, as random ids are: in order they would load into a B-tree as no store's do.
    numbers = np.arange(first + 1, first + 1 + count, dtype=np.uint64)
    high = (numbers + np.uint64(kind << 40)) * np.uint64(0x9E3779B97F4A7C15)
    low = (high ^ (high >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return [
        f"{a >> 32:08x}-{a >> 16 & 0xFFFF:04x}-4{a & 0xFFF:03x}"
        f"-8{b >> 48 & 0xFFF:03x}-{b & 0xFFFFFFFFFFFF:012x}"
        for a, b in zip(high.tolist(), low.tolist(), strict=True)
    ]


def filled(
    url: str,
    tokens: int = 1_000_000,
    connections: int | None = None,
    events: int | None = None,
) -> str:
    """Create a database with a store, unless the server has it already, and return its URL.

    Parameters
    ----------
    url : str
        Of any database of the server.
    tokens, connections, events : int
        How many; by default as many connections and events as tokens.
    """
    connections = tokens if connections is None else connections
    events = tokens if events is None else events
    name = f"store_{tokens}_{connections}_{events}"
    store_url = url.replace("/ngdata?", f"/{name}?")
    if _ask(url, f"SELECT count(*) FROM pg_database WHERE datname = '{name}'"):
        if (
            _ask(
                store_url,
                "SELECT shobj_description(oid, 'pg_database') FROM pg_database"
                f" WHERE datname = '{name}'",
            )
            == "filled"
        ):
            return store_url
        _do(url, f"DROP DATABASE {name} WITH (FORCE)")
    new_database(url, name)
    with ngdata.connect(store_url) as ng:
        for first in range(0, tokens, _PART):
            count = min(_PART, tokens - first)
            frame, coords = _tokens_of(first, count, tokens)
            ng.tokens.bulk_create(frame, coords=coords, progress=False)
        for first in range(0, connections, _PART):
            frame = _connections(first, min(_PART, connections - first), tokens)
            ng.graph.bulk_create(frame, progress=False)
        for first in range(0, events, _PART):
            frame = _events(first, min(_PART, events - first), tokens)
            ng.experience.bulk_create(frame, progress=False)
    settle(store_url)
    _do(store_url, f"COMMENT ON DATABASE {name} IS 'filled'")
    return store_url


def settle(url: str) -> None:
    """Do what autovacuum and the server do some time after a load, so that they do not while reads are measured."""
    _do(url, "VACUUM ANALYZE", "CHECKPOINT")


def new_database(url: str, name: str) -> str:
    """Create an empty database with the schema, and return its URL; `url` is that of ``ngdata``."""
    _do(url, f"CREATE DATABASE {name}")
    new_url = url.replace("/ngdata?", f"/{name}?")
    migrate.upgrade(new_url)
    return new_url


@contextmanager
def temporary(url: str, name: str) -> Iterator[str]:
    """Create an empty database with the schema, yield its URL, and remove it; `url` is that of ``ngdata``."""
    _do(url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    try:
        yield new_database(url, name)
    finally:
        _do(url, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def copied(url: str) -> Iterator[str]:
    """Copy a store that nobody is connected to, for a benchmark that writes, and yield the copy's URL."""
    name = url.split("/")[3].split("?")[0]
    elsewhere = url.replace(f"/{name}?", "/ngdata?")
    _do(elsewhere, f"DROP DATABASE IF EXISTS {name}_copy WITH (FORCE)")
    _do(elsewhere, f"CREATE DATABASE {name}_copy TEMPLATE {name} STRATEGY file_copy")
    try:
        yield url.replace(f"/{name}?", f"/{name}_copy?")
    finally:
        _do(elsewhere, f"DROP DATABASE {name}_copy WITH (FORCE)")


def tokens(first: int, count: int, whole: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the frame and the coordinates of tokens numbered from `first`, in a store of `whole` tokens."""
    random = np.random.default_rng((0, first))
    coords = random.random((count, 8, 3)) * side(whole)
    numbers = np.arange(first, first + count)
    coords[numbers % 10 != 0, 1:] = np.nan
    frame = pd.DataFrame(
        {
            "token_id": token_ids(first, count),
            "token_type": _TYPES[random.integers(len(_TYPES), size=count)],
            "weight": random.random(count),
            "flags": random.integers(0, 1 << 16, count),
            "timestamp": _BEGIN + numbers * 1000,
        }
    )
    return frame, coords


# Where `tokens` is a number.
_tokens_of: Final = tokens


def _connections(first: int, count: int, tokens: int) -> pd.DataFrame:
    random = np.random.default_rng((1, first))
    known = np.array(token_ids(0, tokens), dtype=object)
    return pd.DataFrame(
        {
            "connection_id": token_ids(first, count, 1),
            "source_id": known[random.integers(tokens, size=count)],
            "target_id": known[random.integers(tokens, size=count)],
            "weight": random.random(count),
        }
    )


def _events(first: int, count: int, tokens: int) -> pd.DataFrame:
    random = np.random.default_rng((2, first))
    known = np.array(token_ids(0, tokens), dtype=object)
    return pd.DataFrame(
        {
            "event_id": token_ids(first, count, 2),
            "event_type": _TYPES[random.integers(len(_TYPES), size=count)],
            "timestamp": _BEGIN + np.arange(first, first + count) * 1000,
            "token_id": known[random.integers(tokens, size=count)],
            "reward": random.standard_normal(count),
        }
    )


def _do(url: str, *statements: str) -> None:
    with adbc.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.executescript(statement)


def _ask(url: str, question: str) -> Any:
    with adbc.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(question)
        row = cursor.fetchone()
        return None if row is None else row[0]
