"""Schema `tokens`: tokens, their spatial index, the versions that cached answers rest on, and access.

Regions are read from `tokens.spatial_index`, which triggers derive from `tokens.tokens`: however a
token is written, its rows in the index are right when the statement ends.
"""

from __future__ import annotations

from alembic import context, op
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ngdata.errors import ConfigError

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_LEVELS = range(8)

# --- tokens.tokens ---------------------------------------------------------------------------------

# A CHECK passes on NULL, and the dimensions of '{}' are NULL.
_EIGHT = " AND ".join(
    f"coalesce(array_dims(coord_{axis}), '') = '[1:8]'" for axis in ("x", "y", "z")
)
# False if any element is out of range (NaN too, which sorts above all numbers); NULL if one is NULL.
_RANGE = " AND ".join(
    f"'1e37'::float8 >= ALL (coord_{axis}) AND '-1e37'::float8 <= ALL (coord_{axis})"
    for axis in ("x", "y", "z")
)

# The server evaluates CHECKs in the order of their names, so that array_positions, which accepts one
# dimension only, runs after coords_are_eight.
_TOKENS = f"""
CREATE TABLE tokens.tokens (
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    binary_data bytea,
    coord_x float8[] NOT NULL,
    coord_y float8[] NOT NULL,
    coord_z float8[] NOT NULL,
    flags integer NOT NULL DEFAULT 0,
    weight float8 NOT NULL DEFAULT 1,
    "timestamp" timestamptz NOT NULL DEFAULT now(),
    token_type text NOT NULL DEFAULT 'default',
    metadata jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pk_tokens PRIMARY KEY (id),
    CONSTRAINT ck_tokens_binary_data_64_bytes CHECK (octet_length(binary_data) = 64),
    CONSTRAINT ck_tokens_coords_are_eight CHECK ({_EIGHT}),
    CONSTRAINT ck_tokens_coords_in_range CHECK ({_RANGE}),
    CONSTRAINT ck_tokens_coords_whole_levels CHECK (
        array_positions(coord_x, NULL) = array_positions(coord_y, NULL)
        AND array_positions(coord_x, NULL) = array_positions(coord_z, NULL)
    ),
    CONSTRAINT ck_tokens_flags_not_negative CHECK (flags >= 0),
    CONSTRAINT ck_tokens_timestamp_finite CHECK (isfinite("timestamp")),
    CONSTRAINT ck_tokens_weight_finite CHECK (abs(weight) < 'Infinity'::float8)
)
"""

_TOUCH_FUNCTION = """
    CREATE FUNCTION tokens.touch() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $body$
    BEGIN
        NEW.updated_at := now();
        RETURN NEW;
    END
    $body$
"""

# Not ENABLE ALWAYS: a replicated row brings its own time.
_TOUCH = """
CREATE TRIGGER touch BEFORE UPDATE ON tokens.tokens
FOR EACH ROW EXECUTE FUNCTION tokens.touch()
"""

# --- tokens.spatial_index --------------------------------------------------------------------------

_ATTRIBUTES = 'token_type, weight, flags, "timestamp"'


def _spatial_index(postgis: str) -> list[str]:
    """Return the table, its partitions (one per level) and its n-dimensional index."""
    table = f"""
        CREATE TABLE tokens.spatial_index (
            token_id uuid NOT NULL,
            level integer NOT NULL,
            geom {postgis}.geometry(PointZ, 0) NOT NULL,
            token_type text NOT NULL,
            weight float8 NOT NULL,
            flags integer NOT NULL,
            "timestamp" timestamptz NOT NULL,
            CONSTRAINT pk_spatial_index PRIMARY KEY (token_id, level)
        ) PARTITION BY LIST (level)
    """
    partitions = [
        f"CREATE TABLE tokens.spatial_index_{level}"
        f" PARTITION OF tokens.spatial_index FOR VALUES IN ({level})"
        for level in _LEVELS
    ]
    index = (
        "CREATE INDEX ix_spatial_index_geom ON tokens.spatial_index"
        f" USING gist (geom {postgis}.gist_geometry_ops_nd)"
    )
    return [table, *partitions, index]


# --- the triggers that derive the index ------------------------------------------------------------
#
# - One per event: transition tables allow no more, and TRUNCATE has none.
# - Statements on transition tables run by EXECUTE: a plan cached for one row is far too slow for
#   2,000.
# - SECURITY DEFINER, since a writer has no rights on the index; hence the fixed search_path.
# - ENABLE ALWAYS, since `session_replication_role = replica` skips all other triggers.
#
# One statement may delete a token and insert it again (WITH), and either trigger may run first: so
# an insertion replaces existing rows, and a deletion removes rows only if the token no longer has
# the level.

