"""Answers in Redis are signed by what only their role can read, and altered ones are misses."""

import contextlib
import dataclasses

import asyncpg
import pyarrow as pa
import pytest

import ngdata
from ngdata._query.model import Column, Kind
from ngdata._reading.answer import Answer
from ngdata._reading.cache.codec import FormatError, decode, encode
from tests.cache.conftest import eventually, outsider, points, run
from tests.cache.test_modes import role, source

BOX = ((0, 0, 0), (9, 9, 9))


def as_role(url, name):
    return f"{url}&options=-c%20role%3D{name}"


async def refused(connection, statement):
    """Whether the server refuses a statement, or it returns nothing."""
    try:
        return await connection.fetch(statement) == []
    except asyncpg.InsufficientPrivilegeError:
        return True


async def secret(url):
    async with outsider(url) as connection:
        return await connection.fetchval("SELECT tokens.redis_secret()")


@contextlib.asynccontextmanager
async def two_analysts(url):
    async with (
        outsider(url) as owner,
        role(owner, url, "analyst") as (one, _),
        role(owner, url, "writer") as (other, _),
    ):
        yield owner, one, other


def test_each_role_has_a_secret_of_its_own(database_url):
    async def main():
        async with two_analysts(database_url) as (owner, one, other):
            secrets = [
                await secret(database_url),
                await secret(as_role(database_url, one)),
                await secret(as_role(database_url, other)),
            ]
            assert len(set(secrets)) == 3
            assert all(len(text) == 64 for text in secrets)
            # And always the same one.
            assert await secret(as_role(database_url, one)) == secrets[1]
            # A role of the same name is another role.
            await owner.execute(f"SELECT tokens.grant_access('{one}', 'none')")
            await owner.execute(f"DROP ROLE {one}; CREATE ROLE {one}")
            await owner.execute(f"SELECT tokens.grant_access('{one}', 'analyst')")
            assert await secret(as_role(database_url, one)) not in secrets

    run(main())


def test_no_role_computes_the_secret_of_another(database_url):
    """Neither by the table, nor by another setting, nor inside functions of its own."""

    async def main():
        async with two_analysts(database_url) as (owner, one, other):
            theirs = await secret(as_role(database_url, other))
            await owner.execute(f"CREATE SCHEMA of_{one} AUTHORIZATION {one}")
            try:
                async with outsider(as_role(database_url, one)) as analyst:
                    # The session began as a superuser; a login of this role could do no more.
                    await analyst.execute(f"SET SESSION AUTHORIZATION {one}")
                    own = await analyst.fetchval("SELECT tokens.redis_secret()")
                    assert await refused(analyst, "SELECT * FROM tokens.secrets")
                    assert await refused(analyst, "COPY tokens.secrets TO STDOUT")
                    assert await refused(analyst, "INSERT INTO tokens.secrets VALUES ('x')")
                    assert await refused(analyst, f"SET ROLE {other}")
                    for attempt in (
                        f"SELECT set_config('role', '{other}', true)",
                        f"SET LOCAL session_authorization = {other}",
                        f"SET search_path = of_{one}, pg_catalog",
                        f"CREATE FUNCTION of_{one}.sha256(bytea) RETURNS bytea LANGUAGE sql"
                        " AS 'SELECT $1'",
                        f"CREATE VIEW of_{one}.pg_roles AS"
                        f" SELECT '{other}'::regrole::oid AS oid, '{one}'::name AS rolname",
                        f"CREATE FUNCTION of_{one}.asking() RETURNS text LANGUAGE sql"
                        " SECURITY DEFINER AS 'SELECT tokens.redis_secret()'",
                    ):
                        with contextlib.suppress(asyncpg.PostgresError):
                            await analyst.execute(attempt)
                        result = await analyst.fetchval("SELECT tokens.redis_secret()")
                        assert result == own != theirs, attempt
                    assert await analyst.fetchval(f"SELECT of_{one}.asking()") == own
            finally:
                await owner.execute(f"DROP SCHEMA of_{one} CASCADE")

    run(main())


