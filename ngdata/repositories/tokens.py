"""Tokens as entities: by id, region, coordinates, type and flags."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import ClassVar, Final

from numpy.typing import ArrayLike
from sqlalchemy import ColumnElement, literal_column, select

from ngdata._arguments.ids import Id
from ngdata._arguments.levels import Level
from ngdata._arguments.numbers import as_float
from ngdata._arguments.times import is_missing
from ngdata._query import literals as sql
from ngdata._query import regions
from ngdata._query.filters import TokenFilter
from ngdata._query.model import Query
from ngdata._query.space import Box, as_point
from ngdata._reading.cache.versions import version_of
from ngdata._store.models import TokenModel
from ngdata.errors import InvalidQueryError
from ngdata.repositories.base import Repository
from ngdata.repositories.entity_cache import EntityCache

__all__ = ["TokenRepository"]

_ALL_BITS: Final = 2**31 - 1


class TokenRepository(Repository[TokenModel]):
    """The tokens of a store, in one session; `RepositoryFactory` makes it.

    Examples
    --------
    >>> import asyncio
    >>> from ngdata.repositories import DatabaseFactory, RepositoryFactory
    >>> async def at_the_origin():
    ...     db_manager = await DatabaseFactory.create_database_manager()
    ...     async with db_manager.session() as session:
    ...         tokens = RepositoryFactory.create_token_repository(session)
    ...         found = await tokens.find_in_region((0, 0, 0), (0, 0, 0), level=0)
    ...     await DatabaseFactory.close_all()
    ...     return found
    >>> asyncio.run(at_the_origin())
    []
    """

    model: ClassVar[type[TokenModel]] = TokenModel
    _noun = "token"

    async def get_by_id(
        self,
        id: Id,  # noqa: A002 - the layer's own name
        use_cache: bool = True,
    ) -> TokenModel | None:
        """Get one token, or None if the store has none of this id.

        Parameters
        ----------
        id : id
        use_cache : bool
            Whether a cached answer will do: one that is what the database would answer now.
        """
        key = self._key(id)
        cache: EntityCache | None = self.session.info.get("entity_cache")
        if not use_cache or cache is None or not await cache.open(self.redis):
            return await super().get_by_id(key)
        seen: ColumnElement[str | None] = literal_column(f"({cache.version_sql(self.model)})")
        async with self._turn():
            await self.session.flush()
            version = version_of(await self.session.scalar(select(seen)))
            found = await cache.find(self.model, key, version, self.redis)
            if found is not None:
                return await self.session.merge(found, load=False)
        rows = await self._rows(select(self.model, seen).where(self.model.id == key))
        if not rows:
            return None
        token: TokenModel = rows[0][0]
        cache.put(token, version_of(rows[0][1]), self.redis)
        return token

    async def find_in_region(
        self, min_coords: ArrayLike, max_coords: ArrayLike, level: Level = 0
    ) -> list[TokenModel]:
        """Find the tokens in a closed box on one level, as the facade's `find_in_region` does.

        Raises
        ------
        InvalidQueryError
            An inverted box, NaN, an unknown level; nothing was sent.
        """
        box = Box.of(min_coords, max_coords, level)
        return await self._chosen(regions.region(box, TokenFilter(), ["token_id"]), "token_id")

    async def find_by_coordinates(
        self,
        x: Sequence[float | None],
        y: Sequence[float | None],
        z: Sequence[float | None],
        tolerance: float = 0.01,
    ) -> list[TokenModel]:
        """Find the tokens that are near a place on each level that is given, by id.

        Parameters
        ----------
        x, y, z : sequence of float or None
            From level 0 upwards, at most eight; a level of None or NaN is not looked at.
        tolerance : float
            How far off a coordinate may be, on each axis of each level.

        Raises
        ------
        InvalidQueryError
            Axes of different lengths, no level at all, a negative tolerance; nothing was sent.
        """
        boxes = _boxes(x, y, z, tolerance)
        wanted = [regions.region(box, TokenFilter(), ["token_id"]) for box in boxes]
        # Names an order: INTERSECT has none.
        every = " INTERSECT ".join(f"({query.sql})" for query in wanted) + " ORDER BY token_id"
        return await self._chosen(
            Query(every, wanted[0].columns, wanted[0].relations), key="token_id"
        )

    async def find_by_type(self, token_type: str | Sequence[str]) -> list[TokenModel]:
        """Find the tokens of a type, or of any of several, by id."""
        return await self._matching(TokenFilter(token_type).conditions())

    async def find_by_flags(self, flags: int, mask: int | None = None) -> list[TokenModel]:
        """Find the tokens whose flags are these, by id.

        Parameters
        ----------
        flags : int
        mask : int, optional
            Which bits count; all of them, if it is not given.
        """
        wanted = _bits(flags, "flags")
        counted = _ALL_BITS if mask is None else _bits(mask, "mask")
        return await self._matching(
            [f"flags::int8 & {sql.integer(counted)} = {sql.integer(wanted & counted)}"]
        )


def _bits(value: int, name: str) -> int:
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not 0 <= value <= _ALL_BITS:
        raise InvalidQueryError(f"{name} must be an integer from 0 to 2**31 - 1, not {value!r}")
    return int(value)


def _boxes(
    x: Sequence[float | None],
    y: Sequence[float | None],
    z: Sequence[float | None],
    tolerance: float,
) -> list[Box]:
    reach = as_float(tolerance)
    if reach is None or reach < 0:
        raise InvalidQueryError(f"tolerance must be a number of at least 0, not {tolerance!r}")
    try:
        places = list(zip(x, y, z, strict=True))
    except (TypeError, ValueError):
        places = []
    given = [
        (level, as_point(place, f"the place on level {level}"))
        for level, place in enumerate(places)
        if not all(map(is_missing, place))
    ]
    if not given or len(places) > 8:
        raise InvalidQueryError(
            "x, y and z must be sequences of one length from 1 to 8, a number for each level and "
            f"at least one level given, not {x!r}, {y!r}, {z!r}"
        )
    return [
        Box.of([c - reach for c in place], [c + reach for c in place], level)
        for level, place in given
    ]
