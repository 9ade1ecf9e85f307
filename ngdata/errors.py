"""The errors that ngdata raises.

::

    NGDataError
    ├── ConfigError                            a setting, a file or the machine is not set up correctly
    ├── InvalidQueryError    (ValueError)      an argument or column is invalid
    ├── NotFoundError        (KeyError)        an id does not exist
    ├── IntegrityError                         an id exists already, or an end of a connection does not
    ├── ConsistencyError                       the store changed during a consistent read
    ├── ResultTooLarge                         a result has more rows than max_rows
    ├── QueryTimeout         (TimeoutError)    the server stopped a query at statement_timeout
    ├── OutOfResources                         memory, disk space, descriptors or threads ran out
    ├── DatabaseUnavailable  (ConnectionError) no server answers, or the connection was lost
    └── SchemaVersionError                     the database has another schema revision

Every message names the bad value and the next step, has at most 2,000 characters, and never contains
a password.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "CacheWarning",
    "ConfigError",
    "ConsistencyError",
    "DatabaseUnavailable",
    "EmptyResultWarning",
    "IntegrityError",
    "InvalidQueryError",
    "NGDataError",
    "NotFoundError",
    "OutOfResources",
    "QueryTimeout",
    "ResultTooLarge",
    "SchemaVersionError",
]


MAX_MESSAGE: Final = 2000
"""The most characters of a message."""


MAX_SHOWN: Final = 200
"""The most characters of a caller's value in a message."""

# The most characters of a value that are searched for a password; one may be a token of thousands.
_MAX_READ: Final = 20_000

# What a password follows in an address: the user, or the name of the option.
_USER: Final = re.compile("://[^:@/?#]*:")
_OPTION: Final = re.compile("password=", re.IGNORECASE)


def shown(value: object) -> str:
    """Return the repr of a value for an error: one line, at most 200 characters, no address's password.

    Examples
    --------
    >>> import numpy as np
    >>> from ngdata.errors import shown
    >>> shown(np.float32(0.1)), len(shown("long " * 1000))
    ('0.10000000149011612', 200)
    >>> shown("postgresql://me:secret@db.example/neurograph")
    "'postgresql://me:***@db.example/neurograph'"
    """
    if type(value) in (str, bytes):
        value = value[:_MAX_READ]  # type: ignore[index]
    try:
        # Where NumPy is not loaded, no value is one of its own.
        scalar = getattr(sys.modules.get("numpy"), "generic", ())
        text = repr(value.item() if isinstance(value, scalar) else value)
        # A repr of several lines is that of a frame or an array.
        text = " ".join(text.split()) if "\n" in text else text
        text = text.encode("utf-8", "backslashreplace").decode()
        text = _without_passwords(text[: 2 * _MAX_READ])
    except (ValueError, RecursionError, NotImplementedError):  # the last: a Timestamp of year 20000
        return f"a {type(value).__name__[:100]} too large to show"
    except Exception:  # whatever a method of the caller's object raises
        return f"a {type(value).__name__[:100]} that cannot be shown"
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 3] + "..."


def _without_passwords(text: str) -> str:
    """Return a text without the passwords of addresses, which may stand where something else is due."""
    end = text.rfind("@")
    if (user := _USER.search(text)) and user.end() <= end:
        text = f"{text[: user.end()]}***{text[end:]}"
    if option := _OPTION.search(text):
        text = f"{text[: option.end()]}***"
    return text


_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _bounded(message: str) -> str:
    """Return a message that any terminal can show: not too long, and printable."""
    message = message.encode("utf-8", "backslashreplace").decode()
    message = _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", message)
    if len(message) <= MAX_MESSAGE:
        return message
    # The end often says what to do.
    return f"{message[:1500]} ... {message[-490:]}"


class NGDataError(Exception):
    """The base class of all errors of ngdata.

    Attributes
    ----------
    sqlstate : str or None
        PostgreSQL's five-character error code, if an error of the server is the cause.
    unwritten : pandas.DataFrame or None
        The events that a recorder could not write, in order, as a frame that
        `experience.bulk_create` writes; None for errors of everything else.
    """

    sqlstate: str | None = None
    unwritten: pd.DataFrame | None = None

    def __init__(self, message: object = "", *rest: object) -> None:
        super().__init__(_bounded(str(message)), *rest)

    def _render_traceback_(self) -> list[str]:
        """Return the lines that IPython shows: the caller's own frames, and the message."""
        shell = sys.modules["IPython"].get_ipython()  # only IPython calls this
        style = shell.InteractiveTB
        lines: list[str] = style.structured_traceback(
            type(self), self, _callers(self.__traceback__), tb_offset=style.tb_offset
        )
        return lines


