"""Sessions: committed at their end, rolled back on an error, and never left open."""

import asyncio
import uuid
from urllib.parse import parse_qsl, urlsplit

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import AsyncAdaptedQueuePool

from ngdata.errors import (
    DatabaseUnavailable,
    IntegrityError,
    InvalidQueryError,
    NGDataError,
    NotFoundError,
)
from ngdata.repositories import ConnectionModel, DatabaseFactory, TokenModel
from tests.conftest import execute
from tests.round_trips import counted


def test_commits_on_leaving_and_entities_stay_usable(with_manager, layer, token, outside):
    async def go(manager):
        async with manager.session() as session:
            created = await layer(manager, session).tokens.create(token(1.0, metadata={"a": 1}))
            assert outside.one("SELECT count(*) FROM tokens.tokens") == 0
        return created

    created = with_manager(go)
    assert outside.one("SELECT id::text FROM tokens.tokens") == str(created.id)
    # Nothing is loaded lazily: neither after the commit nor after the pool is closed.
    assert (created.coord_x[0], created.metadata, created.token_type) == (1.0, {"a": 1}, "default")
    assert created.created_at == created.updated_at


def test_rolls_back_on_an_error_and_entities_stay_usable(with_manager, layer, token, outside):
    async def go(manager):
        async with manager.session() as session:
            created.append(await layer(manager, session).tokens.create(token(1.0)))
            raise ZeroDivisionError

    created = []
    with pytest.raises(ZeroDivisionError):
        with_manager(go)
    assert created[0].coord_x[0] == 1.0
    assert outside.one("SELECT count(*) FROM tokens.tokens") == 0


def test_a_commit_in_the_middle_stays(with_manager, layer, token, outside):
    async def go(manager):
        async with manager.session() as session:
            tokens = layer(manager, session).tokens
            await tokens.create(token(1.0))
            await session.commit()
            await tokens.create(token(2.0))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        with_manager(go)
    assert outside.rows("SELECT coord_x[1] FROM tokens.tokens") == [(1.0,)]


def test_an_error_of_the_body_is_unchanged(with_manager):
    async def go(manager):
        for error in (FileNotFoundError("mine"), TimeoutError("mine"), KeyError("mine")):
            with pytest.raises(type(error), match="mine"):
                async with manager.session():
                    raise error

    with_manager(go)


def test_the_session_survives_a_refused_write(in_session, token, outside):
    """For programs that write many rows and count the failures."""

    async def go(layer):
        a = await layer.tokens.create(token(1.0))
        dirty = await layer.tokens.create(token(2.0))
        dirty.weight = 7.0
        with pytest.raises(IntegrityError, match="target_id") as caught:
            await layer.graph.create_connection(a.id, uuid.uuid4())
        assert caught.value.sqlstate == "23503"
        with pytest.raises(IntegrityError, match="already"):
            await layer.tokens.create(token(3.0, id=a.id))
        edge = await layer.graph.create_connection(a.id, dirty.id)
        assert (a.coord_x[0], dirty.weight) == (1.0, 7.0)
        return edge

    edge = in_session(go)
    assert outside.one("SELECT id::text FROM graph.connections") == str(edge.id)
    assert outside.rows("SELECT weight FROM tokens.tokens ORDER BY weight") == [(1.0,), (7.0,)]


def test_an_id_of_another_session_is_refused_by_the_server(with_manager, layer, token):
    async def go(manager):
        async with manager.session() as session:
            created = await layer(manager, session).tokens.create(token())
        async with manager.session() as session:
            tokens = layer(manager, session).tokens
            with pytest.raises(IntegrityError, match=f"{created.id}.* already exists"):
                await tokens.create(token(id=created.id))
            with pytest.raises(IntegrityError, match="already in the store"):
                await tokens.create(created)
            assert await tokens.count() == 1

    with_manager(go)


def test_a_failed_transaction_is_never_committed_silently(with_manager, layer, token, outside):
    """PostgreSQL answers COMMIT in a failed transaction with a rollback, and no error."""

    async def go(manager):
        async with manager.session() as session:
            await layer(manager, session).tokens.create(token())
            with pytest.raises(DBAPIError, match="division by zero"):
                await session.execute(text("SELECT 1 / 0"))

    with pytest.raises(NGDataError, match="25P02"):
        with_manager(go)
    assert outside.one("SELECT count(*) FROM tokens.tokens") == 0


def test_errors_of_own_statements_are_translated(with_manager):
    async def go(manager):
        async with manager.session() as session:
            await session.execute(text("SELECT 1 / 0"))

    with pytest.raises(InvalidQueryError, match="division by zero") as caught:
        with_manager(go)
    assert caught.value.sqlstate == "22012"


