"""The parts that `alembic check` does not compare: operator classes, CHECKs, partitions, triggers, functions."""

import asyncio
import re

import asyncpg
import pytest
from sqlalchemy import CheckConstraint

from ngdata._arguments.levels import LEVELS
from ngdata._store.models import Base


def rows(url, sql, *arguments):
    async def go():
        connection = await asyncpg.connect(url)
        try:
            return [tuple(row) for row in await connection.fetch(sql, *arguments)]
        finally:
            await connection.close()

    return asyncio.run(go())


def test_a_partition_per_level_each_with_its_n_d_index(database_url):
    result = rows(
        database_url,
        """
        SELECT c.relname, pg_get_expr(c.relpartbound, c.oid), o.opcname, m.amname
        FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
        JOIN pg_index i ON i.indrelid = c.oid
        JOIN pg_opclass o ON o.oid = i.indclass[0] JOIN pg_am m ON m.oid = o.opcmethod
        WHERE inhparent = 'tokens.spatial_index'::regclass AND NOT i.indisprimary
        ORDER BY 1
        """,
    )
    assert result == [
        (f"spatial_index_{n}", f"FOR VALUES IN ({n})", "gist_geometry_ops_nd", "gist")
        for n in range(8)
    ]


def test_the_index_of_metadata_is_partial(database_url):
    [(definition,)] = rows(
        database_url,
        "SELECT indexdef FROM pg_indexes WHERE indexname = 'ix_tokens_metadata'",
    )
    assert definition.endswith(
        "ON tokens.tokens USING gin (metadata jsonb_path_ops) WHERE (metadata IS NOT NULL)"
    )


def test_the_levels_are_those_of_the_arguments(database_url):
    assert rows(database_url, "SELECT level, name, unit FROM tokens.levels ORDER BY level") == [
        (level, name, None) for level, name in enumerate(LEVELS)
    ]


def test_the_index_starts_with_the_token(database_url):
    assert rows(
        database_url,
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'pk_spatial_index'",
    ) == [("PRIMARY KEY (token_id, level)",)]
    assert (
        rows(
            database_url,
            "SELECT conname FROM pg_constraint"
            " WHERE conrelid = 'tokens.spatial_index'::regclass AND contype = 'f'",
        )
        == []
    )


def test_checks_are_those_of_the_models(database_url):
    async def go():
        connection = await asyncpg.connect(database_url)
        try:
            for table in Base.metadata.tables.values():
                expected = {
                    str(c.name): str(c.sqltext)
                    for c in table.constraints
                    if isinstance(c, CheckConstraint)
                }
                # The server's own form of the models' text, on a table of the same columns.
                await connection.execute(f"CREATE TEMP TABLE same (LIKE {table.fullname})")
                for name, text in expected.items():
                    await connection.execute(
                        f"ALTER TABLE same ADD CONSTRAINT {name} CHECK ({text})"
                    )
                definitions = (
                    "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
                    " WHERE conrelid = $1::regclass AND contype = 'c' ORDER BY 1"
                )
                in_models = await connection.fetch(definitions, "same")
                in_database = await connection.fetch(definitions, table.fullname)
                await connection.execute("DROP TABLE same")
                assert in_database == in_models, table.fullname
        finally:
            await connection.close()

    asyncio.run(go())


def test_actions_of_foreign_keys(database_url):
    result = rows(
        database_url,
        """
        SELECT conname, confdeltype::text, confupdtype::text, condeferred, convalidated
        FROM pg_constraint WHERE contype = 'f' AND connamespace::regnamespace::text
            IN ('tokens', 'graph', 'experience') ORDER BY 1
        """,
    )
    assert result == [
        ("fk_connections_source_id", "c", "c", False, True),
        ("fk_connections_target_id", "c", "c", False, True),
        ("fk_experience_events_token_id", "n", "c", False, True),
        ("fk_experience_events_trajectory_id", "n", "c", True, True),
        ("fk_graph_snapshots_part_of", "c", "a", False, True),
    ]


VERSIONED = [
    "experience.experience_events",
    "experience.experience_trajectories",
    "graph.connections",
    "graph.graph_snapshots",
    "tokens.levels",
    "tokens.spatial_index",
    "tokens.tokens",
]
# A statement that names a partition fires that partition's triggers alone.
RENEWING = [*VERSIONED, *(f"tokens.spatial_index_{level}" for level in range(8))]

LOG = [f"log_{event}" for event in ("delete", "insert", "truncate", "update")]
# Those that keep images for pins.
KEEPING = ["keep_delete", "keep_insert", "keep_truncate", "keep_update"]

