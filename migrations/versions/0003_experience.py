"""Schema `experience`: events, and the trajectories that triggers derive from them."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# --- tables ----------------------------------------------------------------------------------------

# An event is a fact: it outlives its token and its trajectory.  The foreign key to the trajectory is
# deferred, because it is checked before a statement's trigger can create the trajectory.
_TABLES = (
    "CREATE SCHEMA experience",
    """
    CREATE TABLE experience.experience_trajectories (
        id uuid NOT NULL DEFAULT gen_random_uuid(),
        start_time timestamptz,
        end_time timestamptz,
        event_count bigint NOT NULL DEFAULT 0,
        total_reward float8 NOT NULL DEFAULT 0,
        metadata jsonb,
        created_at timestamptz NOT NULL DEFAULT now(),
        ended_at timestamptz,
        CONSTRAINT pk_experience_trajectories PRIMARY KEY (id)
    )
    """,
    """
    CREATE TABLE experience.experience_events (
        id uuid NOT NULL DEFAULT gen_random_uuid(),
        event_type text NOT NULL,
        "timestamp" timestamptz NOT NULL DEFAULT now(),
        token_id uuid,
        state_before jsonb,
        state_after jsonb,
        action jsonb,
        reward float8 NOT NULL DEFAULT 0,
        priority float8,
        trajectory_id uuid,
        sequence_number bigint,
        metadata jsonb,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_experience_events PRIMARY KEY (id),
        CONSTRAINT fk_experience_events_token_id FOREIGN KEY (token_id)
            REFERENCES tokens.tokens (id) ON UPDATE CASCADE ON DELETE SET NULL,
        CONSTRAINT fk_experience_events_trajectory_id FOREIGN KEY (trajectory_id)
            REFERENCES experience.experience_trajectories (id)
            ON UPDATE CASCADE ON DELETE SET NULL DEFERRABLE INITIALLY DEFERRED,
        CONSTRAINT ck_experience_events_priority_finite
            CHECK (abs(priority) < 'Infinity'::float8),
        CONSTRAINT ck_experience_events_reward_finite CHECK (abs(reward) < 'Infinity'::float8),
        CONSTRAINT ck_experience_events_timestamp_finite CHECK (isfinite("timestamp"))
    )
    """,
    """
    CREATE INDEX ix_experience_events_timestamp_sequence_number_id
        ON experience.experience_events ("timestamp", sequence_number, id)
    """,
    """
    CREATE INDEX ix_experience_events_token_id_timestamp
        ON experience.experience_events (token_id, "timestamp")
    """,
    """
    CREATE INDEX ix_experience_events_trajectory_id_sequence_number
        ON experience.experience_events (trajectory_id, sequence_number)
    """,
)

# --- the triggers that derive trajectories ---------------------------------------------------------
#
# An event may name a trajectory that does not exist yet: the statement that writes the event creates
# it.  Times, count and total of a trajectory are those of its events, whichever program writes them.
# Writers of one trajectory wait for each other, in the order of ids; writers of different ones never
# do.

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

_CHANGED = """
    SELECT o.trajectory_id AS old_id, n.trajectory_id AS new_id
    FROM old_rows AS o FULL JOIN new_rows AS n ON n.id = o.id
    WHERE (o.trajectory_id, o."timestamp", o.reward)
        IS DISTINCT FROM (n.trajectory_id, n."timestamp", n.reward)
"""

# One statement may fire several of these triggers (an upsert, a WITH), and they then see each other's
# rows: a trajectory that was read again includes the new events already.  So an insertion that
# follows in the same transaction reads again too, once.
_NOTE = "PERFORM set_config('ngdata.read_again', 'on', true);"

# Check the deferred key now: rows that wait for the commit would forbid a TRUNCATE before it.
_CHECK = """
    SET CONSTRAINTS experience.fk_experience_events_trajectory_id IMMEDIATE;
    SET CONSTRAINTS experience.fk_experience_events_trajectory_id DEFERRED;
