"""Statements of one's own: types, parameters, and that they only read and leave nothing behind."""

import asyncio
import contextlib
import datetime as dt
import itertools
import uuid
from decimal import Decimal
from types import MappingProxyType

import numpy as np
import pandas as pd
import pytest

import ngdata
from ngdata._arguments.texts import STR
from ngdata.errors import ConfigError, InvalidQueryError, QueryTimeout, ResultTooLarge
from tests.conftest import backends, execute


@pytest.fixture(scope="module")
def store(new_migrated_database):
    with new_migrated_database() as url, ngdata.connect(url, max_rows=1000) as client:
        client.tokens.bulk_create({"x": [1.0, 2.0], "y": [0.0, 0.0], "z": [0.0, 0.0]})
        client.url = url
        yield client


def state(ng):
    """Return what a statement could change, as another client sees it."""
    counted = execute(
        ng.url,
        "SELECT (SELECT count(*) FROM tokens.tokens), (SELECT count(*) FROM pg_class"
        " WHERE relname NOT LIKE 'pg_%'), (SELECT string_agg(nonce::text, '' ORDER BY nonce)"
        " FROM tokens.versions), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),"
        " (SELECT count(*) FROM pg_largeobject_metadata)",
    )
    return counted, backends(ng.url)


TIME = pd.Timestamp("2024-03-31T01:30:00.000001", tz="UTC")
ID = "00000000-0000-4000-8000-00000000000a"

# An expression, the dtype of its column, and its value.
TYPES = [
    ("1::int2", "Int16", 1),
    ("1", "Int32", 1),
    ("2::int8^62", "float64", 2.0**62),
    ("9223372036854775807", "Int64", 2**63 - 1),
    ("true", "boolean", True),
    ("0.1::float4", "float32", np.float32(0.1)),
    ("'-Infinity'::float8", "float64", -np.inf),
    ("1.25", "float64", 1.25),
    ("1e400::numeric", "float64", np.inf),
    ("'é''\\'", STR, "é'\\"),
    ("'ab'::char(3)", STR, "ab "),
    (f"'{ID}'::uuid", STR, ID),
    ("'2024-03-31T03:30:00.000001+02'::timestamptz", "datetime64[us, UTC]", TIME),
    ("'2024-03-31T01:30'::timestamp", "datetime64[us]", pd.Timestamp("2024-03-31T01:30")),
    ("'0001-01-01'::date", "datetime64[us]", pd.Timestamp("0001-01-01")),
    ("'-1 day 1 microsecond'::interval", "timedelta64[us]", pd.Timedelta(-86399999999, "us")),
    ("""'{"a": [1, null, "é"]}'::jsonb""", "object", {"a": [1, None, "é"]}),
    ("'[1.5]'::json", "object", [1.5]),
    ("""'"a"'::jsonb""", "object", "a"),
    ("'12:30'::time", "object", dt.time(12, 30)),
    ("'\\x00ff'::bytea", "object", b"\x00\xff"),
    ("ARRAY[1, NULL]", "object", [1, None]),
    ("ARRAY[1.5, NULL]::numeric[]", "object", [1.5, None]),
    (f"ARRAY['{ID}', NULL]::uuid[]", "object", [ID, None]),
    ("""ARRAY['{"a": 1}']::jsonb[]""", "object", [{"a": 1}]),
    ("'{}'::text[]", "object", []),
]