def test_a_role_that_was_renamed_does_not_get_the_secret_of_its_name(database_url):
    """`SET ROLE` keeps the name, which another role may have by now."""

    async def main():
        async with two_analysts(database_url) as (owner, one, other):
            theirs = await secret(as_role(database_url, other))
            group = f"group_{one}"
            await owner.execute(f"CREATE ROLE {group}; GRANT {group} TO {one}")
            await owner.execute(f"GRANT USAGE ON SCHEMA tokens TO {group}")
            try:
                async with outsider(database_url) as analyst:
                    await analyst.execute(f"SET SESSION AUTHORIZATION {one}; SET ROLE {group}")
                    own = await analyst.fetchval("SELECT tokens.redis_secret()")
                    assert own not in (None, theirs)
                    await owner.execute(f"ALTER ROLE {group} RENAME TO {group}_old")
                    await owner.execute(f"ALTER ROLE {other} RENAME TO {group}")
                    try:
                        assert await analyst.fetchval("SELECT tokens.redis_secret()") is None
                    finally:
                        await owner.execute(f"ALTER ROLE {group} RENAME TO {other}")
                        await owner.execute(f"ALTER ROLE {group}_old RENAME TO {group}")
                    assert await analyst.fetchval("SELECT tokens.redis_secret()") == own
            finally:
                await owner.execute(f"DROP OWNED BY {group}; DROP ROLE {group}")

    run(main())


def test_a_copy_of_the_secret_in_another_database_signs_nothing(new_migrated_database):
    """A dump has the table, and in another cluster, another person's role may have the number."""

    async def main(urls):
        tables = []
        for url in urls:
            async with outsider(url) as owner:
                tables.append(await owner.fetchval("SELECT secret FROM tokens.secrets"))
        assert tables[0] == tables[1]
        assert await secret(urls[0]) != await secret(urls[1])

    with new_migrated_database() as one, new_migrated_database() as other:
        run(main([one, other]))


def test_what_all_readers_can_read_signs_nothing(database_url):
    """The nonces were once the secret, and every analyst can read them."""

    async def main():
        async with outsider(database_url) as owner:
            nonces = await owner.fetch("SELECT relation FROM tokens.versions")
            assert not [row for row in nonces if row["relation"] == "redis"]
            readable = await owner.fetch(
                "SELECT has_function_privilege('public', p.oid, 'EXECUTE'), proname FROM pg_proc p"
                " WHERE pronamespace = 'tokens'::regnamespace AND prosrc ~ 'secret'"
            )
            assert [row["proname"] for row in readable] == ["redis_secret"]

    run(main())


@pytest.mark.usefixtures("patient_redis")
def test_an_analyst_cannot_forge_the_answer_of_another_role(database_url, own_redis):
    """With all that it can read, and all of Redis to write to."""

    async def main():
        async with two_analysts(database_url) as (_, one, other):
            forger = await secret(as_role(database_url, one))
            urls = {"redis_url": own_redis.url}
            async with (
                await ngdata.connect_async(database_url, **urls) as writer,
                await ngdata.connect_async(as_role(database_url, other), **urls) as victim,
            ):
                await writer.tokens.bulk_create(points((1, 1, 1), weight=[5.0]))
                await victim.tokens.find_in_region(*BOX)
                redis = own_redis.client()
                await eventually(lambda: len(redis.keys("ngdata:*")) == 2)
                [key] = [key.decode() for key in redis.keys("ngdata:*") if key.count(b":") == 5]
                answer = victim._reader.memory.get(key.split(":")[-2])
                place = answer.table.schema.get_field_index("weight")
                table = answer.table.set_column(place, "weight", pa.array([6.0]))
                altered = dataclasses.replace(answer, table=table)

                async def weights(signature):
                    redis.set(key, encode(key, altered, signature.encode()))
                    read = []
                    for mode in ("strict", "ttl"):
                        victim._reader.memory.clear()
                        frame = await victim.tokens.find_in_region(*BOX, cache=mode)
                        read.append(frame.weight.item())
                        await victim._reader.flush()
                    return read

                assert await weights(forger) == [5.0, 5.0]
                assert victim._reader.stats.refused_values == 1
                # That was not by chance: the role's own secret opens it.
                assert await weights(await secret(as_role(database_url, other))) == [6.0, 6.0]

    run(main())


