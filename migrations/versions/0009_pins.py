"""Pins: named moments of the store, and the rows as they were at each of them.

A pin is a number from a sequence, taken while no writer is in the middle of a transaction.  While
pins are kept, each statement keeps the old image of every row that it changes, or that the row was
not there, under the number of the latest pin.  As of pin p, a row is its first image with a number of
p or more; without one, it is the row as it is now.

No transaction ids and no clock are involved, so pins survive a dump, a restore and a standby.
"""

from __future__ import annotations

from alembic import context, op
from sqlalchemy import text

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# --- pins ------------------------------------------------------------------------------------------

# The eight levels' names and units are kept in the pin itself.
_PINS = """
CREATE TABLE tokens.pins (
    number bigint NOT NULL,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    label text,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    levels jsonb NOT NULL,
    CONSTRAINT pk_pins PRIMARY KEY (number),
    CONSTRAINT uq_pins_id UNIQUE (id),
    CONSTRAINT uq_pins_label UNIQUE (label)
)
"""

# `last_value` is the number of the latest pin, `is_called` whether any is kept.  A sequence, because
# these must be seen by a writer whose snapshot is older than the pin.
_NUMBERS = "CREATE SEQUENCE tokens.pin_numbers AS bigint"

# --- history ---------------------------------------------------------------------------------------

_TABLES = {
    "tokens.tokens": (),
    "graph.connections": ("source_id", "target_id"),
    "experience.experience_events": (
        '"timestamp", sequence_number, entry_number, id',
        'token_id, "timestamp"',
        "trajectory_id, sequence_number",
    ),
    "experience.experience_trajectories": (),
}
"""Each table, and the columns of the indexes of its history."""

_COLUMNS = {
    "tokens.tokens": (
        'id, binary_data, coord_x, coord_y, coord_z, flags, weight, "timestamp", token_type,'
        " metadata, created_at, updated_at"
    ),
    "graph.connections": (
        "id, source_id, target_id, connection_type, weight, decay_rate, bidirectional, metadata,"
        " created_at"
    ),
    "experience.experience_events": (
        'id, event_type, "timestamp", token_id, state_before, state_after, action, reward, priority,'
        " trajectory_id, sequence_number, metadata, created_at, entry_number"
    ),
    "experience.experience_trajectories": (
        "id, start_time, end_time, event_count, total_reward, metadata, created_at, ended_at"
    ),
}

_LEVELS = range(8)
_ATTRIBUTES = 'token_type, weight, flags, "timestamp"'


def _name(table: str) -> str:
    return table.partition(".")[2]


def _history_of(table: str) -> list[str]:
    """Return the history of a table; its columns are NULL in the image of a row that was not there."""
    history, name = f"{table}_history", f"{_name(table)}_history"
    return [
        f"CREATE TABLE {history} AS SELECT 0::bigint AS pin, true AS existed, {_COLUMNS[table]}"
        f" FROM {table} WITH NO DATA",
        f"ALTER TABLE {history} ALTER pin SET NOT NULL, ALTER existed SET NOT NULL,"
        f" ADD CONSTRAINT pk_{name} PRIMARY KEY (id, pin)",
        *(
            f"CREATE INDEX ix_{name}_{number} ON {history} ({columns})"
            for number, columns in enumerate(_TABLES[table])
        ),
    ]


def _spatial_history(postgis: str) -> list[str]:
    """Return the points of the tokens' images, with an index per level."""
    return [
        f"""
        CREATE TABLE tokens.spatial_history (
            pin bigint NOT NULL,
            token_id uuid NOT NULL,
            level integer NOT NULL,
            geom {postgis}.geometry(PointZ, 0) NOT NULL,
            token_type text NOT NULL,
            weight float8 NOT NULL,
            flags integer NOT NULL,
            "timestamp" timestamptz NOT NULL,
            CONSTRAINT pk_spatial_history PRIMARY KEY (token_id, level, pin)
        )
        """,
        *(
            f"CREATE INDEX ix_spatial_history_geom_{level} ON tokens.spatial_history"
            f" USING gist (geom {postgis}.gist_geometry_ops_nd) WHERE level = {level}"
            for level in _LEVELS
        ),
    ]


# --- the triggers that keep images -----------------------------------------------------------------
#
# The first image under a number is the one that counts, so later ones are dropped.  One exception: a
# statement may delete a row and insert it again (WITH), and the trigger of the insertion may run
# first and keep that the row was not there.  The row's own command then came before that image's,
# and it is there when the trigger of the deletion runs: only then is an image replaced.
#
# ENABLE ALWAYS, since `session_replication_role = replica` skips all other triggers, and SECURITY
# DEFINER, since nobody else writes a history.