# The columns that the index holds, compared as bytes, since -0.0 and 0.0 differ.  Without the cast,
# two ROWs would be compared field by field, by an operator that does not exist.
_IMAGE = (
    "ROW({0}.coord_x, {0}.coord_y, {0}.coord_z, {0}.token_type, {0}.weight, {0}.flags,"
    ' {0}."timestamp")::record'
)
_DIFFERS = f"{_IMAGE.format('o')} OPERATOR(pg_catalog.*<>) {_IMAGE.format('n')}"

# Joined on the id, a row whose id changed has no counterpart: it differs from all NULL.
_CHANGED_IDS = (
    f"(SELECT o.id FROM old_rows AS o LEFT JOIN new_rows AS n ON n.id = o.id WHERE {_DIFFERS})"
)
_CHANGED_ROWS = f"""
                WITH changed AS MATERIALIZED (
                    SELECT n.* FROM new_rows AS n LEFT JOIN old_rows AS o ON o.id = n.id
                    WHERE {_DIFFERS}
                )"""

_REPLACE = """
                ON CONFLICT (token_id, level) DO UPDATE SET geom = excluded.geom,
                    token_type = excluded.token_type, weight = excluded.weight,
                    flags = excluded.flags, "timestamp" = excluded."timestamp"
            """

# A statement of more rows than this inserts them without ON CONFLICT, which looks up each of them;
# only if a row is there already (a WITH that deletes a token and inserts it again) are all inserted
# again with it.  That needs a subtransaction, and a session that writes rows one by one would
# accumulate one for each: so fewer rows are inserted with ON CONFLICT at once.
_MANY = 1000


def _insert(postgis: str, rows: str) -> str:
    # Level by level (OFFSET 0: the sub-select is run, and sorted, once per level), since sorting by
    # the point alone compares the short keys that PostGIS makes for its Hilbert curve: a quarter of
    # the time of sorting by level and point.  In that order, neighbors in space share pages.
    return f"""
                INSERT INTO tokens.spatial_index (level, token_id, geom, {_ATTRIBUTES})
                SELECT l.level, p.* FROM generate_series(0, 7) AS l (level) CROSS JOIN LATERAL (
                    SELECT n.id, {postgis}.ST_MakePoint(
                        n.coord_x[l.level + 1], n.coord_y[l.level + 1], n.coord_z[l.level + 1]
                    ) AS geom, {_ATTRIBUTES}
                    FROM {rows} AS n WHERE n.coord_x[l.level + 1] IS NOT NULL
                    ORDER BY geom OFFSET 0
                ) AS p
            """


def _delete(rows: str) -> str:
    # A sub-select per row, not NOT EXISTS: for that, the planner, which has no statistics of a
    # partitioned table, would read all tokens to delete 200 (4 s instead of 0.01 at a million).
    return f"""
                DELETE FROM tokens.spatial_index AS s USING {rows} AS o
                WHERE s.token_id = o.id AND (
                    SELECT t.coord_x[s.level + 1] FROM tokens.tokens AS t WHERE t.id = o.id
                ) IS NULL
            """


def _index_triggers(postgis: str) -> list[str]:
    """Return the four trigger functions, and the triggers that call them."""
    triggers = {
        "insert": (
            "REFERENCING NEW TABLE AS new_rows",
            f"""
            IF EXISTS (SELECT FROM new_rows OFFSET {_MANY}) THEN
                BEGIN
                    EXECUTE $sql${_insert(postgis, "new_rows")}$sql$;
                    RETURN NULL;
                EXCEPTION WHEN unique_violation THEN
                    NULL;
                END;
            END IF;
            EXECUTE $sql${_insert(postgis, "new_rows")}{_REPLACE}$sql$;""",
        ),
        "update": (
            "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
            f"""
            EXECUTE $sql${_delete(_CHANGED_IDS)}$sql$;
            EXECUTE $sql${_CHANGED_ROWS}{_insert(postgis, "changed")}{_REPLACE}$sql$;""",
        ),
        "delete": (
            "REFERENCING OLD TABLE AS old_rows",
            f"""
            EXECUTE $sql${_delete("old_rows")}$sql$;""",
        ),
        "truncate": (
            "",
            """
            EXECUTE $sql$TRUNCATE tokens.spatial_index$sql$;""",
        ),
    }
    statements = []
    for event, (tables, body) in triggers.items():
        function = f"tokens.index_{event}()"
        statements += [
            f"""
            CREATE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql
            SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
            BEGIN{body}
            RETURN NULL;
            END
            $body$
            """,
            f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC",
            f"""
            CREATE TRIGGER index_{event} AFTER {event.upper()} ON tokens.tokens {tables}
            FOR EACH STATEMENT EXECUTE FUNCTION {function}
            """,
            f"ALTER TABLE tokens.tokens ENABLE ALWAYS TRIGGER index_{event}",
        ]
    return statements


