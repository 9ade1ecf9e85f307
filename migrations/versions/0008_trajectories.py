"""Trajectories that can be ended: from then on they take no more events, whoever writes them.

Who adds events has the trajectory's row locked, and so has who ends it: so the one that comes second
sees what the first has done.  What an ended one has may still be corrected, and taken out.
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# Not in the role of a replica: what it is sent was allowed where it was written.
_STATEMENTS = (
    "ALTER TABLE experience.experience_trajectories ADD COLUMN ended_at timestamptz",
    """
    CREATE FUNCTION experience.keep_ended() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $body$
    BEGIN
        RAISE integrity_constraint_violation USING MESSAGE = 'trajectory ' || OLD.id
            || ' has ended and takes no more events; record them in another';
    END
    $body$
    """,
    "REVOKE ALL ON FUNCTION experience.keep_ended() FROM PUBLIC",
    """
    CREATE TRIGGER keep_ended BEFORE UPDATE ON experience.experience_trajectories FOR EACH ROW
    WHEN (OLD.ended_at IS NOT NULL AND NEW.ended_at IS NOT NULL
        AND NEW.event_count > OLD.event_count)
    EXECUTE FUNCTION experience.keep_ended()
    """,
)


def upgrade() -> None:
    for statement in _STATEMENTS:
        op.execute(statement)


def downgrade() -> None:
    op.execute("DROP TRIGGER keep_ended ON experience.experience_trajectories")
    op.execute("DROP FUNCTION experience.keep_ended()")
    op.execute("ALTER TABLE experience.experience_trajectories DROP COLUMN ended_at")
