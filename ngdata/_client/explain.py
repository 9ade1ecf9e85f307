"""`client.explain()`: the server's plan of any read, and whether the spatial index served it.

The read itself is asked for its query, so the plan is of exactly what would run.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn, cast

import pandas as pd

from ngdata._client.namespace import Namespace
from ngdata._connections.database import Database
from ngdata._query.model import Query
from ngdata._reading.reader import CacheMode, Reader
from ngdata.errors import InvalidQueryError

__all__ = ["Plan", "plan_of", "query_of"]


@dataclass(frozen=True, repr=False)
class Plan:
    """What the server does for a read.

    Attributes
    ----------
    text : str
        The plan as PostgreSQL prints it.
    uses_spatial_index : bool
        Whether a GiST index on the tokens' points found the rows.
    sql : str
        The statement.
    """

    text: str
    uses_spatial_index: bool
    sql: str

    def __repr__(self) -> str:
        found = "found by" if self.uses_spatial_index else "not found by"
        return f"Plan: rows {found} the spatial index\n{self.text}"


async def query_of(
    namespace: Namespace, name: str, args: tuple[Any, ...], options: dict[str, Any]
) -> Query:
    """Ask a reading method for the query that it would send, by giving it nothing to read from."""
    dry = type(namespace)(_QueryTaker(), cast("Database", _NoDatabase()))
    try:
        answer = getattr(dry, name)(*args, **options)
        await (anext(answer) if inspect.isasyncgen(answer) else answer)
    except _TakenQuery as taken:
        return taken.query
    raise InvalidQueryError(f"{name} sent no query that could be explained")


class _TakenQuery(Exception):  # noqa: N818 - not an error: it carries a query out of a read
    def __init__(self, query: Query) -> None:
        self.query = query


class _QueryTaker(Reader):
    def __init__(self) -> None:
        """Need no database."""

    async def answer(self, query: Query, mode: CacheMode | None = None) -> NoReturn:
        raise _TakenQuery(query)

    async def frames(self, query: Query, rows: int) -> AsyncGenerator[pd.DataFrame, None]:
        raise _TakenQuery(query)
        yield  # makes this an iterator, as the real one is


class _NoDatabase:
    where = "no database"

    def transaction(self) -> NoReturn:
        raise InvalidQueryError("explain takes a method that reads; this one writes")


async def plan_of(database: Database, query: Query, *, analyze: bool) -> Plan:
    """Ask the server for its plan; `analyze` runs the query too."""
    options = "ANALYZE, BUFFERS" if analyze else "COSTS"
    async with database.transaction() as connection:
        lines = await connection.fetch(f"EXPLAIN ({options}) {query.sql}")
        # SQLAlchemy's connections decode JSON.
        tree: Any = await connection.fetchval(f"EXPLAIN (FORMAT JSON) {query.sql}")
    found = any(map(_is_spatial, _nodes(tree[0]["Plan"])))
    return Plan("\n".join(line[0] for line in lines), found, query.sql)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _is_spatial(node: dict[str, Any]) -> bool:
    # Only GiST answers these two, and only as an index's condition or order do they stand there.
    return "&&&" in node.get("Index Cond", "") or "<<->>" in node.get("Order By", "")
