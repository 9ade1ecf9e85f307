"""Who may do what: a function that grants access, and two groups that have it.

An owner is whoever migrates: all rights come with that.  A *writer* reads all and writes the truth,
not what triggers derive from it; an *analyst* reads.  `tokens.grant_access` gives a role one of the
two, and as all roles are the whole cluster's, it takes any role, so that two databases need not share
theirs.  The groups `ngdata_writer` and `ngdata_analyst` are made if this user may make roles; where
not, an administrator makes them, and the owner calls the function::

    CREATE ROLE ngdata_analyst NOLOGIN;
    SELECT tokens.grant_access('ngdata_analyst', 'analyst');
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# A later table of ours is readable at once; the migration that makes it says who may write it.
# Without percent signs: SQL that is written to a file has them doubled.
# What others made in our schemas is theirs to grant.
_FUNCTION = """
    CREATE FUNCTION tokens.grant_access(grantee name, access text) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $body$
    DECLARE
        owner text := (
            SELECT quote_ident(pg_get_userbyid(nspowner)) FROM pg_namespace
            WHERE nspname = 'tokens'
        );
        whom text := quote_ident(grantee);
        defaults text := 'ALTER DEFAULT PRIVILEGES FOR ROLE ' || owner
            || ' IN SCHEMA tokens, graph, experience ';
        relation text;
    BEGIN
        IF access IS NULL OR access NOT IN ('writer', 'analyst', 'none') THEN
            RAISE invalid_parameter_value USING MESSAGE =
                'access is writer, analyst or none, not ' || quote_nullable(access);
        ELSIF to_regrole(whom) IS NULL THEN
            RAISE undefined_object USING MESSAGE =
                'there is no role ' || quote_nullable(grantee) || '; make it with CREATE ROLE';
        ELSIF whom = owner THEN
            RAISE invalid_parameter_value USING MESSAGE =
                whom || ' owns the tables, and has all rights by that';
        END IF;
        EXECUTE 'REVOKE ALL ON SCHEMA tokens, graph, experience FROM ' || whom;
        EXECUTE defaults || 'REVOKE ALL ON TABLES FROM ' || whom;
        IF access <> 'none' THEN
            EXECUTE 'GRANT USAGE ON SCHEMA tokens, graph, experience TO ' || whom;
            EXECUTE defaults || 'GRANT SELECT ON TABLES TO ' || whom;
        END IF;
        FOR relation IN
            SELECT c.oid::regclass FROM pg_class AS c
            JOIN pg_namespace AS n ON n.oid = c.relnamespace
            WHERE n.nspname IN ('tokens', 'graph', 'experience')
                AND c.relkind IN ('r', 'p', 'v', 'm') AND pg_has_role(c.relowner, 'USAGE')
        LOOP
            EXECUTE 'REVOKE ALL ON TABLE ' || relation || ' FROM ' || whom;
            IF access <> 'none' THEN
                EXECUTE 'GRANT SELECT ON TABLE ' || relation || ' TO ' || whom;
            END IF;
        END LOOP;
        IF access = 'writer' THEN
            EXECUTE 'GRANT INSERT, UPDATE, DELETE ON TABLE tokens.tokens, graph.connections,'
                ' graph.graph_snapshots, experience.experience_events,'
                ' experience.experience_trajectories TO ' || whom;
        END IF;
    END
    $body$
"""

# Two databases of a cluster may be migrated at once: the second then finds the group made.
_GROUPS = """
    DO $do$
    DECLARE
        access text;
        grantee name;
    BEGIN
        FOREACH access IN ARRAY ARRAY['writer', 'analyst'] LOOP
            grantee := 'ngdata_' || access;
            IF pg_catalog.to_regrole(grantee::text) IS NULL THEN
                BEGIN
                    EXECUTE 'CREATE ROLE ' || grantee || ' NOLOGIN';
                EXCEPTION
                    WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN NULL;
                END;
            END IF;
            IF pg_catalog.to_regrole(grantee::text) IS NOT NULL THEN
                PERFORM tokens.grant_access(grantee, access);
            END IF;
        END LOOP;
    END
    $do$
"""

# A group that has members, or rights in another database, is still somebody's.
_NO_GROUPS = """
    DO $do$
    DECLARE
        grantee name;
    BEGIN
        FOREACH grantee IN ARRAY ARRAY['ngdata_writer', 'ngdata_analyst']::name[] LOOP
            CONTINUE WHEN pg_catalog.to_regrole(grantee::text) IS NULL;
            PERFORM tokens.grant_access(grantee, 'none');
            CONTINUE WHEN EXISTS (
                SELECT FROM pg_catalog.pg_auth_members
                WHERE roleid = grantee::text::pg_catalog.regrole
                    AND member <> current_user::pg_catalog.regrole
            );
            BEGIN
                EXECUTE 'DROP ROLE ' || grantee;
            EXCEPTION
                WHEN insufficient_privilege OR dependent_objects_still_exist THEN NULL;
            END;
        END LOOP;
    END
    $do$
"""


def upgrade() -> None:
    op.execute(_FUNCTION)
    op.execute("REVOKE ALL ON FUNCTION tokens.grant_access(name, text) FROM PUBLIC")
    op.execute(_GROUPS)


def downgrade() -> None:
    op.execute(_NO_GROUPS)
    op.execute("DROP FUNCTION tokens.grant_access(name, text)")
