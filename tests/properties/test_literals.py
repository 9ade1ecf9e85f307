"""Values as SQL literals: the server returns each value unchanged, through the reading driver."""

import asyncio
import datetime as dt
import math
import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ngdata._config.driver_arguments import libpq_url
from ngdata._connections.arrow_pool import ArrowPool
from ngdata._query import literals as sql
from ngdata.errors import InvalidQueryError

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


@pytest.fixture(scope="module", params=["on", "off"])
def read(server, request):
    """Read one value of an expression as `ngdata._reading.reader` would, from either kind of server.

    Where it is off, a backslash could end a literal that is in plain quotes.
    """
    url = libpq_url(server.database_url, {}, 10, "test")

    async def opened():
        pool = ArrowPool(url, 1, 10)
        set_it = f"SET standard_conforming_strings = {request.param}"
        async with pool.connection() as connection:
            await connection.run(lambda session: session.execute(set_it))
        return pool

    async def closed():
        pool.close()

    async def value(expression):
        async with pool.connection() as connection:
            return (await connection.read(f"SELECT {expression} AS v")).table["v"][0].as_py()

    with asyncio.Runner() as runner:
        pool = runner.run(opened())
        yield lambda expression: runner.run(value(expression))
        runner.run(closed())


def bits(value):
    return struct.pack("<d", value)


@settings(max_examples=200)
@given(value=TEXTS)
@example(value="'; DROP TABLE tokens.tokens; --")
@example(value="\\'; SELECT 1; --")
@example(value="\\")
@example(value="''")
@example(value="%s %(name)s %% %")
@example(value="$1 :name ? $$ $a$")
@example(value="E'\\x41'")
@example(value="/* -- */\r\n")
@example(value="\U0001f9e0 \ufeff \u202e")
def test_text(read, value):
    assert read(sql.text(value)) == value


@settings(max_examples=60)
@given(values=st.lists(TEXTS, max_size=5))
@example(values=[])
@example(values=["", "NULL", "{}", '"', "a,b", "\\"])
def test_arrays_of_text(read, values):
    assert read(sql.text_array(values)) == values


@settings(max_examples=200)
@given(value=st.floats())
@example(value=-0.0)
@example(value=5e-324)
@example(value=math.inf)
@example(value=-math.inf)
@example(value=math.nan)
@example(value=1.7976931348623157e308)
def test_floats_bit_for_bit(read, value):
    result = read(sql.float8(value))
    assert math.isnan(result) if math.isnan(value) else bits(result) == bits(value)


@settings(max_examples=40)
@given(values=st.lists(st.floats(allow_nan=False), min_size=1, max_size=30))
def test_arrays_of_floats(read, values):
    assert list(map(bits, read(sql.float8_array(values)))) == list(map(bits, values))


@settings(max_examples=40)
@given(value=st.integers(-(2**63), 2**63 - 1))
@example(value=-(2**63))
def test_integers(read, value):
    assert read(sql.integer(value)) == value


@settings(max_examples=80)
@given(
    value=st.datetimes(
        timezones=st.timezones()
        | st.timedeltas(-dt.timedelta(hours=14), dt.timedelta(hours=14)).map(dt.timezone),
        min_value=dt.datetime(1, 1, 2),
        max_value=dt.datetime(9999, 12, 30),
    )
)
@example(value=dt.datetime(1, 1, 1, tzinfo=dt.UTC))
@example(value=dt.datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=dt.UTC))
def test_times_to_the_microsecond(read, value):
    assert read(sql.timestamptz(value)) == value.astimezone(dt.UTC)


@settings(max_examples=30)
@given(ids=st.lists(st.uuids().map(str), max_size=20))
def test_arrays_of_ids(read, ids):
    assert read(f"{sql.uuid_array(ids)}::text[]") == ids


@pytest.mark.parametrize("value", ["\0", "a\0b", "\ud800", "\udfff x"])
def test_text_that_postgresql_cannot_store_is_rejected(value):
    with pytest.raises(InvalidQueryError, match=r"NUL|Unicode"):
        sql.text(value)
    with pytest.raises(InvalidQueryError, match=r"NUL|Unicode"):
        sql.text_array(["fine", value])
