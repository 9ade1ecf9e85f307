"""`ConfigLoader`, `DatabaseFactory`, `DatabaseManager` and `RedisManager`."""

import asyncio
import socket

import pytest
import redis
import redis.asyncio

from ngdata._config import postgres_url
from ngdata.errors import ConfigError, DatabaseUnavailable, InvalidQueryError, SchemaVersionError
from ngdata.repositories import ConfigLoader, DatabaseFactory, RepositoryFactory

FILE = """
database:
  postgres:
    enabled: true
    host: ${LAYER_HOST:db.example}
    port: ${LAYER_PORT:5433}
    pool: {min_size: 2, max_size: 4, max_overflow: 10, pool_recycle: 3600, echo: false}
    schema: {tokens: tokens}
  redis:
    host: localhost
    connection: {max_connections: 50}
    keys: {token_by_id: "t:{token_id}"}
repositories:
  token: {cache_enabled: true, cache_ttl: 3600}
"""


def test_the_loader_finds_files_as_the_layer_did(tmp_path, monkeypatch):
    monkeypatch.setenv("LAYER_HOST", "other.example")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "config" / "infrastructure"
    folder.mkdir(parents=True)
    (folder / "database.yaml").write_text(FILE)
    for loader in (ConfigLoader(), ConfigLoader(tmp_path), ConfigLoader("config")):
        config = loader.load("infrastructure/database.yaml")
        assert config["database"]["postgres"]["host"] == "other.example"
        assert config["database"]["postgres"]["port"] == 5433
        assert config["repositories"]["token"]["cache_ttl"] == 3600
    assert ConfigLoader().load(folder / "database.yaml") == config
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read"):
        ConfigLoader().load("nowhere.yaml")


def test_nothing_configured_is_the_embedded_server(database_url):
    where = postgres_url.without_password(database_url)

    async def go(config):
        try:
            manager = await DatabaseFactory.create_database_manager(config)
            assert repr(manager).endswith(f"of {where}>")
            assert await DatabaseFactory.create_redis_manager(config).health_check()
            assert await manager.health_check()
        finally:
            await DatabaseFactory.close_all()

    for config in (None, {}, {"postgres": {"pool": {"max_size": 2}}}):
        asyncio.run(go(config))


def test_the_configuration_is_checked(config):
    async def go(change):
        await DatabaseFactory.create_database_manager(
            config | {"postgres": config["postgres"] | change}
        )

    with pytest.raises(ConfigError, match=r"database\.postgres\.prot .* did you mean `port`"):
        asyncio.run(go({"prot": 1}))
    with pytest.raises(ConfigError, match=r"postgres\.port in the configuration must be"):
        asyncio.run(go({"port": "many"}))
    with pytest.raises(ConfigError, match=r"postgres\.port in the configuration must be"):
        DatabaseFactory.create_redis_manager({"postgres": {"port": "many"}})


def test_a_mapping_that_names_a_server_comes_before_the_environment(config, monkeypatch):
    monkeypatch.setenv("NGDATA_DATABASE_URL", "postgresql://nobody@nowhere.invalid/x")
    monkeypatch.setenv("POSTGRES_HOST", "nowhere.invalid")

    async def go():
        try:
            return await (await DatabaseFactory.create_database_manager(config)).health_check()
        finally:
            await DatabaseFactory.close_all()

    assert asyncio.run(go())


def test_one_manager_for_a_configuration_and_a_loop(config):
    """A handler that requests its manager on every call opens one pool."""

    async def go():
        first, second = await asyncio.gather(
            DatabaseFactory.create_database_manager(config),
            DatabaseFactory.create_database_manager(config),
        )
        assert first is second
        smaller = {"postgres": config["postgres"] | {"pool": {"max_size": 1}}}
        assert await DatabaseFactory.create_database_manager(smaller) is not first
        cache = DatabaseFactory.create_redis_manager(config)
        assert DatabaseFactory.create_redis_manager(config) is cache
        await DatabaseFactory.close_all()
        third = await DatabaseFactory.create_database_manager(config)
        assert third is not first
        async with third.session() as session:
            assert await RepositoryFactory.create_token_repository(session).count() == 0
        # Closed without `close_all`; the next loop opens one of its own.
        await third.close()
        return third

    assert asyncio.run(go()) is not asyncio.run(go())


