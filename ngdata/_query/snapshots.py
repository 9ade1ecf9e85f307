"""Reads for snapshots: the whole graph in a compact form, and the rows of `graph.graph_snapshots`."""

from __future__ import annotations

from typing import Final

from ngdata._query.model import (
    MISSING_ID,
    Column,
    Kind,
    Query,
    requested,
    select_list,
)

__all__ = ["by_id", "listing", "whole_graph"]

_SNAPSHOTS: Final = "graph.graph_snapshots"

_LISTING: Final = {
    Column("snapshot_id", Kind.TEXT): "t.id::text",
    Column("label", Kind.TEXT): "t.label",
    Column("created_at", Kind.TIME): "t.created_at",
    Column("node_count", Kind.INTEGER): "t.node_count",
    Column("edge_count", Kind.INTEGER): "t.edge_count",
    Column("mean_degree", Kind.FLOAT): "t.mean_degree",
    Column("clustering_coefficient", Kind.FLOAT): "t.clustering_coefficient",
}


def whole_graph() -> Query:
    """Read a row with the time, then one per token with its id, then one per connection.

    Ids are 16 bytes.
    """
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


def listing() -> Query:
    """Read all snapshots without their data, by time, then id."""
    statement = (
        f"SELECT {select_list(_LISTING)} FROM {_SNAPSHOTS} AS t WHERE t.part_of IS NULL"
        " ORDER BY t.created_at, t.id"
    )
    return Query(statement, tuple(_LISTING), (_SNAPSHOTS,))


def by_id(snapshot_id: str) -> Query:
    """Read one snapshot with its data: a row for each part, in order."""
    columns = {
        MISSING_ID: "CASE WHEN t.id IS NULL OR t.part_of IS NOT NULL THEN requested.id::text END",
        **_LISTING,
        Column("data", Kind.BYTES): "parts.data",
    }
    statement = (
        f"SELECT {select_list(columns)} FROM {requested([snapshot_id], _SNAPSHOTS)}"
        " LEFT JOIN LATERAL (SELECT 0 AS part, t.data UNION ALL SELECT further.part, further.data"
        f" FROM {_SNAPSHOTS} AS further WHERE further.part_of = t.id) AS parts ON true"
        " ORDER BY parts.part"
    )
    return Query(statement, tuple(columns), (_SNAPSHOTS,), id_noun="snapshot")
