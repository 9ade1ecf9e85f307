"""`client.health()`: whether both servers answer, how fast, and their versions."""

from __future__ import annotations

import time
from typing import Any, TypedDict

from pydantic import SecretStr

from ngdata._arguments.optional_imports import import_optional
from ngdata._connections.database import Database
from ngdata._connections.revision import HEAD, read_revision
from ngdata._connections.threads import in_daemon_thread
from ngdata.errors import NGDataError

__all__ = ["DatabaseHealth", "Health", "RedisHealth", "check"]


class DatabaseHealth(TypedDict, total=False):
    """The state of PostgreSQL; only `ok` and `error` are present if it does not answer."""

    ok: bool
    error: str
    latency_ms: float
    postgresql: str
    postgis: str
    revision: str | None
    head: str
    notes: list[str]


class RedisHealth(TypedDict, total=False):
    """The state of Redis; `ok` is None if none is configured."""

    ok: bool | None
    error: str
    latency_ms: float
    redis: str


class Health(TypedDict):
    """The state of both servers; `ok` is whether reads and writes work."""

    ok: bool
    database: DatabaseHealth
    redis: RedisHealth


# Replication applies rows without firing statement triggers, so the spatial index becomes outdated.
_VERSIONS = """
SELECT current_setting('server_version') AS postgresql,
       (SELECT extversion FROM pg_extension WHERE extname = 'postgis') AS postgis,
       (SELECT count(*) FROM pg_subscription AS s JOIN pg_database AS d ON d.oid = s.subdbid
         WHERE d.datname = current_database()) AS subscriptions
"""


async def check(database: Database, redis_url: SecretStr | None, redis_timeout: float) -> Health:
    """Return the state of both servers; problems are part of the result, not raised."""
    state = await _check_database(database)
    redis_state = await _check_redis(redis_url, redis_timeout)
    return {"ok": state["ok"], "database": state, "redis": redis_state}


async def _check_database(database: Database) -> DatabaseHealth:
    try:
        async with database.transaction() as connection:
            started = time.perf_counter()
            await connection.fetchval("SELECT 1")
            latency = (time.perf_counter() - started) * 1000
            versions: Any = await connection.fetchrow(_VERSIONS)
            revision = await read_revision(connection)
    except NGDataError as error:
        return {"ok": False, "error": str(error)}
    notes = []
    if revision != HEAD:
        notes.append("the schema has another revision than this ngdata needs; run `ngdata migrate`")
    if versions["subscriptions"]:
        notes.append(
            "this database is a logical replica: replicated rows are missing from the spatial index "
            "until `ngdata reindex` adds them"
        )
    return {
        "ok": revision == HEAD and versions["postgis"] is not None,
        "latency_ms": round(latency, 3),
        "postgresql": versions["postgresql"],
        "postgis": versions["postgis"],
        "revision": revision,
        "head": HEAD,
        "notes": notes,
    }


async def _check_redis(url: SecretStr | None, timeout: float) -> RedisHealth:
    if url is None:
        return {
            "ok": None,
            "error": "no Redis is configured; set NGDATA_REDIS_URL to share cached results",
        }
    redis = await in_daemon_thread(lambda: import_optional("redis.asyncio", "health", None))
    try:
        client = redis.from_url(
            url.get_secret_value(), socket_timeout=timeout, socket_connect_timeout=timeout
        )
        async with client:
            await client.ping()
            started = time.perf_counter()
            await client.ping()
            latency = (time.perf_counter() - started) * 1000
            info: Any = await client.info("server")
    except (redis.RedisError, OSError, ValueError) as error:
        return {"ok": False, "error": f"Redis does not answer: {error}"}
    return {"ok": True, "latency_ms": round(latency, 3), "redis": str(info["redis_version"])}
