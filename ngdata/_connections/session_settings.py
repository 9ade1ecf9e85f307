"""The settings of a session, the same on every connection of either driver.

A role, a database, `options` in a URL and libpq's environment can each set what changes an answer.
So every connection sets all of it once it is open; behind a pooler, where a session's settings would
reach other clients, each transaction does.  Left as they are: what bounds or allows (timeouts,
`default_transaction_read_only`, `role`), and what changes only how fast an answer comes.
docs/operations.md lists them, docs/decisions.md says why.
"""

from __future__ import annotations

from typing import Any, Final

import asyncpg

from ngdata.errors import ConfigError

__all__ = ["SETTINGS", "SET_LOCAL", "SET_SESSION", "WATCHED_SESSION", "open_session_of"]

SETTINGS: Final = {
    # How text, numbers and times are written and read.
    "client_encoding": "UTF8",
    "bytea_output": "hex",
    "DateStyle": "ISO, MDY",
    "extra_float_digits": "1",
    "IntervalStyle": "postgres",
    "quote_all_identifiers": "off",
    "TimeZone": "UTC",
    "timezone_abbreviations": "Default",
    "xmlbinary": "base64",
    "xmloption": "content",
    # What a statement means.
    "array_nulls": "on",
    "backslash_quote": "safe_encoding",
    "standard_conforming_strings": "on",
    "transform_null_equals": "off",
    # Which rows it sees, and what a failed one does.
    "default_transaction_deferrable": "off",
    "default_transaction_isolation": "read committed",
    "exit_on_error": "off",
    "gin_fuzzy_search_limit": "0",
    "row_security": "on",
    # libpq prints notices.
    "client_min_messages": "warning",
}
"""Each setting and its value; `search_path` is computed, see `_SEARCH_PATH`."""

# PostGIS, wherever it is, before what others may have created in public; temporary tables last.
# Names and operators have their schema, because the session may still have any search_path.
_SEARCH_PATH: Final = """pg_catalog.concat_ws(', ', (SELECT pg_catalog.quote_ident(n.nspname)
    FROM pg_catalog.pg_extension AS e JOIN pg_catalog.pg_namespace AS n
        ON n.oid OPERATOR(pg_catalog.=) e.extnamespace
    WHERE e.extname OPERATOR(pg_catalog.=) 'postgis'), 'public', 'pg_temp')"""

# With another value, foreign keys are not checked.  Only a superuser could have set it, and only one
# may set it back.
_REPLICATION_ROLE: Final = """CASE WHEN pg_catalog.current_setting('session_replication_role')
    OPERATOR(pg_catalog.<>) 'origin'
    THEN pg_catalog.set_config('session_replication_role', 'origin', {local}) END"""


def _statement(*, local: bool) -> str:
    flag = "true" if local else "false"
    values = [
        *(
            f"pg_catalog.set_config('{name}', '{value}', {flag})"
            for name, value in SETTINGS.items()
        ),
        _REPLICATION_ROLE.format(local=flag),
        f"pg_catalog.set_config('search_path', {_SEARCH_PATH}, {flag})",
    ]
    return f"SELECT {', '.join(values)}"


SET_SESSION: Final = _statement(local=False)
"""The statement that sets all of them for the session."""

SET_LOCAL: Final = _statement(local=True)
"""The statement that sets all of them for the transaction; it takes the transaction's snapshot."""

WATCHED_SESSION: Final = (
    f"{SET_SESSION};"
    " SELECT pg_catalog.set_config('client_connection_check_interval', '1000', false)"
)
"""`SET_SESSION`, and a backend notices within a second that its client is gone.

PostgreSQL 13, and a server on a system that does not support the check, refuse both statements.
"""


async def open_session_of(connection: asyncpg.Connection[Any]) -> bool:
    """Set the settings of a new connection; return whether a pooler is in between.

    Behind one, nothing is set: each transaction there needs `SET_LOCAL`.

    Raises
    ------
    ConfigError
        The database's encoding is SQL_ASCII.  Or a pooler is in between, and the server is set to
        answer in a way that reads cannot understand.
    """
    if getattr(connection.get_settings(), "server_encoding", None) == "SQL_ASCII":
        raise ConfigError(
            "the database has the encoding SQL_ASCII, which stores the bytes of any encoding, so a "
            "text may not be what was written; create the database with ENCODING 'UTF8'"
        )
    # A pooler reports process ids of its own; only a server reports those of its backends.
    same_pid = f"pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) {connection.get_server_pid()}"
    if await connection.execute(f"SELECT WHERE {same_pid}") == "SELECT 0":
        # ADBC looks up the types by name when it connects, which is in no transaction of ours.
        quotes = "SELECT WHERE pg_catalog.current_setting('quote_all_identifiers')::pg_catalog.bool"
        if await connection.execute(quotes) != "SELECT 0":
            raise ConfigError(
                "quote_all_identifiers is on, and cannot be set for this client, because it is "
                "connected through a connection pooler; set it off for the user or the database, as "
                "in ALTER ROLE ... SET quote_all_identifiers = off"
            )
        return True
    try:
        await connection.execute(WATCHED_SESSION)
    except asyncpg.PostgresError:
        await connection.execute(SET_SESSION)
    return False
