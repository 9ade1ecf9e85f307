"""The settings: merged from their sources, validated by one model, addresses made into URLs.

Without a database in any source, `database_url` is None; `ngdata._local.fallback` then starts the
embedded servers.
"""

from __future__ import annotations

import os
import re
from collections import ChainMap
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic_core import PydanticCustomError

from ngdata._config import postgres_url, redis_url, tls
from ngdata._config.sources import (
    Source,
    Sources,
    from_arguments,
    from_variables,
    rank,
    read_variables,
)
from ngdata._config.url import URL
from ngdata._config.yaml_file import from_mapping, load_config_file
from ngdata.errors import ConfigError, InvalidQueryError, shown

__all__ = ["ServerParts", "Settings", "as_settings", "load_settings", "resolve_settings"]


def _plain_text(value: Any) -> Any:
    """Return text as `str`; and refuse what neither a server's protocol nor a file's name can hold."""
    text = str(value) if isinstance(value, Path) else value
    if isinstance(text, str):
        text = str.__str__(text)
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            # Its message says nothing of the value, which may be a secret.
            raise PydanticCustomError("text", "must be valid Unicode without NUL")
    return text


_Text = Annotated[str, BeforeValidator(_plain_text)]


def _no_bool(value: Any) -> Any:
    """Refuse True and False, which are 1 and 0 to Python: YAML reads `yes` and `on` as True."""
    if isinstance(value, bool):
        raise PydanticCustomError("number", "must be a number")
    return value


_Integer = Annotated[int, BeforeValidator(_no_bool)]
_Seconds = Annotated[float, BeforeValidator(_no_bool)]


# More than any server has; and the most seconds that are an int32 in milliseconds.
_MAX_CONNECTIONS: Final = 100_000
_MAX_SECONDS: Final = 2_147_483


