"""What PostgreSQL and its drivers report, as errors of ngdata: the one edge where that is done.

Decided by SQLSTATE, never by a message's text, which servers translate.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import adbc_driver_manager
import asyncpg
import sqlalchemy.exc

from ngdata._config import tls
from ngdata.errors import (
    ConfigError,
    DatabaseUnavailable,
    IntegrityError,
    InvalidQueryError,
    NGDataError,
    QueryTimeout,
    SchemaVersionError,
)

__all__ = ["DRIVER_ERRORS", "is_lost_connection", "sqlstate_of", "translate", "translated"]

DRIVER_ERRORS: Final = (
    adbc_driver_manager.Error,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    sqlalchemy.exc.SQLAlchemyError,
    OSError,
    # asyncpg reports a connection that does not come about in time so.
    asyncio.TimeoutError,
)

# The longest prefix decides.
_BY_SQLSTATE: Final[dict[str, tuple[type[NGDataError], str]]] = {
    "08": (DatabaseUnavailable, "the connection to the server was lost; try again"),
    "22": (InvalidQueryError, "the server could not use a value"),
    "23": (IntegrityError, "nothing was written"),
    "23514": (InvalidQueryError, "the database refuses such a value; nothing was written"),
    "25P03": (DatabaseUnavailable, "the server ended a transaction that lay idle; try again"),
    "25006": (ConfigError, "this connection may only read"),
    "28": (ConfigError, "the server does not let this user in; check user and password"),
    "3D000": (ConfigError, "there is no such database on the server; create it, or check the URL"),
    "3F000": (SchemaVersionError, "the database lacks ngdata's schema; run `ngdata migrate`"),
    "40": (NGDataError, "another writer was in the way; nothing was written, try again"),
    "42501": (ConfigError, "this user lacks a right; ask the owner of the database for it"),
    "42704": (SchemaVersionError, "the database lacks PostGIS or a type; run `ngdata migrate`"),
    "42883": (SchemaVersionError, "the database lacks PostGIS or a function; run `ngdata migrate`"),
    "42P01": (SchemaVersionError, "the database lacks a table of ngdata; run `ngdata migrate`"),
    "42703": (SchemaVersionError, "a table lacks a column of ngdata; run `ngdata migrate`"),
    "53": (DatabaseUnavailable, "the server has no room for more; try again later"),
    "57014": (QueryTimeout, "the server stopped the query; ask for less, or allow it more time"),
    "57": (DatabaseUnavailable, "the server is not available; try again"),
}


def sqlstate_of(error: BaseException) -> str | None:
    """Find PostgreSQL's code in a driver's error, or in the one that it wraps."""
    if isinstance(error, sqlalchemy.exc.DBAPIError) and error.orig is not None:
        return sqlstate_of(error.orig)
    found = getattr(error, "sqlstate", None)
    return found if isinstance(found, str) else None


def is_lost_connection(error: BaseException) -> bool:
    """Tell whether the connection itself is gone, so that a read may be tried on another."""
    code = sqlstate_of(error)
    if code is None:
        # Where TLS fails, the next connection would not be any better.
        return _tls_failure(error) is None and isinstance(
            error, adbc_driver_manager.OperationalError | OSError | asyncpg.InterfaceError
        )
    if code[:2] == "08":
        return _tls_failure(error) is None
    return code in ("57P01", "57P02", "57P05", "25P03")


def translate(error: BaseException, where: str = "the database") -> NGDataError:
    """Make ngdata's error of a driver's.

    Parameters
    ----------
    error : BaseException
        As the driver raised it.
    where : str
        The server's address, without its password.
    """
    if isinstance(error, NGDataError):
        return error
    code = sqlstate_of(error)
    message = _message(error)
    if (meaning := _tls_failure(error)) is not None:
        return ConfigError(f"{where} cannot be reached by TLS: {meaning} ({message})")
    if code is None:
        found: NGDataError
        if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
            # asyncpg could not write a value as its column's type; nothing was sent.
            found = InvalidQueryError(f"a value does not fit its column: {message}")
        elif "URI" in message or ("invalid" in message.lower() and "connect" in message.lower()):
            found = ConfigError(f"{where} cannot be used as an address: {message}")
        else:
            found = DatabaseUnavailable(
                f"{where} does not answer: {message or type(error).__name__}. "
                "Is the server running, and is the address right? `ngdata up` starts the embedded one"
            )
        return found
    for length in (5, 2):
        if code[:length] in _BY_SQLSTATE:
            kind, hint = _BY_SQLSTATE[code[:length]]
            break
    else:
        kind, hint = NGDataError, "see the server's message"
    if code[:2] == "40":
        # The detail of a deadlock is process ids.
        message = message.partition(" DETAIL: ")[0]
    found = kind(f"{message} ({where}, SQLSTATE {code}): {hint}")
    found.sqlstate = code
    return found


def _tls_failure(error: BaseException | None) -> str | None:
    # A server that refuses a certificate hangs up; asyncpg then has OpenSSL's error as the cause.
    while error is not None and sqlstate_of(error) in (None, "08003"):
        if (meaning := tls.explanation(str(error))) is not None:
            return meaning
        error = error.__cause__
    return None


def _message(error: BaseException) -> str:
    if isinstance(error, sqlalchemy.exc.DBAPIError) and error.orig is not None:
        error = error.orig
    text = str(error)
    # ADBC shows the whole statement behind the server's words, and its own layers before them.
    text = text.split("\n\nQuery was:")[0].split("\nLINE ")[0].split(". SQLSTATE: ")[0]
    for mark in ("ERROR:  ", "FATAL:  ", "failed: "):
        if mark in text:
            text = text.split(mark, 1)[1]
            break
    return " ".join(text.split()).rstrip(".")


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Raise ngdata's error in place of a driver's."""
    try:
        yield
    except NGDataError:
        raise
    except DRIVER_ERRORS as error:
        raise translate(error, where) from None