def test_a_signed_answer_with_altered_rows_is_a_miss():
    columns = (Column("weight", Kind.FLOAT),)
    answer = Answer(pa.table({"weight": [1.5, 2.5]}), columns, "v", 1.0)
    value = encode("key", answer, b"secret")
    assert decode("key", value, columns, b"secret", 1 << 20).table.equals(answer.table)
    other = dataclasses.replace(answer, table=pa.table({"weight": [1.5, 3.5]}))
    altered = encode("key", other, b"secret")
    differing = [
        place for place, pair in enumerate(zip(value, altered, strict=True)) if pair[0] != pair[1]
    ]
    signature_end = min(place for place in differing if place > 8 + 32)
    # The body of one answer under the signature of the other.
    spliced = value[:signature_end] + altered[signature_end:]
    for mixture in (spliced, altered[:signature_end] + value[signature_end:]):
        with pytest.raises(FormatError, match="checksum"):
            decode("key", mixture, columns, b"secret", 1 << 20)


@pytest.mark.usefixtures("patient_redis")
def test_two_clients_of_one_role_share_answers_and_two_roles_do_not(database_url, own_redis):
    async def main():
        async with two_analysts(database_url) as (_, one, other):
            urls = {"redis_url": own_redis.url}
            async with (
                await ngdata.connect_async(as_role(database_url, one), **urls) as first,
                await ngdata.connect_async(as_role(database_url, one), **urls) as second,
                await ngdata.connect_async(as_role(database_url, other), **urls) as third,
            ):
                assert source(await first.tokens.find_in_region(*BOX)) == "database"
                await first._reader.flush()
                assert source(await second.tokens.find_in_region(*BOX)) == "redis"
                assert source(await third.tokens.find_in_region(*BOX)) == "database"

    run(main())


def test_a_store_without_its_secret_is_cached_in_this_process_only(migrated_database, own_redis):
    """As after a dump that leaves the table out."""

    async def main():
        async with outsider(migrated_database) as owner:
            await owner.execute("DELETE FROM tokens.secrets")
        async with await ngdata.connect_async(migrated_database, redis_url=own_redis.url) as ang:
            assert source(await ang.tokens.find_in_region(*BOX)) == "database"
            assert source(await ang.tokens.find_in_region(*BOX)) == "memory"
            await ang._reader.flush()
            assert own_redis.client().keys("ngdata:*") == []

    run(main())


def test_another_role_on_the_next_connection_sees_its_own_answers(database_url, own_redis):
    """A login's role can change between two connections of one client (ALTER ROLE ... SET role)."""

    async def main():
        async with two_analysts(database_url) as (owner, one, other):
            await owner.execute(f"GRANT {other} TO {one}")
            # tokens.reader_identity() is asked on each new connection.
            async with await ngdata.connect_async(
                as_role(database_url, one), redis_url=own_redis.url
            ) as client:
                await client.tokens.find_in_region(*BOX)
                before = client._reader._identity
                arguments = client._database._arguments
                arguments["server_settings"] = {
                    **arguments.get("server_settings", {}),
                    "options": f"-c role={other}",
                }
                arguments["dsn"] = database_url
                client._reader.versions._discard()
                assert source(await client.tokens.find_in_region(*BOX)) == "database"
                after = client._reader._identity
                assert after.name != before.name
                # The pool that reads still has the first role: its answers are not kept.
                assert source(await client.tokens.find_in_region(*BOX)) == "database"

    run(main())