class ServerParts(BaseModel):
    """The parts of both addresses, under the names that the servers' Docker images use.

    `ngdata.connect` has no parameters for them; it takes URLs.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False
    )

    postgres_host: str | None = None
    postgres_port: _Integer = Field(5432, ge=1, le=65535)
    postgres_db: str | None = None
    postgres_user: str | None = None
    postgres_password: SecretStr | None = None
    redis_host: str | None = None
    redis_port: _Integer = Field(6379, ge=1, le=65535)
    redis_db: _Integer = Field(0, ge=0)
    redis_user: str | None = None
    redis_password: SecretStr | None = None
    redis_ssl: bool = False


class Settings(ServerParts):
    """All settings; `load_settings` fills them.

    Attributes
    ----------
    config : Path or None
        The `database.yaml` that is the weakest source of the other settings.
    database_url, redis_url : SecretStr or None
        None: the embedded server; a database of your own without a `redis_url` uses no Redis.
    pool_min_size, pool_max_size : int
        Connections kept open, and the limit, for each of the two pools (reads, writes).
    connect_timeout : float
        Seconds until a server that does not answer counts as unavailable.
    pool_timeout : float
        Seconds to wait for a connection while all are in use.
    statement_timeout : float or None
        Seconds after which the server stops a query; None: never.
    application_name : str
        The name in the server's activity views.
    read_only : bool
        Whether the server refuses all writes of this client.
    ssl_mode, ssl_cert, ssl_key, ssl_root_cert : str or None
        TLS to PostgreSQL, see `ngdata._config.tls`; they are part of `database_url` too.
    cache : str
        The cache mode: ``strict``, ``ttl`` or ``off``.
    cache_bytes : int
        The limit of this process's memory for cached results.
    default_ttl : int
        Seconds that a result in Redis is kept.
    max_rows : int or None
        The default limit of rows in a result; None: no limit.
    ids : {"uuid", "integer"}
        What token ids are in results: text, or integers of `id_space`.
    id_space : str
        The name from which integers as ids become UUIDs, see `ngdata.ids`.
    as_of : str or None
        The label or the id of a pin that all reads are as of; the client then cannot write.
    """

    config: Path | None = None
    database_url: SecretStr | None = None
    redis_url: SecretStr | None = None
    pool_min_size: _Integer = Field(5, ge=0, le=_MAX_CONNECTIONS)
    pool_max_size: _Integer = Field(20, ge=1, le=_MAX_CONNECTIONS)
    connect_timeout: _Seconds = Field(10.0, gt=0, le=_MAX_SECONDS)
    pool_timeout: _Seconds = Field(30.0, gt=0, le=_MAX_SECONDS)
    statement_timeout: _Seconds | None = Field(None, gt=0, le=_MAX_SECONDS)
    application_name: _Text = "ngdata"
    read_only: bool = False
    ssl_mode: tls.Mode | None = None
    ssl_cert: _Text | None = None
    ssl_key: _Text | None = None
    ssl_root_cert: _Text | None = None
    cache: str = "strict"
    cache_bytes: _Integer = Field(256 << 20, ge=0, le=2**63 - 1)
    default_ttl: _Integer = Field(3600, gt=0, le=2**31 - 1)
    max_rows: _Integer | None = Field(1_000_000, ge=1, le=2**63 - 1)
    ids: Literal["uuid", "integer"] = "uuid"
    id_space: _Text = ""
    as_of: _Text | None = None


def load_settings(**arguments: Any) -> Settings:
    """Merge arguments, environment, `.env` and `database.yaml`, strongest first, and validate them.

    `ngdata._config.sources` defines which values count as unset.

    Parameters
    ----------
    **arguments
        Fields of `Settings`.

    Raises
    ------
    ConfigError
        An unknown setting or a bad value; the error names its source, and never shows a secret.

    Examples
    --------
    >>> from ngdata._config.settings import load_settings
    >>> load_settings(pool_max_size=4).pool_max_size
    4
    """
    unknown = sorted(arguments.keys() - Settings.model_fields.keys())
    if unknown:
        raise ConfigError(
            f"unknown setting {unknown[0]!r}; the settings are {', '.join(Settings.model_fields)}"
        )
    return resolve_settings(from_arguments(arguments))


def as_settings(settings: Settings | None) -> Settings:
    """Return an argument of the type `Settings`; for None, the settings of the environment.

    Raises
    ------
    InvalidQueryError
        It is neither.

    Examples
    --------
    >>> from ngdata._config.settings import as_settings
    >>> as_settings(None).pool_max_size
    20
    """
    if settings is None:
        return load_settings()
    kind = type(settings)
    if not issubclass(kind, Settings):
        # Its value may be an address with a password.
        raise InvalidQueryError(
            f"settings must be None or settings of ngdata, not of type {kind.__name__}; leave it out, "
            "and name the server in NGDATA_DATABASE_URL"
        )
    return settings


def resolve_settings(strongest: Source) -> Settings:
    """Merge one source with the weaker ones: environment, `.env`, `database.yaml`.

    Parameters
    ----------
    strongest : dict
        For each setting: its value and the label for errors.

    Raises
    ------
    ConfigError
        As `load_settings`.

    Examples
    --------
    >>> from ngdata._config.settings import resolve_settings
    >>> from ngdata._config.sources import SourcedValue
    >>> resolve_settings({"pool_timeout": SourcedValue(2, "the test's timeout")}).pool_timeout
    2.0
    """
    variables = read_variables()
    names = Settings.model_fields, ServerParts.model_fields
    sources: Sources = ChainMap(
        strongest,
        from_variables(variables.environment, *names, file=""),
        from_variables(variables.dotenv, *names, file=".env"),
    )
    config = sources.get("config")
    # A value of another type is left to the model, which refuses it.
    file = None if config is None else _file_of(config.value)
    if file is not None:
        database = load_config_file(file, variables.merged())["database"]
        sources.maps.append(from_mapping(database, file))
    return _with_urls(_validate(sources), sources)


def _file_of(value: Any) -> str | None:
    """Return the name of a file; None for a value of another type."""
    try:
        return str(Path(value)) if isinstance(value, str | os.PathLike) else None
    except Exception:  # whatever a method of the caller's object raises
        return None


def _validate(sources: Sources) -> Settings:
    try:
        return Settings.model_validate({name: entry.value for name, entry in sources.items()})
    except ValidationError as error:
        problems = "; ".join(_describe(problem, sources) for problem in error.errors())
    except Exception:  # whatever a method of the caller's object raises
        problems = f"one of {', '.join(sources)} is an object whose methods raise errors"
    raise ConfigError(problems)


def _describe(problem: Any, sources: Sources) -> str:
    """Return pydantic's message as a sentence about the place that holds the value."""
    setting = str(problem["loc"][0])
    message = re.sub(r", (?:unable|got) .*", "", problem["msg"])
    message = re.sub(r"Input is not a valid path.*", "must be the path of a file", message)
    message = message.replace("Input should be", "must be").replace("Input is", "is")
    # A variable may hold a secret under a wrong name; an argument is in the caller's own code.
    is_secret = "SecretStr" in str(Settings.model_fields[setting].annotation)
    value = "" if is_secret or rank(sources, setting) else f", not {shown(problem['input'])}"
    return f"{sources[setting].label} {message}{value}"


