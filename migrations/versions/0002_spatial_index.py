"""The index that regions are read from, and the triggers that derive it from the tokens.

Whoever writes a token, by whatever way, has written the index when the statement ends.  What the
triggers must be for that:

- one per event: transition tables allow no more, and TRUNCATE has none;
- statements on transition tables by EXECUTE: a plan cached for one row is a disaster for 2,000;
- SECURITY DEFINER, for a writer has no rights on the index, and so with a fixed search_path;
- ENABLE ALWAYS, for ``session_replication_role = replica`` skips all others.
"""

from __future__ import annotations

from alembic import context, op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

LEVELS = range(8)

_ATTRIBUTES = 'token_type, weight, flags, "timestamp"'

# What the index holds of a token; compared whole, as bytes, by which -0.0 is not 0.0.  Without the
# cast, two ROWs would be compared field by field, for which there is no such operator.
_IMAGE = (
    "ROW({0}.coord_x, {0}.coord_y, {0}.coord_z, {0}.token_type, {0}.weight, {0}.flags,"
    ' {0}."timestamp")::record'
)
_DIFFERS = f"{_IMAGE.format('o')} OPERATOR(pg_catalog.*<>) {_IMAGE.format('n')}"


# One statement may delete a token and insert it again (WITH), and either trigger may be first: so
# what comes replaces what is there, and what is there goes only if the token no longer has it.


def _come(postgis: str, rows: str) -> str:
    # ORDER BY geom is the order of the Hilbert curve: neighbors in space share pages.
    return f"""
        INSERT INTO tokens.spatial_index (level, token_id, geom, {_ATTRIBUTES})
        SELECT level, id, geom, {_ATTRIBUTES} FROM (
            SELECT l.level, n.id, n.token_type, n.weight, n.flags, n."timestamp",
                {postgis}.ST_MakePoint(
                    n.coord_x[l.level + 1], n.coord_y[l.level + 1], n.coord_z[l.level + 1]
                ) AS geom
            FROM {rows} AS n CROSS JOIN generate_series(0, {max(LEVELS)}) AS l (level)
            WHERE n.coord_x[l.level + 1] IS NOT NULL
        ) AS points
        ORDER BY level, geom
        ON CONFLICT (token_id, level) DO UPDATE SET geom = excluded.geom,
            token_type = excluded.token_type, weight = excluded.weight, flags = excluded.flags,
            "timestamp" = excluded."timestamp"
    """


def _go(rows: str) -> str:
    # A look per row, not NOT EXISTS: the planner, which knows nothing of the rows of a partitioned
    # table, would read all tokens to answer that for 200 (4 s instead of 0.01 at a million).
    return f"""
        DELETE FROM tokens.spatial_index AS s USING {rows} AS o
        WHERE s.token_id = o.id AND (
            SELECT t.coord_x[s.level + 1] FROM tokens.tokens AS t WHERE t.id = o.id
        ) IS NULL
    """


def _triggers(postgis: str) -> dict[str, tuple[str, list[str]]]:
    """Give, for each event, the transition tables and what is to be done."""
    # Joined on the id, a row whose id changed has no counterpart: it differs from all NULL.
    old = (
        f"(SELECT o.id FROM old_rows AS o LEFT JOIN new_rows AS n ON n.id = o.id WHERE {_DIFFERS})"
    )
    new = f"(SELECT n.* FROM new_rows AS n LEFT JOIN old_rows AS o ON o.id = n.id WHERE {_DIFFERS})"
    return {
        "insert": ("REFERENCING NEW TABLE AS new_rows", [_come(postgis, "new_rows")]),
        "update": (
            "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
            [_go(old), _come(postgis, new)],
        ),
        "delete": ("REFERENCING OLD TABLE AS old_rows", [_go("old_rows")]),
        "truncate": ("", ["TRUNCATE tokens.spatial_index"]),
    }


def upgrade() -> None:
    postgis = _postgis_schema()
    op.execute(f"""
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
    """)
    for level in LEVELS:
        op.execute(
            f"CREATE TABLE tokens.spatial_index_{level}"
            f" PARTITION OF tokens.spatial_index FOR VALUES IN ({level})"
        )
    op.execute(
        "CREATE INDEX ix_spatial_index_geom ON tokens.spatial_index"
        f" USING gist (geom {postgis}.gist_geometry_ops_nd)"
    )
    for event, (tables, statements) in _triggers(postgis).items():
        function = f"tokens.index_{event}()"
        body = "\n".join(f"EXECUTE $sql${statement}$sql$;" for statement in statements)
        op.execute(f"""
            CREATE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql
            SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
            BEGIN
                {body}
                RETURN NULL;
            END
            $body$
        """)
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"""
            CREATE TRIGGER index_{event} AFTER {event.upper()} ON tokens.tokens {tables}
            FOR EACH STATEMENT EXECUTE FUNCTION {function}
        """)
        op.execute(f"ALTER TABLE tokens.tokens ENABLE ALWAYS TRIGGER index_{event}")


def downgrade() -> None:
    for event in _triggers("public"):
        op.execute(f"DROP TRIGGER index_{event} ON tokens.tokens")
        op.execute(f"DROP FUNCTION tokens.index_{event}()")
    op.execute("DROP TABLE tokens.spatial_index")


def _postgis_schema() -> str:
    """Tell where PostGIS really is; its functions must be named with it."""
    if context.is_offline_mode():
        return "public"
    return str(
        op.get_bind().scalar(
            text("SELECT extnamespace::regnamespace FROM pg_extension WHERE extname = 'postgis'")
        )
    )
