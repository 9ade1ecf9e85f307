"""The sources' order: arguments, environment, `.env`, `database.yaml`, the embedded server."""

import asyncio
import inspect

import pytest

import ngdata
from ngdata._config.settings import ServerParts, Settings, load_settings
from ngdata._config.sources import UNSET, from_arguments
from ngdata.errors import ConfigError

KEYWORD = inspect.Parameter.KEYWORD_ONLY


@pytest.fixture(autouse=True)
def _empty_directory(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def file(tmp_path):
    """Write `database.yaml` and return its path."""

    def write_file(postgres="", redis=""):
        path = tmp_path / "database.yaml"
        path.write_text(f"database: {{postgres: {{{postgres}}}, redis: {{{redis}}}}}")
        return path

    return write_file


def url(settings):
    return settings.database_url and settings.database_url.get_secret_value()


def redis(settings):
    return settings.redis_url and settings.redis_url.get_secret_value()


# For each setting: its variable, its key in the file, and four values, as they are written.
SETTINGS = {
    "pool_min_size": ("NGDATA_POOL_MIN_SIZE", "pool: {min_size: 1}", (4, 3, 2, 1)),
    "pool_max_size": ("NGDATA_POOL_MAX_SIZE", "pool: {max_size: 1}", (4, 3, 2, 1)),
    "pool_timeout": ("NGDATA_POOL_TIMEOUT", "pool: {timeout: 1}", (4, 3, 2, 1)),
    "connect_timeout": ("NGDATA_CONNECT_TIMEOUT", "connect_timeout: 1", (4, 3, 2, 1)),
    "statement_timeout": ("NGDATA_STATEMENT_TIMEOUT", "statement_timeout: 1", (4, 3, 2, 1)),
    "application_name": ("NGDATA_APPLICATION_NAME", "application_name: d", ("a", "b", "c", "d")),
    "postgres_host": ("POSTGRES_HOST", "host: d", ("a", "b", "c", "d")),
    "postgres_port": ("POSTGRES_PORT", "port: 1", (4, 3, 2, 1)),
    "postgres_db": ("POSTGRES_DB", "database: d", ("a", "b", "c", "d")),
    "postgres_user": ("POSTGRES_USER", "username: d", ("a", "b", "c", "d")),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_first_wins(monkeypatch, tmp_path, file, name):
    variable, key, (argument, environment, dotenv, in_file) = SETTINGS[name]
    path = file(key)

    def setting(**arguments):
        return getattr(load_settings(config=path, **arguments), name)

    assert setting() == in_file
    (tmp_path / ".env").write_text(f"{variable}={dotenv}\n")
    assert setting() == dotenv
    monkeypatch.setenv(variable, str(environment))
    assert setting() == environment
    assert setting(**{name: argument}) == argument
    # An empty variable is unset.
    monkeypatch.setenv(variable, "")
    assert setting() == dotenv


def test_defaults():
    settings = load_settings()
    assert (url(settings), redis(settings)) == (None, None)
    assert (settings.pool_min_size, settings.pool_max_size, settings.default_ttl) == (5, 20, 3600)
    assert (settings.read_only, settings.ssl_mode) == (False, None)


def test_the_default_ttl(monkeypatch, file):
    path = file(redis="cache: {default_ttl: 60}")
    assert load_settings(config=path).default_ttl == 60
    monkeypatch.setenv("NGDATA_DEFAULT_TTL", "30")
    assert load_settings(config=path).default_ttl == 30
    assert load_settings(config=path, default_ttl=15).default_ttl == 15


def test_parts_from_several_places(monkeypatch, tmp_path, file):
    """For example, the password in the environment, and the rest in the file."""
    path = file(
        "host: db, database: neuro, user: me, password: 'no'", "host: cache, db: 2, ssl: on"
    )
    monkeypatch.setenv("POSTGRES_PASSWORD", "p@ss")
    (tmp_path / ".env").write_text("REDIS_PASSWORD=r@dis\nREDIS_USER=reader\n")
    settings = load_settings(config=path)
    assert url(settings) == "postgresql://me:p%40ss@db:5432/neuro"
    assert redis(settings) == "rediss://reader:r%40dis@cache:6379/2"


def test_a_url_and_parts_by_source(monkeypatch, tmp_path, file):
    path = file("host: filehost", "host: filecache")
    (tmp_path / ".env").write_text(
        "NGDATA_DATABASE_URL=postgresql://dotenv/d?sslmode=disable\nNGDATA_REDIS_URL=redis://dotenv\n"
    )
    settings = load_settings(config=path)
    assert (url(settings), redis(settings)) == (
        "postgresql://dotenv/d?sslmode=disable",
        "redis://dotenv",
    )
    # A host in the environment wins over a URL in .env, with the URL's parameters.
    monkeypatch.setenv("POSTGRES_HOST", "envhost")
    monkeypatch.setenv("REDIS_HOST", "envcache")
    settings = load_settings(config=path)
    assert (url(settings), redis(settings)) == (
        "postgresql://envhost:5432/",
        "redis://envcache:6379/0",
    )
    # Within one source, the URL wins.
    monkeypatch.setenv("NGDATA_DATABASE_URL", "postgresql://env/d")
    assert url(load_settings(config=path)) == "postgresql://env/d"
    settings = load_settings(database_url="postgresql://argument/d", redis_url="redis://argument")
    assert (url(settings), redis(settings)) == ("postgresql://argument/d", "redis://argument")


def test_a_file_that_names_a_database_but_no_host(file):
    assert url(load_settings(config=file("database: neuro"))) == "postgresql://localhost:5432/neuro"
    assert url(load_settings(config=file("pool: {max_size: 3}"))) is None


def test_the_file_is_named_in_the_environment_too(monkeypatch, tmp_path, file):
    path = file("host: filehost")
    monkeypatch.setenv("NGDATA_CONFIG", str(path))
    assert url(load_settings()) == "postgresql://filehost:5432/"
    with pytest.raises(ConfigError, match=r"other\.yaml cannot be read: No such file"):
        load_settings(config=tmp_path / "other.yaml")


MODES = [
    # argument, environment, file, URL (an argument) -> the mode that both drivers get
    (None, None, None, None, None),
    ("require", None, None, None, "require"),
    (None, "require", None, None, "require"),
    (None, None, "require", None, "require"),
    ("require", "disable", "allow", None, "require"),
    (None, "require", "allow", None, "require"),
    (None, "require", "allow", "disable", "disable"),
    ("require", None, None, "require", "require"),
]


@pytest.mark.parametrize(("argument", "environment", "in_file", "in_url", "expected"), MODES)
def test_tls_by_source(monkeypatch, file, argument, environment, in_file, in_url, expected):
    if environment:
        monkeypatch.setenv("NGDATA_SSL_MODE", environment)
    settings = load_settings(
        database_url="postgresql://db/neuro" + (f"?sslmode={in_url}" if in_url else ""),
        ssl_mode=argument,
        config=file(f"ssl_mode: {in_file}" if in_file else ""),
    )
    assert settings.ssl_mode == expected
    assert url(settings) == "postgresql://db/neuro" + (f"?sslmode={expected}" if expected else "")


def test_an_argument_comes_before_a_url_in_the_environment(monkeypatch):
    monkeypatch.setenv("NGDATA_DATABASE_URL", "postgresql://db/neuro?sslmode=disable&a=b")
    assert url(load_settings(ssl_mode="require")) == "postgresql://db/neuro?a=b&sslmode=require"
    monkeypatch.setenv("NGDATA_SSL_MODE", "require")
    with pytest.raises(ConfigError, match=r"NGDATA_SSL_MODE is 'require', but .*sslmode='disable'"):
        load_settings()


def test_the_embedded_server_ignores_tls_settings(monkeypatch):
    monkeypatch.setenv("NGDATA_SSL_MODE", "verify-full")
    assert url(load_settings()) is None


@pytest.mark.parametrize(
    ("name", "correct"),
    [
        ("NGDATA_DATABSE_URL", "NGDATA_DATABASE_URL"),
        ("NGDATA_SSLMODE", "NGDATA_SSL_MODE"),
        ("ngdata_pool_maxsize", "NGDATA_POOL_MAX_SIZE"),
        ("NGDATA_HOMEE", "NGDATA_HOME"),
    ],
)
def test_a_misspelled_variable(monkeypatch, tmp_path, name, correct):
    match = f"unknown variable {name.upper()} in {{}}; did you mean {correct}"
    monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigError, match=match.format("the environment")):
        load_settings()
    monkeypatch.delenv(name)
    (tmp_path / ".env").write_text(f"{name}=x\n")
    with pytest.raises(ConfigError, match=match.format(r"\.env")):
        load_settings()


def test_foreign_variables_are_ignored(monkeypatch):
    for name in ("NGDATA_TEST_DATABASE_URL", "NGDATA_COLOUR", "POSTGRES_HOST_AUTH_METHOD"):
        monkeypatch.setenv(name, "x")
    assert url(load_settings()) is None


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("port: many", r"database\.postgres\.port in .*database\.yaml must be a valid integer"),
        ("port: 70000", r"database\.postgres\.port .*less than or equal to 65535"),
        ("ssl_mode: full", r"database\.postgres\.ssl_mode .*'verify-ca' or 'verify-full'"),
        ("pool: {max_size: 0}", r"database\.postgres\.pool\.max_size .*greater"),
    ],
)
def test_a_bad_value_in_the_file(file, text, match):
    with pytest.raises(ConfigError, match=match):
        load_settings(config=file(text))


