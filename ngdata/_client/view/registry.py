"""The views of one client, which end with it."""

from __future__ import annotations

import weakref
from typing import Final

from ngdata._client.view.explorer import Explorer

__all__ = ["Views"]

_CLOSED: Final = (
    "the client is closed, and the picture does not change any more; call view of an open client"
)


class Views:
    """What is still shown, and reads by a client."""

    def __init__(self) -> None:
        self._explorers: weakref.WeakSet[Explorer] = weakref.WeakSet()

    def add(self, explorer: Explorer) -> None:
        """End this one with the others."""
        self._explorers.add(explorer)

    async def close(self) -> None:
        """End all reads, and say in each picture that the client is closed."""
        for explorer in list(self._explorers):
            await explorer.stop(_CLOSED)

    def cut(self) -> None:
        """Start no further reads; those that run end with the connections."""
        for explorer in list(self._explorers):
            explorer.cut(_CLOSED)
