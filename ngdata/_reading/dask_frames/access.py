"""How a worker comes to the database: an address that travels to it, or the worker's own.

The address has the password in it, so it shows nowhere but in the bytes that are sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Self

from ngdata._config import postgres_url
from ngdata._config.settings import Settings, load_settings
from ngdata.errors import ConfigError

__all__ = ["OWN", "Access"]

OWN: Final = "environment"
"""In place of a URL: the one that each worker's own environment names."""

# What a worker has no use for stays here.
_LEFT_OUT: Final = {
    "config": None,
    "redis_url": None,
    "redis_password": None,
    "postgres_host": None,
    "postgres_password": None,
    "cache": "off",
}


@dataclass(frozen=True)
class Access:
    """A picklable way to a database, which shows no secret.

    Attributes
    ----------
    settings : Settings or None
        None: those of the process that asks.
    """

    settings: Settings | None = field(repr=False)

    @classmethod
    def of(cls, settings: Settings, url: str | None = None) -> Self:
        """Give the way to a client's own database, or to another one with the same settings.

        Examples
        --------
        >>> from ngdata._config.settings import load_settings
        >>> from ngdata._reading.dask_frames.access import Access
        >>> Access.of(load_settings(), "postgresql://me:secret@replica.example/neurograph")
        <Access to postgresql://me@replica.example/neurograph>
        """
        if url == OWN:
            return cls(None)
        if url is not None:
            settings = load_settings(
                database_url=url,
                pool_min_size=settings.pool_min_size,
                pool_max_size=settings.pool_max_size,
                connect_timeout=settings.connect_timeout,
                pool_timeout=settings.pool_timeout,
                statement_timeout=settings.statement_timeout,
                application_name=settings.application_name,
                read_only=settings.read_only,
            )
        return cls(settings.model_copy(update=_LEFT_OUT))

    def resolved(self) -> Settings:
        """Give the settings with a database's URL in them, here.

        Raises
        ------
        ConfigError
            This process was to name its database, and names none.
        """
        if self.settings is not None:
            return self.settings
        own = load_settings()
        if own.database_url is None:
            raise ConfigError(
                "this worker was to take the database from its own environment, which names none; "
                "set NGDATA_DATABASE_URL where the workers are started, or call to_dask without "
                f"url={OWN!r}"
            )
        return own.model_copy(update=_LEFT_OUT)

    def __repr__(self) -> str:
        url = None if self.settings is None else self.settings.database_url
        where = (
            postgres_url.without_password(url.get_secret_value())
            if url
            else "what the environment names"
        )
        return f"<Access to {where}>"