TRIGGERS = {table: ["log_all", "renew_version"] for table in RENEWING} | {
    "tokens.tokens": [
        "index_delete",
        "index_insert",
        "index_truncate",
        "index_update",
        *KEEPING,
        *LOG,
        "renew_version",
        "touch",
    ],
    "graph.connections": [*KEEPING, *LOG, "renew_version"],
    "experience.experience_events": [
        "follow_delete",
        "follow_insert",
        "follow_truncate",
        "follow_update",
        *KEEPING,
        *LOG,
        "renew_version",
    ],
    "experience.experience_trajectories": sorted(
        [*KEEPING, "keep_ended", "log_all", "renew_version"]
    ),
}


def test_there_are_no_other_triggers(database_url):
    result = rows(
        database_url,
        """
        SELECT tgrelid::regclass::text, array_agg(tgname::text ORDER BY tgname) FROM pg_trigger
        WHERE NOT tgisinternal GROUP BY 1
        """,
    )
    assert dict(result) == TRIGGERS


# pg_trigger.tgtype, a sum of bits: statement is the lack of 1, before 2.
EVENTS = {"insert": 4, "delete": 8, "update": 16, "truncate": 32}


def test_each_statement_renews_a_version(database_url):
    result = rows(
        database_url,
        """
        SELECT tgrelid::regclass::text, tgtype, tgenabled::text,
            encode(tgargs, 'escape'), prosecdef, proacl::text
        FROM pg_trigger t JOIN pg_proc p ON p.oid = tgfoid WHERE tgname = 'renew_version'
        """,
    )
    assert sorted(one[0] for one in result) == sorted(RENEWING)
    for table, kind, enabled, arguments, definer, acl in result:
        assert kind == sum(EVENTS.values()), "AFTER, for each statement, for all events"
        assert enabled == "A", "ENABLE ALWAYS"
        assert arguments.removesuffix("\\000") == re.sub(r"_\d$", "", table)
        assert definer, "SECURITY DEFINER"
        assert not re.search(r"[{,]=", acl), "only the owner may call it"


LOGGING = {
    "tokens.tokens": "tokens.log_tokens()",
    "graph.connections": "tokens.log_connections()",
    "experience.experience_events": "tokens.log_events()",
}


def test_each_event_is_logged(database_url):
    result = rows(
        database_url,
        """
        SELECT tgrelid::regclass::text, tgname::text, tgtype, tgenabled::text,
            tgfoid::regprocedure::text, rtrim(encode(tgargs, 'escape'), E'\\\\000'), prosecdef,
            proacl::text
        FROM pg_trigger t JOIN pg_proc p ON p.oid = tgfoid WHERE tgname LIKE 'log\\_%'
        """,
    )
    kinds = dict.fromkeys(RENEWING, 0)
    for table, name, kind, enabled, function, argument, definer, acl in result:
        kinds[table] += kind
        assert enabled == "A", "ENABLE ALWAYS"
        assert definer, "SECURITY DEFINER"
        assert not re.search(r"[{,]=", acl), "only the owner may call it"
        if table in LOGGING and name != "log_truncate":
            assert (kind, function) == (EVENTS[name.removeprefix("log_")], LOGGING[table])
        elif table.startswith("tokens.spatial_index"):
            assert function == "tokens.log_index()"
        else:
            assert (function, argument) == ("tokens.log_all()", table)
    assert set(kinds.values()) == {sum(EVENTS.values())}, "each event once"


