"""Keep a snapshot of a graph in several rows, since PostgreSQL limits a value to 1 GB.

The first part is in the snapshot's own row, as before; each further one is in a row that names the
snapshot and goes with it.
"""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

# In the same table, so that its versions, its log and its grants hold for the parts too.
_UPGRADE = (
    """
    ALTER TABLE graph.graph_snapshots
        ADD COLUMN part_of uuid,
        ADD COLUMN part integer,
        ADD CONSTRAINT fk_graph_snapshots_part_of
            FOREIGN KEY (part_of) REFERENCES graph.graph_snapshots (id) ON DELETE CASCADE,
        ADD CONSTRAINT ck_graph_snapshots_part_positive
            CHECK ((part_of IS NULL) = (part IS NULL) AND part > 0)
    """,
    """
    CREATE UNIQUE INDEX ix_graph_snapshots_part_of_part
        ON graph.graph_snapshots (part_of, part) WHERE part_of IS NOT NULL
    """,
)

# Without its further parts, a snapshot could not be read: better no snapshot than half of one.
_DOWNGRADE = (
    """
    DELETE FROM graph.graph_snapshots WHERE id IN (
        SELECT part_of FROM graph.graph_snapshots WHERE part_of IS NOT NULL
    )
    """,
    "ALTER TABLE graph.graph_snapshots DROP COLUMN part_of, DROP COLUMN part",
)


def upgrade() -> None:
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    for statement in _DOWNGRADE:
        op.execute(statement)
