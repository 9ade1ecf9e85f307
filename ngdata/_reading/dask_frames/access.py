"""How a worker reaches the database: by settings that are sent to it, or by its own.

Settings hold the password; it shows nowhere but in the bytes that are sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Self

from ngdata._arguments.shown import guarded
from ngdata._arguments.texts import plain_text
from ngdata._config import postgres_url
from ngdata._config.settings import Settings, load_settings
from ngdata.errors import ConfigError, InvalidQueryError

__all__ = ["ENVIRONMENT", "Access"]

ENVIRONMENT: Final = "environment"
"""Instead of a URL: the database that each worker's own environment names."""

# Settings that a worker does not use are not sent.
_UNUSED_BY_WORKERS: Final = {
    "config": None,
    "redis_url": None,
    "redis_password": None,
    "postgres_host": None,
    "postgres_password": None,
    "cache": "off",
}


@guarded
def _text_of(url: Any, name: str) -> str:
    text = plain_text(url)
    if text is None:
        raise InvalidQueryError(f"{name} must be text, not a {type(url).__name__}")
    return text


@dataclass(frozen=True)
class Access:
    """Access to a database that can be pickled, and whose repr shows no secret.

    Attributes
    ----------
    settings : Settings or None
        None means the settings of the process that reads.
    """

    settings: Settings | None = field(repr=False)

    @classmethod
    def of(cls, settings: Settings, url: str | None = None) -> Self:
        """Return the access to a client's own database, or to another one with the same settings.

        Examples
        --------
        >>> from ngdata._config.settings import load_settings
        >>> from ngdata._reading.dask_frames.access import Access
        >>> Access.of(load_settings(), "postgresql://me:secret@replica.example/neurograph")
        <Access to postgresql://me@replica.example/neurograph>
        """
        address = None if url is None else _text_of(url, "url")
        if address == ENVIRONMENT:
            return cls(None)
        if address is not None:
            settings = load_settings(
                database_url=address,
                pool_min_size=settings.pool_min_size,
                pool_max_size=settings.pool_max_size,
                connect_timeout=settings.connect_timeout,
                pool_timeout=settings.pool_timeout,
                statement_timeout=settings.statement_timeout,
                application_name=settings.application_name,
                read_only=settings.read_only,
            )
        return cls(settings.model_copy(update=_UNUSED_BY_WORKERS))

    def resolved(self) -> Settings:
        """Return the settings, with the URL of a database, in the process that reads.

        Raises
        ------
        ConfigError
            The environment of this process must name the database, and does not.
        """
        if self.settings is not None:
            return self.settings
        own = load_settings()
        if own.database_url is None:
            raise ConfigError(
                "the environment of this worker must name the database, and does not; set "
                "NGDATA_DATABASE_URL where the workers are started, or call to_dask without "
                f"url={ENVIRONMENT!r}"
            )
        return own.model_copy(update=_UNUSED_BY_WORKERS)

    def __repr__(self) -> str:
        url = None if self.settings is None else self.settings.database_url
        where = (
            postgres_url.without_password(url.get_secret_value())
            if url
            else "the environment's database"
        )
        return f"<Access to {where}>"
