"""What is seen from outside: log records of the logger ``ngdata``, and spans of OpenTelemetry.

Both say of each statement its kind, its rows, its time and where its answer came from, and of a failure
the class of its error.  Neither ever has a value of the caller's, SQL or the message of an error, which
may quote one.

OpenTelemetry is never imported here: a program that exports spans has imported it.
"""

from __future__ import annotations

import logging
import sys
import time
from types import FrameType, TracebackType
from typing import Any, Final, Protocol, Self

__all__ = ["LOGGER", "Observed", "kind_of_call", "observed", "unavailable"]

LOGGER: Final = logging.getLogger("ngdata")
"""The logger of the whole package; it writes nothing unless the program has configured logging."""

LOGGER.addHandler(logging.NullHandler())

_TRACE: Final = "opentelemetry.trace"

# The classes whose public methods name a statement, with the place of the methods.
_PLACES: Final = {
    "AsyncTokens": "tokens.",
    "AsyncGraph": "graph.",
    "AsyncExperience": "experience.",
    "AsyncClient": "",
    "AsyncPastClient": "",
}


class Observed(Protocol):
    """A statement in a ``with`` block, of which something may be reported when it ends."""

    def record(self, rows: int | None, source: str = "database") -> None:
        """Set how many rows were read or written, and where an answer came from."""

    def __enter__(self) -> Self:
        """Begin."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End, and report."""


class _Unobserved:
    """A statement that nobody observes."""

    def record(self, rows: int | None, source: str = "database") -> None:
        """Do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


_UNOBSERVED: Final = _Unobserved()


class _Statement:
    """A statement with a span, a log record, or both."""

    def __init__(self, kind: str, span: Any) -> None:
        self._kind = kind
        self._span = span
        self._rows: int | None = None
        self._source = "database"

    def record(self, rows: int | None, source: str = "database") -> None:
        """Set how many rows were read or written, and where an answer came from."""
        self._rows = rows
        self._source = source

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        milliseconds = round((time.perf_counter() - self._started) * 1000, 3)
        failure = None if kind is None else kind.__name__
        if LOGGER.isEnabledFor(logging.DEBUG):
            self._log(milliseconds, failure)
        if self._span is not None:
            self._end_span(failure)

    def _log(self, milliseconds: float, failure: str | None) -> None:
        values: tuple[object, ...]
        if failure is not None:
            text, values = "%s: %s after %.1f ms", (self._kind, failure, milliseconds)
        elif self._rows is None:
            text, values = "%s: %.1f ms, %s", (self._kind, milliseconds, self._source)
        else:
            text = "%s: %d rows, %.1f ms, %s"
            values = (self._kind, self._rows, milliseconds, self._source)
        fields = {
            "kind": self._kind,
            "rows": self._rows,
            "milliseconds": milliseconds,
            "source": None if failure else self._source,
            "failure": failure,
        }
        LOGGER.debug(text, *values, extra=fields)

    def _end_span(self, failure: str | None) -> None:
        if failure is not None:
            trace = sys.modules[_TRACE]
            self._span.set_attribute("error.type", failure)
            self._span.set_status(trace.StatusCode.ERROR)
        else:
            self._span.set_attribute("ngdata.source", self._source)
            if self._rows is not None:
                self._span.set_attribute("db.response.returned_rows", self._rows)
        self._span.end()


def observed(kind: str) -> Observed:
    """Return the context of one statement, for a ``with`` block; next to no work if nobody listens.

    Parameters
    ----------
    kind : str
        What the statement is called if no method of a client has led here.
    """
    if not _is_observed():
        return _UNOBSERVED
    kind = kind_of_call(kind)
    return _Statement(kind, _span(kind))


def kind_of_call(kind: str) -> str:
    """Return the method of a client that led here, such as ``tokens.get``, or else `kind`.

    It is the outermost one, which the caller has written.
    """
    if not _is_observed():
        return kind
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("ngdata._client."):
            place = _PLACES.get(type(frame.f_locals.get("self")).__name__)
            name = frame.f_code.co_name
            if place is not None and not name.startswith("_"):
                kind = place + name
        frame = frame.f_back
    return kind


def unavailable(where: str, error: BaseException, sqlstate: str | None = None) -> None:
    """Log that a server is not available, at WARNING; of the error its class and code alone."""
    LOGGER.warning(
        "%s is not available (%s%s)",
        where,
        type(error).__name__,
        "" if sqlstate is None else f", SQLSTATE {sqlstate}",
    )


def _is_observed() -> bool:
    return _TRACE in sys.modules or LOGGER.isEnabledFor(logging.DEBUG)


def _span(kind: str) -> Any:
    """Start a span, a child of the caller's; None if no program exports it."""
    trace = sys.modules.get(_TRACE)
    if trace is None:
        return None
    span = trace.get_tracer("ngdata").start_span(
        kind,
        kind=trace.SpanKind.CLIENT,
        attributes={"db.system.name": "postgresql", "db.operation.name": kind},
    )
    return span if span.is_recording() else None
