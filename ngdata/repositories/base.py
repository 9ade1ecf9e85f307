"""What all repositories share: reads and writes of entities on the connection of a session.

Where a client has the same read, its query selects the rows and their order, and the repository only
converts them to entities.  So each read is implemented once, and sees what its own session wrote.
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

from ngdata._arguments.id_space import TokenId
from ngdata._arguments.ids import canonical_id
from ngdata._arguments.numbers import whole
from ngdata._arguments.shown import guarded, shown
from ngdata._connections.process_bound import ProcessBound
from ngdata._connections.session import session_errors
from ngdata._query.filters import checked_limit
from ngdata._query.model import Query
from ngdata._store.models import ConnectionModel, EventModel, TokenModel
from ngdata.errors import IntegrityError, InvalidQueryError, NotFoundError
from ngdata.repositories.redis import RedisManager, as_config

__all__ = ["Repository"]

InstanceT = TypeVar("InstanceT")
EntityT = TypeVar("EntityT", TokenModel, ConnectionModel, EventModel)

# Attributes that can be changed in place, which SQLAlchemy does not notice.
_MUTABLE: Final = (
    "coord_x",
    "coord_y",
    "coord_z",
    "metadata_",
    "state_before",
    "state_after",
    "action",
)


class Repository(ProcessBound, Generic[EntityT]):
    """The entities of one table, in one session.

    Parameters
    ----------
    session : AsyncSession
        From `DatabaseManager.session`.
    redis : RedisManager, optional
    config : mapping, optional
        The repository's section of the configuration.
    """

    _opened_by = "RepositoryFactory's methods"
    model: ClassVar[type[Any]]
    _noun: ClassVar[str]
    _canonical_id = staticmethod(canonical_id)

    def __init__(
        self,
        session: AsyncSession,
        redis: RedisManager | None = None,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.session = _instance_of(session, "session", AsyncSession)
        self.redis = None if redis is None else _instance_of(redis, "redis", RedisManager)
        self.config = as_config(config, "config")
        self._where: str = session.info.get("where", "the database")
        self._lock: asyncio.Lock = session.info.setdefault("alone", asyncio.Lock())

    async def get_by_id(self, id: TokenId) -> EntityT | None:  # noqa: A002 - the layer's own name
        """Return one entity, or None if the store has none of this id."""
        entities: list[EntityT] = await self._all(
            select(self.model).where(self.model.id == self._key(id))
        )
        return entities[0] if entities else None

    async def get_all(self, limit: int | None = None, offset: int = 0) -> list[EntityT]:
        """Return all entities by id, or `limit` of them after the first `offset`."""
        statement = select(self.model).order_by(self.model.id)
        count = checked_limit(limit)
        if count is not None:
            statement = statement.limit(count)
        first = whole(offset, "offset", 0, 2**63 - 1, "2**63 - 1")
        return await self._all(statement.offset(first))

    async def count(self) -> int:
        """Return the number of entities in the store."""
        statement = select(func.count()).select_from(self.model)
        async with self._exclusive():
            return int(await self.session.scalar(statement) or 0)

    async def create(self, entity: EntityT) -> EntityT:
        """Write a new entity, and return it with the values that the server set.

        Raises
        ------
        IntegrityError
            Its id already exists, or it refers to an id that does not.  The session stays usable.
        """
        return (await self.bulk_create([entity]))[0]

    async def bulk_create(self, entities: Iterable[EntityT]) -> list[EntityT]:
        """Write new entities, all or none, and return them with the values that the server set.

        Raises
        ------
        IntegrityError
            As for `create`; none of the entities is written.
        """
        new = _as_list(entities, "entities")
        self._check_new(new)
        async with self._savepoint():
            self.session.add_all(new)
        return new

    async def update(self, entity: EntityT) -> EntityT:
        """Write the changes of an entity, including in-place changes of its lists and dicts.

        Parameters
        ----------
        entity
            An entity of this session, or of one that has ended.

        Returns
        -------
        entity
            The entity as stored; the same object, if it belongs to this session.

        Raises
        ------
        NotFoundError
            The store does not have it, or no longer.
        IntegrityError, InvalidQueryError
            The database rejects the change.  The session stays usable, and the entity is unchanged.
        """
        self._check_model(entity, "entity")
        persistent = inspect(entity).persistent
        if persistent:
            # Otherwise starting the savepoint would flush the entity outside of it.
            self.session.expunge(entity)
        try:
            async with self._savepoint():
                if persistent:
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
            await self._refresh(entity)
            raise
        # Values that triggers set in a merged entity are not returned by the UPDATE.
        return entity if persistent else await self._refresh(entity)

    async def delete(self, id: TokenId) -> bool:  # noqa: A002 - the layer's own name
        """Delete the entity of this id, and return whether there was one."""
        statement = delete(self.model).where(self.model.id == self._key(id))
        async with self._savepoint():
            result: Any = await self.session.execute(statement)
        return bool(result.rowcount)

    def _key(self, id: TokenId) -> uuid.UUID:  # noqa: A002
        return uuid.UUID(self._canonical_id(id, f"{self._noun} id"))

    async def _all(self, statement: Select[Any]) -> list[EntityT]:
        """Read entities anew, even those that the session has read before."""
        return [row[0] for row in await self._rows(statement)]

    async def _rows(self, statement: Executable) -> Sequence[Any]:
        async with self._exclusive():
            # Reading over unwritten changes would discard them.
            await self.session.flush()
            result = await self.session.execute(
                statement, execution_options={"populate_existing": True}
            )
            rows: Sequence[Any] = result.all()
            return rows

    async def _select_ids(self, query: Query, key: str) -> list[EntityT]:
        """Read the entities whose ids are in the column `key` of a query, in the query's order."""
        numbered = (
            f'SELECT row_number() OVER () AS place, q."{key}"::uuid AS id FROM ({query.sql}) AS q'
        )
        ids = _raw_sql(numbered).columns(column("place", BigInteger), column("id", Uuid))
        selected = ids.cte("selected")
        return await self._all(
            select(self.model)
            .join(selected, self.model.id == selected.c.id)
            .order_by(selected.c.place)
        )

    async def _select_where(self, conditions: Sequence[str]) -> list[EntityT]:
        """Read the entities whose rows meet all conditions, by id."""
        statement = select(self.model).where(*map(_raw_sql, conditions))
        return await self._all(statement.order_by(self.model.id))

    async def _refresh(self, entity: EntityT) -> EntityT:
        async with self._exclusive():
            await self.session.refresh(entity)
        return entity

    async def _row(self, query: Query) -> dict[str, Any]:
        """Read the single row of a query."""
        async with self._exclusive():
            await self.session.flush()
            return dict((await self.session.execute(_raw_sql(query.sql))).mappings().one())

    @asynccontextmanager
    async def _exclusive(self) -> AsyncIterator[None]:
        """Use the session exclusively: it has one connection, so concurrent calls wait for each other."""
        async with self._lock:
            with session_errors(self._where):
                yield

    @asynccontextmanager
    async def _savepoint(self) -> AsyncIterator[None]:
        """Write within a savepoint, so that the session stays usable after a rejected write."""
        async with self._exclusive(), self.session.begin_nested():
            yield
            await self.session.flush()

    def _check_model(self, entity: object, name: str) -> None:
        _instance_of(entity, name, self.model)

    def _check_new(self, new: Sequence[EntityT]) -> None:
        """Raise for duplicates that SQLAlchemy would ignore, or only warn of."""
        identity_map = self.session.sync_session.identity_map
        ids: set[uuid.UUID] = set()
        for entity in new:
            self._check_model(entity, "entity")
            if inspect(entity).has_identity:
                raise IntegrityError(
                    f"{shown(entity)} is already in the store; change it with update()"
                )
            if entity.id is None:
                continue
            if entity.id in ids or identity_key(self.model, entity.id) in identity_map:
                raise IntegrityError(
                    f"{self._noun} id {entity.id} appears twice, or is already in the store; nothing"
                    " was written"
                )
            ids.add(entity.id)


@guarded
def _instance_of(value: Any, name: str, kind: type[InstanceT]) -> InstanceT:
    if not isinstance(value, kind):
        raise InvalidQueryError(f"{name} must be of type {kind.__name__}, not {shown(value)}")
    return value


@guarded
def _as_list(values: Any, name: str) -> list[Any]:
    if not isinstance(values, Iterable):
        raise InvalidQueryError(f"{name} must be a sequence of entities, not {shown(values)}")
    return list(values)


def _raw_sql(statement: str) -> Any:
    """Return SQL in which a colon does not start a parameter."""
    return text(statement.replace(":", "\\:"))
