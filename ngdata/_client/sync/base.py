"""The bases of the sync classes: an async object, and the loop that runs its methods."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import replace
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ngdata._arguments.cards import Card, Shown
from ngdata._client.recorder import AsyncRecorder, Recorded, attached_to
from ngdata._client.suggesting import Suggesting
from ngdata._connections.background_loop import BackgroundLoop

__all__ = ["SyncRecorder", "SyncWrapper"]

AsyncT = TypeVar("AsyncT", bound=Shown)


class SyncWrapper(Suggesting, Generic[AsyncT]):
    """Run an async object's methods on the background loop, and wait for their results."""

    def __init__(self, wrapped: AsyncT, loop: BackgroundLoop) -> None:
        self._wrapped = wrapped
        self._loop = loop

    def __repr__(self) -> str:
        return repr(self._wrapped).replace("<Async", "<", 1)

    def _card(self) -> Card:
        card = self._wrapped._card()
        return replace(card, title=card.title.removeprefix("Async"))


class SyncRecorder(Recorded, SyncWrapper[AsyncRecorder]):
    """A recorder that any thread may fill, while the background loop writes."""

    def __init__(self, wrapped: AsyncRecorder, loop: BackgroundLoop) -> None:
        Recorded.__init__(self, wrapped._recording)
        SyncWrapper.__init__(self, wrapped, loop)

    def __enter__(self) -> Self:
        self._loop.run(self._wrapped.__aenter__())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with attached_to(error):
            self._run(self._recording.close())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._loop.run(work)
        self._recording.report()
