"""Checks of the schema in the database: that its triggers fire, and that its indexes are usable.

`alembic check` detects neither a trigger that was disabled for a load, nor an index that a failed
CREATE INDEX CONCURRENTLY left invalid.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import asyncpg
from sqlalchemy import Index
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex

from ngdata._arguments.levels import LEVELS
from ngdata._store.models import Base
from ngdata.admin.doctor.finding import Finding, ok, wrong

__all__ = ["ALWAYS", "OTHER", "indexes", "triggers"]

_EVENTS: Final = ("insert", "update", "delete", "truncate")

# The tables whose versions the cache reads; a statement that names a partition fires its triggers.
_RENEWING: Final = (
    "tokens.tokens",
    "tokens.spatial_index",
    *(f"tokens.spatial_index_{level}" for level in range(8)),
    "tokens.levels",
    "graph.connections",
    "graph.graph_snapshots",
    "experience.experience_events",
    "experience.experience_trajectories",
)

# The tables whose log tells rows apart, by a trigger for each event.
_LOGGED: Final = ("tokens.tokens", "graph.connections", "experience.experience_events")

# The tables whose rows are kept for pins.
_KEPT: Final = (*_LOGGED, "experience.experience_trajectories")

#: The triggers that derive one table from another, and so must fire for replication's sessions too.
ALWAYS: Final = frozenset(
    {("tokens.tokens", f"index_{event}") for event in _EVENTS}
    | {("experience.experience_events", f"follow_{event}") for event in _EVENTS}
    | {(table, "renew_version") for table in _RENEWING}
    | {(table, f"log_{event}") for table in _LOGGED for event in _EVENTS}
    | {(table, f"keep_{event}") for table in _KEPT for event in _EVENTS}
    | {(table, "log_all") for table in _RENEWING if table not in _LOGGED}
)
OTHER: Final = frozenset(
    {("tokens.tokens", "touch"), ("experience.experience_trajectories", "keep_ended")}
)

_TRIGGERS = """
SELECT c.relnamespace::regnamespace || '.' || c.relname AS place, tgname::text AS name,
    tgenabled::text AS enabled
FROM pg_trigger JOIN pg_class AS c ON c.oid = tgrelid WHERE NOT tgisinternal
"""

_INDEXES = """
SELECT t.relnamespace::regnamespace || '.' || t.relname AS place, i.relname::text AS name,
    x.indisvalid AND x.indisready AS valid,
    (SELECT o.opcname::text FROM pg_opclass AS o WHERE o.oid = x.indclass[0]) AS operators
FROM pg_index AS x JOIN pg_class AS i ON i.oid = x.indexrelid JOIN pg_class AS t ON t.oid = x.indrelid
WHERE t.relnamespace::regnamespace::text IN ('tokens', 'graph', 'experience')
ORDER BY 1, 2
"""


async def triggers(connection: asyncpg.Connection[Any]) -> list[Finding]:
    """Check that each trigger exists and fires."""
    rows = await connection.fetch(_TRIGGERS)
    enabled = {(row["place"], row["name"]): row["enabled"] for row in rows}
    findings = []
    for place, name in sorted(ALWAYS | OTHER):
        mode = "ALWAYS TRIGGER" if (place, name) in ALWAYS else "TRIGGER"
        state = enabled.get((place, name))
        then = "; then run `ngdata reindex`" if name.startswith("index_") else ""
        if name == "renew_version":
            then = f"; then DELETE FROM {place} WHERE false, or cached results may be outdated"
        repair = f"ALTER TABLE {place} ENABLE {mode} {name}{then}"
        if state is None:
            findings.append(
                wrong(
                    "triggers",
                    f"{place} lacks its trigger {name}",
                    f"create it as its migration does: `alembic upgrade head --sql` prints it{then}",
                )
            )
        elif state in "DR" or ("ALWAYS" in mode and state != "A"):
            findings.append(wrong("triggers", f"{name} of {place} does not always fire", repair))
    return findings or [ok("triggers", f"all {len(ALWAYS | OTHER)} exist and fire")]


async def indexes(connection: asyncpg.Connection[Any]) -> list[Finding]:
    """Check that each index exists, is of the right kind, and is valid."""
    rows = await connection.fetch(_INDEXES)
    findings = [
        wrong(
            "indexes",
            f"{row['name']} of {row['place']} is not valid, so it serves no query",
            f"REINDEX INDEX CONCURRENTLY {row['place'].partition('.')[0]}.{row['name']}",
        )
        for row in rows
        if not row["valid"] and row["place"] != "tokens.spatial_index"
    ]
    names = {(row["place"], row["name"]) for row in rows}
    findings += [
        wrong("indexes", f"{index.name} of {place} is missing", _definition(index))
        for place, index in _expected()
        if (place, index.name) not in names
    ]
    spatial = {row["place"] for row in rows if row["operators"] == "gist_geometry_ops_nd"}
    for level in range(len(LEVELS)):
        place = f"tokens.spatial_index_{level}"
        if place not in spatial:
            findings.append(
                wrong(
                    "indexes",
                    f"{place} has no spatial index of the right kind",
                    f"CREATE INDEX ON {place} USING gist (geom gist_geometry_ops_nd)",
                )
            )
    return findings or [ok("indexes", f"all {len(rows)} exist and are valid")]


def _expected() -> Iterator[tuple[str, Index]]:
    for table in Base.metadata.tables.values():
        for index in table.indexes:
            yield table.fullname, index


def _definition(index: Index) -> str:
    text = str(CreateIndex(index).compile(dialect=postgresql.dialect()))
    return " ".join(text.split())
