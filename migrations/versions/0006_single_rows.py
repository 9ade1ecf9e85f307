"""Derive the rows of a single token or event by statements whose plans are kept.

A statement that wrote one row spent most of its time in its triggers, which planned each of their
statements anew.  Statements of several tokens are derived as before.  What 0001 and 0003 create and this replaces is
written here again, for both ways: no migration calls another.
"""

from __future__ import annotations

from alembic import context, op
from sqlalchemy import text

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# --- the spatial index, for any number of rows, as in 0001 ------------------------------------------

_ATTRIBUTES = 'token_type, weight, flags, "timestamp"'

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


def _several_rows(postgis: str) -> dict[str, str]:
    """Return, for each event, the statements for any number of rows."""
    return {
        "insert": f"""
            IF EXISTS (SELECT FROM new_rows OFFSET {_MANY}) THEN
                BEGIN
                    EXECUTE $sql${_insert(postgis, "new_rows")}$sql$;
                    RETURN NULL;
                EXCEPTION WHEN unique_violation THEN
                    NULL;
                END;
            END IF;
            EXECUTE $sql${_insert(postgis, "new_rows")}{_REPLACE}$sql$;""",
        "update": f"""
            EXECUTE $sql${_delete(_CHANGED_IDS)}$sql$;
            EXECUTE $sql${_CHANGED_ROWS}{_insert(postgis, "changed")}{_REPLACE}$sql$;""",
        "delete": f"""
            EXECUTE $sql${_delete("old_rows")}$sql$;""",
    }


# --- the spatial index, for one row ----------------------------------------------------------------
#
# A kept plan only ever meets one row, since a plan for one row is far too slow for 2,000.  And it
# has no choice, since it also stays while an empty store grows, where reading a whole partition was
# best: an INSERT finds existing rows by its unique index; UPDATE and DELETE look up one id, with
# `enable_seqscan = off`.  They name no variables, which would be parameters: a session plans a
# statement with parameters five times before it keeps a plan.
#
# A token of one level is written to the partition by its name: the server then opens that one only.

_LEVELS = range(8)


def _levels(row: str) -> str:
    """Return an array of the levels that a row has."""
    each = ", ".join(
        f"CASE WHEN {row}.coord_x[{level + 1}] IS NOT NULL THEN {level} END" for level in _LEVELS
    )
    return f"array_remove(ARRAY[{each}], NULL)"


def _point(postgis: str, level: str) -> str:
    numbers = ", ".join(f"n.coord_{axis}[{level} + 1]" for axis in ("x", "y", "z"))
    return f"{postgis}.ST_MakePoint({numbers})"


def _by_partition(statement: str) -> str:
    """Return a statement on `{table}` and its `{levels}`, for one level and for several."""
    ways = {
        f"WHEN '{{{level}}}' THEN": (f"tokens.spatial_index_{level}", f"({level})")
        for level in _LEVELS
    }
    ways["ELSE"] = ("tokens.spatial_index", ", ".join(f"({level})" for level in _LEVELS))
    cases = "".join(
        f"""
                {case} {statement.format(table=table, levels=levels)};"""
        for case, (table, levels) in ways.items()
    )
    return f"CASE levels{cases}\n                END CASE"