def _callers(trace: TracebackType | None) -> TracebackType | None:
    """Return the frames before the first one of this package: they say where the mistake is."""
    frames = []
    while trace is not None and not _is_own(trace.tb_frame.f_globals.get("__name__")):
        frames.append(trace)
        trace = trace.tb_next
    kept = None
    for frame in reversed(frames):
        kept = TracebackType(kept, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return kept


def _is_own(module: object) -> bool:
    return isinstance(module, str) and (module + ".").startswith("ngdata.")


class ConfigError(NGDataError):
    """A setting, a URL, a file or this machine is not set up correctly."""


class InvalidQueryError(NGDataError, ValueError):
    """An argument or a column is invalid; nothing was sent to the server."""


class NotFoundError(NGDataError, KeyError):
    """An id does not exist in the store.

    Attributes
    ----------
    missing : tuple of str or int
        The ids that do not exist, in the order of the request: text, or the integers that token ids
        are to a client of ``ids="integer"``.
    noun : str
        What they identify, such as ``"token"``.
    """

    def __init__(
        self, message: str, missing: tuple[str | int, ...] = (), noun: str = "row"
    ) -> None:
        super().__init__(message)
        self.missing = missing
        self.noun = noun

    @classmethod
    def of(cls, noun: str, missing: Sequence[str | int]) -> NotFoundError:
        """Return the error for missing ids, given the noun of what they identify.

        Examples
        --------
        >>> from ngdata.errors import NotFoundError
        >>> print(NotFoundError.of("token", ["7"]))
        no token in the store has the id 7
        """
        first = ", ".join(map(str, missing[:3])) + (", ..." if len(missing) > 3 else "")
        if len(missing) == 1:
            return cls(f"no {noun} in the store has the id {first}", tuple(missing), noun)
        text = f"no {noun} in the store has any of these {len(missing)} ids: {first}"
        return cls(text, tuple(missing), noun)

    # KeyError's own __str__ is the message's repr, in quotes.
    __str__ = Exception.__str__


class IntegrityError(NGDataError):
    """An id exists already or twice in a frame, or an end of a connection does not exist.

    Nothing was written.
    """


class ConsistencyError(NGDataError):
    """The store changed while a consistent read, in several parts, was running."""


class ResultTooLarge(NGDataError):  # noqa: N818 - the name is public
    """A result has more rows than `max_rows` allows; it was not returned.

    Attributes
    ----------
    count : int or None
        The number of rows in the result.
    max_rows : int or None
        The limit.
    """

    def __init__(self, message: str, count: int | None = None, max_rows: int | None = None) -> None:
        super().__init__(message)
        self.count = count
        self.max_rows = max_rows


class QueryTimeout(NGDataError, TimeoutError):  # noqa: N818 - the name is public
    """The server stopped the query when it reached its time limit."""


class OutOfResources(NGDataError):  # noqa: N818 - as above
    """Memory, disk space, file descriptors or threads ran out, in this process or on the server.

    The call changed nothing; it can be repeated once there is room again.
    """

    @classmethod
    def of_memory(cls, error: MemoryError) -> Self:
        """Return the error for Python's, NumPy's or Arrow's."""
        reason = " ".join(str(error).split())[:200]
        return cls(
            f"this process is out of memory{f' ({reason})' if reason else ''}; read less (limit=, "
            "columns=), read in parts (iter_region, to_dask), write fewer rows at once, or allow it "
            "more"
        )


class DatabaseUnavailable(NGDataError, ConnectionError):  # noqa: N818 - as above
    """No server answers at the address, or the connection was lost."""


class SchemaVersionError(NGDataError):
    """The database has another schema revision than this ngdata needs."""


class CacheWarning(UserWarning):
    """Redis is unavailable; reads use the database and stay correct."""


class EmptyResultWarning(UserWarning):
    """A read returned no rows, and the store shows why: a type that no row has, a region outside."""
