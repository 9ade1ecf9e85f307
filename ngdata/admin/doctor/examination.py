"""The checks in order; if one fails, those that depend on it are left out."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg
from pydantic import SecretStr

from ngdata import _local
from ngdata._arguments.shown import shown
from ngdata._client import health
from ngdata._client.health import DatabaseHealth, RedisHealth
from ngdata._config.settings import Settings, as_settings
from ngdata._connections.background_loop import background_loop
from ngdata._connections.database import Database
from ngdata._connections.opening import open_database
from ngdata._connections.threads import in_daemon_thread
from ngdata.admin.doctor import content_checks, machine_checks, schema_checks
from ngdata.admin.doctor.finding import Finding, note, ok, wrong
from ngdata.errors import InvalidQueryError, NGDataError

__all__ = ["examine"]

_Check = Callable[["asyncpg.Connection[Any]"], Awaitable[list[Finding]]]

_CHECKS: Final[dict[str, _Check]] = {
    "triggers": schema_checks.triggers,
    "indexes": schema_checks.indexes,
    "spatial index": content_checks.spatial_index,
    "replication": content_checks.replication,
    "statistics": content_checks.statistics,
    "size": content_checks.size,
}

_OLDEST_POSTGRESQL: Final = 14
_OLDEST_POSTGIS: Final = 3


def examine(
    settings: Settings | None = None, *, on_check: Callable[[str], None] = lambda _: None
) -> list[Finding]:
    """Check everything that reads and writes depend on; change nothing, start nothing.

    Parameters
    ----------
    settings : Settings, optional
        The servers' settings; by default the environment's, or else the embedded servers.
    on_check : function, optional
        Called with each check's name as it begins; comparing the spatial index reads every token.

    Returns
    -------
    list of Finding
        In the order of the checks; a problem is a finding, not an exception.

    Examples
    --------
    >>> from ngdata.admin.doctor import examine
    >>> [finding.check for finding in examine() if finding.state == "wrong"]
    []
    """
    settings = as_settings(settings)
    if not callable(on_check):
        raise InvalidQueryError(f"on_check must be a function, not {shown(on_check)}")
    return background_loop().run(_examine(settings, on_check))


async def _examine(settings: Settings, on_check: Callable[[str], None]) -> list[Finding]:
    on_check("programs")
    embedded = settings.database_url is None
    findings = [await in_daemon_thread(lambda: machine_checks.programs(needed=embedded))]
    if embedded:
        status = await in_daemon_thread(_local.status)
        if status.addresses is None or status.directory is None:
            observed = (
                f"no database is configured, and the embedded servers of {status.home} do not run"
            )
            advice = "run `ngdata up`, then `ngdata doctor` again"
            return [*findings, wrong("database", observed, advice)]
        directory = status.directory
        findings.append(await in_daemon_thread(lambda: machine_checks.disk(directory)))
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
        findings += _database(servers["database"], database)
        if servers["database"].get("revision") == servers["database"].get("head", ""):
            for name, check in _CHECKS.items():
                on_check(name)
                findings += await _run(database, name, check)
        return [*findings, _redis(servers["redis"])]


async def _run(database: Database, name: str, check: _Check) -> list[Finding]:
    try:
        async with database.transaction() as connection:
            return await check(connection)
    except NGDataError as error:
        return [wrong(name, f"cannot be checked: {error}")]


def _database(report: DatabaseHealth, database: Database) -> list[Finding]:
    if "error" in report:
        return [wrong("database", report["error"])]
    pooler = ", through a connection pooler" if database.arrow.behind_pooler else ""
    return [
        ok("database", f"{database.where} answers in {report['latency_ms']:.1f} ms{pooler}"),
        _version("PostgreSQL", report["postgresql"], _OLDEST_POSTGRESQL, "upgrade the server"),
        _version(
            "PostGIS",
            report["postgis"],
            _OLDEST_POSTGIS,
            "install PostGIS 3 on the server; `ngdata migrate` creates it in the database",
        ),
        _revision(report["revision"], report["head"]),
    ]


def _version(program: str, version: str | None, minimum: int, advice: str) -> Finding:
    if version is None:
        return wrong(program, f"the database has no {program}", advice)
    number = re.match(r"\d+", version)
    if number is None or int(number[0]) < minimum:
        return wrong(program, f"{version}, and ngdata needs {minimum} or later", advice)
    return ok(program, version)


def _revision(revision: str | None, head: str) -> Finding:
    if revision == head:
        return ok("schema", f"revision {head}, the newest of this ngdata")
    if revision is None:
        return wrong("schema", "the database has no schema of ngdata", "run `ngdata migrate`")
    return wrong(
        "schema",
        f"revision {revision}, and this ngdata needs {head}",
        "run `ngdata migrate` as the owner; if it does not know that revision, upgrade ngdata",
    )


def _redis(report: RedisHealth) -> Finding:
    if report["ok"] is None:
        return note("Redis", report["error"], "set NGDATA_REDIS_URL, to share results")
    if not report["ok"]:
        return wrong(
            "Redis", report["error"], "start it, or correct NGDATA_REDIS_URL; reads still work"
        )
    return ok("Redis", f"{report['redis']} answers in {report['latency_ms']:.1f} ms")
