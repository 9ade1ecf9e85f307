"""Run the migrations on asyncpg, in one transaction, one migrator at a time.

The database is ``config.attributes["database_url"]``, or else that of the client's configuration.
The revision is in `tokens.alembic_version`: a dump of the three schemas includes it, and another
project's `public.alembic_version` does not interfere.  So the schema `tokens` is created before the
first revision and dropped after the last.
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
from ngdata._config.driver_arguments import asyncpg_arguments
from ngdata._config.settings import load_settings
from ngdata._connections.engine import engine_of
from ngdata._connections.session_settings import SET_LOCAL, open_session_of
from ngdata._store.models import Base

_SCHEMAS = {table.schema for table in Base.metadata.tables.values()}
_PARTITION = re.compile(r"spatial_index_\d+")
# Any fixed number: all migrators of a database must use the same.
_LOCK = 0x6E676461


def include_name(name: str | None, kind: str, parents: Any) -> bool:
    """Compare ngdata's schemas only, and a partitioned table rather than its partitions."""
    if kind == "schema":
        return name in _SCHEMAS
    return kind != "table" or _PARTITION.fullmatch(name or "") is None


def drop_schema_at_base(*, ctx: Any, heads: Any, **_: Any) -> None:
    """Drop the schema `tokens` once the first revision is undone."""
    if not heads:
        ctx.execute("DROP TABLE tokens.alembic_version")
        ctx.execute("DROP SCHEMA tokens")


def configure(**options: Any) -> None:
    """Configure Alembic, with the options that both modes share."""
    context.configure(
        target_metadata=Base.metadata,
        include_schemas=True,
        include_name=include_name,
        compare_server_default=True,
        version_table_schema="tokens",
        on_version_apply=drop_schema_at_base,
        **options,
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
        # Behind a pooler, no connection has them.
        connection.exec_driver_sql(SET_LOCAL)
        # Whatever the user's search_path, PostGIS types are then compared without their schema.
        connection.execute(
            text(
                "SELECT set_config('search_path', 'public' || coalesce((SELECT ', ' ||"
                " extnamespace::regnamespace::text FROM pg_extension WHERE extname = 'postgis'),"
                " ''), true)"
            )
        )
        if not context.get_context().opts.get("dont_mutate"):
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            # IF NOT EXISTS would require the right to create even if the schema exists.
            if connection.scalar(text("SELECT to_regnamespace('tokens') IS NULL")):
                connection.execute(text("CREATE SCHEMA tokens"))
        context.run_migrations()


def database_url() -> str:
    """Return the URL in Alembic's configuration, or else the client's."""
    url: str | None = context.config.attributes.get("database_url")
    if url is not None:
        return url
    configured = load_settings().database_url
    if configured is not None:
        return configured.get_secret_value()
    # In a process of its own: starting the embedded server migrates it, by Alembic, which runs only
    # one operation at a time in a process.
    start = "from ngdata import _local; print(_local.up().database_url)"
    process = subprocess.run([sys.executable, "-c", start], stdout=subprocess.PIPE, text=True)
    if process.returncode:
        sys.exit(process.returncode)
    return process.stdout.strip()


async def connect_and_run(url: str) -> None:
    """Connect as the client does, to any URL that libpq accepts, and run the migrations."""
    arguments = asyncpg_arguments(postgres_url.normalize(url), {}, 10.0, "ngdata migrate")

    async def connected() -> Any:
        connection = await asyncpg.connect(**arguments)
        try:
            await open_session_of(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    engine = engine_of(connected, poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(run_online)
    await engine.dispose()


if context.is_offline_mode():
    run_offline()
else:
    asyncio.run(connect_and_run(database_url()))
