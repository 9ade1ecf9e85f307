"""What the cache asks of the server: the reader's identity, the current version, the role's secret.

Nonces (see 0001) renew the version at every write.  The version also covers what can change an
answer without a write: tables that are restored, swapped, attached, detached or inherited from,
columns that are renamed, and triggers that were off for a while.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# No two databases share answers, nor do two roles, which may see different rows.  A role that is
# dropped and created again is another role.  The start of the server counts too: after a restart from
# an older copy of its files, it gives the transactions and tables that the copy lacks the same numbers
# again, so that another change could have the version of the lost one.
_READER_IDENTITY = """
CREATE FUNCTION tokens.reader_identity() RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    RETURN concat_ws('/', (SELECT system_identifier FROM pg_control_system()),
        (SELECT oid FROM pg_database WHERE datname = current_database()),
        (SELECT oid FROM pg_roles WHERE rolname = current_user),
        extract(epoch FROM pg_postmaster_start_time()));
END
$body$
"""

# A transaction that alters a table, a trigger or a parent leaves its own id (xmin) in the catalog,
# so that a trigger which was disabled and enabled again is noticed; one that does so twice,
# and reads in between, leaves it at two places (ctid).  Rewriting a table without
# changing its rows (CLUSTER, VACUUM FULL) renews the version too, which costs one more read.
#
# A version exists only while every change is tracked: each table and each of its descendants has the
# trigger for all statements, and no parent other than these, since a statement that names a parent
# fires its triggers alone; this role sees all rows; and no subscription writes without triggers.
#
# One plan for all calls: planning takes longer than the query.  No percent signs: offline SQL
# doubles them.
_CURRENT_VERSION = """
CREATE FUNCTION tokens.current_version(relations text[]) RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $body$
DECLARE
    is_tracked boolean;
    structure text;
    nonces text;
    total bigint;
    of_relations bigint;
BEGIN
    WITH RECURSIVE members AS (
        SELECT r.name, c.oid AS member, c.oid AS root, n.oid AS schema, NULL::text AS attached
        FROM unnest(relations) AS r (name)
        LEFT JOIN pg_namespace AS n ON n.nspname = split_part(r.name, '.', 1)
        LEFT JOIN pg_class AS c
            ON c.relnamespace = n.oid AND c.relname = split_part(r.name, '.', 2)
        UNION ALL
        SELECT m.name, i.inhrelid, NULL, NULL, concat_ws(' ', i.xmin, i.ctid)
        FROM members AS m JOIN pg_inherits AS i ON i.inhparent = m.member
    )
    SELECT
        bool_and((
            c.relkind IN ('r', 'p')
            AND t.tgenabled = 'A' AND t.tgtype = 60 AND t.tgqual IS NULL AND t.tgattr = ''
            AND t.tgfoid = to_regprocedure('tokens.renew_version()')
            AND t.tgargs = convert_to(m.name, 'UTF8') || '\\x00'::bytea
            AND (m.root IS NULL
                OR has_schema_privilege(m.schema, 'USAGE')
                AND has_table_privilege(m.root, 'SELECT') AND NOT row_security_active(m.root))
        ) IS TRUE) AND NOT EXISTS (
            SELECT FROM pg_inherits WHERE inhrelid IN (SELECT member FROM members)
                AND inhparent NOT IN (SELECT member FROM members)
        ) AND NOT EXISTS (
            SELECT FROM pg_subscription
            WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        ),
        string_agg(
            concat_ws(' ', c.oid, c.relfilenode, c.xmin, c.ctid, m.attached, t.xmin, t.ctid,
                (SELECT string_agg(a.xmin::text || a.ctid::text, ' ' ORDER BY a.attnum)
                    FROM pg_attribute AS a
                    WHERE a.attrelid = CASE WHEN c.relispartition THEN m.root ELSE m.member END
                        AND a.attnum > 0)),
            ',' ORDER BY c.oid
        )
    INTO is_tracked, structure
    FROM members AS m
    LEFT JOIN pg_class AS c ON c.oid = m.member
    LEFT JOIN pg_trigger AS t ON t.tgrelid = m.member AND t.tgname = 'renew_version';
    IF NOT is_tracked THEN
        RETURN NULL;
    END IF;
    -- Restoring this table alone would bring old nonces back, so its own identity counts too.
    SELECT string_agg(v.nonce::text, '' ORDER BY v.nonce), count(*), count(DISTINCT v.relation)
    INTO nonces, total, of_relations
    FROM tokens.versions AS v WHERE v.relation = ANY (relations);
    IF of_relations < cardinality(relations) THEN
        RETURN NULL;
    END IF;
    RETURN encode(sha256(convert_to(
        structure || nonces || (
            SELECT concat_ws(' ', c.oid, c.relfilenode, c.xmin, c.ctid) FROM pg_class AS c
            WHERE c.oid = to_regclass('tokens.versions')
        ), 'UTF8')), 'hex') || 'n' || total;
END
$body$
"""

# Only its owner reads it: `grant_access` and default privileges grant SELECT on all tables, and
# row-level security without a policy still shows others no row.
_SECRETS = (
    "CREATE TABLE tokens.secrets (secret bytea NOT NULL)",
    "ALTER TABLE tokens.secrets ENABLE ROW LEVEL SECURITY",
    "INSERT INTO tokens.secrets SELECT sha256(string_agg(uuid_send(gen_random_uuid()), ''))"
    " FROM generate_series(1, 4)",
)

# In a SECURITY DEFINER function, `current_user` is the owner; the setting `role` is still the
# caller's, and 'none' without SET ROLE.  It is a name, which another role may have got since: hence
# the membership.  A dump takes the secret to other databases, whose roles may have the same numbers:
# hence server and database.  The nested hash, as in HMAC, cannot be extended to another
# role's number.
_SIGNING = """
CREATE FUNCTION tokens.redis_secret() RETURNS text LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    caller name := coalesce(nullif(current_setting('role'), 'none'), session_user);
BEGIN
    RETURN (
        SELECT encode(sha256(s.secret || sha256(s.secret || convert_to(concat_ws('/',
            (SELECT system_identifier FROM pg_control_system()),
            (SELECT oid FROM pg_database WHERE datname = current_database()),
            r.oid
        ), 'UTF8'))), 'hex')
        FROM tokens.secrets AS s, pg_roles AS r
        WHERE r.rolname = caller AND pg_has_role(session_user, r.oid, 'MEMBER')
    );
END
$body$
"""


def upgrade() -> None:
    for statement in (
        _READER_IDENTITY,
        _CURRENT_VERSION,
        *_SECRETS,
        _SIGNING,
        # This secret was known to every reader.
        "DELETE FROM tokens.versions WHERE relation = 'redis'",
    ):
        op.execute(statement)


def downgrade() -> None:
    for statement in (
        "DROP FUNCTION tokens.reader_identity(), tokens.current_version(text[]),"
        " tokens.redis_secret()",
        "DROP TABLE tokens.secrets",
        "INSERT INTO tokens.versions (relation) VALUES ('redis')",
    ):
        op.execute(statement)
