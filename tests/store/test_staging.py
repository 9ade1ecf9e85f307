"""Rows in a temporary table: what statements read there, who may create it, and when it goes."""

from __future__ import annotations

import asyncio
from types import MappingProxyType

import pandas as pd
import pytest

import ngdata
from ngdata._store import graph
from ngdata._store.fields import CONNECTIONS
from ngdata._store.staging import STAGED, stage
from ngdata.errors import ConfigError
from tests.conftest import execute

TYPES = MappingProxyType(CONNECTIONS.types)


async def staged(url, rows):
    """Return the rows as a statement reads them, and whether the table exists in the next transaction."""
    async with await ngdata.connect_async(url, redis_url=None) as client:
        database = client.graph._database
        async with database.transaction() as connection:
            await stage(connection, rows, TYPES, where="the server")
            records = await connection.fetch(
                f"SELECT id::text, source_id, weight, bidirectional, metadata, row FROM {STAGED} ORDER BY row"
            )
        async with database.transaction() as connection:
            remaining = await connection.fetchval(f"SELECT to_regclass('{STAGED}')")
    return records, remaining


def test_rows_are_staged_in_order_for_one_transaction(database_url):
    ids = [f"00000000-0000-4000-8000-{number:012}" for number in range(30_000)]
    frame = pd.DataFrame({"connection_id": ids, "source_id": ids, "target_id": ids[::-1]})
    frame["weight"] = frame.index * 0.1
    frame["bidirectional"] = frame.index % 2 == 0
    frame["metadata"] = [{"name": 'a"b\\c,\n'} if row == 29_999 else None for row in frame.index]
    records, remaining = asyncio.run(staged(database_url, graph.check_frame(frame)))
    assert [record["id"] for record in records] == ids
    assert [record["row"] for record in records] == list(range(30_000))
    assert [record["weight"] for record in records] == frame.weight.tolist()
    assert [record["bidirectional"] for record in records] == frame.bidirectional.tolist()
    assert records[0]["metadata"] is None
    assert records[-1]["metadata"] == '{"name": "a\\"b\\\\c,\\n"}'
    assert remaining is None


def test_who_may_not_create_temporary_tables_is_told_what_to_grant(migrated_database):
    name = execute(migrated_database, "SELECT current_database()")[0][0]
    execute(
        migrated_database,
        f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC",
        'CREATE ROLE "a_Writer" LOGIN IN ROLE ngdata_writer',
    )
    url = migrated_database + "&options=-crole%3Da_Writer"
    frame = pd.DataFrame({"source_id": [None], "target_id": [None]}).iloc[:0]
    try:
        with pytest.raises(ConfigError, match=f'GRANT TEMPORARY ON DATABASE {name} TO "a_Writer"'):
            asyncio.run(staged(url, graph.check_frame(frame)))
    finally:
        execute(migrated_database, 'DROP ROLE "a_Writer"')
