"""What a cached answer is true by: per relation, a few nonces, one of which every write renews.

The version of some relations is made of all the nonces that a snapshot sees.  Two snapshots that
see different data see different nonces, whoever wrote, and an old version never comes back; a
rollback takes the nonce with the data.

No writer waits for another here, or fails because of one: at READ COMMITTED it renews one of the
nonces that it can lock at once, and adds one where it can lock none; at the stricter levels, where a
row that somebody changed is an error, it only adds.  What is too many is folded, by a writer at READ
COMMITTED, or by a reader where there is none.

One more, which nothing renews, is a secret of the database: by it, readers know their own values in
Redis.
"""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# The spatial index has its own: its owner may write it without the tokens.
RELATIONS = (
    "tokens.tokens",
    "tokens.spatial_index",
    "graph.connections",
    "graph.graph_snapshots",
    "experience.experience_events",
    "experience.experience_trajectories",
)

# No index, and much room on a page: then each change is a short one on the same page, and what is
# dead is soon reused.
_TABLE = """
CREATE TABLE tokens.versions (
    relation text NOT NULL,
    nonce uuid NOT NULL DEFAULT gen_random_uuid()
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500)
"""

# Any of several, so that writers at once find one each: with one alone they took twice the time and
# five times the pages.  The relation is asked again, should the place have become another's.
_FUNCTION = """
CREATE FUNCTION tokens.renew_version() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    free tid;
BEGIN
    IF current_setting('transaction_isolation') IN ('read committed', 'read uncommitted') THEN
        IF random() < 0.02 THEN
            PERFORM tokens.fold_versions();
        END IF;
        free := (
            SELECT v.ctid FROM tokens.versions AS v WHERE v.relation = TG_ARGV[0]
            ORDER BY random() LIMIT 1 FOR UPDATE SKIP LOCKED
        );
        UPDATE tokens.versions SET nonce = gen_random_uuid()
        WHERE ctid = free AND relation = TG_ARGV[0];
        IF FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    INSERT INTO tokens.versions (relation) VALUES (TG_ARGV[0]);
    RETURN NULL;
END
$body$
"""

# Those that go, go beside a new one: fewer of the old ones may have been a version before.
_FOLD = """
CREATE FUNCTION tokens.fold_versions() RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    several text;
    free tid[];
BEGIN
    FOR several IN
        SELECT relation FROM tokens.versions GROUP BY relation HAVING count(*) > 16
    LOOP
        free := ARRAY(
            SELECT v.ctid FROM tokens.versions AS v WHERE v.relation = several
            FOR UPDATE SKIP LOCKED
        );
        UPDATE tokens.versions SET nonce = gen_random_uuid()
        WHERE ctid = free[1] AND relation = several;
        IF FOUND THEN
            DELETE FROM tokens.versions WHERE ctid = ANY (free[9:]) AND relation = several;
        END IF;
    END LOOP;
END
$body$
"""


def upgrade() -> None:
    op.execute(_TABLE)
    op.execute("INSERT INTO tokens.versions (relation) VALUES ('redis')")
    op.execute(_FOLD)
    op.execute(_FUNCTION)
    op.execute("REVOKE ALL ON FUNCTION tokens.renew_version() FROM PUBLIC")
    for relation in RELATIONS:
        op.execute(f"""
            INSERT INTO tokens.versions (relation)
            SELECT '{relation}' FROM generate_series(1, 8)
        """)
        for table in (relation, *_partitions(relation)):
            op.execute(f"""
                CREATE TRIGGER renew_version
                AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
                FOR EACH STATEMENT EXECUTE FUNCTION tokens.renew_version('{relation}')
            """)
            # Or a session in the role of a replica would change what nobody is told of.
            op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER renew_version")


def downgrade() -> None:
    for relation in RELATIONS:
        for table in (relation, *_partitions(relation)):
            op.execute(f"DROP TRIGGER renew_version ON {table}")
    op.execute("DROP FUNCTION tokens.renew_version()")
    op.execute("DROP FUNCTION tokens.fold_versions()")
    op.execute("DROP TABLE tokens.versions")


def _partitions(relation: str) -> list[str]:
    # A statement that names a partition fires that partition's triggers alone.
    return [f"{relation}_{level}" for level in range(8)] if relation.endswith("index") else []
