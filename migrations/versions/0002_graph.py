"""Schema `graph`: connections between tokens, indexed from both ends, snapshots, shortest paths."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# --- tables ----------------------------------------------------------------------------------------

# A connection is deleted with either of its ends.
_TABLES = (
    "CREATE SCHEMA graph",
    """
    CREATE TABLE graph.connections (
        id uuid NOT NULL DEFAULT gen_random_uuid(),
        source_id uuid NOT NULL,
        target_id uuid NOT NULL,
        connection_type text NOT NULL DEFAULT 'generic',
        weight float8 NOT NULL DEFAULT 1,
        decay_rate float8,
        bidirectional boolean NOT NULL DEFAULT false,
        metadata jsonb,
        created_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_connections PRIMARY KEY (id),
        CONSTRAINT fk_connections_source_id FOREIGN KEY (source_id)
            REFERENCES tokens.tokens (id) ON UPDATE CASCADE ON DELETE CASCADE,
        CONSTRAINT fk_connections_target_id FOREIGN KEY (target_id)
            REFERENCES tokens.tokens (id) ON UPDATE CASCADE ON DELETE CASCADE,
        CONSTRAINT ck_connections_decay_rate_finite CHECK (abs(decay_rate) < 'Infinity'::float8),
        CONSTRAINT ck_connections_weight_finite CHECK (abs(weight) < 'Infinity'::float8)
    )
    """,
    """
    CREATE INDEX ix_connections_source_id_target_id
        ON graph.connections (source_id, target_id)
    """,
    """
    CREATE INDEX ix_connections_target_id_source_id
        ON graph.connections (target_id, source_id)
    """,
    # Neighbors against the direction: only bidirectional connections, not all those of a hub.
    """
    CREATE INDEX ix_connections_source_id_bidirectional
        ON graph.connections (source_id) WHERE bidirectional
    """,
    """
    CREATE INDEX ix_connections_target_id_bidirectional
        ON graph.connections (target_id) WHERE bidirectional
    """,
    # No connections but those of negative weight, which shortest paths must look for.
    """
    CREATE INDEX ix_connections_negative_weight ON graph.connections (id) WHERE weight < 0
    """,
    """
    CREATE TABLE graph.graph_snapshots (
        id uuid NOT NULL DEFAULT gen_random_uuid(),
        label text,
        created_at timestamptz NOT NULL DEFAULT now(),
        node_count bigint NOT NULL,
        edge_count bigint NOT NULL,
        mean_degree float8,
        clustering_coefficient float8,
        data bytea,
        metadata jsonb,
        CONSTRAINT pk_graph_snapshots PRIMARY KEY (id),
        CONSTRAINT ck_graph_snapshots_counts_not_negative
            CHECK (node_count >= 0 AND edge_count >= 0)
    )
    """,
)

# --- graph.shortest_path ---------------------------------------------------------------------------
#
# By steps, it searches from both ends at once, the smaller frontier first, until the two meet.
#
# By weight, it searches from both ends too, and keeps labels: a token, the cost of the path to it,
# and the label that it was reached from.  In each round the cheapest quarter of one side's queue is
# expanded; a label that a cheaper one of the same token follows does no harm.  It ends when the
# cheapest labels of both queues together cost as much as the best path known, which at first is the
# one of fewest steps.  Under a `max_depth`, a label counts its steps too, and only a label that is
# neither more expensive nor longer makes another redundant.
#
# The reached tokens are held in arrays, since a reader may not create tables.  Each round is an
# EXECUTE, planned for its actual sizes.  Negative weights do not fit this search: such connections
# are left out, and the caller looks for them in ix_connections_negative_weight.

# Near and far end of an arc, and which connections count; a bidirectional one is two arcs.
_ARCS = {
    "outgoing": (("source_id", "target_id", ""), ("target_id", "source_id", "AND c.bidirectional")),
    "incoming": (("target_id", "source_id", ""), ("source_id", "target_id", "AND c.bidirectional")),
    "both": (("source_id", "target_id", ""), ("target_id", "source_id", "")),
}
_BACKWARDS = {"outgoing": "incoming", "incoming": "outgoing", "both": "both"}


def _arcs(direction: str, condition: str = "") -> str:
    """Return the arcs that leave the frontier, of both kinds."""
    return " UNION ALL ".join(
        f"""
            SELECT f.*, c.{far} AS far, c.id AS via, c.weight
            FROM frontier AS f JOIN graph.connections AS c ON c.{near} = f.node
            WHERE ($1 IS NULL OR c.connection_type = ANY ($1)) {condition} {kind}"""
        for near, far, kind in _ARCS[direction]
    )


def _by_steps(direction: str) -> str:
    """Return one round: the tokens reached for the first time, and one that the other side has."""
    return f"""
        WITH frontier AS (
            SELECT $3 + f.place AS origin, f.node FROM unnest($2) WITH ORDINALITY AS f (node, place)
        ), reached AS (
            SELECT DISTINCT ON (a.far) a.far, a.via, a.origin FROM ({_arcs(direction)}) AS a
            WHERE NOT EXISTS (SELECT FROM unnest($4) AS s (node) WHERE s.node = a.far)
            ORDER BY a.far, a.via, a.origin
        )
        SELECT coalesce(array_agg(far ORDER BY far), '{{}}'),
            coalesce(array_agg(via ORDER BY far), '{{}}'),
            coalesce(array_agg(origin ORDER BY far), '{{}}'),
            (SELECT r.far FROM reached AS r
             WHERE EXISTS (SELECT FROM unnest($5) AS o (node) WHERE o.node = r.far)
             ORDER BY r.far LIMIT 1)
        FROM reached
    """


def _by_weight(direction: str) -> str:
    """Return one round: the labels reached from a part of the queue, and the best path closed."""
    return f"""
        WITH frontier AS (
            SELECT f.origin, ($3)[f.origin] AS node, ($4)[f.origin] AS cost, ($5)[f.origin] AS steps
            FROM unnest($2) AS f (origin)
        ), arcs AS (
            SELECT a.far, a.via, a.origin, a.cost + a.weight AS cost,
                a.steps + ($9 IS NOT NULL)::int AS steps
            FROM ({_arcs(direction, "AND c.weight >= 0")}) AS a
        ), reached AS (
            SELECT DISTINCT ON (far, steps) * FROM arcs
            WHERE cost < $10 AND ($9 IS NULL OR steps <= $9)
            ORDER BY far, steps, cost, via, origin
        ), fresh AS (
            SELECT r.*, row_number() OVER (ORDER BY r.far, r.steps) AS place FROM reached AS r
            WHERE NOT EXISTS (
                SELECT FROM unnest($3, $4, $5) AS l (node, cost, steps)
                WHERE l.node = r.far AND l.cost <= r.cost AND l.steps <= r.steps
            )
        ), meeting AS (
            SELECT r.place, o.place AS other, r.cost + o.cost AS cost FROM fresh AS r
            JOIN unnest($6, $7, $8) WITH ORDINALITY AS o (node, cost, steps, place)
                ON o.node = r.far
            WHERE r.cost + o.cost < $10 AND ($9 IS NULL OR r.steps + o.steps <= $9)
            ORDER BY 3, r.place, o.place LIMIT 1
        )
        SELECT coalesce(array_agg(far ORDER BY place), '{{}}'),
            coalesce(array_agg(via ORDER BY place), '{{}}'),
            coalesce(array_agg(origin ORDER BY place), '{{}}'),
            coalesce(array_agg(cost ORDER BY place), '{{}}'),
            coalesce(array_agg(steps ORDER BY place), '{{}}'),
            (SELECT m.place FROM meeting AS m), (SELECT m.other FROM meeting AS m),
            coalesce((SELECT m.cost FROM meeting AS m), $10)
        FROM fresh
    """


def _by_direction(rounds: dict[str, str]) -> str:
    whens = "".join(f" WHEN '{name}' THEN $sql${text}$sql$" for name, text in rounds.items())
    return f"CASE direction{whens} END"


# Names that end in _2 belong to the side that begins at the target.
_SHORTEST_PATH = f"""
CREATE FUNCTION graph.shortest_path(
    source uuid, target uuid, direction text, types text[], weighted boolean, max_depth integer
) RETURNS TABLE (
    step integer, source_id uuid, target_id uuid, connection_id uuid, connection_type text,
    weight float8
) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $body$
DECLARE
    by_steps CONSTANT text := {_by_direction({name: _by_steps(name) for name in _ARCS})};
    by_steps_2 CONSTANT text := {_by_direction({name: _by_steps(_BACKWARDS[name]) for name in _ARCS})};
    by_weight CONSTANT text := {_by_direction({name: _by_weight(name) for name in _ARCS})};
    by_weight_2 CONSTANT text := {_by_direction({name: _by_weight(_BACKWARDS[name]) for name in _ARCS})};
    nodes uuid[] := ARRAY[source];          nodes_2 uuid[] := ARRAY[target];
    vias uuid[] := ARRAY[NULL::uuid];       vias_2 uuid[] := ARRAY[NULL::uuid];
    origins int8[] := ARRAY[0];             origins_2 int8[] := ARRAY[0];
    costs float8[] := ARRAY[0.0];           costs_2 float8[] := ARRAY[0.0];
    steps int[] := ARRAY[0];                steps_2 int[] := ARRAY[0];
    queue int8[] := ARRAY[1];               queue_2 int8[] := ARRAY[1];
    began int := 0;                         began_2 int := 0;
    place int8;                             place_2 int8;
    depth int := 0;
    fresh uuid[];
    fresh_vias uuid[];
    fresh_origins int8[];
    fresh_costs float8[];
    fresh_steps int[];
    meeting uuid;
    met int8;
    met_2 int8;
    best float8;
    known int;
    taken int;
    way uuid[];
    way_vias uuid[];
