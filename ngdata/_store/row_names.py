"""What errors call the rows of a frame: by their number, unless it is a part of something larger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

__all__ = ["row_name", "row_names", "rows_named"]

_names: Final[ContextVar[tuple[str, Callable[[int], int]]]] = ContextVar(
    "ngdata_row_names", default=("row", int)
)


@contextmanager
def rows_named(noun: str, number: Callable[[int], int]) -> Iterator[None]:
    """Let errors of a block name rows by another noun and number, such as the line of a file.

    Examples
    --------
    >>> from ngdata._store.row_names import row_name, rows_named
    >>> with rows_named("line", lambda row: row + 2):
    ...     row_name(0)
    'line 2'
    >>> row_name(0)
    'row 0'
    """
    token = _names.set((noun, number))
    try:
        yield
    finally:
        _names.reset(token)


def row_name(row: int) -> str:
    """Return what an error calls a row."""
    noun, number = _names.get()
    return f"{noun} {number(row)}"


def row_names(first: int, second: int) -> str:
    """Return what an error calls two rows."""
    noun, number = _names.get()
    return f"{noun}s {number(first)} and {number(second)}"
