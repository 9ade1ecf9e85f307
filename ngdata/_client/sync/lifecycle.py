"""How a sync client opens and closes, and its namespaces."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from ngdata._arguments.cards import Card
from ngdata._client.async_client import AsyncClient
from ngdata._client.recorder import attached_to
from ngdata._client.sync.base import SyncWrapper
from ngdata._client.sync.cache import Cache
from ngdata._client.sync.experience import Experience
from ngdata._client.sync.graph import Graph
from ngdata._client.sync.tokens import Tokens
from ngdata._config.settings import Settings
from ngdata._connections.background_loop import BackgroundLoop, background_loop
from ngdata.errors import NGDataError

__all__ = ["ClientLifecycle"]


class ClientLifecycle(SyncWrapper[AsyncClient]):
    """A client that opens on the background loop when it is created."""

    def __init__(self, settings: Settings) -> None:
        loop = background_loop()
        self._wrap(loop.run(AsyncClient.open(settings), AsyncClient.close), loop)

    @classmethod
    def _of(cls, wrapped: AsyncClient, loop: BackgroundLoop) -> Self:
        """Return the sync form of a client that is open."""
        client = cls.__new__(cls)
        client._wrap(wrapped, loop)
        return client

    def _wrap(self, wrapped: AsyncClient, loop: BackgroundLoop) -> None:
        super().__init__(wrapped, loop)
        self.tokens = Tokens(self._wrapped.tokens, loop)
        self.graph = Graph(self._wrapped.graph, loop)
        self.experience = Experience(self._wrapped.experience, loop)
        self.cache = Cache(self._wrapped.cache, loop)

    def _card(self) -> Card:
        try:
            counts = self._loop.run(self._wrapped._counts())
        except NGDataError as error:
            counts = [("problem", str(error))]
        return self._wrapped._card_of(repr(self)[1:-1], counts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with attached_to(error):
            self._loop.run(self._wrapped.close())
