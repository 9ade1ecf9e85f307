"""Log what each write touched, so that cached answers outlive writes elsewhere.

Nonces (see 0001) say that something changed; `tokens.changes` says where.  A reader compares the
places and ids that were logged since the snapshot of its answer with what the answer depends on.
The version has a part for the structure, because the log says nothing of a change without a write.
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# --- tables ----------------------------------------------------------------------------------------
#
# A row for each write statement that touched rows.  Of tokens, it has the places of each touched
# token on all levels, the old and the new: arrays of eight columns, as `coord_x` is, and a row for
# each; or, if `is_extent`, two rows, the corners of the box around all.  Without places, it means
# everything.  `ids` are the touched tokens, of connections their ends; NULL: not known.  The times
# are of the touched events.
#
# Transaction ids are of 64 bits, so none comes again.  What is written and what is logged have the
# same one, so they are visible together, and a rollback undoes both.

_TABLES = (
    """
    CREATE TABLE tokens.changes (
        xid bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
        logged_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        relation text NOT NULL,
        is_extent boolean NOT NULL DEFAULT false,
        x float8[],
        y float8[],
        z float8[],
        ids uuid[],
        first_time timestamptz,
        last_time timestamptz
    )
    """,
    # Random numbers are not worth compressing.
    *(f"ALTER TABLE tokens.changes ALTER {name} SET STORAGE EXTERNAL" for name in ("x", "y", "z")),
    "CREATE INDEX ix_changes_xid ON tokens.changes (xid)",
    # One row without doubt: the log is complete from a transaction on, and the last pruning saw that
    # snapshot.  A row with doubt: somebody wrote the spatial index by hand, so tokens may be elsewhere
    # in it than the log says; `ngdata reindex` compares them, and deletes these rows.
    """
    CREATE TABLE tokens.changes_edge (
        is_doubt boolean NOT NULL DEFAULT false,
        complete_from bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint,
        snapshot text NOT NULL DEFAULT pg_current_snapshot()::text,
        pruned_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "INSERT INTO tokens.changes_edge DEFAULT VALUES",
)

# --- the triggers that log -------------------------------------------------------------------------
#
# As those of 0001: for each statement, ENABLE ALWAYS, SECURITY DEFINER.  A statement on transition
# tables alone, without a join, has one plan for any number of rows, which is kept.

_MANY = 256
"""More touched points are logged as one box for each level; more ids, not at all."""

_OLD, _NEW = "SELECT {0} FROM old_rows", "SELECT {0} FROM new_rows"
_TOUCHED = {"INSERT": _NEW, "UPDATE": f"{_OLD} UNION ALL {_NEW}", "DELETE": _OLD}

_LEVELS = range(1, 9)

_DEFINED = ", ".join(f"CASE WHEN bool_or(coord_x[{n}] IS NOT NULL) THEN {n} END" for n in _LEVELS)


def _by_event(body: str, columns: str) -> str:
    """Return the statements for each event, on `{rows}`, the touched rows."""
    cases = "".join(
        f"""
        WHEN '{event}' THEN {body.format(rows=f"({rows.format(columns)})")}"""
        for event, rows in _TOUCHED.items()
    )
    return f"CASE TG_OP{cases}\n        END CASE;"


