"""The clock by which the age of a cached answer is measured."""

from __future__ import annotations

import threading
import time

__all__ = ["now"]

_lock = threading.Lock()
# Between the epoch and the start of the monotonic clock, at its largest so far.
_offset = -float("inf")


def now() -> float:
    """Return the seconds since the epoch, by a clock that is never set back in this process.

    If the machine's clock is set back, an answer would seem younger than it is, and outlive its
    TTL.  A clock that is set forward only makes answers seem older.
    """
    global _offset
    with _lock:
        elapsed = time.monotonic()
        _offset = max(_offset, time.time() - elapsed)
        return elapsed + _offset
