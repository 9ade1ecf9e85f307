"""Connections as entities: their creation, a token's neighbors, its degree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from ngdata._arguments.id_space import UUIDS, TokenId
from ngdata._arguments.ids import Id
from ngdata._query import neighbors
from ngdata._query.neighbors import Direction
from ngdata._store.models import ConnectionModel
from ngdata.errors import NotFoundError
from ngdata.repositories.base import Repository

__all__ = ["GraphRepository"]


class GraphRepository(Repository[ConnectionModel]):
    """The connections of a store, in one session; created by `RepositoryFactory`.

    Examples
    --------
    >>> import asyncio
    >>> from ngdata.repositories import DatabaseFactory, RepositoryFactory
    >>> async def degree(token_id):
    ...     db_manager = await DatabaseFactory.create_database_manager()
    ...     async with db_manager.session() as session:
    ...         graph = RepositoryFactory.create_graph_repository(session)
    ...         degrees = await graph.get_degree(token_id)
    ...     await DatabaseFactory.close_all()
    ...     return degrees
    >>> asyncio.run(degree("00000000-0000-4000-8000-000000000000"))
    {'in_degree': 0, 'out_degree': 0, 'total_degree': 0}
    """

    model: ClassVar[type[ConnectionModel]] = ConnectionModel
    _noun = "connection"

    async def create_connection(
        self,
        source_id: TokenId,
        target_id: TokenId,
        connection_type: str = "generic",
        weight: float = 1.0,
        *,
        decay_rate: float | None = None,
        bidirectional: bool = False,
        metadata: Mapping[str, Any] | None = None,
        id: Id | None = None,  # noqa: A002 - as the model's own
    ) -> ConnectionModel:
        """Connect two tokens; parallel connections and loops are allowed.

        Raises
        ------
        IntegrityError
            An end names no token, or the id already exists.  The session stays usable.
        InvalidQueryError
            An invalid value; nothing was sent.
        """
        return await self.create(
            ConnectionModel(
                id=id,
                source_id=source_id,
                target_id=target_id,
                connection_type=connection_type,
                weight=weight,
                decay_rate=decay_rate,
                bidirectional=bidirectional,
                metadata=metadata,
            )
        )

    async def update_weight(self, id: Id, weight: float) -> ConnectionModel:  # noqa: A002
        """Change the weight of a connection.

        Raises
        ------
        NotFoundError
            No connection has this id.
        """
        connection = await self.get_by_id(id)
        if connection is None:
            raise NotFoundError.of("connection", [str(self._key(id))])
        connection.weight = weight
        return await self.update(connection)

    async def get_neighbors(
        self,
        token_id: TokenId,
        direction: Direction = "outgoing",
        *,
        connection_type: str | Sequence[str] | None = None,
        min_weight: float | None = None,
        limit: int | None = None,
    ) -> list[ConnectionModel]:
        """Find the connections to a token's neighbors, as `get_neighbors` of a client does.

        Parameters
        ----------
        token_id : id
        direction : {"outgoing", "incoming", "both"}
            A bidirectional connection is outgoing and incoming at both of its ends.
        connection_type, min_weight, limit
            As in the client.

        Returns
        -------
        list of ConnectionModel
            One per neighbor, ordered by the neighbor's id; of parallel connections, that with the
            smallest id.  `ConnectionModel.other_end` returns the neighbor, in either direction.
        """
        query = neighbors.neighbors(
            [UUIDS.canonical_id(token_id, "token_id")],
            direction,
            connection_type=connection_type,
            min_weight=min_weight,
            limit=limit,
        )
        return await self._select_ids(query, "connection_id")

    async def get_degree(self, token_id: TokenId) -> dict[str, int]:
        """Return the numbers of a token's connections: ``in_degree``, ``out_degree``, ``total_degree``."""
        row = await self._row(neighbors.degree([UUIDS.canonical_id(token_id, "token_id")]))
        return {name: row[name] for name in ("in_degree", "out_degree", "total_degree")}