# To look for all extremes of eight levels would take a sixth of the time of loading tokens of one.
_TOKENS = f"""
            INSERT INTO tokens.changes (relation, x, y, z, ids)
            SELECT 'tokens.tokens', array_agg(coord_x), array_agg(coord_y), array_agg(coord_z),
                array_agg(id)
            FROM (SELECT * FROM {{rows}} AS r LIMIT {_MANY + 1}) AS first
            HAVING count(*) BETWEEN 1 AND {_MANY}
                AND sum(cardinality(array_remove(coord_x, NULL))) <= {_MANY};
            GET DIAGNOSTICS written = ROW_COUNT;
            IF written = 0 THEN
                SELECT array_remove(ARRAY[{_DEFINED}], NULL), count(*) > 0 INTO levels, is_touched
                FROM {{rows}} AS r;
                IF is_touched THEN
                    SELECT string_agg('ARRAY[' || lows || ', ' || highs || ']', ', ' ORDER BY axis)
                    INTO corners FROM (
                        SELECT axis,
                            'ARRAY[' || string_agg(CASE WHEN level = ANY (levels)
                                THEN 'min(coord_' || axis || '[' || level || '])'
                                ELSE 'NULL' END, ', ' ORDER BY level) || ']::float8[]' AS lows,
                            'ARRAY[' || string_agg(CASE WHEN level = ANY (levels)
                                THEN 'max(coord_' || axis || '[' || level || '])'
                                ELSE 'NULL' END, ', ' ORDER BY level) || ']::float8[]' AS highs
                        FROM unnest('{{{{x,y,z}}}}'::text[]) AS a (axis), generate_series(1, 8) AS l (level)
                        GROUP BY axis
                    ) AS axes;
                    EXECUTE 'INSERT INTO tokens.changes (relation, is_extent, x, y, z)'
                        ' SELECT ''tokens.tokens'', true, ' || corners
                        || $sql$ FROM {{rows}} AS r$sql$;
                END IF;
            END IF;"""

_CONNECTIONS = f"""
            INSERT INTO tokens.changes (relation, ids)
            SELECT 'graph.connections', CASE WHEN count(*) <= {_MANY}
                THEN array_agg(source_id) || array_agg(target_id) END
            FROM (SELECT * FROM {{rows}} AS r LIMIT {_MANY + 1}) AS first HAVING count(*) > 0;"""

_EVENTS = f"""
            INSERT INTO tokens.changes (relation, first_time, last_time, ids)
            SELECT 'experience.experience_events', min("timestamp"), max("timestamp"), (
                SELECT array_remove(array_agg(token_id), NULL)
                FROM (SELECT * FROM {{rows}} AS r LIMIT {_MANY + 1}) AS first
                HAVING count(*) <= {_MANY}
            )
            FROM {{rows}} AS r HAVING count(*) > 0;"""

_BODIES = {
    "tokens.log_tokens": _by_event(_TOKENS, "id, coord_x, coord_y, coord_z"),
    "tokens.log_connections": _by_event(_CONNECTIONS, "source_id, target_id"),
    "tokens.log_events": _by_event(_EVENTS, '"timestamp", token_id'),
    # TRUNCATE, which has no transition tables, and tables whose rows need not be told apart.
    "tokens.log_all": """
        INSERT INTO tokens.changes (relation) VALUES (TG_ARGV[0]);""",
    # What the triggers of the tokens derive is where the log of the tokens says.
    "tokens.log_index": """
        IF pg_trigger_depth() > 1 THEN
            GET DIAGNOSTICS callers = PG_CONTEXT;
            IF position('tokens.index_' IN callers) > 0 THEN
                RETURN NULL;
            END IF;
        END IF;
        INSERT INTO tokens.changes (relation) VALUES ('tokens.spatial_index');
        INSERT INTO tokens.changes_edge (is_doubt)
        SELECT true WHERE NOT EXISTS (SELECT FROM tokens.changes_edge WHERE is_doubt);""",
}

_FUNCTIONS = tuple(
    statement
    for function, body in _BODIES.items()
    for statement in (
        f"""
    CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
    DECLARE
        written bigint;
        is_touched boolean;
        levels integer[];
        corners text;
        callers text;
    BEGIN
        {body.strip()}
        RETURN NULL;
    END
    $body$
    """,
        f"REVOKE ALL ON FUNCTION {function}() FROM PUBLIC",
    )
)

_ROWS = {
    "tokens.tokens": "tokens.log_tokens",
    "graph.connections": "tokens.log_connections",
    "experience.experience_events": "tokens.log_events",
}
_TRANSITIONS = {
    "insert": "REFERENCING NEW TABLE AS new_rows",
    "update": "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "delete": "REFERENCING OLD TABLE AS old_rows",
}
_WHOLE = ("tokens.levels", "graph.graph_snapshots", "experience.experience_trajectories")