def test_a_value_beyond_a_limit_of_the_server(with_manager):
    async def go(manager):
        async with manager.session() as session:
            await session.execute(text("SELECT CAST(repeat('[', 1000000) AS jsonb)"))

    with pytest.raises(InvalidQueryError, match="beyond a limit of the server") as caught:
        with_manager(go)
    assert caught.value.sqlstate == "54001"


def test_a_failed_flush_ends_the_session_with_its_own_error(with_manager, layer, token):
    async def go(manager):
        async with manager.session() as session:
            a = await layer(manager, session).tokens.create(token())
            session.add(ConnectionModel(source_id=a.id, target_id=uuid.uuid4()))
            with pytest.raises(IntegrityError):
                await layer(manager, session).graph.get_all()

    with pytest.raises(NGDataError, match="an earlier error has ended this session's"):
        with_manager(go)


def test_an_invalid_pending_entity_is_reported_at_the_end(with_manager, token, outside):
    async def go(manager):
        with pytest.raises(InvalidQueryError, match="coord_x is needed"):
            async with manager.session() as session:
                session.add(TokenModel())
        with pytest.raises(IntegrityError, match="source_id"):
            async with manager.session() as session:
                session.add(ConnectionModel(source_id=uuid.uuid4(), target_id=uuid.uuid4()))
        with pytest.raises(InvalidQueryError, match="coords_whole_levels"):
            async with manager.session() as session:
                session.add(token(coord_x=[None] * 8))
        created = token(metadata={})
        created.metadata["a"] = object()
        with pytest.raises(InvalidQueryError, match="cannot be written"):
            async with manager.session() as session:
                session.add(created)

    with_manager(go)
    assert outside.one("SELECT count(*) FROM tokens.tokens") == 0


def test_an_entity_deleted_by_another_session(with_manager, layer, token, outside):
    async def go(manager):
        async with manager.session() as session:
            created = await layer(manager, session).tokens.create(token())
        async with manager.session() as session:
            tokens = layer(manager, session).tokens
            held = await tokens.get_by_id(created.id)
            outside.rows("DELETE FROM tokens.tokens")
            held.weight = 2.0
            with pytest.raises(NotFoundError, match="deleted"):
                await tokens.update(held)
            with pytest.raises(NotFoundError, match=str(created.id)) as caught:
                await tokens.update(created)
            assert caught.value.missing == (str(created.id),)

    with_manager(go)


def test_the_pool_is_asynchronous_and_never_exceeded(with_manager, outside):
    async def go(manager):
        assert isinstance(manager.engine.pool, AsyncAdaptedQueuePool)
        seen = []

        async def use():
            async with manager.session() as session:
                await session.execute(text("SELECT pg_sleep(0.02)"))
                seen.append(manager.engine.pool.checkedout())

        await asyncio.gather(*(use() for _ in range(12)))
        assert max(seen) == 3
        assert manager.engine.pool.checkedout() == 0
        assert "Current Checked out connections: 0" in manager.engine.pool.status()

    with_manager(go)


@pytest.mark.parametrize("what", ["read", "write", "commit", "think"])
def test_a_cancelled_session_leaves_nothing_behind(with_manager, layer, token, outside, what):
    async def go(manager):
        async def work():
            async with manager.session() as session:
                here = layer(manager, session)
                await here.tokens.create(token())
                if what == "read":
                    await session.execute(text("SELECT pg_sleep(60)"))
                elif what == "write":
                    await here.experience.create_event("x")
                elif what == "commit":
                    session.add(here.experience.model(event_type="x"))
                else:
                    await asyncio.sleep(60)

        await outside.until(0)
        with outside.locked("experience.experience_events"):
            task = asyncio.create_task(work())
            await outside.until(1)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await outside.until(0)
            assert manager.engine.pool.checkedout() == 0
        async with manager.session() as session:
            assert await layer(manager, session).tokens.count() == 0

    with_manager(go)


