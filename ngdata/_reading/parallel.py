"""A large region over several connections, as one answer of one moment.

One connection leads: it takes a snapshot, and all others read in that snapshot.  The others are
helpers, used only if they are free at once: the leader reads what a helper fails to read.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections import deque
from typing import Final

import adbc_driver_manager as adbc
import numpy as np
import pyarrow as pa

from ngdata._connections.arrow_connection import ArrowConnection
from ngdata._connections.arrow_pool import ArrowPool
from ngdata._connections.arrow_session import (
    ArrowSession,
    Snapshot,
    TooManyRows,
    VersionedTable,
    joined,
)
from ngdata._connections.threads import uninterrupted
from ngdata._query.model import FEW_ROWS, Query
from ngdata._query.moments import SETTINGS, as_of
from ngdata._query.parallel_parts import estimate_sql, sample_sql, size_sql, slabs, sweeps
from ngdata._reading.region_sizes import RegionSizes
from ngdata._reading.wire_format import plain_batch, unpack_batch

__all__ = ["read"]

# Below this number of rows, a second connection gains next to nothing.
_MIN_PARALLEL_ROWS: Final = 100_000

# Each connection keeps one core of the server busy, and half of one here.
_CONNECTIONS: Final = max(2, min(4, os.cpu_count() or 1))

# From this share of a level's rows on, the index does not pay.
_SWEEP_SHARE: Final = 0.3

# Ranges of pages cost nothing extra, and a connection that finishes early reads another; boxes
# share pages.
_SWEEPS_PER_CONNECTION: Final = 4

# The connections are the parallelism here.  The planner expects one row of a region, so it would
# choose an index scan even for many rows, which reads a page for each; a bitmap scan reads each page
# once, and a sweep needs neither.
_SLAB_SETTINGS: Final = (
    "SET LOCAL max_parallel_workers_per_gather = 0",
    "SET LOCAL enable_indexscan = off",
)
_SWEEP_SETTINGS: Final = (*_SLAB_SETTINGS, "SET LOCAL enable_bitmapscan = off")

# A transaction that requests a lock after the leader got its own may wait for the leader, while a
# helper waits for that transaction and the leader for the helper: a deadlock that no server detects.
_HELPER_LOCK_TIMEOUT: Final = "SET LOCAL lock_timeout = '1s'"


async def read(
    pool: ArrowPool,
    leader: ArrowConnection,
    query: Query,
    *,
    sizes: RegionSizes,
    version: str | None = None,
    in_transaction: bool = True,
    max_rows: int | None = None,
) -> VersionedTable:
    """Read a query's answer: by one statement if it is small, over several connections if it is large.

    Parameters
    ----------
    pool : ArrowPool
        The source of further connections.
    leader : ArrowConnection
    query : Query
    sizes : RegionSizes
        Those of the regions read before.
    version : str, optional
        The statement that reads a text, such as the version, in the same snapshot.
    in_transaction : bool
        Whether the text is of no use without the locks of a transaction, as a version is.
    max_rows : int, optional
        How many rows the answer may have.

    Raises
    ------
    TooManyRows
        The answer has more than `max_rows` rows.
    """
    region = query.region
    transaction = None if version is None else _snapshot(query)
    snapshot = transaction if in_transaction else None
    unpack = functools.partial(unpack_batch, query=query)

    def read_few(session: ArrowSession) -> VersionedTable | None:
        return session.read_few(
            query.plain_sql or query.sql,
            FEW_ROWS,
            version=version,
            snapshot=snapshot,
            max_rows=max_rows,
            unpack=functools.partial(plain_batch, query=query),
        )

    def read_alone(session: ArrowSession) -> VersionedTable:
        return session.read(
            query.sql,
            version=version,
            # The text beside each of many rows would take a tenth of their time.
            snapshot=snapshot if region is None else transaction,
            max_rows=max_rows,
            unpack=unpack,
            copy=not query.is_small,
        )

    def read_unless_large(session: ArrowSession) -> VersionedTable | None:
        assert region is not None
        is_large = session.expected_rows(estimate_sql(region)) >= _MIN_PARALLEL_ROWS
        return None if is_large else read_alone(session)

    def read_lookup(session: ArrowSession) -> VersionedTable:
        return read_few(session) or read_alone(session)

    if query.is_lookup:
        return await leader.run(read_lookup)
    if region is not None and sizes.is_probably_small(region):
        answer = await leader.run(read_few)
        if answer is not None:
            return answer
    # A pooler could run each statement in another transaction.
    if region is not None and not pool.behind_pooler and pool.has_spare():
        answer = await leader.run(read_unless_large)
        if answer is not None:
            return answer
        async with pool.spare(_CONNECTIONS - 1) as helpers:
            if helpers:
                leader.helpers = helpers
                try:
                    return await _read_together(leader, query, sizes, version, max_rows)
                finally:
                    leader.helpers = []
    return await leader.run(read_alone)


def _snapshot(
    query: Query, exported: str | None = None, settings: tuple[str, ...] = ()
) -> Snapshot:
    own = () if query.pin is None else SETTINGS
    return Snapshot(query.relations, exported, (*settings, *own))


async def _read_together(
    leader: ArrowConnection,
    query: Query,
    sizes: RegionSizes,
    version: str | None,
    max_rows: int | None,
) -> VersionedTable:
    async with leader.transaction(_snapshot(query)):
        text = None
        if version is not None:
            (text,) = await leader.run(lambda session: session.row(version))
        (exported,) = await leader.run(lambda session: session.row("SELECT pg_export_snapshot()"))
        settings, parts = await _split(leader, query, sizes)
        await leader.run(lambda session: session.execute("; ".join(settings)))
        snapshot = _snapshot(query, exported, (_HELPER_LOCK_TIMEOUT, *settings))
        batches = await _read_parts(leader, snapshot, query, parts, max_rows)
    return VersionedTable(joined(batches), text)


async def _read_parts(
    leader: ArrowConnection,
    snapshot: Snapshot,
    query: Query,
    parts: list[Query],
    max_rows: int | None,
) -> list[pa.RecordBatch]:
    unpack = functools.partial(unpack_batch, query=query)
    waiting = deque(parts)
    batches: list[pa.RecordBatch] = []

    async def read_part(connection: ArrowConnection, part: Query) -> None:
        batches.extend(
            await connection.run(
                lambda session: session.batches(part.sql, max_rows=max_rows, unpack=unpack)
            )
        )
        rows = sum(batch.num_rows for batch in batches)
        if max_rows is not None and rows > max_rows:
            raise TooManyRows(max_rows, rows)

    async def help_with_parts(helper: ArrowConnection) -> None:
        part = None
        try:
            async with helper.transaction(snapshot):
                while waiting:
                    part = waiting.popleft()
                    await read_part(helper, part)
                    part = None
        except (adbc.Error, ConnectionError):
            # No connection, no lock, or a timeout: the helper is closed, and the leader reads the
            # part, which shows whether the part itself is the cause.
            if part is not None:
                waiting.append(part)

    tasks = {asyncio.create_task(help_with_parts(helper)) for helper in leader.helpers}
    try:
        busy = tasks
        while waiting or busy:
            if waiting:
                await read_part(leader, waiting.popleft())
                busy = {task for task in busy if not task.done()}
            else:
                _, busy = await asyncio.wait(busy, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await uninterrupted(asyncio.gather(*tasks, return_exceptions=True))
    return batches


async def _split(
    leader: ArrowConnection, query: Query, sizes: RegionSizes
) -> tuple[tuple[str, ...], list[Query]]:
    """Split a query into parts, and return the planner settings for them too."""
    region = query.region
    assert region is not None
    connections = 1 + len(leader.helpers)
    pages, level_rows = await leader.run(lambda session: session.row(size_sql(region)))
    rows = await leader.run(lambda session: session.expected_rows(estimate_sql(region)))
    # The rows as of a pin are not on the pages of one table.
    if rows >= _SWEEP_SHARE * level_rows and query.pin is None:
        return _SWEEP_SETTINGS, sweeps(query, pages, _SWEEPS_PER_CONNECTION * connections)
    sample = await leader.run(lambda session: session.batches(sample_sql(region, pages)))
    parts = slabs(query, _points(sample), connections)
    if query.pin is not None:
        parts = [
            part if part.pin else as_of(part, query.pin, sizes.history_pages) for part in parts
        ]
    return _SLAB_SETTINGS, parts


def _points(batches: list[pa.RecordBatch]) -> np.ndarray:
    return np.concatenate(
        [np.column_stack([column.to_numpy() for column in batch.columns]) for batch in batches]
    )
