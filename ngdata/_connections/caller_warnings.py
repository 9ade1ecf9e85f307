"""Warnings that name the caller's own line, also where the work runs on the background loop.

A sync call collects what its coroutine warns of, and warns in the caller's thread when it ends.  A
warning from elsewhere names the nearest line outside of ngdata, if there is one.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from types import FrameType
from typing import Final, NamedTuple

__all__ = ["CallerLine", "CollectedWarnings", "caller_line", "unwarned", "warn_caller"]

_PACKAGE: Final = str(Path(__file__).parents[1])


class CallerLine(NamedTuple):
    """A line of code, as `warnings.warn_explicit` needs it."""

    file: str
    number: int
    module: str


class _Warning(NamedTuple):
    message: str
    category: type[Warning]
    may_raise: bool


class CollectedWarnings:
    """Collects what the coroutines that the body starts warn of, and warns of it at its end."""

    def __init__(self) -> None:
        self.warnings: list[_Warning] = []
        self.has_ended = False

    def __enter__(self) -> None:
        self._token = _collecting.set(self)

    def __exit__(self, *_: object) -> None:
        _collecting.reset(self._token)
        self.has_ended = True
        for each in self.warnings:
            _warn(each, caller_line())


_collecting: ContextVar[CollectedWarnings | None] = ContextVar("ngdata_warnings", default=None)


@contextlib.contextmanager
def unwarned() -> Iterator[None]:
    """Drop what the body warns of: reads that nobody called for have no line to name."""
    token = _collecting.set(CollectedWarnings())
    try:
        yield
    finally:
        _collecting.reset(token)


def warn_caller(
    message: str,
    category: type[Warning],
    *,
    may_raise: bool = True,
    line: CallerLine | None = None,
) -> None:
    """Warn the caller of ngdata.

    Parameters
    ----------
    message : str
    category : type
    may_raise : bool
        Whether a filter that turns the warning into an error may fail the call.
    line : CallerLine, optional
        The caller's line, where it is known; else it is looked for.
    """
    warning = _Warning(message, category, may_raise)
    collected = _collecting.get()
    if line is None and collected is not None and not collected.has_ended:
        collected.warnings.append(warning)
    else:
        _warn(warning, line or caller_line())


def caller_line() -> CallerLine:
    """Return the line outside of ngdata that led here; the outermost one if all are inside."""
    frame: FrameType = sys._getframe()
    while frame.f_code.co_filename.startswith(_PACKAGE) and frame.f_back is not None:
        frame = frame.f_back
    return CallerLine(
        frame.f_code.co_filename, frame.f_lineno, frame.f_globals.get("__name__") or "<unknown>"
    )


def _warn(warning: _Warning, line: CallerLine) -> None:
    # The registry of the module, as `warnings.warn` uses it: it tells which warnings were shown.
    module = sys.modules.get(line.module)
    registry = None if module is None else vars(module).setdefault("__warningregistry__", {})
    with contextlib.suppress(*([] if warning.may_raise else [warning.category])):
        warnings.warn_explicit(
            warning.message,
            warning.category,
            line.file,
            line.number,
            line.module,
            registry,
        )
