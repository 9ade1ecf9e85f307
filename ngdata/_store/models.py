"""The six tables as SQLAlchemy models, the levels, and the tables behind the cache.

Partitions, triggers and functions, which a model cannot express, are in the migrations alone;
``alembic check`` and a catalog test keep models and migrations equal, and ``tests/store/test_fields.py``
compares the models with the field tables.  `tokens.spatial_index` is derived from `tokens.tokens` by
triggers: its model is for reads, never for writes.
"""

from __future__ import annotations

import datetime as dt
import uuid
from typing import Any, ClassVar, Final

from geoalchemy2 import Geometry, WKBElement
from sqlalchemy import (
    ARRAY,
    Boolean,
    CheckConstraint,
    Column,
    FetchedValue,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import BIGINT, BYTEA, DOUBLE_PRECISION, JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from ngdata._arguments.id_space import UUIDS, TokenId
from ngdata._store.entity import Entity
from ngdata._store.fields import (
    CONNECTIONS,
    EVENTS,
    SNAPSHOTS,
    TOKENS,
    TRAJECTORIES,
    FieldTable,
    now,
)
from ngdata.errors import InvalidQueryError

__all__ = [
    "Base",
    "ConnectionModel",
    "EventModel",
    "GraphSnapshotModel",
    "SpatialIndexModel",
    "TokenModel",
    "TrajectoryModel",
]

_Json = JSONB(none_as_null=True)
_Time = TIMESTAMP(timezone=True)
_Coords: ARRAY[float] = ARRAY(DOUBLE_PRECISION(), dimensions=1)

_GENERATED: Final = text("gen_random_uuid()")
_NOW: Final = text("now()")


class Base(DeclarativeBase):
    """The base of all models: names of constraints and indexes, and the SQL types of Python's types."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - read by SQLAlchemy from the class itself
        uuid.UUID: Uuid(),
        str: Text(),
        float: DOUBLE_PRECISION(),
        bytes: BYTEA(),
        dt.datetime: _Time,
        dict[str, Any]: _Json,
        list[float | None]: _Coords,
    }
    # Values that the server sets are returned by the INSERT or UPDATE: asyncio has no lazy loading.
    # The ids are the sentinels that identify the rows of one INSERT: otherwise their server default
    # would require an INSERT per row.
    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012


def _finite(column: str, name: str | None = None) -> CheckConstraint:
    """Return a CHECK that a number is neither infinite nor NaN, which sorts above infinity."""
    return CheckConstraint(
        f"abs({column}) < 'Infinity'::double precision", name=name or f"{column}_finite"
    )


def _finite_time(column: str = "timestamp") -> CheckConstraint:
    return CheckConstraint(f'isfinite("{column}")', name=f"{column}_finite")


class TokenModel(Entity, Base):
    """`tokens.tokens`: a point on up to eight levels; the spatial index is derived from them.

    The server evaluates CHECKs in the order of their names, so the names of those on coordinates
    put the shape before the checks that rely on it.
    """

    __fields__: ClassVar[FieldTable] = TOKENS
    __tablename__ = "tokens"
    __table_args__ = (
        CheckConstraint("octet_length(binary_data) = 64", name="binary_data_64_bytes"),
        CheckConstraint(
            " AND ".join(
                f"coalesce(array_dims(coord_{axis}), '') = '[1:8]'" for axis in ("x", "y", "z")
            ),
            name="coords_are_eight",
        ),
        CheckConstraint(
            " AND ".join(
                f"'1e37'::double precision >= ALL (coord_{axis})"
                f" AND '-1e37'::double precision <= ALL (coord_{axis})"
                for axis in ("x", "y", "z")
            ),
            name="coords_in_range",
        ),
        CheckConstraint(
            "array_positions(coord_x, NULL) = array_positions(coord_y, NULL)"
            " AND array_positions(coord_x, NULL) = array_positions(coord_z, NULL)",
            name="coords_whole_levels",
        ),
        CheckConstraint("flags >= 0", name="flags_not_negative"),
        _finite_time(),
        _finite("weight"),
        # Partial, so that a token without metadata costs nothing.
        Index(
            None,
            "metadata",
            postgresql_using="gin",
            postgresql_ops={"metadata": "jsonb_path_ops"},
            postgresql_where=text("metadata IS NOT NULL"),
        ),
        {"schema": "tokens"},
    )

    id: Mapped[uuid.UUID] = mapped_column(
        primary_key=True, insert_sentinel=True, insert_default=uuid.uuid4, server_default=_GENERATED
    )
    binary_data: Mapped[bytes | None]
    coord_x: Mapped[list[float | None]]
    coord_y: Mapped[list[float | None]]
    coord_z: Mapped[list[float | None]]
    flags: Mapped[int] = mapped_column(Integer, server_default=text("0"))
    weight: Mapped[float] = mapped_column(server_default=text("1"))
    timestamp: Mapped[dt.datetime] = mapped_column(insert_default=now, server_default=_NOW)
    token_type: Mapped[str] = mapped_column(server_default=text("'default'"))
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    created_at: Mapped[dt.datetime] = mapped_column(server_default=_NOW)
    updated_at: Mapped[dt.datetime] = mapped_column(
        server_default=_NOW, server_onupdate=FetchedValue()
    )


class SpatialIndexModel(Base):
    """`tokens.spatial_index`: a row per token and level on which it is defined; written only by triggers."""

    __tablename__ = "spatial_index"
    __table_args__ = (
        Index(
            None,
            "geom",
            postgresql_using="gist",
            postgresql_ops={"geom": "gist_geometry_ops_nd"},
        ),
        {"schema": "tokens", "postgresql_partition_by": "LIST (level)"},
    )

    token_id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    level: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    # SRID 0 in a model always reads as drift, and GeoAlchemy's own index would be a second one.
    geom: Mapped[WKBElement] = mapped_column(
        Geometry("POINTZ", srid=-1, dimension=3, spatial_index=False)
    )
    token_type: Mapped[str]
    weight: Mapped[float]
    flags: Mapped[int] = mapped_column(Integer)
    timestamp: Mapped[dt.datetime]


class ConnectionModel(Entity, Base):
    """`graph.connections`: a directed edge; parallel edges and loops are allowed.

    The partial indexes serve the reverse direction of bidirectional connections, without reading
    the many connections that are not.
    """

    __fields__: ClassVar[FieldTable] = CONNECTIONS
    __tablename__ = "connections"
    __table_args__ = (
        _finite("decay_rate"),
        _finite("weight"),
        Index(None, "source_id", "target_id"),
        Index(None, "target_id", "source_id"),
        Index(
            "ix_connections_source_id_bidirectional",
            "source_id",
            postgresql_where=text("bidirectional"),
        ),
        Index(
            "ix_connections_target_id_bidirectional",
            "target_id",
            postgresql_where=text("bidirectional"),
        ),
        Index(
            "ix_connections_negative_weight",
            "id",
            postgresql_where=text("weight < 0"),
        ),
        {"schema": "graph"},
    )

    id: Mapped[uuid.UUID] = mapped_column(
        primary_key=True, insert_sentinel=True, insert_default=uuid.uuid4, server_default=_GENERATED
    )
    source_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey(TokenModel.id, ondelete="CASCADE", onupdate="CASCADE")
    )
    target_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey(TokenModel.id, ondelete="CASCADE", onupdate="CASCADE")
    )
    connection_type: Mapped[str] = mapped_column(server_default=text("'generic'"))
    weight: Mapped[float] = mapped_column(server_default=text("1"))
    decay_rate: Mapped[float | None]
    bidirectional: Mapped[bool] = mapped_column(server_default=false())
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    created_at: Mapped[dt.datetime] = mapped_column(server_default=_NOW)

    def other_end(self, token_id: TokenId) -> uuid.UUID:
        """Return the end that is not this token: its neighbor, in either direction."""
        end = uuid.UUID(UUIDS.canonical_id(token_id, "token_id"))
        if end not in (self.source_id, self.target_id):
            raise InvalidQueryError(f"connection {self.id} has no end at {end}")
        return self.target_id if end == self.source_id else self.source_id


class GraphSnapshotModel(Entity, Base):
    """`graph.graph_snapshots`: the graph at one time, and a few figures of it, or a further part of it."""

    __fields__: ClassVar[FieldTable] = SNAPSHOTS
    __tablename__ = "graph_snapshots"
    __table_args__ = (
        CheckConstraint("node_count >= 0 AND edge_count >= 0", name="counts_not_negative"),
        CheckConstraint("(part_of IS NULL) = (part IS NULL) AND part > 0", name="part_positive"),
        Index(
            None,
            "part_of",
            "part",
            unique=True,
            postgresql_where=text("part_of IS NOT NULL"),
        ),
        {"schema": "graph"},
    )

    id: Mapped[uuid.UUID] = mapped_column(
        primary_key=True, insert_sentinel=True, insert_default=uuid.uuid4, server_default=_GENERATED
    )
    label: Mapped[str | None]
    created_at: Mapped[dt.datetime] = mapped_column(server_default=_NOW)
    node_count: Mapped[int] = mapped_column(BIGINT)
    edge_count: Mapped[int] = mapped_column(BIGINT)
    mean_degree: Mapped[float | None]
    clustering_coefficient: Mapped[float | None]
    data: Mapped[bytes | None]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    part_of: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey("graph.graph_snapshots.id", ondelete="CASCADE")
    )
    part: Mapped[int | None]


class TrajectoryModel(Entity, Base):
    """`experience.experience_trajectories`: triggers keep its times, count and total up to date.

    A trajectory that has ended accepts no further events.
    """

    __fields__: ClassVar[FieldTable] = TRAJECTORIES
    __tablename__ = "experience_trajectories"
    __table_args__ = ({"schema": "experience"},)

    id: Mapped[uuid.UUID] = mapped_column(
        primary_key=True, insert_sentinel=True, insert_default=uuid.uuid4, server_default=_GENERATED
    )
    start_time: Mapped[dt.datetime | None]
    end_time: Mapped[dt.datetime | None]
    event_count: Mapped[int] = mapped_column(BIGINT, server_default=text("0"))
    total_reward: Mapped[float] = mapped_column(server_default=text("0"))
    ended_at: Mapped[dt.datetime | None]
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    created_at: Mapped[dt.datetime] = mapped_column(server_default=_NOW)


class EventModel(Entity, Base):
    """`experience.experience_events`: what happened.

    An event outlives its token and its trajectory: when one is deleted, the event stays, and its
    reference becomes NULL.  The statement that inserts an event may create the trajectory after the
    row, so that foreign key is deferred.  `entry_number` is the order in which events were written:
    it orders those with equal times.
    """

    __fields__: ClassVar[FieldTable] = EVENTS
    __tablename__ = "experience_events"
    __table_args__ = (
        _finite("priority"),
        _finite("reward"),
        _finite_time(),
        Index(None, "timestamp", "sequence_number", "entry_number", "id"),
        Index(None, "token_id", "timestamp"),
        Index(None, "trajectory_id", "sequence_number"),
        {"schema": "experience"},
    )

    id: Mapped[uuid.UUID] = mapped_column(
        primary_key=True, insert_sentinel=True, insert_default=uuid.uuid4, server_default=_GENERATED
    )
    event_type: Mapped[str]
    timestamp: Mapped[dt.datetime] = mapped_column(insert_default=now, server_default=_NOW)
    token_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey(TokenModel.id, ondelete="SET NULL", onupdate="CASCADE")
    )
    state_before: Mapped[dict[str, Any] | None]
    state_after: Mapped[dict[str, Any] | None]
    action: Mapped[dict[str, Any] | None]
    reward: Mapped[float] = mapped_column(server_default=text("0"))
    priority: Mapped[float | None]
    trajectory_id: Mapped[uuid.UUID | None] = mapped_column(
        ForeignKey(
            TrajectoryModel.id,
            ondelete="SET NULL",
            onupdate="CASCADE",
            deferrable=True,
            initially="DEFERRED",
        )
    )
    sequence_number: Mapped[int | None] = mapped_column(BIGINT)
    entry_number: Mapped[int] = mapped_column(BIGINT, Identity())
    metadata_: Mapped[dict[str, Any] | None] = mapped_column("metadata")
    created_at: Mapped[dt.datetime] = mapped_column(server_default=_NOW)


# Not a model: a migration writes its eight rows, and `set_level` changes their units and descriptions.
Table(
    "levels",
    Base.metadata,
    Column("level", Integer(), primary_key=True, autoincrement=False),
    Column("name", Text(), nullable=False),
    Column("unit", Text()),
    Column("description", Text()),
    schema="tokens",
)

# Not models: their rows have no key, and only triggers and migrations write them.
Table(
    "versions",
    Base.metadata,
    Column("relation", Text(), nullable=False),
    Column("nonce", Uuid(), nullable=False, server_default=_GENERATED),
    schema="tokens",
)
_XID: Final = text("pg_current_xact_id()::text::bigint")
Table(
    "changes",
    Base.metadata,
    Column("xid", BIGINT(), nullable=False, server_default=_XID, index=True),
    Column("logged_at", _Time, nullable=False, server_default=text("clock_timestamp()")),
    Column("relation", Text(), nullable=False),
    Column("is_extent", Boolean(), nullable=False, server_default=false()),
    *(Column(axis, ARRAY(DOUBLE_PRECISION())) for axis in "xyz"),
    Column("ids", ARRAY(Uuid())),
    Column("first_time", _Time),
    Column("last_time", _Time),
    schema="tokens",
)
Table(
    "changes_edge",
    Base.metadata,
    Column("is_doubt", Boolean(), nullable=False, server_default=false()),
    Column("complete_from", BIGINT(), nullable=False, server_default=_XID),
    Column("snapshot", Text(), nullable=False, server_default=text("pg_current_snapshot()::text")),
    Column("pruned_at", _Time, nullable=False, server_default=_NOW),
    schema="tokens",
)
Table(
    "secrets",
    Base.metadata,
    Column("secret", BYTEA(), nullable=False),
    schema="tokens",
)

# Not models: only triggers and functions of the migrations write them.
Table(
    "pins",
    Base.metadata,
    Column("number", BIGINT(), primary_key=True, autoincrement=False),
    Column("id", Uuid(), nullable=False, server_default=_GENERATED),
    Column("label", Text()),
    Column("created_at", _Time, nullable=False, server_default=text("clock_timestamp()")),
    Column("levels", JSONB(), nullable=False),
    UniqueConstraint("id", name="uq_pins_id"),
    UniqueConstraint("label", name="uq_pins_label"),
    schema="tokens",
)


def _history(table: Any, *indexes: str) -> None:
    """Declare the table of the images of a table's rows; a row that was not there has NULLs alone."""
    name = f"{table.name}_history"
    columns = [
        Column(column.name, column.type, nullable=column.name != "id") for column in table.columns
    ]
    Table(
        name,
        Base.metadata,
        Column("pin", BIGINT(), nullable=False),
        Column("existed", Boolean(), nullable=False),
        *columns,
        PrimaryKeyConstraint("id", "pin", name=f"pk_{name}"),
        *(Index(f"ix_{name}_{number}", *names.split()) for number, names in enumerate(indexes)),
        schema=table.schema,
    )


_history(TokenModel.__table__)
_history(ConnectionModel.__table__, "source_id", "target_id")
_history(
    EventModel.__table__,
    "timestamp sequence_number entry_number id",
    "token_id timestamp",
    "trajectory_id sequence_number",
)
_history(TrajectoryModel.__table__)
Table(
    "spatial_history",
    Base.metadata,
    Column("pin", BIGINT(), nullable=False),
    *(
        Column(column.name, column.type, nullable=False)
        for column in SpatialIndexModel.__table__.columns
    ),
    PrimaryKeyConstraint("token_id", "level", "pin", name="pk_spatial_history"),
    *(
        Index(
            f"ix_spatial_history_geom_{level}",
            "geom",
            postgresql_using="gist",
            postgresql_ops={"geom": "gist_geometry_ops_nd"},
            postgresql_where=text(f"level = {level}"),
        )
        for level in range(8)
    ),
    schema="tokens",
)
