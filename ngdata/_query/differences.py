"""What changed between two pins, or since one: the rows that are not the same as of both.

Only rows with images since the first of the two can differ, so a difference costs what changed, not
what the store holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from ngdata._arguments.shown import guarded
from ngdata._arguments.texts import checked_word
from ngdata._query import literals as sql
from ngdata._query.attributes import TOKENS
from ngdata._query.edges import CONNECTIONS
from ngdata._query.events import EVENTS
from ngdata._query.model import Column, Kind, Query, select_list
from ngdata._query.moments import HISTORIES, as_of_sql, history_of
from ngdata._query.pin import Pin
from ngdata._query.places import Place

__all__ = ["Compared", "checked_rows", "difference"]

Compared: TypeAlias = Literal["tokens", "connections", "events"]
"""Which rows are compared."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of which two images are compared: `b` as of the first moment, `a` as of the second.

    Attributes
    ----------
    relation : str
    compared : tuple of str
        The columns that make two images of a row differ.
    columns : dict of Column to str
        Those of the answer, each with its SQL expression.
    """

    relation: str
    compared: tuple[str, ...]
    columns: dict[Column, str]


_CHANGE: Final = Column("change", Kind.TEXT)
_ADDED_OR_REMOVED: Final = (
    "CASE WHEN b.id IS NULL THEN 'added' WHEN a.id IS NULL THEN 'removed' ELSE 'changed' END"
)


def _either(column: str) -> str:
    """Write the value after the change or, of a row that was removed, before it."""
    return f"CASE WHEN a.id IS NULL THEN b.{column} ELSE a.{column} END"


_TOKEN_ATTRIBUTES: Final = (
    "token_type",
    "weight",
    "flags",
    '"timestamp"',
    "metadata",
    "binary_data",
)

_ROWS: Final = {
    "connections": _Rows(
        CONNECTIONS,
        (
            "source_id",
            "target_id",
            "connection_type",
            "weight",
            "decay_rate",
            "bidirectional",
            "metadata",
        ),
        {
            Column("connection_id", Kind.TEXT): f"({_either('id')})::text",
            _CHANGE: _ADDED_OR_REMOVED,
            Column("source_id", Kind.TOKEN_ID): f"({_either('source_id')})::text",
            Column("target_id", Kind.TOKEN_ID): f"({_either('target_id')})::text",
            Column("connection_type", Kind.TEXT): _either("connection_type"),
            Column("weight_before", Kind.FLOAT): "b.weight",
            Column("weight_after", Kind.FLOAT): "a.weight",
        },
    ),
    "events": _Rows(
        EVENTS,
        (
            "event_type",
            '"timestamp"',
            "token_id",
            "state_before",
            "state_after",
            "action",
            "reward",
            "priority",
            "trajectory_id",
            "sequence_number",
            "metadata",
        ),
        {
            Column("event_id", Kind.TEXT): f"({_either('id')})::text",
            _CHANGE: _ADDED_OR_REMOVED,
            Column("event_type", Kind.TEXT): _either("event_type"),
            Column("timestamp", Kind.TIME): _either('"timestamp"'),
            Column("token_id", Kind.OPTIONAL_TOKEN_ID): f"({_either('token_id')})::text",
            Column("reward_before", Kind.FLOAT): "b.reward",
            Column("reward_after", Kind.FLOAT): "a.reward",
        },
    ),
}

_TOKEN_COLUMNS: Final = {
    Column("token_id", Kind.TOKEN_ID): "coalesce(a.id, b.id)::text",
    Column("level", Kind.OPTIONAL_INTEGER): "l.level",
    _CHANGE: "c.change",
    **{
        Column(f"{axis}_{when}", Kind.FLOAT): f"{alias}.coord_{axis}[l.level + 1]"
        for when, alias in (("before", "b"), ("after", "a"))
        for axis in "xyz"
    },
}


@guarded
def checked_rows(of: Any, name: str) -> Compared:
    """Check which rows are compared."""
    rows: Compared = checked_word(of, get_args(Compared), name)
    return rows


def difference(of: Compared, before: Pin, after: Pin | None, within: Place | None) -> Query:
    """Read the rows that differ between two moments; the second is now if it is None.

    With `within`, those that are in the region as of one of the two; a connection is if both of its
    ends are, an event if its token is.
    """
    first: Pin = before
    last: Pin | None = after
    if after is not None and after.number < before.number:
        first, last = after, before
    relation = TOKENS if of == "tokens" else _ROWS[of].relation
    images = HISTORIES[relation].images
    # A row that has no image since the first moment and before the second is the same at both.
    until = "" if last is None else f" AND pin < {sql.integer(last.number)}"
    changed = f"SELECT DISTINCT id FROM {images} WHERE pin >= {sql.integer(first.number)}{until}"
    expressions = [f"changed AS MATERIALIZED ({changed})"]
    for alias, pin in (("b", before), ("a", after)):
        rows = _at(f"SELECT t.* FROM changed AS c JOIN {relation} AS t ON t.id = c.id", pin)
        expressions.append(f"{alias} AS MATERIALIZED ({rows})")
    conditions = [] if within is None else _inside(of, within)
    relations = [relation]
    if within is not None:
        relations.append("tokens.spatial_index")
        for alias, pin in (("b", before), ("a", after)):
            ids = _at(within.token_ids(), pin)
            expressions.append(f"inside_{alias} (id) AS MATERIALIZED ({ids})")
    body = _tokens(conditions, within) if of == "tokens" else _others(_ROWS[of], conditions)
    columns = _TOKEN_COLUMNS if of == "tokens" else _ROWS[of].columns
    return Query(
        f"WITH {', '.join(expressions)} SELECT {select_list(columns)} {body}",
        tuple(columns),
        tuple(dict.fromkeys(each for name in relations for each in (name, *history_of(name)))),
        has_limit=False,
    )


def _at(statement: str, pin: Pin | None) -> str:
    return statement if pin is None else as_of_sql(statement, pin)


def _inside(of: Compared, within: Place) -> list[str]:
    keys = {"tokens": ("id",), "connections": ("source_id", "target_id"), "events": ("token_id",)}
    sides = [
        " AND ".join(
            f"({alias}.{key} IN (SELECT id FROM inside_{alias})) IS TRUE" for key in keys[of]
        )
        for alias in ("b", "a")
    ]
    conditions = [f"({sides[0]} OR {sides[1]})"]
    if of == "tokens":
        conditions.append(f"l.level = {within.level}")
    return conditions


def _others(rows: _Rows, conditions: list[str]) -> str:
    return (
        "FROM b FULL JOIN a ON a.id = b.id WHERE "
        f"{' AND '.join([_differ(rows.compared), *conditions])} ORDER BY coalesce(a.id, b.id)"
    )


def _differ(columns: tuple[str, ...]) -> str:
    images = (", ".join(f"{alias}.{name}" for name in columns) for alias in ("b", "a"))
    compared = " IS DISTINCT FROM ".join(f"ROW({image})" for image in images)
    return f"(b.id IS NULL OR a.id IS NULL OR {compared})"


def _tokens(conditions: list[str], within: Place | None) -> str:
    """Write a row per level on which a token is or was; of one without any, a row without a level."""
    places = (
        ", ".join(f"{alias}.coord_{axis}[l.level + 1]" for axis in "xyz") for alias in ("b", "a")
    )
    moved = " IS DISTINCT FROM ".join(f"ROW({place})" for place in places)
    change = (
        "CASE WHEN b.id IS NULL THEN 'added' WHEN a.id IS NULL THEN 'removed'"
        f" WHEN l.level IS NULL THEN CASE WHEN {_differ(_TOKEN_ATTRIBUTES)} THEN 'changed' END"
        " WHEN b.coord_x[l.level + 1] IS NULL THEN 'added'"
        " WHEN a.coord_x[l.level + 1] IS NULL THEN 'removed'"
        f" WHEN {moved} THEN 'moved' WHEN {_differ(_TOKEN_ATTRIBUTES)} THEN 'changed' END"
    )
    levels = (
        "SELECT g.level FROM generate_series(0, 7) AS g (level)"
        " WHERE coalesce(a.coord_x[g.level + 1], b.coord_x[g.level + 1]) IS NOT NULL"
    )
    if within is None:
        levels += (
            " UNION ALL SELECT NULL WHERE coalesce(array_remove(a.coord_x, NULL), '{}') ="
            " '{}' AND coalesce(array_remove(b.coord_x, NULL), '{}') = '{}'"
        )
    where = " AND ".join(["c.change IS NOT NULL", *conditions])
    return (
        f"FROM b FULL JOIN a ON a.id = b.id CROSS JOIN LATERAL ({levels}) AS l"
        f" CROSS JOIN LATERAL (SELECT {change} AS change) AS c"
        f" WHERE {where} ORDER BY coalesce(a.id, b.id), l.level"
    )