@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("nested", [False, True])
def test_a_connection_whose_end_is_half_read_is_unavailable(
    with_manager, database_url, turns, nested
):
    """asyncpg reads the server's farewell and the end of the connection in turns of their own."""

    async def go(manager):
        async with manager.session() as session:
            await session.execute(text("SELECT 1"))
            execute(
                database_url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'ngdata'",
                "SELECT pg_sleep(0.2)",
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            if nested:
                async with session.begin_nested():
                    pass

    with pytest.raises(DatabaseUnavailable):
        with_manager(go)


def test_a_connection_lost_while_idle_is_replaced(with_manager, layer, outside):
    async def go(manager):
        async with manager.session() as session:
            await session.execute(text("SELECT 1"))
        outside.rows(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name='ngdata'"
        )
        async with manager.session() as session:
            assert await layer(manager, session).tokens.count() == 0

    with_manager(go)


def test_a_connection_lost_in_the_middle(with_manager, layer, token, outside):
    async def go(manager):
        async def lose():
            async with manager.session() as session:
                tokens = layer(manager, session).tokens
                await tokens.create(token())
                outside.rows(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'ngdata'"
                )
                await tokens.count()

        with pytest.raises(DatabaseUnavailable):
            await lose()
        async with manager.session() as session:
            assert await layer(manager, session).tokens.count() == 0

    with_manager(go)


def test_a_closed_manager_raises(config):
    async def go():
        manager = await DatabaseFactory.create_database_manager(config)
        await DatabaseFactory.close_all()
        with pytest.raises(NGDataError, match="closed"):
            async with manager.session():
                pass
        assert not await manager.health_check()
        await manager.close()

    asyncio.run(go())


def test_a_single_write_takes_three_round_trips(config, database_url, layer, token):
    """SAVEPOINT, the statement, RELEASE; and one more where the connection prepares it."""

    async def go(trips):
        manager = await DatabaseFactory.create_database_manager(config)
        async with manager.session() as session:
            here = layer(manager, session)
            one, two = [await here.tokens.create(token()) for _ in range(2)]

            async def update():
                one.weight += 1
                await here.tokens.update(one)

            calls = {
                "create": lambda: here.tokens.create(token()),
                "create_connection": lambda: here.graph.create_connection(one.id, two.id),
                "create_event": lambda: here.experience.create_event("a", token_id=one.id),
                "update": update,
                "delete": lambda: here.tokens.delete(uuid.uuid4()),
            }
            for name, call in calls.items():
                # A token that was just created is first read, with the values that triggers set.
                counts = []
                for _ in range(3):
                    before = trips.count
                    await call()
                    counts.append(trips.count - before)
                assert max(counts) <= 5, name
                assert counts[-1] == 3, name
            await here.tokens.bulk_create([token(float(n)) for n in range(50)])
            kept = "SELECT name, length(statement) FROM pg_prepared_statements"
            statements = (await session.execute(text(kept))).all()
            assert len(statements) == 5
            assert max(length for _, length in statements) < 1000
        await DatabaseFactory.close_all()

    with counted(database_url) as trips:
        config["postgres"]["host"] = dict(parse_qsl(urlsplit(trips.url).query))["host"]
        asyncio.run(go(trips))


@pytest.mark.parametrize("kept", [1, 3])
def test_sessions_and_transactions_share_one_limit(config, outside, kept):
    """Idle connections of the one make room for the other."""
    config["postgres"]["pool"]["min_size"] = kept
    opened = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'ngdata'"

    async def go():
        manager = await DatabaseFactory.create_database_manager(config)
        others = outside.one(opened) - 1
        database = manager._database

        async def in_session():
            async with manager.session() as session:
                return (await session.execute(text("SELECT pg_sleep(0.02), 1"))).all()[0][1]

        async def in_transaction():
            async with database.transaction() as connection:
                return await connection.fetchval("SELECT 1 FROM pg_sleep(0.02)")

        for kinds in ([in_session] * 4, [in_transaction] * 4, [in_session, in_transaction] * 3):
            assert set(await asyncio.gather(*(use() for use in kinds))) == {1}
            status = database.pool_status()["write"]
            assert status["in_use"] == status["waiting"] == 0
            assert status["size"] == status["idle"] <= 3
            assert outside.one(opened) - others <= 3
        await DatabaseFactory.close_all()
        assert outside.one(opened) == others

    asyncio.run(go())


def test_a_statement_that_a_change_of_the_schema_made_invalid_is_prepared_anew(
    config, migrated_database, layer, token
):
    config["postgres"]["database"] = urlsplit(migrated_database).path.lstrip("/")

    async def go():
        manager = await DatabaseFactory.create_database_manager(config)

        async def create():
            async with manager.session() as session:
                connection = await layer(manager, session).graph.create_connection(one.id, one.id)
                return connection.created_at is not None

        async with manager.session() as session:
            one = await layer(manager, session).tokens.create(token())
        assert await create()
        change = "ALTER TABLE graph.connections ALTER COLUMN created_at TYPE timestamptz(3)"
        execute(migrated_database, change)
        with pytest.raises(NGDataError, match="cached statement plan is invalid"):
            await create()
        assert await create()
        await DatabaseFactory.close_all()

    asyncio.run(go())