def test_versions_have_no_index_and_room_on_a_page(database_url):
    assert rows(
        database_url,
        "SELECT relhasindex, reloptions[1] FROM pg_class WHERE oid = 'tokens.versions'::regclass",
    ) == [(False, "fillfactor=20")]
    assert rows(
        database_url,
        "SELECT DISTINCT relation FROM tokens.versions ORDER BY 1",
    ) == [(table,) for table in VERSIONED]


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize(
    ("table", "prefix"), [("tokens.tokens", "index_"), ("experience.experience_events", "follow_")]
)
def test_deriving_triggers(database_url, table, prefix, event):
    name = prefix + event
    [(kind, enabled, definer, config, acl, source, language, old, new)] = rows(
        database_url,
        """
        SELECT tgtype, tgenabled::text, prosecdef, proconfig, proacl::text, prosrc,
            lanname::text, tgoldtable::text, tgnewtable::text
        FROM pg_trigger t JOIN pg_proc p ON p.oid = tgfoid JOIN pg_language l ON l.oid = prolang
        WHERE tgrelid = $1::text::regclass AND tgname = $2
        """,
        table,
        name,
    )
    assert kind == EVENTS[event], "AFTER, for each statement, for one event only"
    assert enabled == "A", "ENABLE ALWAYS"
    assert definer, "SECURITY DEFINER"
    planned_for_one = name in ("index_update", "index_delete")
    assert config == [
        "search_path=pg_catalog, pg_temp",
        *(["enable_seqscan=off"] if planned_for_one else []),
    ]
    assert language == "plpgsql"
    assert not re.search(r"[{,]=", acl), "only the owner may call it"
    assert (old, new) == {
        "insert": (None, "new_rows"),
        "update": ("old_rows", "new_rows"),
        "delete": ("old_rows", None),
        "truncate": (None, None),
    }[event]

    # What is not in an EXECUTE has its plan cached for the size of the first statement.
    cached = re.sub(r"\$sql\$.*?\$sql\$", "", source, flags=re.DOTALL)
    if table == "tokens.tokens":
        # Only the check for many rows reads the transition table, and not all of it.
        several = cached.rpartition("-- Several rows\n")[2]
        assert "_rows" not in several.replace("EXISTS (SELECT FROM new_rows OFFSET 1000)", "")
    elif event == "insert":
        # One statement adds the events, by the only plan that it has.
        assert cached.count("_rows") == 2
    else:
        whole_reads = re.sub(
            r"EXISTS \(SELECT FROM (old|new)_rows WHERE trajectory_id IS NOT NULL\)", "", cached
        )
        assert "_rows" not in whole_reads


PINNED = [table for table, names in TRIGGERS.items() if "keep_insert" in names]


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("table", PINNED)
def test_triggers_that_keep_images(database_url, table, event):
    [(kind, enabled, definer, config, acl, old, new)] = rows(
        database_url,
        """
        SELECT tgtype, tgenabled::text, prosecdef, proconfig, proacl::text, tgoldtable::text,
            tgnewtable::text
        FROM pg_trigger t JOIN pg_proc p ON p.oid = tgfoid
        WHERE tgrelid = $1::text::regclass AND tgname = $2
        """,
        table,
        f"keep_{event}",
    )
    before = 2 if event == "truncate" else 0
    assert kind == EVENTS[event] + before, "for each statement, for one event only"
    assert enabled == "A", "ENABLE ALWAYS"
    assert definer, "SECURITY DEFINER"
    assert config == ["search_path=pg_catalog, pg_temp"]
    assert not re.search(r"[{,]=", acl), "only the owner may call it"
    assert (old, new) == (
        "old_rows" if event in ("update", "delete") else None,
        "new_rows" if event in ("insert", "update") else None,
    )


def test_functions_name_their_schemas(database_url):
    """With a search_path of pg_catalog alone, a name without its schema would not be found."""
    result = rows(
        database_url,
        """
        SELECT p.oid::regprocedure::text FROM pg_proc p
        WHERE pronamespace::regnamespace::text IN ('tokens', 'graph', 'experience') ORDER BY 1
        """,
    )
    assert [name for (name,) in result] == sorted(
        [
            *(f"experience.follow_{event}()" for event in EVENTS),
            "experience.keep_ended()",
            *(f"tokens.index_{event}()" for event in EVENTS),
            *(f"{table.replace('.', '.keep_')}_{event}()" for table in PINNED for event in EVENTS),
            "graph.shortest_path(uuid,uuid,text,text[],boolean,integer)",
            "graph.shortest_path_at(bigint,uuid,uuid,text,text[],boolean,integer)",
            "tokens.add_pin(text)",
            "tokens.check_may_pin()",
            "tokens.current_version(text[])",
            "tokens.fold_versions()",
            "tokens.grant_access(name,text)",
            *(
                f"tokens.log_{what}()"
                for what in ("all", "connections", "events", "index", "tokens")
            ),
            "tokens.prune_changes()",
            "tokens.reader_identity()",
            "tokens.redis_secret()",
            "tokens.remove_pin(uuid)",
            "tokens.renew_version()",
            "tokens.rest_pins()",
            "tokens.touch()",
        ]
    )
    assert rows(
        database_url,
        "SELECT count(*) FROM pg_proc WHERE pronamespace::regnamespace::text"
        " IN ('tokens', 'graph', 'experience')"
        " AND 'search_path=pg_catalog, pg_temp' = ANY (proconfig)",
    ) == [(len(result) - len({"tokens.touch()"}),)]