def test_dtypes_follow_from_types_alone(store):
    columns = ", ".join(f"{text} AS c{n}" for n, (text, _, _) in enumerate(TYPES))
    names = [f"c{n}" for n in range(len(TYPES))]
    rows = store.sql(f"SELECT {columns}")
    none = store.sql(f"SELECT * FROM (SELECT {columns}) AS a WHERE false")
    missing = store.sql(f"SELECT a.* FROM (VALUES (1)) v LEFT JOIN (SELECT {columns}) a ON false")
    both = store.sql(
        f"SELECT a.* FROM (VALUES (1), (2)) v (n) LEFT JOIN (SELECT {columns}) a ON n = 1 ORDER BY n"
    )
    expected = [dtype for _, dtype, _ in TYPES]
    for frame, length in ((rows, 1), (none, 0), (missing, 1), (both, 2)):
        assert list(frame.columns) == names
        assert list(frame.dtypes) == expected
        assert frame.index.equals(pd.RangeIndex(length))
    for name, (text, _, value) in zip(names, TYPES, strict=True):
        assert rows[name][0] == value, text
        assert both[name][0] == value, text
    assert missing.isna().all(axis=None)
    assert both.loc[1].isna().all()
    assert rows.attrs["ngdata"]["source"] == "database"


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("'infinity'::timestamptz", "row 0 is infinity, or not in the years 1 to 9999"),
        ("'-infinity'::timestamp", "row 0 is infinity"),
        ("'0044-03-15 BC'::date", "row 0 is infinity, or not in the years"),
        ("'20000-01-01'::timestamptz", "row 0 is infinity, or not in the years"),
        ("'1 month'::interval", "row 0 has months"),
        ("'200000000 days'::interval", "cannot"),
        ("'[2:3]={1,2}'::int[]", "cannot be read.*cast the column to text or jsonb"),
        ("(1, 2)", "cannot be read.*cast the column"),
        ("1 AS a, 2", "two columns of the name"),
    ],
)
def test_values_that_pandas_cannot_hold(store, expression, problem):
    with pytest.raises(InvalidQueryError, match=problem):
        store.sql(f"SELECT {expression} AS a")
    assert store.sql("SELECT 1 AS a").a.tolist() == [1]


# A value, the type it is sent to, and the expression that the server must find equal.
PARAMETERS = [
    (None, "int4", "NULL"),
    (pd.NA, "text", "NULL"),
    (pd.NaT, "timestamptz", "NULL"),
    (True, "bool", "true"),
    (np.False_, "bool", "false"),
    (7, "int8", "7"),
    (np.uint64(2**63 - 1), "int8", "9223372036854775807"),
    (0.1, "float8", "0.1"),
    (np.float32(0.5), "float4", "0.5"),
    (float("-inf"), "float8", "'-Infinity'"),
    (Decimal("1.10"), "numeric", "1.10"),
    ("x'); DROP TABLE tokens.tokens; --", "text", "$q$x'); DROP TABLE tokens.tokens; --$q$"),
    ("back\\slash\\' $1 é 😀", "text", "$q$back\\slash\\' $1 é 😀$q$"),
    (np.str_(""), "text", "''"),
    (b"\x00'\\\xff", "bytea", "'\\x00275cff'"),
    (uuid.UUID(ID), "uuid", f"'{ID}'"),
    (dt.date(1, 1, 1), "date", "'0001-01-01'"),
    (dt.time(12, 30, 0, 1), "time", "'12:30:00.000001'"),
    (TIME.tz_convert("Europe/Berlin"), "timestamptz", f"'{TIME}'"),
    (dt.datetime(9999, 12, 31, tzinfo=dt.UTC), "timestamptz", "'9999-12-31Z'"),
    (dt.timedelta(days=-1, microseconds=1), "interval", "'-86399.999999 s'"),
    (np.timedelta64(1500, "ms"), "interval", "'1.5 s'"),
    ({"a": [1, None, "it's\\"]}, "jsonb", """$q${"a": [1, null, "it's\\\\"]}$q$"""),
    (MappingProxyType({}), "jsonb", "'{}'"),
    (
        ["a,b", "NULL", None, "", "{}", '"q\\'],
        "text[]",
        """ARRAY['a,b','NULL',NULL,'','{}','"q\\']""",
    ),
    (range(3), "int[]", "'{0,1,2}'"),
    (pd.Series([1.5, np.nan]), "float8[]", "'{1.5,NULL}'"),
    ([], "int[]", "'{}'"),
    (np.array([[1, 2], [3, 4]]), "int[]", "'{{1,2},{3,4}}'"),
    ([uuid.UUID(ID)], "uuid[]", f"ARRAY['{ID}'::uuid]"),
]


def test_parameters_are_what_the_server_reads(store):
    conditions = ", ".join(
        f"(${n}::{type_}) IS NOT DISTINCT FROM ({text})::{type_}"
        f" AND (${n}::{type_})::text IS NOT DISTINCT FROM (({text})::{type_})::text AS c{n}"
        for n, (_, type_, text) in enumerate(PARAMETERS, 1)
    )
    values = [value for value, _, _ in PARAMETERS]
    same = store.sql(f"SELECT {conditions}", values)
    assert [PARAMETERS[n] for n in range(len(values)) if not same.iat[0, n]] == []


