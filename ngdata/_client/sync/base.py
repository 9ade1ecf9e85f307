"""The base of the sync classes: an async object, and the loop that runs its methods."""

from __future__ import annotations

from typing import Generic, TypeVar

from ngdata._connections.background_loop import BackgroundLoop
from ngdata._connections.process_bound import ProcessBound

__all__ = ["SyncWrapper"]

AsyncT = TypeVar("AsyncT")


class SyncWrapper(ProcessBound, Generic[AsyncT]):
    """Run an async object's methods on the background loop, and wait for their results."""

    def __init__(self, wrapped: AsyncT, loop: BackgroundLoop) -> None:
        self._wrapped = wrapped
        self._loop = loop

    def __repr__(self) -> str:
        return repr(self._wrapped).replace("<Async", "<", 1)
