"""Derive the rows of a single token or event by statements whose plans are kept.

A statement that wrote one row spent most of its time in its triggers, which planned each of their
statements anew.  Statements of several tokens are derived as before, by the statements of 0001.
"""

from __future__ import annotations

from types import ModuleType

from alembic import context, op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# --- the spatial index -----------------------------------------------------------------------------
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


def _first_statements(tokens: ModuleType, postgis: str) -> dict[str, str]:
    """Return, for each event, what comes before the statements of 0001.

    `several` is NULL if the statement wrote no row.
    """
    insert = _by_partition(f"""
                INSERT INTO {{table}} (level, token_id, geom, {tokens._ATTRIBUTES})
                SELECT l.level, n.id, {_point(postgis, "l.level")}, {tokens._ATTRIBUTES}
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
        # Where a row exists already, 0001's statement replaces it.  ON CONFLICT DO UPDATE would
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
                o.id = n.id AND {_levels("o")} = {_levels("n")}, {tokens._DIFFERS}
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


def _index_functions(tokens: ModuleType, postgis: str) -> list[str]:
    """Return the functions of 0001, preceded by the statements for one row."""
    functions = _functions(tokens._index_triggers(postgis))
    replaced = []
    for event, first in _first_statements(tokens, postgis).items():
        [function] = [text for text in functions if f"FUNCTION tokens.index_{event}()" in text]
        head, _, body = function.partition("BEGIN")
        if event != "insert":
            head = head.replace(_SEARCH_PATH, f"{_SEARCH_PATH} SET enable_seqscan = off")
        replaced.append(f"{head}{_VARIABLES}{first}{body}")
    return replaced


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


def _follow_insert(experience: ModuleType) -> str:
    """Return the function of 0003, which keeps the plan of its first statement.

    That statement finds existing trajectories by their unique index, and sorts the events: there is
    one plan for any number of them.
    """
    [function] = [
        text
        for text in _functions(experience._follow_triggers())
        if "FUNCTION experience.follow_insert()" in text
    ]
    return function.replace(f"EXECUTE $sql${experience._ADD}$sql$", experience._ADD)


def _functions(statements: list[str]) -> list[str]:
    """Return the statements that create functions, as statements that replace them."""
    return [
        text.replace("CREATE FUNCTION", "CREATE OR REPLACE FUNCTION")
        for text in statements
        if "CREATE FUNCTION" in text
    ]


def upgrade() -> None:
    tokens, experience = _module("0001"), _module("0003")
    for statement in (
        # An update that moves nothing stays on its page (HOT) if there is room, and then writes no
        # index.  Room for three rows is enough: that of old rows is soon used again.
        *(f"ALTER TABLE tokens.spatial_index_{level} SET (fillfactor = 95)" for level in _LEVELS),
        *_index_functions(tokens, tokens._postgis_schema()),
        # For the planner, `enable_seqscan = off` makes the scan of `tokens.versions`, which has no
        # index, so expensive that it would be compiled.
        "ALTER FUNCTION tokens.renew_version() SET jit = off",
        _TOUCH,
        _follow_insert(experience),
    ):
        op.execute(statement)


def downgrade() -> None:
    tokens, experience = _module("0001"), _module("0003")
    functions = [
        *tokens._index_triggers(tokens._postgis_schema()),
        tokens._TOUCH_FUNCTION,
        *experience._follow_triggers(),
    ]
    for statement in (
        *(f"ALTER TABLE tokens.spatial_index_{level} RESET (fillfactor)" for level in _LEVELS),
        "ALTER FUNCTION tokens.renew_version() RESET jit",
        *_functions(functions),
    ):
        op.execute(statement)


def _module(older: str) -> ModuleType:
    """Return the script of an older revision, which never changes."""
    return context.script.get_revision(older).module
