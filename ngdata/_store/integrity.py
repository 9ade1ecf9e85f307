"""The error for a row that the server rejects because of its ids, whichever way the row was sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

import asyncpg

from ngdata._connections.driver_errors import translate
from ngdata.errors import IntegrityError

__all__ = ["integrity_error", "refused_id"]

_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# By SQLSTATE: a foreign key's, and a unique key's.
_PROBLEMS: Final = {"23503": "names no token", "23505": "already exists"}


def refused_id(name: str, value: str, sqlstate: str, place: str = "") -> IntegrityError:
    """Return the error for one id: what callers name it, its value, the server's code, its row."""
    error = IntegrityError(f"{name} {value}{place} {_PROBLEMS[sqlstate]}; nothing was written")
    error.sqlstate = sqlstate
    return error


def integrity_error(
    error: asyncpg.IntegrityConstraintViolationError,
    columns: Iterable[str],
    row_of: Callable[[str, str], int],
    *,
    where: str,
    key: str,
    label: Callable[[int], str] | None,
) -> Exception:
    """Return an error that names the id and its row; the server's detail has it in any language.

    Parameters
    ----------
    error : asyncpg.IntegrityConstraintViolationError
    columns : iterable of str
        The names of the columns that were written.
    row_of : function of a column's name and an id
        Returns the number of the first row with this id in the column; -1 if there is none.
    where : str
        The server's address.
    key : str
        What the error calls the column ``id``: its name in the caller's frame or arguments.
    label : callable or None
        Returns what the error calls a row, by its number; None: there is only one.
    """
    match = _ID.search(error.detail or "")
    dangling = isinstance(error, asyncpg.ForeignKeyViolationError)
    if match is None or not (dangling or isinstance(error, asyncpg.UniqueViolationError)):
        return translate(error, where)
    for name in columns:
        if name.endswith("_id") if dangling else name == "id":
            row = row_of(name, match[0])
            if row >= 0:
                place = "" if label is None else f" in {label(row)}"
                return refused_id(key if name == "id" else name, match[0], error.sqlstate, place)
    return translate(error, where)
