"""Reads for snapshots: the whole graph in a compact form, and `graph.graph_snapshots` itself."""

from __future__ import annotations

from typing import Final

from ngdata._query import literals as sql
from ngdata._query.model import Column, Kind, Query

__all__ = ["listed", "stored", "whole_graph"]

_RELATION: Final = ("graph.graph_snapshots",)

_LISTED: Final = {
    Column("snapshot_id", Kind.TEXT): "id::text",
    Column("label", Kind.TEXT): "label",
    Column("created_at", Kind.TIME): "created_at",
    Column("node_count", Kind.INTEGER): "node_count",
    Column("edge_count", Kind.INTEGER): "edge_count",
    Column("mean_degree", Kind.FLOAT): "mean_degree",
    Column("clustering_coefficient", Kind.FLOAT): "clustering_coefficient",
}


def whole_graph() -> Query:
    """One row with the time, one per token with its id, one per connection; ids as 16 bytes."""
    statement = (
        "SELECT now() AS taken, NULL::bytea AS id, NULL::bytea AS source_id,"
        " NULL::bytea AS target_id, NULL::text AS connection_type, NULL::float8 AS weight,"
        " false AS bidirectional UNION ALL SELECT NULL, uuid_send(id), NULL, NULL, NULL, NULL, false"
        " FROM tokens.tokens UNION ALL SELECT NULL, uuid_send(id), uuid_send(source_id),"
        " uuid_send(target_id), connection_type, weight, bidirectional FROM graph.connections"
    )
    columns = (
        Column("taken", Kind.TIME),
        *(Column(name, Kind.BYTES) for name in ("id", "source_id", "target_id")),
        Column("connection_type", Kind.TEXT),
        Column("weight", Kind.FLOAT),
        Column("bidirectional", Kind.BOOLEAN),
    )
    return Query(statement, columns, ("graph.connections", "tokens.tokens"))


def listed() -> Query:
    """All snapshots without their data, by time, then id."""
    return Query(f"{_select(_LISTED)} ORDER BY created_at, id", tuple(_LISTED), _RELATION)


def stored(snapshot_id: str) -> Query:
    """One snapshot with its data."""
    columns = {**_LISTED, Column("data", Kind.BYTES): "data"}
    statement = f"{_select(columns)} WHERE id = ANY ({sql.uuid_array([snapshot_id])})"
    return Query(statement, tuple(columns), _RELATION)


def _select(columns: dict[Column, str]) -> str:
    selected = ", ".join(f'{expression} AS "{c.name}"' for c, expression in columns.items())
    return f"SELECT {selected} FROM graph.graph_snapshots"
