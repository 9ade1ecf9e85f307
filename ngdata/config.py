"""Where the servers are and how to treat them: arguments, then the environment, then `.env`.

A database that nothing names is the embedded one; who starts it is `ngdata.servers`.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ngdata import address
from ngdata.errors import ConfigError

__all__ = ["Settings", "load_settings"]


class Settings(BaseSettings):
    """All that can be set; `load_settings` fills it.

    Attributes
    ----------
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

    database_url: SecretStr | None = None
    redis_url: SecretStr | None = None
    pool_min_size: int = Field(5, ge=0)
    pool_max_size: int = Field(20, ge=1)
    connect_timeout: float = Field(10.0, gt=0)
    pool_timeout: float = Field(30.0, gt=0)
    statement_timeout: float | None = Field(None, gt=0)
    application_name: str = "ngdata"

    postgres_host: str | None = Field(None, validation_alias="POSTGRES_HOST")
    postgres_port: int = Field(5432, validation_alias="POSTGRES_PORT")
    postgres_db: str | None = Field(None, validation_alias="POSTGRES_DB")
    postgres_user: str | None = Field(None, validation_alias="POSTGRES_USER")
    postgres_password: SecretStr | None = Field(None, validation_alias="POSTGRES_PASSWORD")
    redis_host: str | None = Field(None, validation_alias="REDIS_HOST")
    redis_port: int = Field(6379, validation_alias="REDIS_PORT")
    redis_password: SecretStr | None = Field(None, validation_alias="REDIS_PASSWORD")


def load_settings(**arguments: Any) -> Settings:
    """Fill the settings: an argument that is not None, else the environment, else `.env`.

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
    >>> from ngdata.config import load_settings
    >>> load_settings(pool_max_size=4).pool_max_size
    4
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise ConfigError("; ".join(_problem(e, given) for e in error.errors())) from None
    except UnicodeDecodeError:
        raise ConfigError("the file .env here is not UTF-8 text") from None
    urls = {
        "database_url": _secret(settings.database_url) or _database_url(settings),
        "redis_url": _secret(settings.redis_url) or _redis_url(settings),
    }
    if urls["database_url"] is not None:
        urls["database_url"] = address.checked(urls["database_url"])
    return settings.model_copy(update={k: v and SecretStr(v) for k, v in urls.items()})


def _problem(error: Any, given: dict[str, Any]) -> str:
    name = str(error["loc"][0])
    known = name in Settings.model_fields
    source = name if name in given else f"NGDATA_{name.upper()}" if known else name
    return f"{source} in the settings: {error['msg'][0].lower()}{error['msg'][1:]}"


def _secret(value: SecretStr | None) -> str | None:
    return None if value is None else value.get_secret_value()


def _database_url(settings: Settings) -> str | None:
    if settings.postgres_host is None:
        return None
    return address.compose(
        settings.postgres_host,
        settings.postgres_port,
        settings.postgres_db,
        settings.postgres_user,
        _secret(settings.postgres_password),
    )


def _redis_url(settings: Settings) -> str | None:
    if settings.redis_host is None:
        return None
    password = _secret(settings.redis_password)
    at = f":{address.quoted(password)}@" if password else ""
    if settings.redis_host.startswith("/"):
        return f"unix://{at}{address.quoted(settings.redis_host, '/')}"
    return f"redis://{at}{settings.redis_host}:{settings.redis_port}/0"