BEGIN
    IF source = target THEN
        RETURN;
    END IF;
    WHILE meeting IS NULL LOOP
        IF began = cardinality(nodes) OR began_2 = cardinality(nodes_2) OR depth >= max_depth THEN
            RETURN;
        END IF;
        depth := depth + 1;
        IF cardinality(nodes) - began <= cardinality(nodes_2) - began_2 THEN
            EXECUTE by_steps INTO fresh, fresh_vias, fresh_origins, meeting
            USING types, nodes[began + 1:], began, nodes, nodes_2;
            began := cardinality(nodes);
            nodes := nodes || fresh;
            vias := vias || fresh_vias;
            origins := origins || fresh_origins;
        ELSE
            EXECUTE by_steps_2 INTO fresh, fresh_vias, fresh_origins, meeting
            USING types, nodes_2[began_2 + 1:], began_2, nodes_2, nodes;
            began_2 := cardinality(nodes_2);
            nodes_2 := nodes_2 || fresh;
            vias_2 := vias_2 || fresh_vias;
            origins_2 := origins_2 || fresh_origins;
        END IF;
    END LOOP;
    place := array_position(nodes, meeting);
    place_2 := array_position(nodes_2, meeting);

    FOR turn IN 1..2 LOOP
        -- Read the path off the two sides, from where they met back to both ends.
        IF place IS NOT NULL THEN
            way := ARRAY[nodes[place]];
            way_vias := ARRAY[]::uuid[];
            WHILE origins[place] > 0 LOOP
                way_vias := vias[place] || way_vias;
                place := origins[place];
                way := nodes[place] || way;
            END LOOP;
            WHILE origins_2[place_2] > 0 LOOP
                way_vias := way_vias || vias_2[place_2];
                place_2 := origins_2[place_2];
                way := way || nodes_2[place_2];
            END LOOP;
        END IF;
        EXIT WHEN NOT weighted OR turn = 2;

        best := 0;
        FOREACH meeting IN ARRAY way_vias LOOP
            best := best + (SELECT c.weight FROM graph.connections AS c WHERE c.id = meeting);
        END LOOP;
        nodes := ARRAY[source];
        vias := ARRAY[NULL::uuid];
        origins := ARRAY[0];
        nodes_2 := ARRAY[target];
        vias_2 := ARRAY[NULL::uuid];
        origins_2 := ARRAY[0];
        place := NULL;
        WHILE cardinality(queue) > 0 AND cardinality(queue_2) > 0
            AND costs[queue[1]] + costs_2[queue_2[1]] < best
        LOOP
            IF cardinality(queue) <= cardinality(queue_2) THEN
                known := cardinality(nodes);
                taken := greatest(64, cardinality(queue) / 4);
                EXECUTE by_weight
                INTO fresh, fresh_vias, fresh_origins, fresh_costs, fresh_steps, met, met_2, best
                USING types, queue[1:taken], nodes, costs, steps, nodes_2, costs_2, steps_2,
                    max_depth, best;
                nodes := nodes || fresh;
                vias := vias || fresh_vias;
                origins := origins || fresh_origins;
                costs := costs || fresh_costs;
                steps := steps || fresh_steps;
                IF met IS NOT NULL THEN
                    place := known + met;
                    place_2 := met_2;
                END IF;
                queue := ARRAY(
                    SELECT q.place FROM (
                        SELECT unnest(queue[taken + 1:])
                        UNION ALL SELECT generate_series(known + 1, cardinality(nodes))
                    ) AS q (place)
                    WHERE costs[q.place] + costs_2[queue_2[1]] < best
                    ORDER BY costs[q.place], q.place
                );
            ELSE
                known := cardinality(nodes_2);
                taken := greatest(64, cardinality(queue_2) / 4);
                EXECUTE by_weight_2
                INTO fresh, fresh_vias, fresh_origins, fresh_costs, fresh_steps, met_2, met, best
                USING types, queue_2[1:taken], nodes_2, costs_2, steps_2, nodes, costs, steps,
                    max_depth, best;
                nodes_2 := nodes_2 || fresh;
                vias_2 := vias_2 || fresh_vias;
                origins_2 := origins_2 || fresh_origins;
                costs_2 := costs_2 || fresh_costs;
                steps_2 := steps_2 || fresh_steps;
                IF met IS NOT NULL THEN
                    place := met;
                    place_2 := known + met_2;
                END IF;
                queue_2 := ARRAY(
                    SELECT q.place FROM (
                        SELECT unnest(queue_2[taken + 1:])
                        UNION ALL SELECT generate_series(known + 1, cardinality(nodes_2))
                    ) AS q (place)
                    WHERE costs_2[q.place] + costs[queue[1]] < best
                    ORDER BY costs_2[q.place], q.place
                );
            END IF;
        END LOOP;
    END LOOP;

    RETURN QUERY
        SELECT p.place::int, p.near, p.far, c.id, c.connection_type, c.weight
        FROM unnest(way_vias, way, way[2:]) WITH ORDINALITY AS p (via, near, far, place)
        JOIN graph.connections AS c ON c.id = p.via ORDER BY p.place;
