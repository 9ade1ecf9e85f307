"""Reads as of a pin: the same SQL, with each table replaced by its rows as they were.

As of pin p, a row is its first image in the history with a number of p or more; without one, it is
the row as it is now.  Table and history are joined by UNION ALL without conditions of their own, so
that the planner reads both by their indexes, also in the order of a distance and for each row of a
join; the condition that chooses between them follows.  For the table's rows it does not depend on
the row's number, so the planner reduces it to one look at the history.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from ngdata._query import literals as sql
from ngdata._query.model import Query
from ngdata._query.pin import Pin
from ngdata.errors import NotFoundError

__all__ = [
    "HISTORIES",
    "SETTINGS",
    "as_of",
    "as_of_sql",
    "check_sql",
    "history_of",
    "pages_if_kept",
]


@dataclass(frozen=True, slots=True)
class _History:
    """A table with its images.

    Attributes
    ----------
    columns : str
    history : str
        The table of images.
    key : str
        The column that is the `id` of `images`.
    images : str
        The table that has an image of every row that changed, also of one that was not there.
    """

    columns: str
    history: str
    key: str
    images: str


_TOKENS: Final = "tokens.tokens_history"

HISTORIES: Final = {
    "tokens.tokens": _History(
        'id, binary_data, coord_x, coord_y, coord_z, flags, weight, "timestamp", token_type,'
        " metadata, created_at, updated_at",
        _TOKENS,
        "id",
        _TOKENS,
    ),
    "tokens.spatial_index": _History(
        'token_id, level, geom, token_type, weight, flags, "timestamp"',
        "tokens.spatial_history",
        "token_id",
        _TOKENS,
    ),
    "graph.connections": _History(
        "id, source_id, target_id, connection_type, weight, decay_rate, bidirectional, metadata,"
        " created_at",
        "graph.connections_history",
        "id",
        "graph.connections_history",
    ),
    "experience.experience_events": _History(
        'id, event_type, "timestamp", token_id, state_before, state_after, action, reward, priority,'
        " trajectory_id, sequence_number, metadata, created_at, entry_number",
        "experience.experience_events_history",
        "id",
        "experience.experience_events_history",
    ),
    "experience.experience_trajectories": _History(
        "id, start_time, end_time, event_count, total_reward, metadata, created_at, ended_at",
        "experience.experience_trajectories_history",
        "id",
        "experience.experience_trajectories_history",
    ),
}
"""Each table of which a pin keeps images."""

_LEVELS: Final = "tokens.levels"
_PATH: Final = "graph.shortest_path"

# Tables that are the same at each moment: what is stored in them never changes.
_TIMELESS: Final = frozenset({"graph.graph_snapshots"})

# Text and names in quotes, which are not searched.  `literals` writes a quote within quotes twice,
# and never with a backslash before it.
_QUOTED: Final = re.compile(r"""('(?:[^']|'')*'|"(?:[^"]|"")*")""")
_RELATION: Final = re.compile(
    r"\b(?P<name>(?:tokens|graph|experience)\.[a-z_]\w*)(?P<call>\()?(?P<alias> AS \w+)?"
)

# Up to this number of its pages, a history's ids are read and hashed for each read of a region; a
# longer one is looked up row by row.  Without memory for the hash, the planner would read the whole
# history for each row.
_MAX_HASHED_PAGES: Final = 4000
SETTINGS: Final = ("SET LOCAL work_mem = '64MB'",)
"""The settings of the transaction that reads as of a pin."""


def as_of(query: Query, pin: Pin, history_pages: int = 0) -> Query:
    """Return the read as of a moment.

    Parameters
    ----------
    query : Query
    pin : Pin
    history_pages : int
        The size of the tokens' history, from which the plan of a region follows.
    """
    # The nearest tokens are few, however many the planner expects.
    is_hashed = (
        history_pages <= _MAX_HASHED_PAGES
        and not query.is_lookup
        and "FETCH FIRST" not in query.sql
    )
    histories = [each for relation in query.relations for each in history_of(relation)]
    return replace(
        query,
        sql=as_of_sql(query.sql, pin, is_hashed=is_hashed),
        plain_sql=None if query.plain_sql is None else as_of_sql(query.plain_sql, pin),
        relations=tuple(dict.fromkeys((*query.relations, *histories))),
        pin=pin,
    )


