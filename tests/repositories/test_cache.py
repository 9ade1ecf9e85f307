"""`get_by_id(use_cache=True)` returns from the cache what the database would return now."""

import asyncio
import contextlib
import random
import uuid
from urllib.parse import urlsplit

import pytest
import redis
from sqlalchemy import event, inspect, text

from ngdata.repositories import DatabaseFactory, RepositoryFactory, TokenModel
from tests.cache.conftest import eventually

VALUES = {
    "coord_x": [-0.0, None, 1e37, 5e-324, 0.1, 2.0, -1e37, 3.0],
    "coord_y": [0.0, None, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    "coord_z": [0.0, None, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
    "binary_data": bytes(range(64)),
    "metadata": {"a": [1, 1.0, None, True, {"b": "ü\u2028"}], "big": 2**70},
    "flags": 2**31 - 1,
    "weight": 0.1,
    "timestamp": 1,
    "token_type": "soma",
}


@contextlib.contextmanager
def statements(manager):
    """Collect the statements sent to the database."""
    sent = []

    def note(connection, cursor, statement, *_):
        sent.append(statement)

    event.listen(manager.engine.sync_engine, "before_cursor_execute", note)
    yield sent
    event.remove(manager.engine.sync_engine, "before_cursor_execute", note)


def as_values(entity):
    return {one.key: getattr(entity, one.key) for one in inspect(TokenModel).column_attrs}


def cache_of(manager):
    return manager._entity_cache


@pytest.fixture
def cached(config, with_manager):
    """Run async code with a manager and a Redis manager whose Redis is empty."""

    def run(body):
        async def go(manager):
            redis_manager = DatabaseFactory.create_redis_manager(config)
            await redis_manager.client.flushall()
            return await body(manager, redis_manager)

        return with_manager(go)

    return run


@contextlib.asynccontextmanager
async def tokens_of(manager, redis_manager):
    async with manager.session() as session:
        yield RepositoryFactory.create_token_repository(session, redis_manager)


async def in_redis(redis_manager, many):
    with contextlib.closing(redis.Redis.from_url(redis_manager.url())) as client:
        await eventually(lambda: len(client.keys("ngdata:*")) == many)


@pytest.mark.usefixtures("patient_redis")
def test_each_tier_returns_the_entity_unchanged(cached):
    async def go(manager, redis_manager):
        async with tokens_of(manager, redis_manager) as tokens:
            key = (await tokens.create(TokenModel(**VALUES))).id
        async with tokens_of(manager, redis_manager) as tokens:
            read = as_values(await tokens.get_by_id(key, use_cache=False))
            assert cache_of(manager).stats.misses == 0
        for tier in ("misses", "memory_hits", "redis_hits"):
            if tier == "redis_hits":
                await in_redis(redis_manager, 2)
                cache_of(manager).memory.clear()
            async with tokens_of(manager, redis_manager) as tokens:
                entity = await tokens.get_by_id(key)
                assert getattr(cache_of(manager).stats, tier) == 1, tier
                assert as_values(entity) == read
                assert str(entity.coord_x[0]) == "-0.0"
                for name, value in as_values(entity).items():
                    assert isinstance(read[name], type(value)), name

    cached(go)


def test_a_hit_sends_the_version_query_alone(cached, token):
    async def go(manager, redis_manager):
        async with tokens_of(manager, redis_manager) as tokens:
            key = (await tokens.create(token())).id
        for expected in (2, 1):
            async with tokens_of(manager, redis_manager) as tokens:
                with statements(manager) as sent:
                    await tokens.get_by_id(key)
                assert len(sent) == expected
        assert "tokens.current_version" in sent[0]
        assert "coord_x" not in sent[0]

    cached(go)


def test_a_cached_entity_belongs_to_its_session(cached, token):
    """It is the only object with its id; its changes are written, and unwritten ones stay in it."""

    async def go(manager, redis_manager):
        async with tokens_of(manager, redis_manager) as tokens:
            key = (await tokens.create(token(metadata={"a": [1]}))).id
        async with tokens_of(manager, redis_manager) as tokens:
            await tokens.get_by_id(key)
        async with tokens_of(manager, redis_manager) as tokens:
            entity = await tokens.get_by_id(key)
            assert await tokens.get_by_id(key) is entity
            assert (await tokens.find_by_type("default"))[0] is entity
            assert entity not in tokens.session.dirty
            entity.metadata["a"].append(2)
            entity.coord_x[0] = 7.0
        async with tokens_of(manager, redis_manager) as tokens:
            entity = await tokens.get_by_id(key)
            assert (entity.metadata, entity.coord_x[0]) == ({"a": [1]}, 0.0)
            entity.metadata["a"].append(2)
            entity.weight = 5.0
            await tokens.update(entity)
        async with tokens_of(manager, redis_manager) as tokens:
            entity = await tokens.get_by_id(key)
            assert (entity.metadata, entity.weight) == ({"a": [1, 2]}, 5.0)
            await tokens.delete(key)
            assert await tokens.get_by_id(key) is None
        assert cache_of(manager).stats.memory_hits >= 3

    cached(go)


def test_pending_changes_are_written_before_a_read(cached, token):
    async def go(manager, redis_manager):
        async with tokens_of(manager, redis_manager) as tokens:
            key = (await tokens.create(token())).id
            entity = await tokens.get_by_id(key)
            entity.weight = 9.0
            assert (await tokens.get_by_id(key)).weight == 9.0

    cached(go)


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_an_open_transaction_does_not_affect_other_sessions(cached, token, ends):
    """Reads of uncommitted writes are visible only to the transaction itself."""

    async def go(manager, redis_manager):
        async with tokens_of(manager, redis_manager) as tokens:
            key = (await tokens.create(token(weight=1.0))).id
        with contextlib.suppress(ZeroDivisionError):
            async with (
                tokens_of(manager, redis_manager) as mine,
                tokens_of(manager, redis_manager) as others,
            ):
                assert (await others.get_by_id(key)).weight == 1.0
                own = await mine.get_by_id(key)
                own.weight = 2.0
                for _ in range(2):
                    assert (await mine.get_by_id(key)).weight == 2.0
                    assert (await others.get_by_id(key)).weight == 1.0
                with contextlib.suppress(KeyError):
                    async with mine.session.begin_nested():
                        own.weight = 3.0
                        assert (await mine.get_by_id(key)).weight == 3.0
                        raise KeyError
                assert (await mine.get_by_id(key)).weight == 2.0
                assert (await others.get_by_id(key)).weight == 1.0
                if ends == "rollback":
                    raise ZeroDivisionError
        before = cache_of(manager).stats.copy()
        async with tokens_of(manager, redis_manager) as tokens:
            assert (await tokens.get_by_id(key)).weight == (2.0 if ends == "commit" else 1.0)
        # Right after the commit, the entity cached inside is valid for all.
        after = cache_of(manager).stats
        assert (after.hits, after.misses) == (before.hits + 1, before.misses)

    cached(go)


def test_triggers_that_are_off_twice_in_one_transaction_are_noticed(cached, token):
    async def go(manager, redis_manager):
        async with tokens_of(manager, redis_manager) as tokens:
            key = (await tokens.create(token(weight=1.0))).id
        async with tokens_of(manager, redis_manager) as tokens:
            for weight in (2.0, 3.0):
                for statement in (
                    "ALTER TABLE tokens.tokens DISABLE TRIGGER renew_version",
                    f"UPDATE tokens.tokens SET weight = {weight}",
                    "ALTER TABLE tokens.tokens ENABLE ALWAYS TRIGGER renew_version",
                ):
                    await tokens.session.execute(text(statement))
                assert (await tokens.get_by_id(key)).weight == weight
        async with tokens_of(manager, redis_manager) as tokens:
            assert (await tokens.get_by_id(key)).weight == 3.0

    cached(go)


def test_random_sessions_read_what_the_database_returns(cached, token):
    """Two at a time, with writes, savepoints and rollbacks; each read is compared with an uncached one."""

    async def go(manager, redis_manager):
        async with tokens_of(manager, redis_manager) as tokens:
            keys = [(await tokens.create(token(float(n)))).id for n in range(3)]
        chance = random.Random(5)

        async def step(tokens, mine):
            key = chance.choice(keys)
            what = chance.random()
            if what < 0.2 and key in mine:
                with contextlib.suppress(KeyError):
                    async with tokens.session.begin_nested():
                        entity = await tokens.get_by_id(key)
                        if entity is not None:
                            entity.weight = chance.random()
                        await tokens.get_by_id(key)
                        if chance.random() < 0.5:
                            raise KeyError
            elif what < 0.25 and key in mine:
                await tokens.delete(key)
            elif what < 0.3:
                cache_of(manager).memory.clear()
            cached_one = await tokens.get_by_id(key)
            seen = None if cached_one is None else as_values(cached_one)
            plain = await tokens.get_by_id(key, use_cache=False)
            assert seen == (None if plain is None else as_values(plain))

        for _ in range(25):
            with contextlib.suppress(ZeroDivisionError):
                async with (
                    tokens_of(manager, redis_manager) as one,
                    tokens_of(manager, redis_manager) as two,
                ):
                    # They write different rows, so neither waits for the other.
                    for _ in range(6):
                        await step(one, keys[:1])
                        await step(two, keys[1:])
                    if chance.random() < 0.3:
                        raise ZeroDivisionError
            async with tokens_of(manager, redis_manager) as tokens:
                for key in keys:
                    if await tokens.get_by_id(key) is None:
                        await tokens.create(token(id=key))
        stats = cache_of(manager).stats
        assert stats.memory_hits > 60
        assert stats.redis_hits > 0

    cached(go)


def test_concurrent_reads_on_one_session(cached, token):
    async def go(manager, redis_manager):
        async with tokens_of(manager, redis_manager) as tokens:
            key = (await tokens.create(token())).id
            for _ in range(3):
                entities = await asyncio.gather(*(tokens.get_by_id(key) for _ in range(10)))
                assert all(one is entities[0] for one in entities)

    cached(go)


def test_without_redis_and_with_an_unreachable_one(with_manager, token, config):
    async def go(manager):
        nowhere = DatabaseFactory.create_redis_manager(
            {**config, "redis": {"host": "/nowhere/redis.sock"}}
        )
        for redis_manager in (None, nowhere):
            async with tokens_of(manager, redis_manager) as tokens:
                key = (await tokens.create(token())).id
                with pytest.warns() if redis_manager else contextlib.nullcontext():
                    for _ in range(2):
                        assert (await tokens.get_by_id(key)).id == key
        assert cache_of(manager).stats.memory_hits == 2

    with_manager(go)


def test_the_ttl_is_the_redis_managers(cached, token, config):
    async def go(manager, redis_manager):
        async with tokens_of(manager, redis_manager) as tokens:
            await tokens.get_by_id((await tokens.create(token())).id)
        await in_redis(redis_manager, 2)
        client = redis_manager.client
        async for name in client.scan_iter("ngdata:*"):
            assert 0 < await client.ttl(name) <= 60

    assert urlsplit("unix:" + config["redis"]["host"]).path
    cached(go)


def test_an_unknown_id_is_never_cached(cached, token):
    async def go(manager, redis_manager):
        key = uuid.uuid4()
        async with tokens_of(manager, redis_manager) as tokens:
            assert await tokens.get_by_id(key) is None
        async with tokens_of(manager, redis_manager) as tokens:
            await tokens.create(token(id=key))
        async with tokens_of(manager, redis_manager) as tokens:
            assert (await tokens.get_by_id(key)).id == key
        assert len(cache_of(manager).memory) == 1

    cached(go)
