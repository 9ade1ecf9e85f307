"""The only place where errors of PostgreSQL and its drivers become errors of ngdata.

The SQLSTATE decides, never the text of a message, which servers translate.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

import adbc_driver_manager
import asyncpg

from ngdata._config import tls
from ngdata._connections.telemetry import unavailable
from ngdata.errors import (
    ConfigError,
    DatabaseUnavailable,
    IntegrityError,
    InvalidQueryError,
    NGDataError,
    OutOfResources,
    QueryTimeout,
    SchemaVersionError,
)

__all__ = [
    "DRIVER_ERRORS",
    "Translation",
    "is_lost_connection",
    "shortage",
    "sqlstate_of",
    "statement_error",
    "translate",
    "translated",
]

DRIVER_ERRORS: Final = (
    adbc_driver_manager.Error,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    # What asyncpg raises if the server has announced its end and the connection is not yet closed.
    asyncpg.InternalClientError,
    OSError,
    # What asyncpg raises when connecting takes too long.
    asyncio.TimeoutError,
)
"""What the drivers raise; `translated` adds what SQLAlchemy raises on top of them."""

_NO_PAGES: Final = (
    "a table of ngdata is a view, a foreign table, or distributed over servers by an extension, and has "
    "no pages of its own; connect to the server that holds the table itself"
)

# The longest matching prefix decides.
_BY_SQLSTATE: Final[dict[str, tuple[type[NGDataError], str]]] = {
    "08": (DatabaseUnavailable, "the connection to the server was lost; try again"),
    "22": (InvalidQueryError, "the server rejected a value"),
    "23": (IntegrityError, "nothing was written"),
    "23514": (InvalidQueryError, "the database does not allow this value; nothing was written"),
    "25P03": (DatabaseUnavailable, "the server ended an idle transaction; try again"),
    "25006": (ConfigError, "this connection may only read"),
    "28": (ConfigError, "the server does not let this user in; check user and password"),
    "3D000": (ConfigError, "the server has no such database; create it, or check the URL"),
    "3F000": (SchemaVersionError, "the database lacks ngdata's schema; run `ngdata migrate`"),
    "40": (NGDataError, "in conflict with another writer; nothing was written, try again"),
    "42501": (ConfigError, "this user lacks a right; ask the owner of the database for it"),
    "42704": (SchemaVersionError, "the database lacks PostGIS or a type; run `ngdata migrate`"),
    "42883": (SchemaVersionError, "the database lacks PostGIS or a function; run `ngdata migrate`"),
    "42P01": (SchemaVersionError, "the database lacks a table of ngdata; run `ngdata migrate`"),
    "42703": (SchemaVersionError, "a table lacks a column of ngdata; run `ngdata migrate`"),
    "53": (OutOfResources, "the server is out of resources; try again later"),
    "53100": (
        OutOfResources,
        "the disk of the server is full; nothing was written. Free space there, and try again",
    ),
    "53200": (OutOfResources, "the server is out of memory; ask for less, or try again later"),
    "53300": (DatabaseUnavailable, "the server has no free connection; try again later"),
    "54": (
        InvalidQueryError,
        "beyond a limit of the server; ask for less, or write smaller values",
    ),
    "57014": (QueryTimeout, "the server stopped the query; ask for less, or allow it more time"),
    "57": (DatabaseUnavailable, "the server is not available; try again"),
}


_SHORTAGES: Final = {
    errno.EMFILE: "this process has no free file descriptor; close what is open, or allow it more "
    "(ulimit -n)",
    errno.ENFILE: "this machine has no free file descriptor; close what is open",
    errno.ENOMEM: "this machine has no free memory; end what uses it, or ask for less",
    errno.ENOSPC: "the disk is full; free space there, and try again",
    errno.EDQUOT: "the quota of the disk is used up; free space there, and try again",
    errno.EFBIG: "the file is larger than this process may write (ulimit -f); write less, or allow more",
}


def shortage(error: BaseException, what: str) -> OutOfResources | None:
    """Return the error for a resource that this machine or process lacks; None for other errors.

    Parameters
    ----------
    error : BaseException
    what : str
        What was opened or written.
    """
    if isinstance(error, MemoryError):
        return OutOfResources.of_memory(error)
    if isinstance(error, adbc_driver_manager.Error) and _NO_REASON.search(_message(error)):
        return OutOfResources.of_memory(MemoryError("the answer did not fit"))
    reason = _SHORTAGES.get(error.errno or 0) if isinstance(error, OSError) else None
    return None if reason is None else OutOfResources(f"{what}: {reason}")


# ADBC names the reason of any failure to read a row, except that it could not allocate memory.
_NO_REASON: Final = re.compile(r"failed at row \d+:?$")


def _has_free_descriptor() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno not in (errno.EMFILE, errno.ENFILE)
    return True


def sqlstate_of(error: BaseException) -> str | None:
    """Return PostgreSQL's error code of a driver's error, or of the error that it wraps."""
    code = getattr(_original(error), "sqlstate", None)
    return code if isinstance(code, str) else None


def _original(error: BaseException) -> BaseException:
    """Return the driver's error, if this is SQLAlchemy's copy of one."""
    original = getattr(error, "orig", None)
    return original if isinstance(original, BaseException) else error


def _translatable() -> tuple[type[BaseException], ...]:
    """Return what `translated` catches: SQLAlchemy's errors only if SQLAlchemy is loaded.

    Only entities and migrations load it.  It is not loaded here: without it, none of its errors can
    have been raised.
    """
    root = getattr(sys.modules.get("sqlalchemy.exc"), "SQLAlchemyError", None)
    return (*DRIVER_ERRORS, MemoryError, *(() if root is None else (root,)))


def is_lost_connection(error: BaseException) -> bool:
    """Return whether the connection itself was lost, so that a read may be retried on another."""
    code = sqlstate_of(error)
    if code is None:
        # If TLS fails, it fails on the next connection too, and so does a connection without a descriptor.
        if shortage(error, "") is not None:
            return False
        return _tls_failure(error) is None and isinstance(
            error,
            adbc_driver_manager.OperationalError
            | OSError
            | asyncpg.InterfaceError
            | asyncpg.InternalClientError,
        )
    if code[:2] == "08":
        return _tls_failure(error) is None
    return code in ("57P01", "57P02", "57P05", "25P03")


def translate(error: BaseException, where: str = "the database") -> NGDataError:
    """Return the error of ngdata for a driver's error.

    Parameters
    ----------
    error : BaseException
        The driver's error.
    where : str
        The server's address, without its password.
    """
    if isinstance(error, NGDataError):
        return error
    if (lacking := shortage(error, f"{where} cannot be reached")) is not None:
        return lacking
    code = sqlstate_of(error)
    if code is not None and code[:2] == "08" and (cause := _cause_sqlstate(error)) is not None:
        # The server named its reason before it closed the connection.
        code = cause
    message = _message(error)
    if (meaning := _tls_failure(error)) is not None:
        return ConfigError(f"{where} cannot be reached by TLS: {meaning} ({message})")
    if code is None:
        if isinstance(error, asyncpg.InterfaceError) and isinstance(error, ValueError):
            # asyncpg could not encode a value as its column's type; nothing was sent.
            return InvalidQueryError(f"a value does not fit its column: {message}")
        if not _has_free_descriptor():
            # libpq says only that it failed.
            return OutOfResources(f"{where} cannot be reached: {_SHORTAGES[errno.EMFILE]}")
        if "URI" in message or ("invalid" in message.lower() and "connect" in message.lower()):
            return ConfigError(f"{where} cannot be used as an address: {message}")
        return DatabaseUnavailable(
            f"{where} does not answer: {message or type(error).__name__}. "
            "Is the server running, and is the address right? `ngdata up` starts the embedded one"
        )
    for length in (5, 2):
        if code[:length] in _BY_SQLSTATE:
            kind, hint = _BY_SQLSTATE[code[:length]]
            break
    else:
        kind, hint = NGDataError, "see the server's message"
    if code == "42703" and "ctid" in message:
        # A system column, which each table of PostgreSQL's own has; no migration adds it.
        kind, hint = ConfigError, _NO_PAGES
    if code[:2] == "40":
        # The detail of a deadlock lists process ids only.
        message = message.partition(" DETAIL: ")[0]
    translated_error = kind(f"{message} ({where}, SQLSTATE {code}): {hint}")
    translated_error.sqlstate = code
    return translated_error


def _cause_sqlstate(error: BaseException) -> str | None:
    """Return the code of a lack of resources that made the server close the connection."""
    cause = error.__cause__
    code = None if cause is None else sqlstate_of(cause)
    return code if code is not None and code[:2] == "53" else None


def _tls_failure(error: BaseException | None) -> str | None:
    # A server that refuses a certificate closes the connection; OpenSSL's error is then the cause of
    # asyncpg's.
    while error is not None and sqlstate_of(error) in (None, "08003"):
        if (meaning := tls.explain_failure(str(error))) is not None:
            return meaning
        error = error.__cause__
    return None


def _message(error: BaseException) -> str:
    text = str(_original(error))
    # ADBC puts the names of its layers before the server's message, and the whole statement after.
    text = text.split("\n\nQuery was:")[0].split("\nLINE ")[0].split(". SQLSTATE: ")[0]
    for mark in ("ERROR:  ", "FATAL:  ", "failed: "):
        if mark in text:
            text = text.split(mark, 1)[1]
            break
    return " ".join(text.split()).rstrip(".")


_LONG_WORD: Final = re.compile(r"(\S{100})\S+")
_PLACE_OF_VALUE: Final = re.compile(r"\nLINE \d+: [^\n]*EXECUTE ngdata_[^\n]*\n *\^")


def statement_error(error: BaseException, where: str) -> NGDataError:
    """Return the error of ngdata for a statement that the caller wrote.

    Names and types that it has are the caller's, not ones that the schema lacks; the error shows the
    place of a mistake.
    """
    code = sqlstate_of(error)
    if code is None or code == "42501" or code[:2] not in _ABOUT_STATEMENT:
        return translate(error, where)
    # After the message comes the whole statement, and the code again.
    text = str(_original(error)).split("\n\nQuery was:")[0].split("\n. SQLSTATE: ")[0]
    message = text.split("ERROR:  ", 1)[-1].split(". SQLSTATE: ")[0].rstrip()
    # A value's place is in a statement of ours, which the caller does not know.
    message, of_values = _PLACE_OF_VALUE.subn("", message)
    message = _LONG_WORD.sub(r"\1...", message)
    what = "a value of params" if of_values else "the statement"
    rejected = InvalidQueryError(f"the server rejects {what} (SQLSTATE {code}): {message}")
    rejected.sqlstate = code
    return rejected


Translation: TypeAlias = Callable[[BaseException, str], NGDataError]
"""Returns the error of ngdata for a driver's error and the server's address."""

# Classes of SQLSTATE about a statement: its syntax, its names and values, and what it tries to do.
_ABOUT_STATEMENT: Final = ("0A", "21", "22", "25", "2F", "34", "38", "39", "42", "P0")


@contextmanager
def translated(where: str, translation: Translation = translate) -> Iterator[None]:
    """Raise a driver's errors as errors of ngdata; log it if a server is not available."""
    try:
        yield
    except NGDataError:
        raise
    except _translatable() as error:
        translated_error = translation(error, where)
        if isinstance(translated_error, DatabaseUnavailable):
            unavailable(where, translated_error, translated_error.sqlstate)
        raise translated_error from None