END
$body$
"""

# --- versions and access ---------------------------------------------------------------------------

_RELATIONS = ("graph.connections", "graph.graph_snapshots")


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
            EXECUTE 'GRANT USAGE ON SCHEMA graph TO ' || grantee;
            EXECUTE 'GRANT SELECT ON TABLE graph.connections, graph.graph_snapshots TO '
                || grantee;
            EXECUTE 'ALTER DEFAULT PRIVILEGES IN SCHEMA graph'
                ' GRANT SELECT ON TABLES TO ' || grantee;
        END LOOP;
        IF pg_catalog.to_regrole('ngdata_writer') IS NOT NULL THEN
            GRANT INSERT, UPDATE, DELETE ON TABLE graph.connections, graph.graph_snapshots
                TO ngdata_writer;
        END IF;
    END
    $do$
"""


def upgrade() -> None:
    for statement in (*_TABLES, _SHORTEST_PATH, *_version_triggers(), _GRANTS):
        op.execute(statement)


def downgrade() -> None:
    for statement in (
        "DROP FUNCTION graph.shortest_path(uuid, uuid, text, text[], boolean, integer)",
        "DROP TABLE graph.graph_snapshots, graph.connections",
        "DROP SCHEMA graph",
        "DELETE FROM tokens.versions"
        " WHERE relation IN ('graph.connections', 'graph.graph_snapshots')",
    ):
        op.execute(statement)
