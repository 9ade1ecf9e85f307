"""The servers to connect to: those that the settings name, else the embedded ones, started now."""

from __future__ import annotations

from pydantic import SecretStr

from ngdata._config.settings import Settings
from ngdata._local import up

__all__ = ["resolve_servers"]


def resolve_servers(settings: Settings) -> Settings:
    """Return the settings with a `database_url`; without one, start or join the embedded servers.

    Starting them takes seconds.

    Examples
    --------
    >>> from ngdata._config.settings import load_settings
    >>> from ngdata._local.fallback import resolve_servers
    >>> resolve_servers(load_settings()).database_url is None
    False
    """
    if settings.database_url is not None:
        return settings
    addresses = up()
    return settings.model_copy(
        update={
            "database_url": SecretStr(addresses.database_url),
            "redis_url": settings.redis_url or SecretStr(addresses.redis_url),
        }
    )
