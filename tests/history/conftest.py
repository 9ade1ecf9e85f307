"""Stores with pins, and copies of their tables, taken at the moment of a pin by other means."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pandas as pd
import psycopg
import pytest

import ngdata

# In an order in which a row comes after those that it refers to.
TABLES = (
    "tokens.tokens",
    "graph.connections",
    "experience.experience_trajectories",
    "experience.experience_events",
)
WHOLE = ((-float("inf"),) * 3, (float("inf"),) * 3)


def same(a: pd.DataFrame, b: pd.DataFrame, by: list[str] | None = None) -> None:
    """Compare two frames: all values and dtypes; rows by some columns where their order is free."""
    if by is not None:
        a, b = (frame.sort_values(by, ignore_index=True) for frame in (a, b))
    pd.testing.assert_frame_equal(a, b, check_exact=True)


class Copies:
    """Pins of a store, each with a copy of the tables in a schema of its own."""

    def __init__(self, client: ngdata.Client, url: str) -> None:
        self.client, self.url = client, url
        self.pins: list[ngdata.Pin] = []

    def pin(self) -> ngdata.Pin:
        """Pin the store, and copy it in the same transaction, while writers wait."""
        label = f"pin {len(self.pins)} {time.monotonic()}"
        with psycopg.connect(self.url) as connection:
            self._lock(connection)
            connection.execute("SELECT tokens.add_pin(%s)", [label])
            row = connection.execute(
                "SELECT id::text, label, created_at, number FROM tokens.pins WHERE label = %s",
                [label],
            ).fetchone()
            assert row is not None
            pin = ngdata.Pin(row[0], row[1], pd.Timestamp(row[2]), row[3])
            connection.execute(f"CREATE SCHEMA copy_{pin.number}")
            for table in TABLES:
                name = f"copy_{pin.number}.{table.partition('.')[2]}"
                connection.execute(f"CREATE TABLE {name} AS SELECT * FROM {table}")
        self.pins.append(pin)
        return pin

    def _lock(self, connection: psycopg.Connection[Any]) -> None:
        deadline = time.monotonic() + 60
        while True:
            connection.execute("SET LOCAL lock_timeout = '200ms'")
            try:
                connection.execute(f"LOCK TABLE {', '.join(TABLES)} IN SHARE MODE")
            except psycopg.errors.LockNotAvailable:
                connection.rollback()
                assert time.monotonic() < deadline, "writers never paused"
                time.sleep(0.01)
            else:
                connection.execute("SET LOCAL lock_timeout = 0")
                return

    def restore(self, pin: ngdata.Pin, url: str) -> None:
        """Write a copy into another store, whose triggers derive all else."""
        with psycopg.connect(self.url) as source, psycopg.connect(url) as target:
            target.execute("SET session_replication_role = replica")
            for table in TABLES:
                copied = f"copy_{pin.number}.{table.partition('.')[2]}"
                columns = ", ".join(
                    f'"{name}"'
                    for (name,) in source.execute(
                        "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
                        " AND NOT attisdropped ORDER BY attnum",
                        [copied],
                    ).fetchall()
                )
                with (
                    source.cursor().copy(
                        f"COPY (SELECT {columns} FROM {copied}) TO STDOUT"
                    ) as rows,
                    target.cursor().copy(f"COPY {table} ({columns}) FROM STDIN") as into,
                ):
                    for block in rows:
                        into.write(block)
            # The trigger that derives trajectories from events runs in this mode too: the copy decides.
            trajectories = source.execute(
                "SELECT id, start_time, end_time, event_count, total_reward"
                f" FROM copy_{pin.number}.experience_trajectories"
            ).fetchall()
            for row in trajectories:
                target.execute(
                    "UPDATE experience.experience_trajectories SET start_time = %s, end_time = %s,"
                    " event_count = %s, total_reward = %s WHERE id = %s",
                    [*row[1:], row[0]],
                )


@pytest.fixture
def copies_of() -> Callable[[ngdata.Client, str], Copies]:
    return Copies