"""

# Each begins with a check that costs nothing: deleting a token updates its events, mostly none.
_FOLLOW = {
    "insert": (
        "REFERENCING NEW TABLE AS new_rows",
        f"""
        IF EXISTS (SELECT FROM new_rows WHERE trajectory_id IS NOT NULL) THEN
            EXECUTE $sql${_ADD}$sql$;
            IF current_setting('ngdata.read_again', true) = 'on' THEN
                EXECUTE $sql$ SELECT array_agg(DISTINCT trajectory_id) FROM new_rows $sql$
                INTO trajectories;
                EXECUTE $sql${_READ_AGAIN}$sql$ USING trajectories;
                PERFORM set_config('ngdata.read_again', '', true);
            END IF;
        END IF;
        {_CHECK}
        """,
    ),
    # One loop creates the new trajectories and locks the others, so that all are in the order of ids.
    "update": (
        "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
        f"""
        IF EXISTS (SELECT FROM old_rows WHERE trajectory_id IS NOT NULL)
            OR EXISTS (SELECT FROM new_rows WHERE trajectory_id IS NOT NULL)
        THEN
            FOR trajectory, named IN EXECUTE $sql$
                WITH changed AS MATERIALIZED ({_CHANGED})
                SELECT id, bool_or(is_new) FROM (
                    SELECT old_id AS id, false AS is_new FROM changed
                    UNION SELECT new_id, true FROM changed
                ) AS either WHERE id IS NOT NULL GROUP BY id ORDER BY id
            $sql$ LOOP
                IF named THEN
                    INSERT INTO experience.experience_trajectories (id) VALUES (trajectory)
                    ON CONFLICT DO NOTHING;
                END IF;
                PERFORM FROM experience.experience_trajectories AS t
                WHERE t.id = trajectory FOR NO KEY UPDATE;
                trajectories := trajectories || trajectory;
            END LOOP;
            IF trajectories <> ARRAY[]::uuid[] THEN
                EXECUTE $sql${_READ_AGAIN}$sql$ USING trajectories;
                {_NOTE}
            END IF;
            BEGIN
                {_CHECK}
            EXCEPTION WHEN foreign_key_violation THEN
                -- The same statement inserts an event whose trajectory is yet to be made.
                NULL;
            END;
        END IF;
        """,
    ),
    "delete": (
        "REFERENCING OLD TABLE AS old_rows",
        f"""
        IF EXISTS (SELECT FROM old_rows WHERE trajectory_id IS NOT NULL) THEN
            EXECUTE $sql$
                SELECT array_agg(id) FROM (
                    SELECT id FROM experience.experience_trajectories
                    WHERE id IN (SELECT trajectory_id FROM old_rows)
                    ORDER BY id FOR NO KEY UPDATE
                ) AS locked
            $sql$ INTO trajectories;
            EXECUTE $sql${_READ_AGAIN}$sql$ USING trajectories;
            {_NOTE}
        END IF;
        """,
    ),
    "truncate": (
        "",
        """
        UPDATE experience.experience_trajectories SET
            start_time = NULL, end_time = NULL, event_count = 0, total_reward = 0
        WHERE event_count <> 0;
        """,
    ),
}


def _follow_triggers() -> list[str]:
    """Return the four trigger functions, and the triggers that call them."""
    statements = []
    for event, (tables, body) in _FOLLOW.items():
        function = f"experience.follow_{event}()"
        statements += [
            f"""
            CREATE FUNCTION {function} RETURNS trigger LANGUAGE plpgsql
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
            """,
            f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC",
            f"""
            CREATE TRIGGER follow_{event} AFTER {event.upper()} ON experience.experience_events
            {tables} FOR EACH STATEMENT EXECUTE FUNCTION {function}
            """,
            f"ALTER TABLE experience.experience_events ENABLE ALWAYS TRIGGER follow_{event}",
        ]
    return statements


# --- ended trajectories ----------------------------------------------------------------------------
#
# An ended trajectory accepts no more events, whichever program writes them.  A writer of events locks
# the trajectory's row, and so does the one that ends it: the second sees what the first committed.
# The events of an ended trajectory may still be corrected and deleted.

# Not ENABLE ALWAYS: what a replica receives was allowed where it was written.
_KEEP_ENDED = (
    """
    CREATE FUNCTION experience.keep_ended() RETURNS trigger LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp AS $body$
    BEGIN
        RAISE integrity_constraint_violation USING MESSAGE = 'trajectory ' || OLD.id
            || ' has ended and takes no more events; record them in another';
    END
    $body$
    """,
    "REVOKE ALL ON FUNCTION experience.keep_ended() FROM PUBLIC",
    """
    CREATE TRIGGER keep_ended BEFORE UPDATE ON experience.experience_trajectories FOR EACH ROW
    WHEN (OLD.ended_at IS NOT NULL AND NEW.ended_at IS NOT NULL
        AND NEW.event_count > OLD.event_count)
    EXECUTE FUNCTION experience.keep_ended()
    """,
)

# --- versions and access ---------------------------------------------------------------------------

_RELATIONS = ("experience.experience_events", "experience.experience_trajectories")


def _version_triggers() -> list[str]:
    """Return the nonces of each relation, and the triggers that renew them."""
    statements = []
    for relation in _RELATIONS:
        statements += [
            "INSERT INTO tokens.versions (relation)"
            f" SELECT '{relation}' FROM generate_series(1, 8)",
            f"""
            CREATE TRIGGER renew_version
            AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {relation}
            FOR EACH STATEMENT EXECUTE FUNCTION tokens.renew_version('{relation}')
            """,
            # Otherwise a session with session_replication_role = replica would write unnoticed.
            f"ALTER TABLE {relation} ENABLE ALWAYS TRIGGER renew_version",
        ]
    return statements


# The groups that 0001 created, where they exist.
_GRANTS = """
    DO $do$
    DECLARE
        grantee text;
    BEGIN
        FOREACH grantee IN ARRAY ARRAY['ngdata_writer', 'ngdata_analyst'] LOOP
            CONTINUE WHEN pg_catalog.to_regrole(grantee) IS NULL;
            EXECUTE 'GRANT USAGE ON SCHEMA experience TO ' || grantee;
            EXECUTE 'GRANT SELECT ON TABLE experience.experience_events,'
                ' experience.experience_trajectories TO ' || grantee;
            EXECUTE 'ALTER DEFAULT PRIVILEGES IN SCHEMA experience'
                ' GRANT SELECT ON TABLES TO ' || grantee;
        END LOOP;
        IF pg_catalog.to_regrole('ngdata_writer') IS NOT NULL THEN
            GRANT INSERT, UPDATE, DELETE ON TABLE experience.experience_events,
                experience.experience_trajectories TO ngdata_writer;
        END IF;
    END
    $do$
"""


def upgrade() -> None:
    for statement in (
        *_TABLES,
        *_follow_triggers(),
        *_KEEP_ENDED,
        *_version_triggers(),
        _GRANTS,
    ):
        op.execute(statement)


def downgrade() -> None:
    for statement in (
        "DROP TABLE experience.experience_events, experience.experience_trajectories",
        "DROP FUNCTION experience.follow_insert(), experience.follow_update(),"
        " experience.follow_delete(), experience.follow_truncate(), experience.keep_ended()",
        "DROP SCHEMA experience",
        "DELETE FROM tokens.versions WHERE relation IN"
        " ('experience.experience_events', 'experience.experience_trajectories')",
    ):
        op.execute(statement)
