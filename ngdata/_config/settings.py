"""Where the servers are and how to treat them: arguments, environment, `.env`, then `database.yaml`.

A database that nothing names is the embedded one; who starts it is `ngdata._local.fallback`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ngdata._config import postgres_url, redis_url, tls
from ngdata._config.file import load_config_file, settings_of
from ngdata._config.sources import Origins
from ngdata._config.url import URL
from ngdata.errors import ConfigError

__all__ = ["Settings", "load_settings"]

_Text = Annotated[str, BeforeValidator(lambda v: str(v) if isinstance(v, Path) else v)]

# A file or a variable that has no value sets nothing, so there the word stands for None.
_T = TypeVar("_T")
_NoneOr = Annotated[_T | None, BeforeValidator(lambda v: None if v == "none" else v)]


class Settings(BaseSettings):
    """All that can be set; `load_settings` fills it.

    Attributes
    ----------
    config : Path or None
        The `database.yaml` that the rest is read from.
    database_url, redis_url : SecretStr or None
        None: the embedded server; a database of one's own without a `redis_url` does without.
    pool_min_size, pool_max_size : int
        Connections kept, and the most there may be, of each of the two kinds (reads, writes).
    connect_timeout : float
        Seconds until a server that does not answer counts as unavailable.
    pool_timeout : float
        Seconds to wait for a connection while all are in use.
    statement_timeout : float or None
        Seconds after which the server stops a query; None: never.
    application_name : str
        What the server's activity views show.
    read_only : bool
        Whether the server refuses all writes of this client.
    ssl_mode, ssl_cert, ssl_key, ssl_root_cert : str or None
        TLS to PostgreSQL, as `ngdata._config.tls` says; they are in `database_url` too.
    cache : str
        How an answer may be one that was read before: ``strict``, ``ttl`` or ``off``.
    cache_bytes : int
        How much memory of this process answers may take.
    default_ttl : int
        Seconds that a result in Redis is kept.
    max_rows : int or None
        How many rows an answer may have if the call does not say; None: any number.
    """

    model_config = SettingsConfigDict(
        env_prefix="NGDATA_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
    )

    config: Path | None = None
    database_url: SecretStr | None = None
    redis_url: SecretStr | None = None
    pool_min_size: int = Field(5, ge=0)
    pool_max_size: int = Field(20, ge=1)
    connect_timeout: float = Field(10.0, gt=0)
    pool_timeout: float = Field(30.0, gt=0)
    statement_timeout: float | None = Field(None, gt=0)
    application_name: str = "ngdata"
    read_only: bool = False
    ssl_mode: tls.Mode | None = None
    ssl_cert: _Text | None = None
    ssl_key: _Text | None = None
    ssl_root_cert: _Text | None = None
    cache: str = "strict"
    cache_bytes: int = Field(256 << 20, ge=0)
    default_ttl: int = Field(3600, gt=0)
    max_rows: _NoneOr[Annotated[int, Field(ge=1)]] = 1_000_000

    postgres_host: str | None = Field(None, validation_alias="POSTGRES_HOST")
    postgres_port: int = Field(5432, validation_alias="POSTGRES_PORT", ge=1, le=65535)
    postgres_db: str | None = Field(None, validation_alias="POSTGRES_DB")
    postgres_user: str | None = Field(None, validation_alias="POSTGRES_USER")
    postgres_password: SecretStr | None = Field(None, validation_alias="POSTGRES_PASSWORD")
    redis_host: str | None = Field(None, validation_alias="REDIS_HOST")
    redis_port: int = Field(6379, validation_alias="REDIS_PORT", ge=1, le=65535)
    redis_db: int = Field(0, validation_alias="REDIS_DB", ge=0)
    redis_user: str | None = Field(None, validation_alias="REDIS_USER")
    redis_password: SecretStr | None = Field(None, validation_alias="REDIS_PASSWORD")
    redis_ssl: bool = Field(False, validation_alias="REDIS_SSL")


def load_settings(**arguments: Any) -> Settings:
    """Fill the settings: an argument that is not None, else environment, `.env`, `database.yaml`.

    The file is the one that the setting `config` names.  An empty variable counts as unset.

    Parameters
    ----------
    **arguments
        Fields of `Settings`.

    Raises
    ------
    ConfigError
        For a value that cannot be used; it names where it came from, and no secret.

    Examples
    --------
    >>> from ngdata._config.settings import load_settings
    >>> load_settings(pool_max_size=4).pool_max_size
    4
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    origins = Origins.of(Settings, given)
    settings = _filled(given, origins)
    if settings.config is not None:
        source = str(settings.config)
        named = settings_of(load_config_file(settings.config)["database"], source)
        fresh = {n: found for n, found in named.items() if n not in settings.model_fields_set}
        origins = origins.with_file(source, {name: path for name, (path, _) in fresh.items()})
        settings = _filled(given | {name: value for name, (_, value) in fresh.items()}, origins)
    url, redis_url = _database_url(settings, origins), _redis_url(settings, origins)
    found: dict[str, Any] = {
        "database_url": url and SecretStr(url),
        "redis_url": redis_url and SecretStr(redis_url),
    }
    if url is not None:
        query = URL.parse(url).query
        found |= {field: query.get(name) for name, field in tls.FIELDS.items()}
    return settings.model_copy(update=found)


