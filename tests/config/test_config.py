"""Settings: arguments, then the environment, then `.env`; no secret in an error or a repr."""

import pytest

import ngdata
from ngdata._config.settings import load_settings
from ngdata.errors import ConfigError


@pytest.fixture(autouse=True)
def _empty_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def url(settings):
    return settings.database_url and settings.database_url.get_secret_value()


def redis(settings):
    return settings.redis_url and settings.redis_url.get_secret_value()


def test_without_a_server_the_urls_are_none():
    settings = load_settings()
    assert (url(settings), redis(settings)) == (None, None)
    assert (settings.pool_min_size, settings.pool_max_size) == (5, 20)


def test_first_wins(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text(
        "NGDATA_DATABASE_URL=postgresql://file/d\nPOSTGRES_HOST=filehost\n"
    )
    assert url(load_settings()) == "postgresql://file/d"
    monkeypatch.setenv("NGDATA_DATABASE_URL", "postgresql://environment/d")
    assert url(load_settings()) == "postgresql://environment/d"
    assert url(load_settings(database_url="postgresql://argument/d")) == "postgresql://argument/d"
    assert url(load_settings(database_url=None)) == "postgresql://environment/d"
    monkeypatch.setenv("NGDATA_DATABASE_URL", "")
    assert url(load_settings()) == "postgresql://file/d"


def test_the_variables_of_the_docker_images(monkeypatch):
    for name, value in {
        "POSTGRES_HOST": "db",
        "POSTGRES_PORT": "5433",
        "POSTGRES_DB": "neuro graph",
        "POSTGRES_USER": "me",
        "POSTGRES_PASSWORD": "p@ss/word",
        "REDIS_HOST": "cache",
        "REDIS_PORT": "6380",
        "REDIS_PASSWORD": "r@dis",
    }.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    assert url(settings) == "postgresql://me:p%40ss%2Fword@db:5433/neuro%20graph"
    assert redis(settings) == "redis://:r%40dis@cache:6380/0"
    assert url(load_settings(database_url="postgres://h/d")) == "postgresql://h/d"


def test_socket_paths_as_hosts(monkeypatch):
    monkeypatch.setenv("POSTGRES_HOST", "/run/pg dir")
    monkeypatch.setenv("REDIS_HOST", "/run/redis.sock")
    settings = load_settings()
    assert url(settings) == "postgresql:///?host=%2Frun%2Fpg%20dir&port=5432"
    assert redis(settings).partition("?")[0] == "unix:///run/redis.sock"


@pytest.mark.parametrize(
    ("arguments", "environment", "match"),
    [
        ({"pool_max_size": 0}, {}, "pool_max_size must be greater than or equal to 1, not 0"),
        ({"pool_max_size": True}, {}, "pool_max_size must be a number, not True"),
        ({"statement_timeout": True}, {}, "statement_timeout must be a number, not True"),
        ({"config": {"database": 1}}, {}, "config must be the path of a file, not {'database': 1}"),
        ({"connect_timeout": -1}, {}, "connect_timeout must be greater than 0, not -1"),
        ({}, {"NGDATA_POOL_MAX_SIZE": "many"}, "NGDATA_POOL_MAX_SIZE must be a valid integer"),
        ({}, {"POSTGRES_PORT": "many"}, "POSTGRES_PORT must be a valid integer"),
        ({"database_url": "mysql://me:sesame@h/d"}, {}, "must begin with postgresql://"),
        ({"database_url": 5}, {}, "database_url must be a valid string"),
    ],
)
def test_a_bad_value_is_refused(monkeypatch, arguments, environment, match):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=match) as caught:
        load_settings(**arguments)
    assert "sesame" not in str(caught.value)


def test_a_dotenv_file_that_is_not_text(tmp_path):
    (tmp_path / ".env").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"file \.env in the current directory is not UTF-8"):
        load_settings()


@pytest.mark.parametrize("line", ["NGDATA_DATABASE_URL='{}", "POSTGRES_HOST: {}", "REDIS_HOST {}"])
def test_a_dotenv_line_that_cannot_be_parsed(tmp_path, line):
    """Skipping it would silently select the embedded server."""
    (tmp_path / ".env").write_text(f"A=1\n{line.format('postgresql://me:sesame@h/d')}\nB=2\n")
    with pytest.raises(
        ConfigError,
        match=rf"line 2 of .*\.env.* {line[:10]}\w*, cannot be parsed; write it as NAME=value",
    ) as caught:
        load_settings()
    assert "sesame" not in str(caught.value)


def test_a_foreign_dotenv_line_that_cannot_be_parsed(tmp_path):
    (tmp_path / ".env").write_text("THEIRS='open\nNGDATA_POOL_MAX_SIZE=7\n")
    assert load_settings().pool_max_size == 7


@pytest.mark.parametrize(
    "query", ["nosuch=1", "options=-c%20statement_timeout%3Dlong", "options=-c%20fsync%3Doff"]
)
def test_a_parameter_that_the_server_refuses(server, query):
    with pytest.raises(ConfigError, match=r"refuses a parameter of its URL: .*parameter"):
        ngdata.connect(f"{server.database_url}&{query}")


def test_no_secret_in_a_repr():
    settings = load_settings(
        database_url="postgresql://me:sesame@h/d", redis_url="redis://:sesame@h/0"
    )
    for text in (repr(settings), str(settings), repr(settings.model_dump())):
        assert "sesame" not in text


def test_settings_are_immutable():
    with pytest.raises(ValueError, match="frozen"):
        load_settings().pool_max_size = 3


@pytest.mark.parametrize("name", ["POSTGRES_DB", "POSTGRES_USER", "POSTGRES_PASSWORD"])
def test_a_part_without_a_host_does_not_select_the_embedded_server(monkeypatch, name):
    monkeypatch.setenv(name, "s3cret")
    with pytest.raises(
        ConfigError, match=f"{name} is set, but POSTGRES_HOST is not; set"
    ) as refused:
        load_settings()
    assert "s3cret" not in str(refused.value)