def _one_row(postgis: str) -> dict[str, str]:
    """Return, for each event, the statements for one row, which come first.

    `several` is NULL if the statement wrote no row.
    """
    insert = _by_partition(f"""
                INSERT INTO {{table}} (level, token_id, geom, {_ATTRIBUTES})
                SELECT l.level, n.id, {_point(postgis, "l.level")}, {_ATTRIBUTES}
                FROM new_rows AS n CROSS JOIN (VALUES {{levels}}) AS l (level)
                WHERE n.coord_x[l.level + 1] IS NOT NULL ON CONFLICT DO NOTHING""")
    update = _by_partition(f"""
                UPDATE {{table}} AS s SET geom = {_point(postgis, "s.level")},
                    token_type = n.token_type, weight = n.weight, flags = n.flags,
                    "timestamp" = n."timestamp"
                FROM new_rows AS n WHERE s.token_id = (SELECT n.id FROM new_rows AS n)""")
    delete = _by_partition("""
                DELETE FROM {table} AS s WHERE s.token_id = (SELECT o.id FROM old_rows AS o) AND (
                    (SELECT t.coord_x FROM tokens.tokens AS t
                     WHERE t.id = (SELECT o.id FROM old_rows AS o))
                )[s.level + 1] IS NULL""")
    return {
        # Where a row exists already, the statement for several rows replaces it.  ON CONFLICT DO UPDATE would
        # renew the version twice, as an INSERT and as an UPDATE.
        "insert": f"""
            SELECT EXISTS (SELECT FROM new_rows OFFSET 1), {_levels("n")} INTO several, levels
            FROM new_rows AS n LIMIT 1;
            IF several IS NULL THEN
                RETURN NULL;
            ELSIF NOT several THEN
                {insert};
                GET DIAGNOSTICS written = ROW_COUNT;
                IF written = cardinality(levels) THEN
                    RETURN NULL;
                END IF;
            END IF;
            -- Several rows""",
        # Only a row that keeps its id and its levels.
        "update": f"""
            SELECT EXISTS (SELECT FROM new_rows OFFSET 1), {_levels("n")},
                o.id = n.id AND {_levels("o")} = {_levels("n")}, {_DIFFERS}
            INTO several, levels, in_place, differs
            FROM old_rows AS o CROSS JOIN new_rows AS n LIMIT 1;
            IF several IS NULL THEN
                RETURN NULL;
            ELSIF NOT several AND in_place THEN
                IF NOT differs THEN
                    RETURN NULL;
                END IF;
                {update};
                GET DIAGNOSTICS written = ROW_COUNT;
                IF written = cardinality(levels) THEN
                    RETURN NULL;
                END IF;
            END IF;
            -- Several rows
            SET LOCAL enable_seqscan = on;""",
        "delete": f"""
            SELECT EXISTS (SELECT FROM old_rows OFFSET 1), {_levels("o")} INTO several, levels
            FROM old_rows AS o LIMIT 1;
            IF several IS NULL THEN
                RETURN NULL;
            ELSIF NOT several THEN
                {delete};
                RETURN NULL;
            END IF;
            -- Several rows
            SET LOCAL enable_seqscan = on;""",
    }


_SEARCH_PATH = "SET search_path = pg_catalog, pg_temp"

_VARIABLES = """
            DECLARE
                several boolean;
                levels integer[];
                in_place boolean;
                differs boolean;
                written bigint;
            BEGIN"""


def _index_functions(postgis: str, *, keep_plans: bool) -> list[str]:
    """Return the functions that replace the ones there are, with statements for one row or without."""
    first = _one_row(postgis)
    functions = []
    for event, several in _several_rows(postgis).items():
        settings, begin = _SEARCH_PATH, "BEGIN"
        if keep_plans:
            begin = f"{_VARIABLES}{first[event]}"
            if event != "insert":
                settings += " SET enable_seqscan = off"
        functions.append(
            f"""
            CREATE OR REPLACE FUNCTION tokens.index_{event}() RETURNS trigger LANGUAGE plpgsql
            SECURITY DEFINER {settings} AS $body$
            {begin}{several}
            RETURN NULL;
            END
            $body$
            """
        )
    return functions


# --- touched tokens --------------------------------------------------------------------------------

# Without a search_path of its own, which took a third of its time: it uses no operator.
_TOUCH = """
CREATE OR REPLACE FUNCTION tokens.touch() RETURNS trigger LANGUAGE plpgsql AS $body$
BEGIN
    NEW.updated_at := pg_catalog.now();
    RETURN NEW;
END
$body$
"""


_TOUCH_BEFORE = """
    CREATE OR REPLACE FUNCTION tokens.touch() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $body$
    BEGIN
        NEW.updated_at := now();
        RETURN NEW;
    END
    $body$
"""

# --- trajectories ----------------------------------------------------------------------------------

