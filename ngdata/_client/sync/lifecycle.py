"""What is the sync client's own: how it is opened, and its three namespaces."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from ngdata._client.async_client import AsyncClient
from ngdata._client.sync.base import Twin
from ngdata._client.sync.cache import Cache
from ngdata._client.sync.experience import Experience
from ngdata._client.sync.graph import Graph
from ngdata._client.sync.tokens import Tokens
from ngdata._config.settings import Settings
from ngdata._connections.background_loop import background_loop

__all__ = ["Opened"]


class Opened(Twin[AsyncClient]):
    """A twin of a client that was opened on the background loop."""

    def __init__(self, settings: Settings) -> None:
        loop = background_loop()
        super().__init__(loop.run(AsyncClient.open(settings)), loop)
        self.tokens = Tokens(self._twin.tokens, loop)
        self.graph = Graph(self._twin.graph, loop)
        self.experience = Experience(self._twin.experience, loop)
        self.cache = Cache(self._twin.cache, loop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.run(self._twin.close())