# A statement that names a partition fires that partition's triggers alone.
_INDEX = ("tokens.spatial_index", *(f"tokens.spatial_index_{level}" for level in range(8)))

_ANY_EVENT = "INSERT OR UPDATE OR DELETE OR TRUNCATE"


def _triggers() -> list[str]:
    """Return the triggers of all tables, as (table, name, events, transition tables, call)."""
    triggers = [
        (table, f"log_{event}", event.upper(), tables, f"{function}()")
        for table, function in _ROWS.items()
        for event, tables in _TRANSITIONS.items()
    ]
    triggers += [
        (table, "log_truncate", "TRUNCATE", "", f"tokens.log_all('{table}')") for table in _ROWS
    ]
    triggers += [
        (table, "log_all", _ANY_EVENT, "", f"tokens.log_all('{table}')") for table in _WHOLE
    ]
    triggers += [(table, "log_all", _ANY_EVENT, "", "tokens.log_index()") for table in _INDEX]
    return [
        statement
        for table, name, events, tables, call in triggers
        for statement in (
            f"CREATE TRIGGER {name} AFTER {events} ON {table} {tables}"
            f" FOR EACH STATEMENT EXECUTE FUNCTION {call}",
            f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {name}",
        )
    ]


# --- pruning ---------------------------------------------------------------------------------------

# At READ COMMITTED, where each statement sees what others committed, and deletes nothing twice: of two
# at once, the second finds the edge locked.  Rows of a transaction that was still open are not
# deleted; whether they were, the snapshot of the last pruning says.  A transaction does not prune
# its own rows, whose visibility its snapshot does not tell.
#
# A dump takes the rows to servers whose transactions have other numbers: those from the future are of
# no use.
_PRUNE = """
CREATE FUNCTION tokens.prune_changes() RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    own bigint;
    edge tid;
    cut bigint;
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
        OR NOT EXISTS (
            SELECT FROM tokens.changes_edge WHERE NOT is_doubt AND (
                pruned_at NOT BETWEEN now() - interval '10 seconds' AND now()
                OR pg_snapshot_xmax(pg_current_snapshot())::text::bigint
                    > pg_snapshot_xmax(snapshot::pg_snapshot)::text::bigint + 20000
            )
        )
    THEN
        RETURN;
    END IF;
    edge := (
        SELECT ctid FROM tokens.changes_edge WHERE NOT is_doubt LIMIT 1 FOR UPDATE SKIP LOCKED
    );
    IF edge IS NULL THEN
        RETURN;
    END IF;
    own := pg_current_xact_id()::text::bigint;
    DELETE FROM tokens.changes WHERE xid
        > greatest(own, pg_snapshot_xmax(pg_current_snapshot())::text::bigint - 1);
    cut := coalesce(
        (SELECT xid FROM tokens.changes WHERE logged_at >= clock_timestamp() - interval '1 hour'
            ORDER BY xid LIMIT 1),
        own
    );
    cut := least(own, greatest(
        cut, (SELECT xid FROM tokens.changes ORDER BY xid DESC OFFSET 100000 LIMIT 1) + 1
    ));
    DELETE FROM tokens.changes WHERE xid < cut;
    UPDATE tokens.changes_edge SET pruned_at = clock_timestamp(),
        snapshot = pg_current_snapshot()::text,
        complete_from = greatest(cut, CASE WHEN complete_from <= own THEN complete_from END)
    WHERE ctid = edge;
END
$body$
"""

_FOLD_VERSIONS = """
CREATE OR REPLACE FUNCTION tokens.fold_versions() RETURNS void LANGUAGE plpgsql
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
    END LOOP;{prune}
END
$body$
"""

_AND_PRUNE = """
    PERFORM tokens.prune_changes();"""

# --- the version -----------------------------------------------------------------------------------

