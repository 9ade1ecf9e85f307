"""Events, and the trajectories that follow them.

An event may name a trajectory that is not there yet: the statement that writes the event makes it.
Times, count and total of a trajectory are those of its events, whoever writes them.  Writers of
one trajectory wait for each other, in the order of ids; writers of different ones never do.
"""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# An event is a fact: it outlives its token and its trajectory.  The key to the trajectory is
# deferred, because its rows are checked before a statement's trigger can make what they name.
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

# New events only add: no need to read the old ones.  One statement makes, locks and adds.
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

# What goes cannot be taken off a sum of floats, nor off a minimum: the rest is read again.  The
# rows are locked by an earlier statement, so that this one sees what the last holder committed.
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

# One statement may do several of these (an upsert, a WITH), and the triggers then see each other's
# rows: what was read again has the new events in it already.  So the adding that follows in the
# same transaction is read again too, once.
_NOTE = "PERFORM set_config('ngdata.read_again', 'on', true);"

# The deferred key is looked at now: rows that wait for the commit would forbid a TRUNCATE before it.
_CHECK = """
    SET CONSTRAINTS experience.fk_experience_events_trajectory_id IMMEDIATE;
    SET CONSTRAINTS experience.fk_experience_events_trajectory_id DEFERRED;
"""

# Each begins with a look that costs nothing: deleting a token updates its events, mostly none.
_TRIGGERS = {
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
    # One loop makes what is new and locks what is not, so that all is done in the order of ids.
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


def upgrade() -> None:
    for statement in _TABLES:
        op.execute(statement)
    for event, (tables, body) in _TRIGGERS.items():
        function = f"experience.follow_{event}()"
        op.execute(f"""
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
        """)
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"""
            CREATE TRIGGER follow_{event} AFTER {event.upper()} ON experience.experience_events
            {tables} FOR EACH STATEMENT EXECUTE FUNCTION {function}
        """)
        op.execute(f"ALTER TABLE experience.experience_events ENABLE ALWAYS TRIGGER follow_{event}")


def downgrade() -> None:
    op.execute("DROP TABLE experience.experience_events, experience.experience_trajectories")
    for event in _TRIGGERS:
        op.execute(f"DROP FUNCTION experience.follow_{event}()")
    op.execute("DROP SCHEMA experience")