@pytest.mark.parametrize(
    ("params", "problem"),
    [
        ({"a": 1}, "params must be a sequence"),
        ("abc", "params must be a sequence"),
        ([], "params is empty"),
        (itertools.count(), "params must be a sequence"),
        ([range(10**12)], r"params\[0\] must have at most 10,000,000 items"),
        ([1, 2], r"params has 2 values, but the statement has 1 parameters"),
        (["x"], 'a value of params .*invalid input syntax for type integer: "x"$'),
        ([2**80], "a value of params .*out of range for type integer$"),
        (["a\0b"], r"params\[0\] must be text without NUL"),
        ([dt.datetime(2024, 1, 1)], r"params\[0\] must have a time zone"),
        ([object()], r"params\[0\] must be None, a bool, a number"),
        ([[[1], ["\ud800"]]], r"params\[0\]\[1\]\[0\] must be valid Unicode"),
        ([[[[[[[[1]]]]]]]], "at most 6 dimensions"),
    ],
)
def test_parameters_that_cannot_be_sent(store, params, problem):
    with pytest.raises(InvalidQueryError, match=problem):
        store.sql("SELECT $1::int4 AS a", params)


ATTACKS = [
    "SELECT 1; DROP TABLE tokens.tokens",
    "SELECT 1) AS a; DROP TABLE tokens.tokens; SELECT * FROM (SELECT 1",
    "SELECT 1) AS answer; DROP TABLE tokens.tokens; --",
    "SELECT 1) AS answer UNION SELECT * FROM (SELECT 2",
    "SELECT 1 /* open",
    "SELECT 'open",
    "COPY (SELECT 1) TO PROGRAM 'true'",
    "COPY tokens.tokens TO STDOUT",
    "DO $$ BEGIN DELETE FROM tokens.tokens; END $$",
    "DELETE FROM tokens.tokens",
    "DELETE FROM tokens.tokens RETURNING 1 AS a",
    "WITH a AS (DELETE FROM tokens.tokens RETURNING 1) SELECT * FROM a",
    "WITH a AS (INSERT INTO tokens.tokens DEFAULT VALUES RETURNING 1) SELECT * FROM a",
    "SELECT * INTO new FROM tokens.tokens",
    "SELECT * FROM tokens.tokens FOR UPDATE",
    "SELECT set_config('transaction_read_only', 'off', true)",
    "SELECT set_config('transaction_read_only', 'off', false), txid_current()",
    "SELECT nextval(pg_get_serial_sequence('experience.experience_events', 'entry_number'))",
    "SELECT query_to_xml('DELETE FROM tokens.tokens', true, true, '')",
    "SELECT query_to_xml('COMMIT', true, true, '')",
    "SET transaction_read_only = off",
    "BEGIN; COMMIT",
    "COMMIT",
    "PREPARE mine AS SELECT 1",
    "EXPLAIN ANALYZE DELETE FROM tokens.tokens",
    "CALL nothing()",
    "",
    " ;; ",
    "SELECT",
]


@pytest.mark.parametrize("params", [None, [1]])
def test_a_statement_cannot_write(store, params):
    before = state(store)
    for attack in ATTACKS:
        text = attack.replace("SELECT 1", "SELECT $1::int4") if params else attack
        with pytest.raises(InvalidQueryError):
            store.sql(text, params)
            pytest.fail(text)
    assert state(store) == before


def test_nothing_stays_in_the_session(store):
    names = ("TimeZone", "search_path", "role", "transaction_read_only", "statement_timeout")
    settings = ", ".join(f"current_setting('{name}')" for name in names)
    left = (
        f"SELECT concat_ws(' ', {settings}) AS settings,"
        " (SELECT count(*) FROM pg_prepared_statements) AS prepared,"
        " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())"
        " AS locks, (SELECT count(*) FROM pg_cursors WHERE is_holdable) AS cursors"
    )
    before, outside = store.sql(left), state(store)
    for value in (False, True):
        for name, to in (
            ("TimeZone", "Asia/Tokyo"),
            ("search_path", ""),
            ("statement_timeout", "9"),
        ):
            store.sql(f"SELECT set_config('{name}', $1, {value}) AS a", [to])
            store.sql(f"SELECT set_config('{name}', '{to}', {value}) AS a")
    store.sql("SELECT pg_advisory_lock(5)::text AS a, pg_advisory_xact_lock($1)::text AS b", [6])
    # From PostgreSQL 16 on, the server refuses it itself.
    with contextlib.suppress(InvalidQueryError):
        store.sql("SELECT lo_create(0) AS a")
    with pytest.raises(ResultTooLarge):
        store.sql(
            "SELECT pg_advisory_lock(n)::text AS a FROM generate_series($1, 9) n", [1], max_rows=3
        )
    with pytest.raises(InvalidQueryError, match="division by zero"):
        store.sql("SELECT pg_advisory_lock(7)::text AS a, 1 / $1 AS b", [0])
    after = store.sql(left)
    pd.testing.assert_frame_equal(after, before)
    assert state(store) == outside
    assert {pool["in_use"] for pool in store.pool_status().values()} == {0}