def _keep(table: str, rows: str, postgis: str, *, may_replace: bool = True) -> str:
    """Return the statement that keeps the images of rows under the number `latest`."""
    columns = _COLUMNS[table]
    keep = f"""
            INSERT INTO {table}_history AS h (pin, existed, {columns})
            SELECT latest, true, {columns} FROM {rows}
            ON CONFLICT (id, pin) DO """
    if may_replace:
        names = ["existed", *columns.split(", ")]
        keep += f"""UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in names)}
            WHERE NOT h.existed AND EXISTS (
                SELECT FROM {table} AS t WHERE t.id = h.id AND t.xmin = h.xmin
                    AND t.cmin::text::bigint < h.cmin::text::bigint
            )"""
    else:
        keep += "NOTHING"
    if table != "tokens.tokens":
        return f"{keep};"
    points = ", ".join(f"k.coord_{axis}[l.level + 1]" for axis in ("x", "y", "z"))
    return f"""
            WITH kept AS ({keep}
            RETURNING *)
            INSERT INTO tokens.spatial_history (pin, token_id, level, geom, {_ATTRIBUTES})
            SELECT k.pin, k.id, l.level, {postgis}.ST_MakePoint({points}), {_ATTRIBUTES}
            FROM kept AS k CROSS JOIN generate_series(0, 7) AS l (level)
            WHERE k.coord_x[l.level + 1] IS NOT NULL;"""


def _keep_absence(table: str, rows: str) -> str:
    return f"""
            INSERT INTO {table}_history (pin, existed, id) SELECT latest, false, n.id FROM {rows}
            ON CONFLICT DO NOTHING"""


def _keep_triggers(table: str, postgis: str) -> list[str]:
    """Return the four trigger functions of a table, and the triggers that call them."""
    # Rows whose id is new.  The plan for one row is far too slow for many.
    is_new = "NOT EXISTS (SELECT FROM old_rows AS o WHERE o.id = n.id)"
    new_ids = _keep_absence(table, f"new_rows AS n WHERE {is_new}")
    bodies = {
        "insert": (
            "AFTER INSERT",
            "REFERENCING NEW TABLE AS new_rows",
            f"{_keep_absence(table, 'new_rows AS n')};",
        ),
        "update": (
            "AFTER UPDATE",
            "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
            f"""{_keep(table, "old_rows", postgis)}
            IF EXISTS (SELECT FROM new_rows OFFSET 1) THEN
                EXECUTE $sql${new_ids.replace("latest", "$1")}$sql$ USING latest;
            ELSE
                {new_ids};
            END IF;""",
        ),
        "delete": (
            "AFTER DELETE",
            "REFERENCING OLD TABLE AS old_rows",
            _keep(table, "old_rows", postgis),
        ),
        # Transition tables have no rows of a TRUNCATE.  It removes rows that an older snapshot does not
        # see, and one that another transaction has deleted is still in that snapshot.
        "truncate": (
            "BEFORE TRUNCATE",
            "",
            f"""
            IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted')
            THEN
                RAISE object_not_in_prerequisite_state USING MESSAGE =
                    'TRUNCATE keeps the rows for a pin only in a transaction that is READ COMMITTED',
                    HINT = 'Use DELETE, or BEGIN ISOLATION LEVEL READ COMMITTED.';
            END IF;{_keep(table, table, postgis, may_replace=False)}""",
        ),
    }
    schema = table.partition(".")[0]
    statements = []
    for event, (when, tables, body) in bodies.items():
        function = f"{schema}.keep_{_name(table)}_{event}()"
        statements += [
            f"""
            CREATE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql
            SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
            DECLARE
                latest bigint := (SELECT last_value FROM tokens.pin_numbers WHERE is_called);
            BEGIN
                IF latest IS NULL THEN
                    RETURN NULL;
                END IF;{body}
                RETURN NULL;
            END
            $body$
            """,
            f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC",
            f"""
            CREATE TRIGGER keep_{event} {when} ON {table} {tables}
            FOR EACH STATEMENT EXECUTE FUNCTION {function}
            """,
            f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER keep_{event}",
        ]
    return statements


# --- pinning ---------------------------------------------------------------------------------------
#
# Whoever may change tokens may pin them.  In a SECURITY DEFINER function `current_user` is the owner;
# the setting `role` is still the caller's, and 'none' without SET ROLE.

