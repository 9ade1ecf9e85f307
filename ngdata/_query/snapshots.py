"""Reads for snapshots: the whole graph in a compact form, and `graph.graph_snapshots` itself."""

from __future__ import annotations

from typing import Final

from ngdata._query import literals as sql
from ngdata._query.model import MISSING_ID, Column, Kind, Query

__all__ = ["listed", "stored", "whole_graph"]

_RELATION: Final = ("graph.graph_snapshots",)

_LISTED: Final = {
    Column("snapshot_id", Kind.TEXT): "s.id::text",
    Column("label", Kind.TEXT): "s.label",
    Column("created_at", Kind.TIME): "s.created_at",
    Column("node_count", Kind.INTEGER): "s.node_count",
    Column("edge_count", Kind.INTEGER): "s.edge_count",
    Column("mean_degree", Kind.FLOAT): "s.mean_degree",
    Column("clustering_coefficient", Kind.FLOAT): "s.clustering_coefficient",
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
    statement = (
        f"SELECT {_select(_LISTED)} FROM graph.graph_snapshots AS s ORDER BY s.created_at, s.id"
    )
    return Query(statement, tuple(_LISTED), _RELATION)


def stored(snapshot_id: str) -> Query:
    """One snapshot with its data."""
    columns = {
        MISSING_ID: "CASE WHEN s.id IS NULL THEN asked.id::text END",
        **_LISTED,
        Column("data", Kind.BYTES): "s.data",
    }
    statement = (
        f"SELECT {_select(columns)} FROM unnest({sql.uuid_array([snapshot_id])}) AS asked (id)"
        " LEFT JOIN graph.graph_snapshots AS s ON s.id = asked.id"
    )
    return Query(statement, tuple(columns), _RELATION, id_noun="snapshot")


def _select(columns: dict[Column, str]) -> str:
    return ", ".join(f'{expression} AS "{c.name}"' for c, expression in columns.items())