def _filled(given: dict[str, Any], origins: Origins) -> Settings:
    try:
        return Settings(**given)
    except ValidationError as error:
        raise ConfigError("; ".join(_problem(e, origins) for e in error.errors())) from None


def _problem(error: Any, origins: Origins) -> str:
    field = origins.field(str(error["loc"][0]))
    message = f"{error['msg'][0].lower()}{error['msg'][1:]}"
    # A variable may hold a secret that was meant for another; an argument is there to be seen.
    secret = "SecretStr" in str(Settings.model_fields[field].annotation)
    shown = "" if secret or origins.rank(field) else f", not {error['input']!r}"
    return f"{origins.named(field)} in the settings: {message}{shown}"


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()


def _database_url(settings: Settings, origins: Origins) -> str | None:
    """Choose the URL or the parts, whichever comes first, and put TLS into it."""
    url = _secret(settings.database_url)
    if settings.postgres_host is not None and not origins.first("database_url", "postgres_host"):
        url = None
    if url is not None:
        # Read before it is checked, for whose parameters stand is yet to be decided.
        query, origin = URL.parse(url).query, "database_url"
    elif settings.postgres_host is not None:
        query, origin = {}, "postgres_host"
        url = postgres_url.compose(
            settings.postgres_host,
            settings.postgres_port,
            settings.postgres_db,
            settings.postgres_user,
            _secret(settings.postgres_password),
        )
    else:
        for part in ("postgres_db", "postgres_user", "postgres_password"):
            if getattr(settings, part) is not None:
                raise ConfigError(
                    f"{origins.named(part)} is set, and POSTGRES_HOST is not: set POSTGRES_HOST to "
                    "the server it is meant for, or leave it out for the embedded one"
                )
        return None
    ours = {}
    for name, field in tls.FIELDS.items():
        value, theirs = getattr(settings, field), query.get(name)
        if value is None or value == theirs:
            continue
        if theirs and origins.rank(field) == origins.rank(origin):
            raise ConfigError(
                f"{origins.named(field)} is {value!r}, and the database URL beside it has "
                f"{name}={theirs!r}; give one of them"
            )
        if not theirs or origins.rank(field) < origins.rank(origin):
            ours[name] = value
    return postgres_url.checked(postgres_url.with_parameters(url, ours) if ours else url)


def _redis_url(settings: Settings, origins: Origins) -> str | None:
    url = _secret(settings.redis_url)
    host = settings.redis_host
    if url is not None and (host is None or origins.first("redis_url", "redis_host")):
        return redis_url.checked(url)
    if host is None:
        return None
    return redis_url.compose(
        host,
        settings.redis_port,
        settings.redis_db,
        settings.redis_user,
        _secret(settings.redis_password),
        tls=settings.redis_ssl,
    )