_MAY_PIN = """
CREATE FUNCTION tokens.check_may_pin() RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    caller name := coalesce(nullif(current_setting('role'), 'none'), session_user);
BEGIN
    IF NOT has_table_privilege(caller, 'tokens.tokens', 'UPDATE') THEN
        RAISE insufficient_privilege USING MESSAGE =
            quote_ident(caller) || ' may not change tokens, and so may not pin or unpin the store';
    END IF;
END
$body$
"""

# A writer that holds a lock of its transaction is waited for; one that comes later sees the new
# number.  `lock_timeout` is the caller's.
_ADD_PIN = f"""
CREATE FUNCTION tokens.add_pin(label text) RETURNS tokens.pins LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    added tokens.pins;
BEGIN
    PERFORM tokens.check_may_pin();
    LOCK TABLE tokens.pins IN SHARE ROW EXCLUSIVE MODE;
    LOCK TABLE {", ".join(_TABLES)} IN SHARE MODE;
    INSERT INTO tokens.pins (number, label, levels)
    SELECT nextval('tokens.pin_numbers'), add_pin.label, jsonb_agg(to_jsonb(l) ORDER BY l.level)
    FROM tokens.levels AS l
    RETURNING * INTO added;
    RETURN added;
END
$body$
"""

# The next number is a new one: images that a writer still keeps under this one are of no later pin.
_REST = (
    "PERFORM setval('tokens.pin_numbers', (SELECT last_value + 1 FROM tokens.pin_numbers), false);"
)


def _remove_pin() -> list[str]:
    """Return the functions that remove a pin, with the images that no other pin needs.

    Images under the numbers from a pin to the next one serve that pin and older ones; an older pin
    that has an earlier image of the row does not need a later one.
    """
    unneeded = "".join(
        f"""
    DELETE FROM {table}_history AS h
    WHERE h.pin >= removed AND (h.pin < following OR following IS NULL) AND (
        earlier IS NULL OR EXISTS (
            SELECT FROM {table}_history AS e
            WHERE e.id = h.id AND e.pin >= earlier AND e.pin < removed
        )
    );"""
        for table in _TABLES
    )
    return [
        f"""
        CREATE FUNCTION tokens.remove_pin(id uuid) RETURNS boolean LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        DECLARE
            removed bigint;
            earlier bigint;
            following bigint;
        BEGIN
            PERFORM tokens.check_may_pin();
            LOCK TABLE tokens.pins IN SHARE ROW EXCLUSIVE MODE;
            DELETE FROM tokens.pins AS p WHERE p.id = remove_pin.id RETURNING p.number INTO removed;
            IF removed IS NULL THEN
                RETURN false;
            END IF;
            earlier := (SELECT max(number) FROM tokens.pins WHERE number < removed);
            following := (SELECT min(number) FROM tokens.pins WHERE number > removed);{unneeded}
            DELETE FROM tokens.spatial_history AS s
            WHERE s.pin >= removed AND (s.pin < following OR following IS NULL) AND NOT EXISTS (
                SELECT FROM tokens.tokens_history AS h WHERE h.id = s.token_id AND h.pin = s.pin
            );
            RETURN true;
        END
        $body$
        """,
        # In a transaction after that of the last removal: a sequence does not roll back.  A writer
        # may have kept an image between the two.
        f"""
        CREATE FUNCTION tokens.rest_pins() RETURNS void LANGUAGE plpgsql
        SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        BEGIN
            PERFORM tokens.check_may_pin();
            LOCK TABLE tokens.pins IN SHARE ROW EXCLUSIVE MODE;
            IF NOT EXISTS (SELECT FROM tokens.pins) THEN
                {_REST}
                DELETE FROM tokens.spatial_history;
                {" ".join(f"DELETE FROM {table}_history;" for table in _TABLES)}
            END IF;
        END
        $body$
        """,
    ]


# --- paths as of a pin -----------------------------------------------------------------------------


def _connection(alias: str) -> str:
    """Return the columns with the name of their table: the function has variables of these names."""
    return ", ".join(f"{alias}.{name}" for name in _COLUMNS["graph.connections"].split(", "))