def test_a_bad_value_in_dotenv(tmp_path):
    (tmp_path / ".env").write_text("NGDATA_POOL_MAX_SIZE=many\n")
    with pytest.raises(ConfigError, match=r"NGDATA_POOL_MAX_SIZE in \.env must be a valid integer"):
        load_settings()


def test_an_unknown_setting():
    with pytest.raises(ConfigError, match="unknown setting 'pool_size'"):
        load_settings(pool_size=3)


def test_the_parameters_of_connect_are_the_settings():
    """All but the parts of the addresses; unset by default, so that weaker sources decide."""
    sync, asynchronous = map(inspect.signature, (ngdata.connect, ngdata.connect_async))
    assert sync.parameters == asynchronous.parameters
    assert sync.parameters.keys() == Settings.model_fields.keys() - ServerParts.model_fields.keys()
    defaults = {name: parameter.default for name, parameter in sync.parameters.items()}
    assert from_arguments(defaults) == {}
    required = [name for name, parameter in sync.parameters.items() if parameter.kind != KEYWORD]
    assert required == ["database_url"]


def test_none_is_a_value_only_where_it_means_no_limit(monkeypatch, tmp_path):
    for name in ("MAX_ROWS", "STATEMENT_TIMEOUT"):
        monkeypatch.setenv(f"NGDATA_{name}", "7")
    settings = load_settings(max_rows=None, statement_timeout=None)
    assert (settings.max_rows, settings.statement_timeout) == (None, 7)
    assert load_settings(max_rows=UNSET).max_rows == 7
    with pytest.raises(ConfigError, match="max_rows must be a valid integer, not 'none'"):
        load_settings(max_rows="none")


def test_clients_configured_by_the_file(file, database_url):
    sockets = database_url.split("host=")[1].split("&")[0]
    path = file(f"host: '${{SOCKETS:{sockets}}}', user: ngdata, db: ngdata, pool: {{max_size: 2}}")
    with ngdata.connect(config=path) as ng:
        assert ng.pool_status()["read"]["limit"] == 2
        token = ng.tokens.create({0: (1, 1, 1)})

    async def read():
        async with await ngdata.connect_async(config=str(path), pool_max_size=3) as ang:
            assert (await ang.pool_status())["write"]["limit"] == 3
            return await ang.tokens.get([token])

    assert list(asyncio.run(read())["token_id"]) == [token]
