"""A circuit breaker for Redis: after a failure it is not used for a second, with one warning.

Reads and writes fail separately: while nothing can be written (out of memory, or a replica), the
answers already stored are still of use.
"""

from __future__ import annotations

import time
from typing import Final, Literal, TypeAlias

from ngdata._connections.caller_warnings import warn_caller
from ngdata._connections.telemetry import LOGGER
from ngdata.errors import CacheWarning

__all__ = ["CircuitBreaker", "Operation"]

Operation: TypeAlias = Literal["read", "write"]

# Seconds after a failure until the next try.
_RETRY_DELAY: Final = 1.0


class CircuitBreaker:
    """Whether Redis may be tried for reads and for writes; it is open after a failure."""

    def __init__(self) -> None:
        self._failure_times: dict[Operation, float] = {}
        self._has_warned = False

    def is_open(self, operation: Operation) -> bool:
        """Return whether Redis must not be tried now."""
        failure_time = self._failure_times.get(operation)
        return failure_time is not None and time.monotonic() < failure_time + _RETRY_DELAY

    def record_failure(self, operation: Operation, error: BaseException) -> None:
        """Open for an operation, and warn if this is the first failure since all was well."""
        self._failure_times[operation] = time.monotonic()
        if self._has_warned:
            return
        self._has_warned = True
        # The text of an error may quote what was sent; the warning below goes to the caller alone.
        LOGGER.warning(
            "Redis is not available for %ss (%s); reads use the database until it is",
            operation,
            type(error).__name__,
        )
        reason = str(error) or type(error).__name__
        # If warnings are errors, this one must not fail the read.
        warn_caller(
            f"Redis is unavailable ({reason}): reads use the database and stay correct; "
            "retrying automatically",
            CacheWarning,
            may_raise=False,
        )

    def record_success(self, operation: Operation, started: float) -> None:
        """Close for an operation that started at this time of the monotonic clock."""
        failure_time = self._failure_times.get(operation)
        # The success of an operation that started before the failure proves nothing about now.
        if failure_time is not None and started > failure_time:
            del self._failure_times[operation]
        if not self._failure_times and self._has_warned:
            self._has_warned = False
            LOGGER.info("Redis is available again")
