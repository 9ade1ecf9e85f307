"""Connections between tokens, indexed from both ends, and snapshots of the graph."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# A connection is nothing without its ends: it goes with either.
_STATEMENTS = (
    "CREATE SCHEMA graph",
    """
    CREATE TABLE graph.connections (
        id uuid NOT NULL DEFAULT gen_random_uuid(),
        source_id uuid NOT NULL,
        target_id uuid NOT NULL,
        connection_type text NOT NULL DEFAULT 'generic',
        weight float8 NOT NULL DEFAULT 1,
        decay_rate float8,
        bidirectional boolean NOT NULL DEFAULT false,
        metadata jsonb,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_connections PRIMARY KEY (id),
        CONSTRAINT fk_connections_source_id FOREIGN KEY (source_id)
            REFERENCES tokens.tokens (id) ON UPDATE CASCADE ON DELETE CASCADE,
        CONSTRAINT fk_connections_target_id FOREIGN KEY (target_id)
            REFERENCES tokens.tokens (id) ON UPDATE CASCADE ON DELETE CASCADE,
        CONSTRAINT ck_connections_decay_rate_finite CHECK (abs(decay_rate) < 'Infinity'::float8),
        CONSTRAINT ck_connections_weight_finite CHECK (abs(weight) < 'Infinity'::float8)
    )
    """,
    """
    CREATE INDEX ix_connections_source_id_target_id
        ON graph.connections (source_id, target_id)
    """,
    """
    CREATE INDEX ix_connections_target_id_source_id
        ON graph.connections (target_id, source_id)
    """,
    # Against the arrow of a hub: only what can be gone both ways, not all that leads there.
    """
    CREATE INDEX ix_connections_source_id_bidirectional
        ON graph.connections (source_id) WHERE bidirectional
    """,
    """
    CREATE INDEX ix_connections_target_id_bidirectional
        ON graph.connections (target_id) WHERE bidirectional
    """,
    """
    CREATE TABLE graph.graph_snapshots (
        id uuid NOT NULL DEFAULT gen_random_uuid(),
        label text,
        created_at timestamptz NOT NULL DEFAULT now(),
        node_count bigint NOT NULL,
        edge_count bigint NOT NULL,
        mean_degree float8,
        clustering_coefficient float8,
        data bytea,
        metadata jsonb,
        CONSTRAINT pk_graph_snapshots PRIMARY KEY (id),
        CONSTRAINT ck_graph_snapshots_counts_not_negative
            CHECK (node_count >= 0 AND edge_count >= 0)
    )
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TABLE graph.graph_snapshots, graph.connections")
    op.execute("DROP SCHEMA graph")
