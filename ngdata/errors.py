"""What can go wrong, as types.

::

    NGDataError
    ├── ConfigError                     an address, a file or the machine is not as it must be
    ├── InvalidQueryError (ValueError)  an argument that no query can be made of
    ├── NotFoundError     (KeyError)    an id that names nothing
    ├── IntegrityError                  an id that is there already, or an end that is not
    ├── ConsistencyError                the store changed while it was read in parts
    ├── ResultTooLarge                  an answer larger than was meant
    ├── QueryTimeout      (TimeoutError) the server was told to stop
    ├── DatabaseUnavailable (ConnectionError) no server, or it went away
    └── SchemaVersionError              the database is at another revision than this ngdata

Every text names the value and the next step; none ever holds a password.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "CacheWarning",
    "ConfigError",
    "ConsistencyError",
    "DatabaseUnavailable",
    "IntegrityError",
    "InvalidQueryError",
    "NGDataError",
    "NotFoundError",
    "QueryTimeout",
    "ResultTooLarge",
    "SchemaVersionError",
]


class NGDataError(Exception):
    """The root of all errors that ngdata raises on purpose.

    Attributes
    ----------
    sqlstate : str or None
        PostgreSQL's five-character code, where a server's error lies behind this one.
    """

    sqlstate: str | None = None


class ConfigError(NGDataError):
    """An address, a setting or this machine is not as it must be."""


class InvalidQueryError(NGDataError, ValueError):
    """An argument or a column that no query can be made of; nothing was sent."""


class NotFoundError(NGDataError, KeyError):
    """An id that names nothing in the store.

    Attributes
    ----------
    missing : tuple of str
        The ids that were not found, in the order asked.
    """

    def __init__(self, message: str, missing: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.missing = missing

    @classmethod
    def of(cls, what: str, missing: Sequence[str]) -> NotFoundError:
        """Say which ids name nothing."""
        few = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        count = f"{len(missing)} {what} ids name" if len(missing) > 1 else f"{what} id names"
        return cls(f"{count} nothing in the store: {few}", tuple(missing))

    # KeyError shows its argument's repr, which would put quotes around a sentence.
    __str__ = Exception.__str__


class IntegrityError(NGDataError):
    """An id that is there already, or twice in a frame, or a dangling end; nothing was written."""


class ConsistencyError(NGDataError):
    """Somebody wrote to the store while it was read in parts, which were to be of one moment."""


class ResultTooLarge(NGDataError):  # noqa: N818 - the name is part of the public promise
    """An answer larger than was meant; it was not given.

    Attributes
    ----------
    count : int or None
        How many rows it has.
    max_rows : int or None
        How many it may have.
    """

    def __init__(self, message: str, count: int | None = None, max_rows: int | None = None) -> None:
        super().__init__(message)
        self.count = count
        self.max_rows = max_rows


class QueryTimeout(NGDataError, TimeoutError):  # noqa: N818 - the name is part of the public promise
    """The query took longer than it was allowed to and was stopped on the server."""


class DatabaseUnavailable(NGDataError, ConnectionError):  # noqa: N818 - as above
    """No server answers there, or it went away in the middle."""


class SchemaVersionError(NGDataError):
    """The database is at another schema revision than this ngdata."""


class CacheWarning(UserWarning):
    """Redis is not to be had; answers stay right, and come from the database."""
