"""`client.explain()`: the server's plan of a read, and whether the spatial index served it.

The plan is of exactly the query that the read would send, because the read method itself is called,
with a reader that records the query.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import pandas as pd

from ngdata._arguments.cards import Card, Shown
from ngdata._arguments.shown import MAX_SHOWN, guarded
from ngdata._arguments.texts import plain_text
from ngdata._client.namespace import Namespace
from ngdata._connections.database import Database
from ngdata._query.asked import Asked
from ngdata._query.model import Query
from ngdata._query.moments import SETTINGS
from ngdata._reading.answer import Answer
from ngdata._reading.reader import CacheMode, MaxRows, Reader, checked_max_rows, checked_mode
from ngdata.errors import InvalidQueryError

__all__ = ["Plan", "owner_and_name", "plan_of", "query_of"]


@dataclass(frozen=True, repr=False)
class Plan(Shown):
    """What the server does for a read.

    Attributes
    ----------
    text : str
        The plan as PostgreSQL prints it.
    uses_spatial_index : bool
        Whether the rows were found by a GiST index on the tokens' points.
    sql : str
        The statement.
    """

    text: str
    uses_spatial_index: bool
    sql: str

    def _card(self) -> Card:
        title, _, text = repr(self).partition("\n")
        return Card(title, lines=text)

    def __repr__(self) -> str:
        verb = "found by" if self.uses_spatial_index else "not found by"
        return f"Plan: rows {verb} the spatial index\n{self.text}"


@guarded
def owner_and_name(read: Any, name: str) -> tuple[Namespace, str]:
    """Return the namespace that a reading method belongs to, and the method's name."""
    owner = getattr(read, "__self__", None)
    owner = getattr(owner, "_wrapped", owner)  # a method of the sync client
    method = plain_text(getattr(read, "__name__", "")) or ""
    levels = getattr(owner, "_levels", None)
    if hasattr(levels, method):  # a method of the client itself
        owner = levels
    if not isinstance(owner, Namespace) or method.startswith("_"):
        qualified = plain_text(getattr(read, "__qualname__", None))
        raise InvalidQueryError(
            "explain needs a reading method of this client, not "
            f"{qualified[:MAX_SHOWN] if qualified else f'a {type(read).__name__}'}; for example "
            "ng.explain(ng.tokens.find_in_region, (0, 0, 0), (1, 1, 1))"
        )
    return owner, method


async def query_of(
    namespace: Namespace, name: str, args: tuple[Any, ...], options: dict[str, Any]
) -> Query:
    """Return the query that a read method would send first; no rows are read or written."""
    recording = type(namespace)(
        _QueryRecorder(namespace._reader),
        namespace._database,
        namespace._ids,
        refusal="explain takes a method that reads; this one writes",
    )
    try:
        result = getattr(recording, name)(*args, **options)
        await (anext(result) if inspect.isasyncgen(result) else result)
    except _Recorded as recorded:
        return recorded.query
    raise InvalidQueryError(f"{name} sent no query that could be explained")


class _Recorded(Exception):  # noqa: N818 - not an error: it ends the method that is explained
    def __init__(self, query: Query) -> None:
        self.query = query


class _QueryRecorder:
    """A reader that ends the calling method at its first read, and hands out the query."""

    def __init__(self, reader: Reader) -> None:
        self.ids = reader.ids
        self.pin = reader.pin
        # How a read is done may depend on how large its level is, and how crowded.
        self.level_size = reader.level_size

    async def frame(
        self, query: Query, cache: CacheMode | None = None, max_rows: MaxRows = ...
    ) -> NoReturn:
        checked_max_rows(max_rows)
        if cache is not None:
            checked_mode(cache)
        raise _Recorded(query)

    async def answer(
        self, query: Query, mode: CacheMode | None = None, max_rows: int | None = None
    ) -> NoReturn:
        if mode is not None:
            checked_mode(mode)
        raise _Recorded(query)

    async def frame_and_version(self, query: Query, version: str) -> NoReturn:
        raise _Recorded(query)

    async def frames(self, query: Query, rows: int) -> AsyncGenerator[pd.DataFrame, None]:
        raise _Recorded(query)
        yield  # makes this an iterator

    def check_size(self, count: int, max_rows: MaxRows) -> None:
        """Allow any size: nothing is made."""

    async def kept_answer(self, query: Query, mode: CacheMode | None = None) -> None:
        """Return no answer: the plan is of a read."""

    async def warn_if_empty(self, answer: Answer, asked: Asked | None) -> None:
        """Do nothing: the answer is only a plan."""


async def plan_of(database: Database, query: Query, *, analyze: bool) -> Plan:
    """Return the server's plan of a query; `analyze` runs the query too."""
    options = "ANALYZE, BUFFERS" if analyze else "COSTS"
    async with database.transaction() as connection:
        if query.pin is not None:
            await connection.execute("; ".join(SETTINGS))
        lines = await connection.fetch(f"EXPLAIN ({options}) {query.sql}")
        tree = json.loads(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {query.sql}"))
    uses_spatial_index = any(map(_is_spatial, _nodes(tree[0]["Plan"])))
    return Plan("\n".join(line[0] for line in lines), uses_spatial_index, query.sql)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from _nodes(child)


def _is_spatial(node: dict[str, Any]) -> bool:
    # Only a GiST index serves these two operators as the condition or order of an index scan.
    return "&&&" in node.get("Index Cond", "") or "<<->>" in node.get("Order By", "")