# That of 0005, whose comments hold here too.  Before it, after which an "s" follows, comes a hash of
# the structure alone: two versions that begin alike differ by writes that the log has.  It is left
# out unless each table, and the tokens for the index that derives from them, has triggers that log
# all events.
_CURRENT_VERSION = """
CREATE OR REPLACE FUNCTION tokens.current_version(relations text[]) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $body$
DECLARE
    is_tracked boolean;
    structure text;
    nonces text;
    total bigint;
    of_relations bigint;{declare}
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
    ){log}
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
        ){select}
    INTO is_tracked, structure{into}
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
    {result}
END
$body$
"""

_VERSION_BEFORE = _CURRENT_VERSION.format(
    declare="",
    log="",
    select="",
    into="",
    result="""RETURN encode(sha256(convert_to(
        structure || nonces || (
            SELECT concat_ws(' ', c.oid, c.relfilenode, c.xmin, c.ctid) FROM pg_class AS c
            WHERE c.oid = to_regclass('tokens.versions')
        ), 'UTF8')), 'hex') || 'n' || total;""",
)

# The bits of a trigger's type: 60 is all events, for each statement, after it.
_VERSION = _CURRENT_VERSION.format(
    declare="""
    is_logged boolean;
    log text;""",
    log=""", logged AS (
        SELECT DISTINCT member FROM members
        UNION SELECT to_regclass('tokens.tokens') WHERE 'tokens.spatial_index' = ANY (relations)
    ), logging AS (
        SELECT bit_or(t.tgtype) = 60 AND bool_and(
                t.tgenabled = 'A' AND t.tgqual IS NULL AND t.tgattr = ''
            ) AS is_logged,
            string_agg(concat_ws(' ', t.oid, t.xmin, t.ctid), ' ' ORDER BY t.oid) AS log
        FROM logged AS l LEFT JOIN pg_trigger AS t ON t.tgrelid = l.member
            AND t.tgname IN ('log_all', 'log_insert', 'log_update', 'log_delete', 'log_truncate')
            AND t.tgfoid = ANY (ARRAY[to_regprocedure('tokens.log_all()'),
                to_regprocedure('tokens.log_tokens()'), to_regprocedure('tokens.log_connections()'),
                to_regprocedure('tokens.log_events()'), to_regprocedure('tokens.log_index()')])
        GROUP BY l.member
    )""",
    select=""",
        (SELECT bool_and(l.is_logged IS TRUE) FROM logging AS l),
        (SELECT string_agg(l.log, ',' ORDER BY l.log) FROM logging AS l)""",
    into=", is_logged, log",
    result="""structure := structure || (
        SELECT string_agg(concat_ws(' ', c.oid, c.relfilenode, c.xmin, c.ctid), ' ' ORDER BY c.oid)
        FROM pg_class AS c WHERE c.oid = ANY (ARRAY[to_regclass('tokens.versions'),
            to_regclass('tokens.changes'), to_regclass('tokens.changes_edge')])
    ) || coalesce(log, '');
    RETURN CASE WHEN is_logged
            THEN left(encode(sha256(convert_to(structure, 'UTF8')), 'hex'), 40) ELSE '' END
        || 's' || left(encode(sha256(convert_to(structure || nonces, 'UTF8')), 'hex'), 48)
        || 'n' || total;""",
)


def upgrade() -> None:
    for statement in (
        *_TABLES,
        *_FUNCTIONS,
        *_triggers(),
        _PRUNE,
        "REVOKE ALL ON FUNCTION tokens.prune_changes() FROM PUBLIC",
        _FOLD_VERSIONS.format(prune=_AND_PRUNE),
        _VERSION,
    ):
        op.execute(statement)


def downgrade() -> None:
    triggers = [
        statement.partition(" AFTER ")[0].replace("CREATE", "DROP")
        + " ON "
        + statement.partition(" ON ")[2].split()[0]
        for statement in _triggers()
        if statement.startswith("CREATE")
    ]
    for statement in (
        *triggers,
        f"DROP FUNCTION {', '.join(f'{function}()' for function in _BODIES)}, tokens.prune_changes()",
        "DROP TABLE tokens.changes, tokens.changes_edge",
        _FOLD_VERSIONS.format(prune=""),
        _VERSION_BEFORE,
    ):
        op.execute(statement)