# --- tokens.versions: what a cached answer is valid by ---------------------------------------------
#
# Each relation has a few nonces, and every write renews one of them.  The version of some relations
# is a hash of all the nonces that a snapshot sees: two snapshots that see different data see
# different nonces, whichever program wrote, and an old version never returns.  A rollback undoes the
# nonce with the data.
#
# No writer waits for another here, or fails because of one.  At READ COMMITTED it renews one of the
# nonces that it can lock at once, and adds one if it can lock none; at the stricter levels, where
# changing a row that another transaction changed is an error, it only adds.  Surplus nonces are
# folded by a writer at READ COMMITTED, or by a reader if there is none.
#
# The relation `redis` is never renewed: it is a secret of the database, by which readers recognize
# their own values in Redis.

# No index and much free space on a page, so that each update stays on its page (HOT) and dead rows
# are soon reused.
_VERSIONS = """
CREATE TABLE tokens.versions (
    relation text NOT NULL,
    nonce uuid NOT NULL DEFAULT gen_random_uuid()
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500)
"""

# Rows are deleted only together with a new nonce: a subset of the old ones may have been a version
# before.
_FOLD_VERSIONS = """
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

# A random one of several nonces, so that concurrent writers each find a free one: with one nonce per
# relation, they took twice the time and five times the pages.  The UPDATE checks the relation again,
# in case another row has come to that place.
_RENEW_VERSION = """
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

# The spatial index has a version of its own, since its owner may write it without the tokens.  A
# statement that names a partition fires that partition's triggers only.
_VERSIONED = {
    "tokens.tokens": ["tokens.tokens"],
    "tokens.spatial_index": [
        "tokens.spatial_index",
        *(f"tokens.spatial_index_{level}" for level in _LEVELS),
    ],
}


def _version_triggers() -> list[str]:
    """Return the nonces of each relation, and the triggers that renew them."""
    statements = []
    for relation, tables in _VERSIONED.items():
        statements.append(
            f"INSERT INTO tokens.versions (relation) SELECT '{relation}' FROM generate_series(1, 8)"
        )
        for table in tables:
            statements += [
                f"""
                CREATE TRIGGER renew_version
                AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table}
                FOR EACH STATEMENT EXECUTE FUNCTION tokens.renew_version('{relation}')
                """,
                # Otherwise a session with session_replication_role = replica would write unnoticed.
                f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER renew_version",
            ]
    return statements


# --- access ----------------------------------------------------------------------------------------
#
# The owner is the user who migrates, and has all rights by that.  A *writer* reads everything and
# writes the tables that nothing derives; an *analyst* reads.  `tokens.grant_access` grants a role
# one of the two, in all three schemas (so it can be called once 0003 is applied).  Roles belong to
# the whole cluster: the function accepts any role, so that two databases need not share theirs.  The
# groups `ngdata_writer` and `ngdata_analyst` are created if this user may create roles; otherwise an
# administrator creates them, and the owner calls the function:
#
#     CREATE ROLE ngdata_analyst NOLOGIN;
#     SELECT tokens.grant_access('ngdata_analyst', 'analyst');

# A table that a later migration creates is readable at once; that migration grants writing.  Objects
# of other owners in these schemas are theirs to grant.  No percent signs: offline SQL doubles them.
_GRANT_ACCESS = """
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

# Two databases of a cluster may be migrated at once: the second then finds that the group exists.
_CREATE_GROUPS = """
    DO $do$
    DECLARE
        grantee text;
    BEGIN
        FOREACH grantee IN ARRAY ARRAY['ngdata_writer', 'ngdata_analyst'] LOOP
            IF pg_catalog.to_regrole(grantee) IS NULL THEN
                BEGIN
                    EXECUTE 'CREATE ROLE ' || grantee || ' NOLOGIN';
                EXCEPTION
                    WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN NULL;
                END;
            END IF;
        END LOOP;
    END
    $do$
