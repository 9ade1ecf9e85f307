"""How the migrations run: on asyncpg, in one transaction, one migrator at a time.

The database is the one in ``config.attributes["database_url"]``, or else the client's own
configuration.  The revision is in `tokens.alembic_version`: a dump of the three schemas carries it,
and another project's `public.alembic_version` is not in the way.  So the schema `tokens` is made
before the first revision and goes after the last.
"""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from typing import Any

import asyncpg
from alembic import context
from sqlalchemy import Connection, NullPool, text

from ngdata._config import postgres_url
from ngdata._config.settings import load_settings
from ngdata._connections.database import engine_of
from ngdata._store.models import Base

_SCHEMAS = {table.schema for table in Base.metadata.tables.values()}
_PARTITION = re.compile(r"spatial_index_\d+")
# Any fixed number: two migrators of one database must ask for the same.
_LOCK = 0x6E676461


def include_name(name: str | None, kind: str, parents: Any) -> bool:
    """Look at our schemas alone, and at a partitioned table rather than at its parts."""
    if kind == "schema":
        return name in _SCHEMAS
    return kind != "table" or _PARTITION.fullmatch(name or "") is None


def forget_base(*, ctx: Any, heads: Any, **_: Any) -> None:
    """Leave nothing behind when the last revision is gone."""
    if not heads:
        ctx.execute("DROP TABLE tokens.alembic_version")
        ctx.execute("DROP SCHEMA tokens")


def configure(**how: Any) -> None:
    """Tell Alembic what both modes share."""
    context.configure(
        target_metadata=Base.metadata,
        include_schemas=True,
        include_name=include_name,
        compare_server_default=True,
        version_table_schema="tokens",
        on_version_apply=forget_base,
        **how,
    )


def run_offline() -> None:
    """Write the SQL instead of running it."""
    configure(dialect_name="postgresql", literal_binds=True)
    with context.begin_transaction():
        context.execute("CREATE SCHEMA IF NOT EXISTS tokens")
        context.run_migrations()


def run_online(connection: Connection) -> None:
    """Run the SQL, after any other migrator has committed."""
    configure(connection=connection)
    with context.begin_transaction():
        # Whatever the user's search_path is, a type of PostGIS reads without its schema.
        connection.execute(
            text(
                "SELECT set_config('search_path', 'public' || coalesce((SELECT ', ' ||"
                " extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'postgis'),"
                " ''), true)"
            )
        )
        if not context.get_context().opts.get("dont_mutate"):
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            # IF NOT EXISTS would ask for the right to create even when there is nothing to do.
            if connection.scalar(text("SELECT to_regnamespace('tokens') IS NULL")):
                connection.execute(text("CREATE SCHEMA tokens"))
        context.run_migrations()


def database_url() -> str:
    """Give the URL that was handed in, or the client's own."""
    given: str | None = context.config.attributes.get("database_url")
    if given is not None:
        return given
    configured = load_settings().database_url
    if configured is not None:
        return configured.get_secret_value()
    # The embedded server is migrated as it starts, by Alembic, which can do only one thing at a
    # time in a process.
    start = "from ngdata import _local; print(_local.up().database_url)"
    started = subprocess.run([sys.executable, "-c", start], stdout=subprocess.PIPE, text=True)
    if started.returncode:
        sys.exit(started.returncode)
    return started.stdout.strip()


async def connect_and_run(url: str) -> None:
    """Connect as the client does: any address that libpq takes will do."""
    arguments = postgres_url.asyncpg_arguments(
        postgres_url.normalize(url), {}, 10.0, "ngdata migrate"
    )
    engine = engine_of(lambda: asyncpg.connect(**arguments), poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run_online)
    await engine.dispose()


if context.is_offline_mode():
    run_offline()
else:
    asyncio.run(connect_and_run(database_url()))
