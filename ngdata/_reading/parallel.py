"""A large region over several connections, as one answer of one moment.

One connection leads: it takes the snapshot, and all others read in it.  They are helpers, taken
only if they are free at once: what one of them fails at, the leader reads itself.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections import deque
from typing import Final

import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import pyarrow as pa

from ngdata._connections.arrow_connection import (
    ArrowConnection,
    Estimate,
    TooManyRows,
    begin_locked,
    joined,
)
from ngdata._connections.arrow_pool import ArrowPool
from ngdata._connections.threads import uninterrupted
from ngdata._query.model import Query
from ngdata._query.parallel_parts import estimate_sql, sample_sql, size_sql, slabs, sweeps
from ngdata._reading.wire_format import unpacked

__all__ = ["read"]

# Below so many rows, a second connection gains next to nothing.
_LARGE: Final = 100_000

# Each stream keeps a core of the server's busy, and half of one here.
_STREAMS: Final = max(2, min(4, os.cpu_count() or 1))

# From this share of a level's rows, the index does not pay.
_MUCH: Final = 0.3

# Ranges of pages cost nothing, and who is done early takes another; boxes share pages.
_SWEEPS_PER_STREAM: Final = 4

# Streams are what runs at once here.  The planner expects one row of a region, so it takes an index
# scan for many, which reads a page for each; bitmaps read each page once, a sweep wants neither.
_PLANS: Final = "SET LOCAL max_parallel_workers_per_gather = 0; SET LOCAL enable_indexscan = off"
_SWEEPING: Final = f"{_PLANS}; SET LOCAL enable_bitmapscan = off"


# Who asked for a lock after the leader had its own may wait for the leader, while a helper waits for
# that lock and the leader for the helper: a circle that no server sees.
_PATIENCE: Final = "SET LOCAL lock_timeout = '1s'"


async def read(
    pool: ArrowPool, lead: ArrowConnection, query: Query, version: str | None = None
) -> tuple[pa.Table, str | None]:
    """Read a query's answer, over more than the one connection if it pays.

    Parameters
    ----------
    pool : ArrowPool
        Where others can be had.
    lead : ArrowConnection
    query : Query
    version : str, optional
        The query of the nonces to read in the same snapshot.

    Returns
    -------
    pyarrow.Table, str or None
        The answer, in one piece, and the nonces.
    """
    # A pooler would run each statement in a transaction of its own choice.
    if query.region is not None and not pool.pooled and pool.has_spare():
        unless = Estimate(estimate_sql(query.region), _LARGE)
        found = await _read_alone(lead, query, version, unless)
        if found is not None:
            return found
        async with pool.spare(_STREAMS - 1) as helpers:
            if helpers:
                lead.companions = helpers
                for helper in helpers:
                    helper.most = lead.most
                try:
                    return await _read_together(lead, helpers, query, version)
                finally:
                    lead.companions = []
    found = await _read_alone(lead, query, version, None)
    assert found is not None
    return found


async def _read_alone(
    lead: ArrowConnection, query: Query, version: str | None, unless: Estimate | None
) -> tuple[pa.Table, str | None] | None:
    unpack, copy = functools.partial(unpacked, query=query), not query.is_small
    if version is not None:
        return await lead.read_versioned(
            query.sql, version, query.relations, unpack, unless, copy=copy
        )
    table = await lead.read(query.sql, unpack, unless, copy=copy)
    return None if table is None else (table, None)


async def _read_together(
    lead: ArrowConnection, helpers: list[ArrowConnection], query: Query, version: str | None
) -> tuple[pa.Table, str | None]:
    try:
        await lead.run(begin_locked(query.relations))
        nonces = None if version is None else (await lead.row(version))[0]
        (snapshot,) = await lead.row("SELECT pg_export_snapshot()")
        plans, parts = await _parts(lead, query, 1 + len(helpers))
        await lead.run(plans)
        begin = begin_locked(query.relations, f"{_PATIENCE}; ")
        begin += f"; SET TRANSACTION SNAPSHOT '{snapshot}'; {plans}"
        table = await _shared_out(lead, helpers, begin, parts, query)
        await lead.run("COMMIT")
    except BaseException:
        # Its transaction is open; a connection that is closed has none.
        lead.broken = True
        raise
    return table, nonces


async def _shared_out(
    lead: ArrowConnection,
    helpers: list[ArrowConnection],
    begin: str,
    parts: list[Query],
    query: Query,
) -> pa.Table:
    unpack = functools.partial(unpacked, query=query)
    waiting = deque(parts)
    found: list[pa.RecordBatch] = []

    async def read_one(connection: ArrowConnection, part: Query) -> None:
        found.extend(await connection.read_more(part.sql, unpack))
        rows = sum(batch.num_rows for batch in found)
        if lead.most is not None and rows > lead.most:
            raise TooManyRows(lead.most, rows)

    async def help_with(helper: ArrowConnection) -> None:
        part = None
        try:
            await helper.run(begin)
            while waiting:
                part = waiting.popleft()
                await read_one(helper, part)
                part = None
            await helper.run("COMMIT")
        except (adbc.Error, ConnectionError):
            # No connection to be had, a lock not to be had, a time-out: it is closed, and its part
            # is the leader's, who finds out whether the part itself is the reason.
            if part is not None:
                waiting.append(part)
        except BaseException:
            helper.broken = True
            raise

    tasks = {asyncio.create_task(help_with(helper)) for helper in helpers}
    try:
        busy = tasks
        while waiting or busy:
            if waiting:
                await read_one(lead, waiting.popleft())
                busy = {task for task in busy if not task.done()}
            else:
                _, busy = await asyncio.wait(busy, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await uninterrupted(asyncio.gather(*tasks, return_exceptions=True))
    return joined(found)


async def _parts(lead: ArrowConnection, query: Query, streams: int) -> tuple[str, list[Query]]:
    """Cut a query, and say how its parts are to be planned."""
    region = query.region
    assert region is not None
    pages, believed = await lead.row(size_sql(region))
    expected = await lead.expected(estimate_sql(region))
    if expected >= _MUCH * believed:
        return _SWEEPING, sweeps(query, pages, _SWEEPS_PER_STREAM * streams)
    batches = await lead.read_more(sample_sql(region, pages))
    return _PLANS, slabs(query, _points(batches), streams)


def _points(batches: list[pa.RecordBatch]) -> np.ndarray:
    return np.concatenate(
        [np.column_stack([column.to_numpy() for column in batch.columns]) for batch in batches]
    )
