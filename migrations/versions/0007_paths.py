"""The way between two tokens: a function that finds it frontier by frontier, and what that needs.

By steps, it goes from both ends at once, the smaller frontier first, until the two meet.

By weight, it goes from both ends too, and keeps labels: a token, what the way to it costs, and the
label that it came from.  In each round the cheapest quarter of one side's queue leads on; a label
that a cheaper one follows does no harm.  It ends when the cheapest of both queues together cost as
much as the best way known, which at first is the one of fewest steps.  Under a `max_depth`, a label
counts its steps too, and only one that is neither dearer nor longer makes another needless.

What was reached is held in arrays, since a reader may not make tables.  Each round is an EXECUTE,
planned for the sizes that it has.  A negative weight has no place in this: such connections are
left out, and the caller looks for them by the index that holds no others.
"""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_INDEX = """
CREATE INDEX ix_connections_negative_weight ON graph.connections (id) WHERE weight < 0
"""

# Near and far end of an arc, and which connections are one; a bidirectional one is two.
_ARCS = {
    "outgoing": (("source_id", "target_id", ""), ("target_id", "source_id", "AND c.bidirectional")),
    "incoming": (("target_id", "source_id", ""), ("source_id", "target_id", "AND c.bidirectional")),
    "both": (("source_id", "target_id", ""), ("target_id", "source_id", "")),
}
_BACKWARDS = {"outgoing": "incoming", "incoming": "outgoing", "both": "both"}


def _arcs(direction: str, which: str = "") -> str:
    """What the frontier leads to, by either kind of arc."""
    return " UNION ALL ".join(
        f"""
            SELECT f.*, c.{far} AS far, c.id AS via, c.weight
            FROM frontier AS f JOIN graph.connections AS c ON c.{near} = f.node
            WHERE ($1 IS NULL OR c.connection_type = ANY ($1)) {which} {condition}"""
        for near, far, condition in _ARCS[direction]
    )


def _by_steps(direction: str) -> str:
    """One round: what the frontier leads to for the first time, and where the other side was."""
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
    """One round: the labels that a part of the queue leads to, and the best way that they close."""
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


def _chosen(rounds: dict[str, str]) -> str:
    whens = "".join(f" WHEN '{name}' THEN $sql${text}$sql$" for name, text in rounds.items())
    return f"CASE direction{whens} END"


# Names that end in _2 are of the side that begins at the target.
_FUNCTION = f"""
CREATE FUNCTION graph.shortest_path(
    source uuid, target uuid, direction text, types text[], weighted boolean, max_depth integer
) RETURNS TABLE (
    step integer, source_id uuid, target_id uuid, connection_id uuid, connection_type text,
    weight float8
) LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $body$
DECLARE
    by_steps CONSTANT text := {_chosen({name: _by_steps(name) for name in _ARCS})};
    by_steps_2 CONSTANT text := {_chosen({name: _by_steps(_BACKWARDS[name]) for name in _ARCS})};
    by_weight CONSTANT text := {_chosen({name: _by_weight(name) for name in _ARCS})};
    by_weight_2 CONSTANT text := {_chosen({name: _by_weight(_BACKWARDS[name]) for name in _ARCS})};
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
        -- A way is read off the two sides, from where they met to their beginnings.
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


def upgrade() -> None:
    op.execute(_INDEX)
    op.execute(_FUNCTION)


def downgrade() -> None:
    op.execute("DROP FUNCTION graph.shortest_path(uuid, uuid, text, text[], boolean, integer)")
    op.execute("DROP INDEX graph.ix_connections_negative_weight")
