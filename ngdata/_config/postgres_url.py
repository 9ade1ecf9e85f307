"""The URL of a database: normalized, shown without its password, and prepared for each driver.

Both drivers get the same libpq URL, so that host, socket path, TLS and failover mean the same to
both; parameters that `asyncpg` does not know become server settings, or are left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final
from urllib.parse import quote

from ngdata._config import tls
from ngdata._config.url import URL, scheme_of
from ngdata.errors import ConfigError

__all__ = [
    "asyncpg_arguments",
    "compose",
    "libpq_url",
    "normalize",
    "split_password",
    "with_parameters",
    "without_password",
]

_SCHEMES: Final = ("postgresql", "postgres")

# libpq's own parameters, which asyncpg would send to the server as settings.
_LIBPQ_ONLY: Final = frozenset(
    {
        "channel_binding",
        "connect_timeout",
        "fallback_application_name",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "load_balance_hosts",
        "require_auth",
        "sslcertmode",
        "sslcompression",
        "sslsni",
        "tcp_user_timeout",
    }
)


def normalize(url: str) -> str:
    """Check a PostgreSQL URL, and return it in a form that means the same to both drivers.

    SQLAlchemy's form is accepted too.  A user or password in the query wins, as in libpq, and moves
    to the front.  `ngdata._config.tls.normalize` checks the TLS parameters.

    Raises
    ------
    ConfigError
        The URL is not one for PostgreSQL, or cannot be parsed.

    Examples
    --------
    >>> from ngdata._config.postgres_url import normalize
    >>> normalize("postgresql+asyncpg://me@db.example/neurograph?password=p@ss")
    'postgresql://me:p%40ss@db.example/neurograph'
    """
    scheme, separator, rest = url.strip().partition("://")
    plain = scheme.lower().partition("+")[0]
    if not separator or plain not in _SCHEMES:
        other = scheme_of(url)
        raise ConfigError(
            f"a database URL must begin with postgresql://{f', not {other!r}' if other else ''}; for "
            "example postgresql://user:password@host:5432/database"
        )
    parts = URL.parse(f"postgresql://{rest}")
    query = dict(parts.query)
    user, password = query.pop("user", parts.user), query.pop("password", parts.password)
    tls_parameters = tls.normalize(query)
    query = {name: value for name, value in query.items() if name not in tls.FIELDS}
    return str(replace(parts, user=user, password=password, query=query | tls_parameters))


def with_parameters(url: str, parameters: Mapping[str, str]) -> str:
    """Return a URL with parameters set, replacing its own of the same names.

    Examples
    --------
    >>> from ngdata._config.postgres_url import with_parameters
    >>> with_parameters("postgresql://db.example/neurograph", {"sslmode": "require"})
    'postgresql://db.example/neurograph?sslmode=require'
    """
    parts = URL.parse(url)
    return str(replace(parts, query=parts.query | dict(parameters)))


def compose(
    host: str, port: int, database: str | None, user: str | None, password: str | None
) -> str:
    """Build a URL from its parts; a host that begins with a slash is a directory of sockets.

    Examples
    --------
    >>> from ngdata._config.postgres_url import compose
    >>> compose("/run/postgresql", 5432, "neurograph", "me", None)
    'postgresql://me@/neurograph?host=%2Frun%2Fpostgresql&port=5432'
    """
    path = "/" + quote(database or "", safe="")
    if host.startswith("/"):
        query = {"host": host, "port": str(port)}
        return str(URL("postgresql", "", path, user, password, query))
    address = f"[{host}]" if ":" in host else quote(host, safe="")
    return str(URL("postgresql", f"{address}:{port}", path, user, password))


def without_password(url: str) -> str:
    """Return the address as errors and `repr` show it, without its password.

    Examples
    --------
    >>> from ngdata._config.postgres_url import without_password
    >>> without_password("postgresql://me:secret@db.example:5432/neurograph?sslmode=require")
    'postgresql://me@db.example:5432/neurograph'
    """
    try:
        parts = URL.parse(url)
    except ConfigError:
        # The password contains an unescaped character: it ends at the last @.
        credentials, _, rest = url.partition("://")[2].rpartition("@")
        user = credentials.partition(":")[0]
        at = f"{user}@" if user else ""
        return f"postgresql://{at}{re.split('[?#]', rest)[0]}"
    sockets = f" in {parts.query['host']}" if "host" in parts.query else ""
    return str(URL("postgresql", parts.hosts, parts.path, parts.user)) + sockets


def split_password(url: str) -> tuple[str, str | None]:
    """Return a URL without its password, and the password; one in the query wins, as in libpq.

    Examples
    --------
    >>> from ngdata._config.postgres_url import split_password
    >>> split_password("postgresql://me:p%40ss@db.example/neurograph")
    ('postgresql://me@db.example/neurograph', 'p@ss')
    """
    parts = URL.parse(url)
    query = dict(parts.query)
    password = query.pop("password", parts.password)
    return str(replace(parts, password=None, query=query)), password


def libpq_url(url: str, settings: dict[str, str], connect_timeout: float, name: str) -> str:
    """Return the URL for libpq, with the session's settings after the URL's own options."""
    parts = URL.parse(url)
    query = dict(parts.query)
    options = " ".join(f"-c {key}={value}" for key, value in settings.items())
    # PgBouncer refuses a connection with this parameter, even an empty one.
    if options:
        query["options"] = f"{query.get('options', '')} {options}".strip()
    query.setdefault("application_name", name)
    # libpq accepts whole seconds only, and treats 1 as 2.
    query.setdefault("connect_timeout", str(max(2, round(connect_timeout))))
    return str(replace(parts, query=query))


def asyncpg_arguments(
    url: str, settings: dict[str, str], connect_timeout: float, name: str
) -> dict[str, Any]:
    """Return the arguments for `asyncpg.connect`."""
    parts = URL.parse(url)
    query = {key: value for key, value in parts.query.items() if key not in _LIBPQ_ONLY}
    query.setdefault("application_name", name)
    return {
        "dsn": str(replace(parts, query=query)),
        "server_settings": settings,
        "timeout": connect_timeout,
        # Statements are then unnamed; through a pooler, names of several clients could collide.
        "statement_cache_size": 0,
    }