def test_a_server_that_is_not_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = {"host": "127.0.0.1", "port": port, "password": "Geheim-1"}

    async def go():
        with pytest.raises(DatabaseUnavailable) as caught:
            await DatabaseFactory.create_database_manager({"postgres": address})
        assert "Geheim" not in str(caught.value)
        cache = DatabaseFactory.create_redis_manager({"postgres": address, "redis": address})
        assert cache.ping() is False
        assert await cache.health_check() is False
        without = DatabaseFactory.create_redis_manager({"postgres": address})
        assert await without.health_check() is False
        with pytest.raises(ConfigError, match="no Redis is configured"):
            without.get_client()
        # The failed one is not kept.
        with pytest.raises(DatabaseUnavailable):
            await DatabaseFactory.create_database_manager({"postgres": address})
        await DatabaseFactory.close_all()

    asyncio.run(go())


def test_a_database_without_a_schema_gets_it(config, empty_database):
    name = empty_database.partition("?")[0].rpartition("/")[2]
    bare = {"postgres": config["postgres"] | {"database": name}}

    async def go():
        try:
            manager = await DatabaseFactory.create_database_manager(bare)
            assert await manager.health_check()
            with pytest.raises(SchemaVersionError, match="no schema of ngdata yet"):
                async with manager.session():
                    pass
            await manager.create_tables()
            await manager.create_tables()
            async with manager.session() as session:
                return await RepositoryFactory.create_token_repository(session).count()
        finally:
            await DatabaseFactory.close_all()

    assert asyncio.run(go()) == 0


def test_redis_is_asked_without_stopping_the_loop(config):
    """The client of the old layer blocked it."""

    async def go():
        cache = DatabaseFactory.create_redis_manager(config)
        assert await cache.health_check() is True
        assert cache.ping() is True
        assert isinstance(cache.client, redis.asyncio.Redis)
        assert await cache.client.ping() is True
        # A Redis that accepts a connection and never answers delays only its own health check.
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            silent.listen()
            mute = {
                "postgres": config["postgres"] | {"connect_timeout": 0.5},
                "redis": {"host": "127.0.0.1", "port": silent.getsockname()[1]},
            }
            waiting = asyncio.ensure_future(
                DatabaseFactory.create_redis_manager(mute).health_check()
            )
            for _ in range(3):
                assert await cache.health_check() is True
            assert not waiting.done()
            assert await waiting is False
        await DatabaseFactory.close_all()

    asyncio.run(go())


def test_keys_and_times_of_redis(config):
    manager = DatabaseFactory.create_redis_manager(
        config | {"redis": config["redis"] | {"keys": {"token_by_id": "t:{token_id}"}}}
    )
    assert isinstance(manager.get_client(), redis.Redis)
    assert manager.get_client().ping() is True
    assert manager.build_key("token_by_id", token_id="a") == "t:a"
    assert manager.build_key("experience_recent", count=10) == "exp:recent:10"
    region = {"x1": 0, "y1": 0, "z1": 0, "x2": 1, "y2": 1, "z2": 1}
    keys = {manager.build_key("spatial_region", level=level, **region) for level in range(8)}
    assert len(keys) == 8
    with pytest.raises(InvalidQueryError, match="needs level="):
        manager.build_key("spatial_region", **region)
    with pytest.raises(InvalidQueryError, match="unknown key pattern 'tokens'"):
        manager.build_key("tokens")
    assert manager.get_ttl() == manager.get_ttl("graph") == 60
    asyncio.run(DatabaseFactory.close_all())
    assert DatabaseFactory.create_redis_manager(config) is not manager
    asyncio.run(DatabaseFactory.close_all())