"""

_READABLE = ", ".join(
    ["tokens.alembic_version", "tokens.versions", *(t for ts in _VERSIONED.values() for t in ts)]
)

_GRANTS = f"""
    DO $do$
    DECLARE
        grantee text;
    BEGIN
        FOREACH grantee IN ARRAY ARRAY['ngdata_writer', 'ngdata_analyst'] LOOP
            CONTINUE WHEN pg_catalog.to_regrole(grantee) IS NULL;
            EXECUTE 'GRANT USAGE ON SCHEMA tokens TO ' || grantee;
            EXECUTE 'GRANT SELECT ON TABLE {_READABLE} TO ' || grantee;
            EXECUTE 'ALTER DEFAULT PRIVILEGES IN SCHEMA tokens'
                ' GRANT SELECT ON TABLES TO ' || grantee;
        END LOOP;
        IF pg_catalog.to_regrole('ngdata_writer') IS NOT NULL THEN
            GRANT INSERT, UPDATE, DELETE ON TABLE tokens.tokens TO ngdata_writer;
        END IF;
    END
    $do$
"""

# A group that has members, or rights in another database, is still in use.
_DROP_GROUPS = """
    DO $do$
    DECLARE
        grantee text;
    BEGIN
        FOREACH grantee IN ARRAY ARRAY['ngdata_writer', 'ngdata_analyst'] LOOP
            CONTINUE WHEN pg_catalog.to_regrole(grantee) IS NULL;
            EXECUTE 'ALTER DEFAULT PRIVILEGES IN SCHEMA tokens'
                ' REVOKE ALL ON TABLES FROM ' || grantee;
            EXECUTE 'REVOKE ALL ON TABLE tokens.alembic_version FROM ' || grantee;
            EXECUTE 'REVOKE ALL ON SCHEMA tokens FROM ' || grantee;
            CONTINUE WHEN EXISTS (
                SELECT FROM pg_catalog.pg_auth_members
                WHERE roleid = grantee::pg_catalog.regrole
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
    _create_postgis()
    postgis = _postgis_schema()
    for statement in (
        _TOKENS,
        _TOUCH_FUNCTION,
        "REVOKE ALL ON FUNCTION tokens.touch() FROM PUBLIC",
        _TOUCH,
        *_spatial_index(postgis),
        *_index_triggers(postgis),
        _VERSIONS,
        "INSERT INTO tokens.versions (relation) VALUES ('redis')",
        _FOLD_VERSIONS,
        _RENEW_VERSION,
        "REVOKE ALL ON FUNCTION tokens.renew_version() FROM PUBLIC",
        *_version_triggers(),
        _GRANT_ACCESS,
        "REVOKE ALL ON FUNCTION tokens.grant_access(name, text) FROM PUBLIC",
        _CREATE_GROUPS,
        _GRANTS,
    ):
        op.execute(statement)


def downgrade() -> None:
    # PostGIS stays: other schemas may use it.
    for statement in (
        "DROP TABLE tokens.tokens, tokens.spatial_index, tokens.versions",
        "DROP FUNCTION tokens.touch(), tokens.index_insert(), tokens.index_update(),"
        " tokens.index_delete(), tokens.index_truncate(), tokens.renew_version(),"
        " tokens.fold_versions(), tokens.grant_access(name, text)",
        _DROP_GROUPS,
    ):
        op.execute(statement)


def _create_postgis() -> None:
    if context.is_offline_mode():
        op.execute("CREATE EXTENSION IF NOT EXISTS postgis WITH SCHEMA public")
        return
    connection = op.get_bind()
    if connection.scalar(text("SELECT EXISTS (SELECT FROM pg_extension WHERE extname='postgis')")):
        return
    try:
        connection.execute(text("CREATE EXTENSION postgis WITH SCHEMA public"))
    except DBAPIError as error:
        raise ConfigError(
            f"PostGIS cannot be created in this database: {error.orig}. If the server lacks it, "
            "install it there (on Debian: apt-get install postgresql-15-postgis-3, with the "
            "server's own number); if this user may not, a superuser must run "
            "`CREATE EXTENSION postgis` in this database. Then migrate again"
        ) from None


def _postgis_schema() -> str:
    """Return the schema that PostGIS is in; its functions must be qualified with it."""
    if context.is_offline_mode():
        return "public"
    return str(
        op.get_bind().scalar(
            text("SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'postgis'")
        )
    )
