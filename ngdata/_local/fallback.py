"""The servers to connect to: those that the settings name, else the embedded ones, started now."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pydantic import SecretStr

from ngdata._config.settings import Settings
from ngdata._local import up

__all__ = ["resolve_servers"]

_SLOW_SECONDS: Final = 2.0

_SLOW: Final = (
    "ngdata: waiting for this user's PostgreSQL and Redis; to start them the first time takes about"
    " 10 seconds, later two"
)


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
    with _said_if_slow():
        addresses = up()
    return settings.model_copy(
        update={
            "database_url": SecretStr(addresses.database_url),
            "redis_url": settings.redis_url or SecretStr(addresses.redis_url),
        }
    )


@contextmanager
def _said_if_slow() -> Iterator[None]:
    """Write a line to stderr if the body takes longer than two seconds."""
    timer = threading.Timer(_SLOW_SECONDS, lambda: print(_SLOW, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
