"""Adding and removing pins; what a pin is, and what it keeps, is in the migration that creates them."""

from __future__ import annotations

from typing import Any, Final

import asyncpg
import pandas as pd

from ngdata._query.pin import Pin
from ngdata._store.owner_locks import lock_tables
from ngdata.errors import ConfigError, IntegrityError, NotFoundError

__all__ = ["add_pin", "check_sees_all_rows", "read_pins", "remove_pin", "rest_pins"]

# Writers hold locks on one table while they wait for another.  A pin gives up before the server
# looks for a deadlock, which would end the writer.
_ATTEMPT_SECONDS: Final = 0.2

_LOCK: Final = (
    "tokens.tokens, graph.connections, experience.experience_events,"
    " experience.experience_trajectories IN SHARE MODE"
)

_KEEPERS: Final = """
SELECT count(*) FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
WHERE t.tgname ~ '^keep_(insert|update|delete|truncate)$' AND t.tgenabled = 'A'
    AND c.relnamespace::regnamespace::text IN ('tokens', 'graph', 'experience')
"""
_NUMBER_OF_KEEPERS: Final = 16

_SUBSCRIBED: Final = """
SELECT EXISTS (SELECT FROM pg_subscription
    WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""

_HIDDEN: Final = """
SELECT bool_or(row_security_active(t)) FROM unnest(ARRAY['tokens.tokens', 'graph.connections',
    'experience.experience_events', 'experience.experience_trajectories']::regclass[]) AS t
"""


async def add_pin(connection: asyncpg.Connection[Any], where: str, label: str | None) -> Pin:
    """Pin the store as it is once all writers that have begun are done.

    Raises
    ------
    IntegrityError
        The label names a pin already.
    ConfigError
        This user may not change tokens, or rows are written here without their images.
    NGDataError
        Writers did not finish in time; the error says who they are.
    """
    await connection.execute("SELECT tokens.check_may_pin()")
    if await connection.fetchval(_SUBSCRIBED):
        raise ConfigError(
            f"{where} receives rows by a subscription, which keeps no images of them, so a pin would "
            "not hold; pin the store that publishes them"
        )
    if await connection.fetchval(_KEEPERS) != _NUMBER_OF_KEEPERS:
        raise ConfigError(
            f"a trigger that keeps the rows of a pin is missing or disabled in {where}, so a pin would "
            "not hold; enable the keep_* triggers of tokens.tokens, graph.connections and "
            "experience.* (ENABLE ALWAYS)"
        )
    await lock_tables(connection, where, _LOCK, _ATTEMPT_SECONDS)
    if label is not None and await connection.fetchval(
        "SELECT EXISTS (SELECT FROM tokens.pins WHERE label = $1)", label
    ):
        raise IntegrityError(
            f"there is a pin {label!r} already, and a label is never moved; choose another label, or "
            "unpin that one first"
        )
    row = await connection.fetchrow(
        "SELECT id::text, label, created_at, number FROM tokens.add_pin($1)", label
    )
    return _pin(row)


async def check_sees_all_rows(connection: asyncpg.Connection[Any], where: str) -> None:
    """Raise `ConfigError` if a policy hides rows from this user: it does not hide their images."""
    if await connection.fetchval(_HIDDEN):
        raise ConfigError(
            f"row-level security hides rows of {where} from this user, but a history has no policy, so "
            "the store cannot be read as of a pin; connect as a user who sees all rows"
        )


async def read_pins(connection: asyncpg.Connection[Any]) -> tuple[list[Pin], pd.Timestamp]:
    """Return the pins that are kept, the oldest first, and the server's time."""
    rows = await connection.fetch(
        "SELECT id::text, label, created_at, number FROM tokens.pins ORDER BY number"
    )
    now = await connection.fetchval("SELECT clock_timestamp()")
    return [_pin(row) for row in rows], pd.Timestamp(now)


async def remove_pin(connection: asyncpg.Connection[Any], pin: Pin) -> bool:
    """Remove a pin with the images that no other pin needs; return whether others are kept.

    Raises
    ------
    NotFoundError
        It was removed before.
    """
    if not await connection.fetchval("SELECT tokens.remove_pin($1::text::uuid)", pin.id):
        raise NotFoundError(f"pin {pin.name} was removed already", (pin.id,))
    return bool(await connection.fetchval("SELECT EXISTS (SELECT FROM tokens.pins)"))


async def rest_pins(connection: asyncpg.Connection[Any]) -> None:
    """Keep no more images, unless there is a pin again."""
    await connection.execute("SELECT tokens.rest_pins()")


def _pin(row: Any) -> Pin:
    return Pin(row["id"], row["label"], pd.Timestamp(row["created_at"]), row["number"])
