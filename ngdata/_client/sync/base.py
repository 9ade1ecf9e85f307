"""What the sync classes have in common: the async object they stand for, and the loop it runs on."""

from __future__ import annotations

from typing import Generic, TypeVar

from ngdata._connections.background_loop import BackgroundLoop

__all__ = ["Twin"]

A = TypeVar("A")


class Twin(Generic[A]):
    """Does what its async twin does, on the background loop, and waits for it."""

    def __init__(self, twin: A, loop: BackgroundLoop) -> None:
        self._twin = twin
        self._loop = loop

    def __repr__(self) -> str:
        return repr(self._twin).replace("<Async", "<", 1)
