"""The spatial index is written level by level, which sorts in a quarter of the time.

By level and point, rows were compared in full; by the point alone PostgreSQL compares short keys of
them, which PostGIS makes for its Hilbert curve.  And many rows are first written without
``ON CONFLICT``, which looks each of them up: only a statement that deletes a token and inserts it
again (WITH) finds one there, and then all is done over with it.  That takes a subtransaction, of
which a session that writes rows singly would pile up one for each: so few rows go the other way.
"""

from __future__ import annotations

from types import ModuleType

from alembic import context, op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

MANY = 1000

_ATTRIBUTES = 'token_type, weight, flags, "timestamp"'

_REPLACE = """
    ON CONFLICT (token_id, level) DO UPDATE SET geom = excluded.geom,
        token_type = excluded.token_type, weight = excluded.weight, flags = excluded.flags,
        "timestamp" = excluded."timestamp"
"""


def _come(postgis: str, rows: str) -> str:
    # OFFSET 0: the sub-select is run, and sorted, once for each level.
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


def _bodies(before: ModuleType, postgis: str) -> dict[str, str]:
    come = _come(postgis, "new_rows")
    go, _ = before._triggers(postgis)["update"][1]
    changed = f"""
        WITH changed AS MATERIALIZED (
            SELECT n.* FROM new_rows AS n LEFT JOIN old_rows AS o ON o.id = n.id
            WHERE {before._DIFFERS}
        )
    """
    return {
        "insert": f"""
            IF EXISTS (SELECT FROM new_rows OFFSET {MANY}) THEN
                BEGIN
                    EXECUTE $sql${come}$sql$;
                    RETURN NULL;
                EXCEPTION WHEN unique_violation THEN
                    NULL;
                END;
            END IF;
            EXECUTE $sql${come}{_REPLACE}$sql$;
        """,
        "update": f"""
            EXECUTE $sql${go}$sql$;
            EXECUTE $sql${changed}{_come(postgis, "changed")}{_REPLACE}$sql$;
        """,
    }


def upgrade() -> None:
    before = _migration_0002()
    for event, body in _bodies(before, before._postgis_schema()).items():
        _replace(event, body)


def downgrade() -> None:
    before = _migration_0002()
    triggers = before._triggers(before._postgis_schema())
    for event in ("insert", "update"):
        _replace(event, "\n".join(f"EXECUTE $sql${sql}$sql$;" for sql in triggers[event][1]))


def _migration_0002() -> ModuleType:
    module: ModuleType = context.script.get_revision("0002").module
    return module


def _replace(event: str, body: str) -> None:
    # Indented as in 0002, so that a downgrade gives back the very text.
    op.execute(f"""
            CREATE OR REPLACE FUNCTION tokens.index_{event}() RETURNS trigger LANGUAGE plpgsql
            SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
            BEGIN
                {body}
                RETURN NULL;
            END
            $body$
        """)
