"""Levels with units and descriptions, and an index of the tokens' metadata."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# --- levels ----------------------------------------------------------------------------------------

_LEVELS = """
CREATE TABLE tokens.levels (
    level integer NOT NULL,
    name text NOT NULL,
    unit text,
    description text,
    CONSTRAINT pk_levels PRIMARY KEY (level)
)
"""

_NAMES = (
    "physical",
    "sensory",
    "motor",
    "emotional",
    "cognitive",
    "social",
    "temporal",
    "abstract",
)

_ROWS = "INSERT INTO tokens.levels (level, name) VALUES " + ", ".join(
    f"({level}, '{name}')" for level, name in enumerate(_NAMES)
)

# Units are rarely written, so one nonce is enough; concurrent writers add more.
_VERSION = (
    "INSERT INTO tokens.versions (relation) VALUES ('tokens.levels')",
    """
    CREATE TRIGGER renew_version AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON tokens.levels
    FOR EACH STATEMENT EXECUTE FUNCTION tokens.renew_version('tokens.levels')
    """,
    "ALTER TABLE tokens.levels ENABLE ALWAYS TRIGGER renew_version",
)

# --- access ----------------------------------------------------------------------------------------

# A writer sets units and descriptions; the levels themselves are fixed.
_UPDATE_LEVELS = "GRANT UPDATE (unit, description) ON TABLE tokens.levels TO "


def _grant_access(more_for_writers: str = "") -> str:
    """Return the function of 0001, with another statement for writers."""
    return f"""
    CREATE OR REPLACE FUNCTION tokens.grant_access(grantee name, access text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
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
                ' experience.experience_trajectories TO ' || whom;{more_for_writers}
        END IF;
    END
    $body$
    """


# Roles that are writers already: those that may update tokens.
_GRANTS = f"""
    DO $do$
    DECLARE
        grantee text;
    BEGIN
        FOR grantee IN
            SELECT DISTINCT a.grantee::pg_catalog.regrole
            FROM pg_catalog.pg_class AS c, pg_catalog.aclexplode(c.relacl) AS a
            WHERE c.oid = 'tokens.tokens'::pg_catalog.regclass AND a.privilege_type = 'UPDATE'
                AND a.grantee NOT IN (0, c.relowner)
        LOOP
            EXECUTE '{_UPDATE_LEVELS}' || grantee;
        END LOOP;
    END
    $do$
"""

# --- metadata --------------------------------------------------------------------------------------

# A token without metadata is not in the index, so writing it costs nothing more.
_METADATA_INDEX = """
CREATE INDEX ix_tokens_metadata ON tokens.tokens USING gin (metadata jsonb_path_ops)
WHERE metadata IS NOT NULL
"""


def upgrade() -> None:
    for statement in (
        _LEVELS,
        _ROWS,
        *_VERSION,
        # Whoever reads a level reads its unit, also a role that was granted some tables only.
        "GRANT SELECT ON TABLE tokens.levels TO PUBLIC",
        _grant_access(f" EXECUTE '{_UPDATE_LEVELS}' || whom;"),
        _GRANTS,
        _METADATA_INDEX,
    ):
        op.execute(statement)


def downgrade() -> None:
    for statement in (
        "DROP INDEX tokens.ix_tokens_metadata",
        _grant_access(),
        "DROP TABLE tokens.levels",
        "DELETE FROM tokens.versions WHERE relation = 'tokens.levels'",
    ):
        op.execute(statement)
