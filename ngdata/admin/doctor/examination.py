"""The checks in their order: each one that fails says so, and those that it makes moot are left out."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg
from pydantic import SecretStr

from ngdata import _local
from ngdata._client import health
from ngdata._client.health import DatabaseHealth, RedisHealth
from ngdata._config.settings import Settings, load_settings
from ngdata._connections.background_loop import background_loop
from ngdata._connections.database import Database
from ngdata._connections.opening import open_database
from ngdata._connections.threads import in_daemon_thread
from ngdata.admin.doctor import catalog, contents, machine
from ngdata.admin.doctor.finding import Finding, note, ok, wrong
from ngdata.errors import NGDataError

__all__ = ["examine"]

_Check = Callable[["asyncpg.Connection[Any]"], Awaitable[list[Finding]]]

_CHECKS: Final[dict[str, _Check]] = {
    "triggers": catalog.triggers,
    "indexes": catalog.indexes,
    "spatial index": contents.spatial_index,
    "replication": contents.replication,
    "statistics": contents.statistics,
    "size": contents.size,
}

_OLDEST_POSTGRESQL: Final = 14
_OLDEST_POSTGIS: Final = 3


def examine(
    settings: Settings | None = None, *, on_check: Callable[[str], None] = lambda _: None
) -> list[Finding]:
    """Look at everything that reads and writes depend on; change nothing, start nothing.

    Parameters
    ----------
    settings : Settings, optional
        Of the servers; by default those of the environment, and with none the embedded ones.
    on_check : function, optional
        Called with each check's name as it begins; comparing the spatial index reads every token.

    Returns
    -------
    list of Finding
        In the order of the checks. Nothing is raised for what is wrong.

    Examples
    --------
    >>> from ngdata.admin.doctor import examine
    >>> [finding.check for finding in examine() if finding.state == "wrong"]
    []
    """
    return background_loop().run(_examined(settings or load_settings(), on_check))


async def _examined(settings: Settings, on_check: Callable[[str], None]) -> list[Finding]:
    on_check("programs")
    embedded = settings.database_url is None
    found = [await in_daemon_thread(lambda: machine.programs(needed=embedded))]
    if embedded:
        status = await in_daemon_thread(_local.status)
        if status.addresses is None or status.directory is None:
            how = f"no database is configured, and the embedded servers of {status.home} do not run"
            return [*found, wrong("database", how, "run `ngdata up`; then this looks at them too")]
        directory = status.directory
        found.append(await in_daemon_thread(lambda: machine.disk(directory)))
        settings = settings.model_copy(
            update={
                "database_url": SecretStr(status.addresses.database_url),
                "redis_url": settings.redis_url or SecretStr(status.addresses.redis_url),
            }
        )
    # Unchecked: a failure is a finding.
    async with open_database(settings, check=False) as database:
        on_check("database")
        servers = await health.check(database, settings.redis_url, settings.connect_timeout)
        found += _database(servers["database"], database)
        if servers["database"].get("revision") == servers["database"].get("head", ""):
            for name, check in _CHECKS.items():
                on_check(name)
                found += await _done(database, name, check)
        return [*found, _redis(servers["redis"])]


async def _done(database: Database, name: str, check: _Check) -> list[Finding]:
    try:
        async with database.transaction() as connection:
            return await check(connection)
    except NGDataError as error:
        return [wrong(name, f"cannot be looked at: {error}")]


def _database(found: DatabaseHealth, database: Database) -> list[Finding]:
    if "error" in found:
        return [wrong("database", found["error"])]
    how = ", through a connection pooler" if database.arrow.behind_pooler else ""
    return [
        ok("database", f"{database.where} answers in {found['latency_ms']:.1f} ms{how}"),
        _version("PostgreSQL", found["postgresql"], _OLDEST_POSTGRESQL, "upgrade the server"),
        _version(
            "PostGIS",
            found["postgis"],
            _OLDEST_POSTGIS,
            "install PostGIS 3 on the server; `ngdata migrate` makes it part of the database",
        ),
        _revision(found["revision"], found["head"]),
    ]


def _version(what: str, found: str | None, least: int, advice: str) -> Finding:
    if found is None:
        return wrong(what, f"the database has no {what}", advice)
    number = re.match(r"\d+", found)
    if number is None or int(number[0]) < least:
        return wrong(what, f"{found}, and ngdata needs {least} or later", advice)
    return ok(what, found)


def _revision(found: str | None, head: str) -> Finding:
    if found == head:
        return ok("schema", f"revision {head}, the newest of this ngdata")
    if found is None:
        return wrong("schema", "the database has no schema of ngdata", "run `ngdata migrate`")
    return wrong(
        "schema",
        f"revision {found}, and this ngdata needs {head}",
        "run `ngdata migrate` as the owner; if it does not know that revision, upgrade ngdata",
    )


def _redis(found: RedisHealth) -> Finding:
    if found["ok"] is None:
        return note("Redis", found["error"], "set NGDATA_REDIS_URL, to share results")
    if not found["ok"]:
        return wrong(
            "Redis", found["error"], "start it, or correct NGDATA_REDIS_URL; reads work on"
        )
    return ok("Redis", f"{found['redis']} answers in {found['latency_ms']:.1f} ms")