def _with_urls(settings: Settings, sources: Sources) -> Settings:
    """Return the settings with both URLs made of the strongest source that names a server."""
    database, redis = _database_url(settings, sources), _redis_url(settings, sources)
    update: dict[str, Any] = {
        "database_url": database and SecretStr(database),
        "redis_url": redis and SecretStr(redis),
    }
    if database is not None:
        query = URL.parse(database).query
        update |= {field: query.get(name) for name, field in tls.FIELDS.items()}
    return settings.model_copy(update=update)


def _is_at_least_as_strong(sources: Sources, setting: str, other: str) -> bool:
    return rank(sources, setting) <= rank(sources, other)


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()


def _database_url(settings: Settings, sources: Sources) -> str | None:
    """Return the URL, or one made of its parts, whichever source is stronger, with TLS in it."""
    url, host = _secret(settings.database_url), settings.postgres_host
    if url is not None and (
        host is None or _is_at_least_as_strong(sources, "database_url", "postgres_host")
    ):
        # Parsed before it is normalized: which TLS parameters win is still to be decided.
        query, decisive = URL.parse(url).query, "database_url"
    elif host is not None:
        query, decisive = {}, "postgres_host"
        url = postgres_url.compose(
            host,
            settings.postgres_port,
            settings.postgres_db,
            settings.postgres_user,
            _secret(settings.postgres_password),
        )
    else:
        _refuse_parts_without_host(settings, sources)
        return None
    parameters = _tls_parameters(settings, sources, query, decisive)
    return postgres_url.normalize(
        postgres_url.with_parameters(url, parameters) if parameters else url
    )


def _refuse_parts_without_host(settings: Settings, sources: Sources) -> None:
    """Refuse a part of an address without a host, lest the embedded server be used instead."""
    for part in ("postgres_db", "postgres_user", "postgres_password"):
        if getattr(settings, part) is not None:
            label = sources[part].label
            raise ConfigError(
                f"{label} is set, but POSTGRES_HOST is not; set POSTGRES_HOST to the server's "
                f"address, or unset {label} to use the embedded server"
            )


def _tls_parameters(
    settings: Settings, sources: Sources, query: dict[str, str], decisive: str
) -> dict[str, str]:
    """Return the TLS settings to put into the URL: those that its own parameters do not outrank.

    Raises
    ------
    ConfigError
        A setting contradicts a parameter of a URL from the same source.
    """
    parameters = {}
    for name, setting in tls.FIELDS.items():
        value, in_url = getattr(settings, setting), query.get(name)
        if value is None or value == in_url:
            continue
        difference = rank(sources, setting) - rank(sources, decisive)
        if in_url and difference == 0:
            raise ConfigError(
                f"{sources[setting].label} is {shown(value)}, but the database URL from the same source "
                f"has {name}={shown(in_url)}; set only one of them"
            )
        if not in_url or difference < 0:
            parameters[name] = value
    return parameters


def _redis_url(settings: Settings, sources: Sources) -> str | None:
    url, host = _secret(settings.redis_url), settings.redis_host
    if url is not None and (
        host is None or _is_at_least_as_strong(sources, "redis_url", "redis_host")
    ):
        return redis_url.normalize(url)
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