def history_of(relation: str) -> tuple[str, ...]:
    """Return the tables that hold the images of a table's rows, if a pin keeps any."""
    table = HISTORIES.get(relation)
    return () if table is None else tuple(dict.fromkeys((table.history, table.images)))


def as_of_sql(statement: str, pin: Pin, *, is_hashed: bool = False) -> str:
    """Replace the tables in a statement by their rows at a moment.

    With `is_hashed`, the ids of all changed tokens are read once, for reads of many rows of which the
    planner expects one.
    """

    def replaced(match: re.Match[str]) -> str:
        name, alias = match["name"], match["alias"]
        if match["call"]:
            return _function_at(name, pin)
        if name in _TIMELESS:
            return match[0]
        rows = _levels_at(pin) if name == _LEVELS else _rows_at(name, pin, is_hashed)
        return f"({rows}){alias or ' AS ' + name.partition('.')[2]}"

    return _outside_quotes(statement, lambda text: _RELATION.sub(replaced, text))


def check_sql(pin: Pin) -> str:
    """Write the query of the text that `pages_if_kept` reads, for the snapshot that it runs in."""
    pages = f"pg_relation_size('{_TOKENS}'::regclass) / current_setting('block_size')::int8"
    kept = f"SELECT id::text FROM tokens.pins WHERE number = {sql.integer(pin.number)}"
    return f"SELECT ({kept}) || ' ' || {pages}"


def pages_if_kept(pin: Pin, text: str | None) -> int:
    """Return the size of the tokens' history in pages.

    Raises
    ------
    NotFoundError
        The pin was removed, and with it what it needs of the history.
    """
    pin_id, _, pages = (text or "").partition(" ")
    if pin_id != pin.id:
        raise NotFoundError(
            f"pin {pin.name} was removed, so the store can no longer be read as of it; pins() lists "
            "those that are kept",
            (pin.id,),
        )
    return int(pages)


def _outside_quotes(statement: str, change: Callable[[str], str]) -> str:
    parts = _QUOTED.split(statement)
    # Every other part is a quoted one.
    return "".join(part if number % 2 else change(part) for number, part in enumerate(parts))


def _function_at(name: str, pin: Pin) -> str:
    if name != _PATH:
        raise AssertionError(f"{name} has no form as of a pin")
    return f"{name}_at({sql.integer(pin.number)}, "


def _levels_at(pin: Pin) -> str:
    return (
        "SELECT l.* FROM tokens.pins AS p CROSS JOIN LATERAL jsonb_to_recordset(p.levels)"
        " AS l (level integer, name text, unit text, description text)"
        f" WHERE p.number = {sql.integer(pin.number)}"
    )


def _rows_at(name: str, pin: Pin, is_hashed: bool) -> str:
    if name not in HISTORIES:
        raise AssertionError(f"{name} has no history")
    table, number = HISTORIES[name], sql.integer(pin.number)
    existed = "existed" if table.history == table.images else "true"
    changed = f"h.id = r.{table.key} AND h.pin >= {number}"
    if is_hashed and name == "tokens.spatial_index":
        unchanged = f"(r.{table.key} IN (SELECT h.id FROM {table.images} AS h WHERE h.pin >= {number})) IS NOT TRUE"
    elif name == "tokens.spatial_index":
        # OFFSET 0: looked up row by row.
        unchanged = f"NOT EXISTS (SELECT FROM {table.images} AS h WHERE {changed} OFFSET 0)"
    else:
        unchanged = f"NOT EXISTS (SELECT FROM {table.images} AS h WHERE {changed})"
    return (
        f"SELECT {table.columns} FROM (SELECT {table.columns}, NULL::int8 AS pin, true AS existed"
        f" FROM {name} UNION ALL SELECT {table.columns}, pin, {existed} FROM {table.history}) AS r"
        f" WHERE CASE WHEN r.pin IS NULL THEN {unchanged} ELSE r.existed AND r.pin >= {number}"
        f" AND NOT EXISTS (SELECT FROM {table.images} AS h WHERE {changed} AND h.pin < r.pin) END"
    )