def test_forms_of_a_statement(store):
    for text in (
        "SELECT 2 AS a -- end",
        " /* x */ SELECT 2 AS a ; \n;",
        "VALUES (2)",
        "WITH b AS (SELECT 2 AS a) TABLE b",
    ):
        assert store.sql(text).iloc[:, 0].tolist() == [2], text
    odd = store.sql(
        """SELECT 5 % 2 AS "a""b", 'a%s{}:x?' AS "é", '{"a":1}'::jsonb ? 'a' AS "select" """
    )
    assert odd.columns.tolist() == ['a"b', "é", "select"]
    assert odd.loc[0].tolist() == [1, "a%s{}:x?", True]


def test_the_number_of_rows_is_bounded(store):
    series = "SELECT n FROM generate_series(1, 1500) n"
    for statement, params in ((series, None), (f"{series} WHERE n > $1", [0])):
        with pytest.raises(ResultTooLarge, match=r"1,500 rows, and max_rows is 1,000") as e:
            store.sql(statement, params)
        assert e.value.count == 1500
        with pytest.raises(ResultTooLarge):
            store.sql(statement, params, max_rows=1499)
        for bound in (1500, None):
            assert store.sql(statement, params, max_rows=bound).n.tolist() == [*range(1, 1501)]


def test_errors_show_the_place_in_the_callers_text(store):
    for params, condition in ((None, "1"), ([1], "$1")):
        with pytest.raises(InvalidQueryError) as e:
            store.sql(f"SELECT id\nFROM tokens.tokens\nWHERE fooo = {condition}", params)
        message = str(e.value)
        assert 'column "fooo" does not exist' in message
        assert f"LINE 3: WHERE fooo = {condition}\n              ^" in message
        assert "answer" not in message
        assert "ngdata_" not in message
        assert e.value.sqlstate == "42703"
    with pytest.raises(InvalidQueryError, match="statement must be one that returns rows"):
        store.sql("UPDATE tokens.tokens SET weight = 2")


def test_the_async_client_reads_too(store):
    async def read():
        async with await ngdata.connect_async(store.url) as ang:
            return await asyncio.gather(
                *(ang.sql("SELECT $1::int4 AS n, pg_sleep(0.01)::text AS s", [n]) for n in range(9))
            )

    assert [frame.n.tolist() for frame in asyncio.run(read())] == [[n] for n in range(9)]


def test_rights_and_limits_of_the_server_hold(store):
    role = f"reader_{uuid.uuid4().hex[:8]}"
    execute(
        store.url,
        f"CREATE ROLE {role}",
        f"GRANT USAGE ON SCHEMA tokens TO {role}",
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public, tokens TO {role}",
        f"REVOKE SELECT ON tokens.tokens FROM {role}",
    )
    try:
        with ngdata.connect(f"{store.url}&options=-c%20role%3D{role}", cache="off") as ng:
            assert ng.sql("SELECT current_user::text AS a").a.tolist() == [role]
            for params in (None, [0]):
                with pytest.raises(ConfigError, match="permission denied for table tokens"):
                    ng.sql(
                        f"SELECT count(*) AS n FROM tokens.tokens WHERE flags >= {'$1' if params else 0}",
                        params,
                    )
            with pytest.raises(ConfigError, match="permission denied"):
                ng.sql("SELECT pg_read_file('/etc/hostname') AS a")
    finally:
        execute(store.url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")
    with ngdata.connect(f"{store.url}&options=-c%20statement_timeout%3D200") as ng:
        for params in (None, [9]):
            with pytest.raises(QueryTimeout):
                ng.sql(f"SELECT pg_sleep({'$1' if params else 9})::text AS a", params)
        assert ng.sql("SELECT 1 AS a").a.tolist() == [1]