# New events only add: the old ones need not be read.  One statement creates, locks and adds.
_ADD = """
    INSERT INTO experience.experience_trajectories AS t
        (id, start_time, end_time, event_count, total_reward)
    SELECT trajectory_id, min("timestamp"), max("timestamp"), count(*),
        sum(reward ORDER BY "timestamp", sequence_number, id)
    FROM new_rows WHERE trajectory_id IS NOT NULL GROUP BY trajectory_id ORDER BY trajectory_id
    ON CONFLICT (id) DO UPDATE SET
        start_time = CASE WHEN t.event_count = 0 THEN excluded.start_time
            ELSE least(t.start_time, excluded.start_time) END,
        end_time = CASE WHEN t.event_count = 0 THEN excluded.end_time
            ELSE greatest(t.end_time, excluded.end_time) END,
        event_count = t.event_count + excluded.event_count,
        total_reward = t.total_reward + excluded.total_reward
"""

# A deleted event cannot be subtracted from a sum of floats, nor from a minimum: the remaining events
# are read again.  An earlier statement locks the rows, so that this one sees what the last holder of
# the lock committed.
_READ_AGAIN = """
    UPDATE experience.experience_trajectories AS t SET
        start_time = s.start_time, end_time = s.end_time,
        event_count = s.event_count, total_reward = coalesce(s.total_reward, 0)
    FROM (
        SELECT a.id, min(e."timestamp") AS start_time, max(e."timestamp") AS end_time,
            count(e.id) AS event_count,
            sum(e.reward ORDER BY e."timestamp", e.sequence_number, e.id) AS total_reward
        FROM unnest($1) AS a (id)
        LEFT JOIN experience.experience_events AS e ON e.trajectory_id = a.id
        GROUP BY a.id
    ) AS s
    WHERE t.id = s.id
"""

# Check the deferred key now: rows that wait for the commit would forbid a TRUNCATE before it.
_CHECK = """
    SET CONSTRAINTS experience.fk_experience_events_trajectory_id IMMEDIATE;
    SET CONSTRAINTS experience.fk_experience_events_trajectory_id DEFERRED;
"""


def _follow_insert(add: str) -> str:
    """Return the function of 0003 with this way to run `_ADD`."""
    body = f"""
        IF EXISTS (SELECT FROM new_rows WHERE trajectory_id IS NOT NULL) THEN
            {add};
            IF current_setting('ngdata.read_again', true) = 'on' THEN
                EXECUTE $sql$ SELECT array_agg(DISTINCT trajectory_id) FROM new_rows $sql$
                INTO trajectories;
                EXECUTE $sql${_READ_AGAIN}$sql$ USING trajectories;
                PERFORM set_config('ngdata.read_again', '', true);
            END IF;
        END IF;
        {_CHECK}
        """
    return f"""
            CREATE OR REPLACE FUNCTION experience.follow_insert() RETURNS trigger LANGUAGE plpgsql
            SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
            DECLARE
                trajectory uuid;
                named boolean;
                trajectories uuid[] := ARRAY[]::uuid[];
            BEGIN
                {body}
                RETURN NULL;
            END
            $body$
            """


def upgrade() -> None:
    for statement in (
        # An update that moves nothing stays on its page (HOT) if there is room, and then writes no
        # index.  Room for three rows is enough: that of old rows is soon used again.
        *(f"ALTER TABLE tokens.spatial_index_{level} SET (fillfactor = 95)" for level in _LEVELS),
        *_index_functions(_postgis_schema(), keep_plans=True),
        # For the planner, `enable_seqscan = off` makes the scan of `tokens.versions`, which has no
        # index, so expensive that it would be compiled.
        "ALTER FUNCTION tokens.renew_version() SET jit = off",
        _TOUCH,
        # The plan is kept: it finds existing trajectories by their unique index, and sorts the events,
        # so there is one plan for any number of them.
        _follow_insert(_ADD),
    ):
        op.execute(statement)


def downgrade() -> None:
    for statement in (
        *(f"ALTER TABLE tokens.spatial_index_{level} RESET (fillfactor)" for level in _LEVELS),
        "ALTER FUNCTION tokens.renew_version() RESET jit",
        *_index_functions(_postgis_schema(), keep_plans=False),
        _TOUCH_BEFORE,
        _follow_insert(f"EXECUTE $sql${_ADD}$sql$"),
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
