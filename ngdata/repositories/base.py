"""What every repository does: entities in, entities out, all on the connection of its session.

Where the facade has the same read, its query says which rows, and in which order; here they only
become entities.  So there is one implementation of each, and a read sees what its own session wrote.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Final, Generic, TypeVar

from sqlalchemy import (
    BigInteger,
    Executable,
    Select,
    Uuid,
    column,
    delete,
    func,
    inspect,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm.attributes import flag_modified
from sqlalchemy.orm.util import identity_key

from ngdata._arguments.ids import Id, canonical_id
from ngdata._connections.session import session_errors
from ngdata._query.filters import row_limit
from ngdata._query.model import Query
from ngdata._store.models import ConnectionModel, EventModel, TokenModel
from ngdata.errors import IntegrityError, InvalidQueryError, NotFoundError
from ngdata.repositories.redis import RedisManager

__all__ = ["Repository"]

EntityT = TypeVar("EntityT", TokenModel, ConnectionModel, EventModel)

# What can be changed in place, which SQLAlchemy does not notice.
_MUTABLE: Final = (
    "coord_x",
    "coord_y",
    "coord_z",
    "metadata_",
    "state_before",
    "state_after",
    "action",
)


class Repository(Generic[EntityT]):
    """Entities of one table in one session.

    Parameters
    ----------
    session : AsyncSession
        From `DatabaseManager.session`.
    redis : RedisManager, optional
    config : mapping, optional
        The repository's part of the configuration.
    """

    model: ClassVar[type[Any]]
    _noun: ClassVar[str]

    def __init__(
        self,
        session: AsyncSession,
        redis: RedisManager | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.session = session
        self.redis = redis
        self.config = dict(config or {})
        self._where: str = session.info.get("where", "the database")
        self._alone: asyncio.Lock = session.info.setdefault("alone", asyncio.Lock())

    async def get_by_id(self, id: Id) -> EntityT | None:  # noqa: A002 - the layer's own name
        """Get one entity, or None if the store has none of this id."""
        found: list[EntityT] = await self._all(
            select(self.model).where(self.model.id == self._key(id))
        )
        return found[0] if found else None

    async def get_all(self, limit: int | None = None, offset: int = 0) -> list[EntityT]:
        """Get all entities by id, or `limit` of them after the first `offset`."""
        statement = select(self.model).order_by(self.model.id)
        if limit is not None:
            row_limit(limit)
            statement = statement.limit(min(limit, 2**63 - 1))
        if not isinstance(offset, int) or isinstance(offset, bool) or not 0 <= offset < 2**63:
            raise InvalidQueryError(f"offset must be an integer of at least 0, not {offset!r}")
        return await self._all(statement.offset(offset))

    async def count(self) -> int:
        """Count the entities in the store."""
        statement = select(func.count()).select_from(self.model)
        async with self._turn():
            return int(await self.session.scalar(statement) or 0)

    async def create(self, entity: EntityT) -> EntityT:
        """Write a new entity, and give it back with what the server has set.

        Raises
        ------
        IntegrityError
            Its id is there already, or an id in it names nothing.  The session goes on.
        """
        return (await self.bulk_create([entity]))[0]

    async def bulk_create(self, entities: Iterable[EntityT]) -> list[EntityT]:
        """Write new entities, all or none, and give them back with what the server has set.

        Raises
        ------
        IntegrityError
            As for `create`; nothing of these is written.
        """
        new = list(entities)
        self._refuse_known(new)
        async with self._writing():
            self.session.add_all(new)
        return new

    async def update(self, entity: EntityT) -> EntityT:
        """Write the changes of an entity, in-place changes of its lists and dicts too.

        Parameters
        ----------
        entity
            Of this session, or of one that has ended.

        Returns
        -------
        entity
            As it is now in the store: the same object, if it is of this session.

        Raises
        ------
        NotFoundError
            It is not in the store, or no longer.
        IntegrityError, InvalidQueryError
            The database refuses the change.  The session goes on, and the entity is as it was.
        """
        self._of_this_model(entity)
        held = inspect(entity).persistent
        if held:
            # Else the savepoint would begin by writing it, outside of itself.
            self.session.expunge(entity)
        try:
            async with self._writing():
                if held:
                    self.session.add(entity)
                elif await self.session.get(self.model, entity.id) is None:
                    raise NotFoundError.of(self._noun, [str(entity.id)])
                else:
                    entity = await self.session.merge(entity)
                for name in _MUTABLE:
                    if entity.__dict__.get(name) is not None:
                        setattr(entity, name, getattr(entity, name))
                        flag_modified(entity, name)
        except (IntegrityError, InvalidQueryError):
            await self._refreshed(entity)
            raise
        # What a trigger sets beside a given value does not come back by itself.
        return entity if held else await self._refreshed(entity)

    async def delete(self, id: Id) -> bool:  # noqa: A002 - the layer's own name
        """Delete the entity of this id, and tell whether there was one."""
        statement = delete(self.model).where(self.model.id == self._key(id))
        async with self._writing():
            result: Any = await self.session.execute(statement)
        return bool(result.rowcount)

    def _key(self, id: Id) -> uuid.UUID:  # noqa: A002
        return uuid.UUID(canonical_id(id, f"{self._noun} id"))

    async def _all(self, statement: Select[Any]) -> list[EntityT]:
        """Read entities as they are now, even those that the session has read before."""
        return [row[0] for row in await self._rows(statement)]

    async def _rows(self, statement: Executable) -> Sequence[Any]:
        async with self._turn():
            # What is not written yet would be lost by reading over it.
            await self.session.flush()
            found = await self.session.execute(
                statement, execution_options={"populate_existing": True}
            )
            rows: Sequence[Any] = found.all()
            return rows

    async def _chosen(self, query: Query, key: str) -> list[EntityT]:
        """Read the entities that a query names by its column `key`, in the query's order."""
        numbered = (
            f'SELECT row_number() OVER () AS place, q."{key}"::uuid AS id FROM ({query.sql}) AS q'
        )
        named = _literal(numbered).columns(column("place", BigInteger), column("id", Uuid))
        asked = named.cte("asked")
        return await self._all(
            select(self.model).join(asked, self.model.id == asked.c.id).order_by(asked.c.place)
        )

    async def _matching(self, conditions: Sequence[str]) -> list[EntityT]:
        """Read the entities that meet conditions on their table, by id."""
        statement = select(self.model).where(*map(_literal, conditions))
        return await self._all(statement.order_by(self.model.id))

    async def _refreshed(self, entity: EntityT) -> EntityT:
        async with self._turn():
            await self.session.refresh(entity)
        return entity

    async def _row(self, query: Query) -> dict[str, Any]:
        """Read the one row that a query gives."""
        async with self._turn():
            await self.session.flush()
            return dict((await self.session.execute(_literal(query.sql))).mappings().one())

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Use the session alone: it has one connection, and calls on it take turns."""
        async with self._alone:
            with session_errors(self._where):
                yield

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[None]:
        """Write within a savepoint, so that the session survives what the database refuses."""
        async with self._turn(), self.session.begin_nested():
            yield
            await self.session.flush()

    def _of_this_model(self, entity: object) -> None:
        if not isinstance(entity, self.model):
            raise InvalidQueryError(
                f"{type(self).__name__} takes a {self.model.__name__}, not {entity!r}"
            )

    def _refuse_known(self, new: Sequence[EntityT]) -> None:
        """Refuse what SQLAlchemy would pass over, or only warn of."""
        held = self.session.sync_session.identity_map
        seen: dict[uuid.UUID, EntityT] = {}
        for entity in new:
            self._of_this_model(entity)
            if inspect(entity).has_identity:
                raise IntegrityError(f"{entity!r} is in the store already; change it with update()")
            if entity.id is None:
                continue
            if entity.id in seen or identity_key(self.model, entity.id) in held:
                raise IntegrityError(
                    f"{self._noun} id {entity.id} is there twice, or in the store already; nothing"
                    " was written"
                )
            seen[entity.id] = entity


def _literal(statement: str) -> Any:
    """Give SQL as it is: a colon in it begins no parameter."""
    return text(statement.replace(":", "\\:"))
