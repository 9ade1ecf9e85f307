"""PostGIS, and tokens with the conditions on their coordinates."""

from __future__ import annotations

from alembic import context, op
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ngdata.errors import ConfigError

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# A CHECK passes on NULL, and the dimensions of '{}' are NULL.
_EIGHT = " AND ".join(
    f"coalesce(array_dims(coord_{axis}), '') = '[1:8]'" for axis in ("x", "y", "z")
)
# False if any element is out of range, NaN too, which is above all numbers; NULL if one is NULL.
_RANGE = " AND ".join(
    f"'1e37'::float8 >= ALL (coord_{axis}) AND '-1e37'::float8 <= ALL (coord_{axis})"
    for axis in ("x", "y", "z")
)

# The server looks at CHECKs in the order of their names: array_positions takes one dimension only.
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

# Not ENABLE ALWAYS: a replicated row brings its own time.
_TOUCH = (
    """
    CREATE FUNCTION tokens.touch() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $body$
    BEGIN
        NEW.updated_at := now();
        RETURN NEW;
    END
    $body$
    """,
    "REVOKE ALL ON FUNCTION tokens.touch() FROM PUBLIC",
    """
    CREATE TRIGGER touch BEFORE UPDATE ON tokens.tokens
    FOR EACH ROW EXECUTE FUNCTION tokens.touch()
    """,
)


def upgrade() -> None:
    _need_postgis()
    for statement in (_TOKENS, *_TOUCH):
        op.execute(statement)


def downgrade() -> None:
    # PostGIS stays: others may use it.
    op.execute("DROP TABLE tokens.tokens")
    op.execute("DROP FUNCTION tokens.touch()")


def _need_postgis() -> None:
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
            f"PostGIS cannot be made part of this database: {error.orig}. If the server lacks it, "
            "install it there (on Debian: apt-get install postgresql-15-postgis-3, with the "
            "server's own number); if this user may not, a superuser must run "
            "`CREATE EXTENSION postgis` in this database. Then migrate again"
        ) from None
