"""Tokens as entities: by id, region, coordinates, type and flags."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any, ClassVar, Final

from numpy.typing import ArrayLike
from sqlalchemy import ColumnElement, literal_column, select

from ngdata._arguments.id_space import UUIDS, TokenId
from ngdata._arguments.levels import Level
from ngdata._arguments.numbers import as_flag, non_negative, whole
from ngdata._arguments.points import as_point
from ngdata._arguments.shown import guarded, shown
from ngdata._arguments.times import is_missing
from ngdata._query import literals as sql
from ngdata._query import regions
from ngdata._query.filters import TokenFilter
from ngdata._query.model import Query
from ngdata._query.places import Place
from ngdata._store.models import TokenModel
from ngdata.errors import InvalidQueryError
from ngdata.repositories.base import Repository
from ngdata.repositories.entity_cache import EntityCache

__all__ = ["TokenRepository"]

_ALL_BITS: Final = 2**31 - 1


class TokenRepository(Repository[TokenModel]):
    """The tokens of a store, in one session; created by `RepositoryFactory`.

    Examples
    --------
    >>> import asyncio
    >>> from ngdata.repositories import DatabaseFactory, RepositoryFactory
    >>> async def at_the_origin():
    ...     db_manager = await DatabaseFactory.create_database_manager()
    ...     async with db_manager.session() as session:
    ...         tokens = RepositoryFactory.create_token_repository(session)
    ...         here = await tokens.find_in_region((0, 0, 0), (0, 0, 0), level=0)
    ...     await DatabaseFactory.close_all()
    ...     return here
    >>> asyncio.run(at_the_origin())
    []
    """

    model: ClassVar[type[TokenModel]] = TokenModel
    _noun = "token"
    _canonical_id = staticmethod(UUIDS.canonical_id)  # integers too

    async def get_by_id(
        self,
        id: TokenId,  # noqa: A002 - the layer's own name
        use_cache: bool = True,
    ) -> TokenModel | None:
        """Return one token, or None if the store has none of this id.

        Parameters
        ----------
        id : id
        use_cache : bool
            Whether a cached token may be returned: one that the database would return now.
        """
        key = self._key(id)
        cache: EntityCache | None = self.session.info.get("entity_cache")
        if not as_flag(use_cache, "use_cache") or cache is None or not await cache.open(self.redis):
            return await super().get_by_id(key)
        version_column: ColumnElement[str | None] = literal_column(
            f"({cache.version_sql(self.model)})"
        )
        async with self._exclusive():
            await self.session.flush()
            version = cache.version_of(await self.session.scalar(select(version_column)))
            cached = await cache.find(self.model, key, version, self.redis)
            if cached is not None:
                return await self.session.merge(cached, load=False)
        rows = await self._rows(select(self.model, version_column).where(self.model.id == key))
        if not rows:
            return None
        token: TokenModel = rows[0][0]
        cache.put(token, cache.version_of(rows[0][1]), self.redis)
        return token

    async def find_in_region(
        self, min_coords: ArrayLike, max_coords: ArrayLike, level: Level = 0
    ) -> list[TokenModel]:
        """Find the tokens in a closed box on one level, as `find_in_region` of a client does.

        Raises
        ------
        InvalidQueryError
            An inverted box, NaN, or an unknown level; nothing was sent.
        """
        place = Place.of(min_coords, max_coords, level)
        return await self._select_ids(
            regions.region(place, TokenFilter(), ["token_id"]), "token_id"
        )

    async def find_by_coordinates(
        self,
        x: Sequence[float | None],
        y: Sequence[float | None],
        z: Sequence[float | None],
        tolerance: float = 0.01,
    ) -> list[TokenModel]:
        """Find the tokens that are near a point on each level, ordered by id.

        Parameters
        ----------
        x, y, z : sequence of float or None
            From level 0 upwards, at most eight; a level of None or NaN is ignored.
        tolerance : float
            The largest difference of a coordinate, on each axis of each level.

        Raises
        ------
        InvalidQueryError
            Axes of different lengths, no level, or a negative tolerance; nothing was sent.
        """
        places = _places(x, y, z, tolerance)
        queries = [regions.region(place, TokenFilter(), ["token_id"]) for place in places]
        # INTERSECT has no order of its own.
        statement = " INTERSECT ".join(f"({query.sql})" for query in queries) + " ORDER BY token_id"
        return await self._select_ids(
            Query(statement, queries[0].columns, queries[0].relations), key="token_id"
        )

    async def find_by_type(self, token_type: str | Sequence[str]) -> list[TokenModel]:
        """Find the tokens of a type, or of any of several, ordered by id."""
        return await self._select_where(TokenFilter(token_type).conditions())

    async def find_by_flags(self, flags: int, mask: int | None = None) -> list[TokenModel]:
        """Find the tokens that have these flags, ordered by id.

        Parameters
        ----------
        flags : int
        mask : int, optional
            The bits that are compared; by default all.
        """
        bits = _bits(flags, "flags")
        compared = _ALL_BITS if mask is None else _bits(mask, "mask")
        return await self._select_where(
            [f"flags::int8 & {sql.integer(compared)} = {sql.integer(bits & compared)}"]
        )


def _bits(value: int, name: str) -> int:
    return whole(value, name, 0, _ALL_BITS, "2**31 - 1")


@guarded
def _axis(values: Any, name: str) -> list[Any]:
    """Return the values of one axis, one for each level."""
    try:
        items = list(islice(values, 9))
    except TypeError:
        items = []
    if not 1 <= len(items) <= 8:
        raise InvalidQueryError(
            f"{name} must be a sequence of 1 to 8 values, a number or None for each level, not "
            f"{shown(values)}"
        )
    return items


def _places(
    x: Sequence[float | None],
    y: Sequence[float | None],
    z: Sequence[float | None],
    tolerance: float,
) -> list[Place]:
    reach = non_negative(tolerance, "tolerance")
    axes = [_axis(values, name) for name, values in zip("xyz", (x, y, z), strict=True)]
    points = list(zip(*axes, strict=True)) if len({*map(len, axes)}) == 1 else []
    defined = [
        (level, as_point(point, f"the point on level {level}"))
        for level, point in enumerate(points)
        if not all(map(is_missing, point))
    ]
    if not defined:
        raise InvalidQueryError(
            "x, y and z must be sequences of one length from 1 to 8, a number for each level and "
            f"at least one level that is not None, not {shown(x)}, {shown(y)}, {shown(z)}"
        )
    return [
        Place.of([c - reach for c in point], [c + reach for c in point], level)
        for level, point in defined
    ]