# For `graph.shortest_path_at` alone: other reads write the number of the pin themselves.  Not a view,
# which would forbid to alter its columns.
_CONNECTIONS_AT = f"""
    SELECT {_connection("r")} FROM (
        SELECT {_connection("t")}, NULL::bigint AS pin, true AS existed FROM graph.connections AS t
        UNION ALL SELECT {_connection("t")}, t.pin, t.existed FROM graph.connections_history AS t
    ) AS r
    WHERE CASE
        WHEN r.pin IS NULL THEN NOT EXISTS (
            SELECT FROM graph.connections_history AS h
            WHERE h.id = r.id AND h.pin >= current_setting('ngdata.pin')::bigint
        )
        ELSE r.existed AND r.pin >= current_setting('ngdata.pin')::bigint AND NOT EXISTS (
            SELECT FROM graph.connections_history AS h
            WHERE h.id = r.id AND h.pin >= current_setting('ngdata.pin')::bigint AND h.pin < r.pin
        )
    END
"""

# The same function, with another source of connections.
_SHORTEST_PATH_AT = f"""
DO $do$
DECLARE
    definition text := pg_catalog.pg_get_functiondef(
        'graph.shortest_path(uuid, uuid, text, text[], boolean, integer)'::pg_catalog.regprocedure
    );
BEGIN
    definition := pg_catalog.replace(
        definition, 'graph.shortest_path(', 'graph.shortest_path_at(moment bigint, '
    );
    definition := pg_catalog.replace(
        definition, 'graph.connections AS c', $at$({_CONNECTIONS_AT}) AS c$at$
    );
    definition := pg_catalog.regexp_replace(
        definition, 'BEGIN',
        E'BEGIN\\n    PERFORM set_config(''ngdata.pin'', moment::text, true);'
    );
    EXECUTE definition;
END
$do$
"""

# --- access ----------------------------------------------------------------------------------------

# Whoever reads a table reads its history.  Nobody but the owner writes one.
_GRANTS = """
    DO $do$
    DECLARE
        source name;
        granted text;
        grantee text;
    BEGIN
        FOR source, granted, grantee IN
            SELECT DISTINCT h.source, h.granted,
                CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::pg_catalog.regrole::text END
            FROM (VALUES %s) AS h (source, granted)
            JOIN pg_catalog.pg_class AS c ON c.oid = h.source::pg_catalog.regclass,
                pg_catalog.aclexplode(c.relacl) AS a
            WHERE a.privilege_type = 'SELECT' AND a.grantee <> c.relowner
        LOOP
            EXECUTE 'GRANT SELECT ON TABLE ' || granted || ' TO ' || grantee;
        END LOOP;
    END
    $do$
"""
_HISTORIES = {f"{table}_history": table for table in _TABLES} | {
    "tokens.spatial_history": "tokens.spatial_index",
}


def upgrade() -> None:
    postgis = _postgis_schema()
    pairs = ", ".join(f"('{table}', '{history}')" for history, table in _HISTORIES.items())
    for statement in (
        _PINS,
        "GRANT SELECT ON TABLE tokens.pins TO PUBLIC",
        _NUMBERS,
        *(statement for table in _TABLES for statement in _history_of(table)),
        *_spatial_history(postgis),
        *(statement for table in _TABLES for statement in _keep_triggers(table, postgis)),
        _MAY_PIN,
        _ADD_PIN,
        *_remove_pin(),
        _SHORTEST_PATH_AT,
        _GRANTS.replace("%s", pairs),
    ):
        op.execute(statement)


def downgrade() -> None:
    schemas = {table: table.partition(".")[0] for table in _TABLES}
    for statement in (
        "DROP FUNCTION graph.shortest_path_at(bigint, uuid, uuid, text, text[], boolean, integer)",
        "DROP FUNCTION tokens.add_pin(text), tokens.remove_pin(uuid), tokens.rest_pins(),"
        " tokens.check_may_pin()",
        *(
            f"DROP TRIGGER keep_{event} ON {table}"
            for table in _TABLES
            for event in ("insert", "update", "delete", "truncate")
        ),
        *(
            f"DROP FUNCTION {schemas[table]}.keep_{_name(table)}_{event}()"
            for table in _TABLES
            for event in ("insert", "update", "delete", "truncate")
        ),
        *(f"DROP TABLE {table}_history" for table in _TABLES),
        "DROP TABLE tokens.spatial_history",
        "DROP TABLE tokens.pins",
        "DROP SEQUENCE tokens.pin_numbers",
    ):
        op.execute(statement)


def _postgis_schema() -> str:
    """Return the schema that PostGIS is in; its functions must be qualified with it."""
    if context.is_offline_mode():
        return "public"
    return str(
        op.get_bind().scalar(
            text("SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'postgis'")
        )
    )
