"""What becomes of Redis when it fails: it is left alone for a moment, and that is told once.

That nothing can be read is one thing; that nothing can be written (no memory left, a replica) is
another, in which what is there still helps.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from typing import Final

from ngdata.errors import CacheWarning

__all__ = ["Outage"]

# Seconds until it is tried again.
_REST: Final = 1.0


class Outage:
    """Whether reads and writes rest."""

    def __init__(self) -> None:
        self._failed: dict[str, float] = {}
        self._warned = False

    def rests(self, kind: str) -> bool:
        """Tell whether ``read`` or ``write`` is not to be tried now."""
        failed = self._failed.get(kind)
        return failed is not None and time.monotonic() < failed + _REST

    def failed(self, kind: str, error: BaseException) -> None:
        """Note a failure, and warn if it is the first."""
        self._failed[kind] = time.monotonic()
        if self._warned:
            return
        self._warned = True
        what = str(error) or type(error).__name__
        # Where warnings are errors, this one must not become the read's.
        with contextlib.suppress(CacheWarning):
            warnings.warn(
                f"Redis does not help at the moment ({what}); answers stay right and come from the "
                "database, and Redis is tried again by itself",
                CacheWarning,
                stacklevel=2,
            )

    def succeeded(self, kind: str, begun: float) -> None:
        """Note a success of what was begun at a time of the monotonic clock."""
        failed = self._failed.get(kind)
        # A straggler from before the failure says nothing of now.
        if failed is not None and begun > failed:
            del self._failed[kind]
        if not self._failed:
            self._warned = False
