"""The URL of a Redis: normalized, and built from its parts."""

from __future__ import annotations

from urllib.parse import quote

from ngdata._config.url import URL, scheme_of
from ngdata.errors import ConfigError

__all__ = ["compose", "normalize"]

_SCHEMES = ("redis", "rediss", "unix")


def normalize(url: str) -> str:
    """Check a Redis URL, and return it with everything escaped.

    The client's own errors would show parts of a password.

    Raises
    ------
    ConfigError
        The URL is not one for Redis, or cannot be parsed.

    Examples
    --------
    >>> from ngdata._config.redis_url import normalize
    >>> normalize("redis://:p@ss@cache.example:6379/0")
    'redis://:p%40ss@cache.example:6379/0'
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in _SCHEMES:
        other = scheme_of(url)
        raise ConfigError(
            "a Redis URL must begin with redis://, rediss:// (TLS) or unix://"
            f"{f', not {other!r}' if other else ''}; for example redis://:password@host:6379/0"
        )
    return str(URL.parse(f"{scheme}://{rest}"))


def compose(
    host: str, port: int, db: int, user: str | None, password: str | None, *, tls: bool
) -> str:
    """Build a URL from its parts; a host that begins with a slash is a socket.

    Examples
    --------
    >>> from ngdata._config.redis_url import compose
    >>> compose("cache.example", 6379, 2, None, "p@ss", tls=True)
    'rediss://:p%40ss@cache.example:6379/2'
    """
    if host.startswith("/"):
        return str(URL("unix", "", quote(host), user, password, {"db": str(db)} if db else {}))
    address = f"[{host}]" if ":" in host else quote(host, safe="")
    scheme = "rediss" if tls else "redis"
    return str(URL(scheme, f"{address}:{port}", f"/{db}", user, password))
