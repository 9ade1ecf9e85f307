"""A database's URL: what may stand in it, how it is shown, and how each driver takes it.

Both drivers are given the same libpq URL, so that host, socket path, TLS and failover mean one
thing; `asyncpg` takes the few parameters that it lacks as settings, or not at all.
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
    "checked",
    "compose",
    "libpq_url",
    "quoted",
    "shown",
    "split_password",
    "with_parameters",
]

_SCHEMES: Final = ("postgresql", "postgres")

# libpq's own switches, which asyncpg would send to the server as settings.
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


def checked(url: str) -> str:
    """Check that a URL is one for PostgreSQL, and make it mean one thing to both drivers.

    SQLAlchemy's spelling is taken too.  A user or password in the query stands, as in libpq, and
    moves to the front.  What the TLS parameters may be is told by `ngdata._config.tls.checked`.

    Examples
    --------
    >>> from ngdata._config.postgres_url import checked
    >>> checked("postgresql+asyncpg://me@db.example/neurograph?password=p@ss")
    'postgresql://me:p%40ss@db.example/neurograph'
    """
    scheme, separator, rest = url.strip().partition("://")
    plain = scheme.lower().partition("+")[0]
    if not separator or plain not in _SCHEMES:
        other = scheme_of(url)
        raise ConfigError(
            f"a database URL begins with postgresql://{f', not {other!r}' if other else ''}; for "
            "instance postgresql://user:password@host:5432/database"
        )
    found = URL.parse(f"postgresql://{rest}")
    query = dict(found.query)
    user, password = query.pop("user", found.user), query.pop("password", found.password)
    certificates = tls.checked(query)
    query = {name: value for name, value in query.items() if name not in tls.FIELDS}
    return str(replace(found, user=user, password=password, query=query | certificates))


def quoted(text: str, safe: str = "") -> str:
    """Escape a part of a URL."""
    return quote(text, safe=safe)


def with_parameters(url: str, parameters: Mapping[str, str]) -> str:
    """Set parameters of a URL, in place of what it may have under these names.

    Examples
    --------
    >>> from ngdata._config.postgres_url import with_parameters
    >>> with_parameters("postgresql://db.example/neurograph", {"sslmode": "require"})
    'postgresql://db.example/neurograph?sslmode=require'
    """
    found = URL.parse(url)
    return str(replace(found, query=found.query | dict(parameters)))


def compose(
    host: str, port: int, database: str | None, user: str | None, password: str | None
) -> str:
    """Make a URL of its parts; a host that begins with a slash is a directory of sockets.

    Examples
    --------
    >>> from ngdata._config.postgres_url import compose
    >>> compose("/run/postgresql", 5432, "neurograph", "me", None)
    'postgresql://me@/neurograph?host=%2Frun%2Fpostgresql&port=5432'
    """
    path = "/" + quoted(database or "")
    if host.startswith("/"):
        query = {"host": host, "port": str(port)}
        return str(URL("postgresql", "", path, user, password, query))
    place = f"[{host}]" if ":" in host else quoted(host)
    return str(URL("postgresql", f"{place}:{port}", path, user, password))


def shown(url: str) -> str:
    """Write the address as errors and `repr` show it: without its password.

    Examples
    --------
    >>> from ngdata._config.postgres_url import shown
    >>> shown("postgresql://me:secret@db.example:5432/neurograph?sslmode=require")
    'postgresql://me@db.example:5432/neurograph'
    """
    try:
        found = URL.parse(url)
    except ConfigError:
        # With an unescaped character in the password: the last @ of all ends it.
        before, _, behind = url.partition("://")[2].rpartition("@")
        user = before.partition(":")[0]
        at = f"{user}@" if user else ""
        return f"postgresql://{at}{re.split('[?#]', behind)[0]}"
    sockets = f" in {found.query['host']}" if "host" in found.query else ""
    return str(URL("postgresql", found.hosts, found.path, found.user)) + sockets


def split_password(url: str) -> tuple[str, str | None]:
    """Return a URL without its password, and the password; the query's one wins, as in libpq.

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
    """Give the URL for libpq; the session's settings stand behind the URL's own options."""
    found = URL.parse(url)
    query = dict(found.query)
    ours = " ".join(f"-c {key}={value}" for key, value in settings.items())
    # PgBouncer lets nobody in who brings this word, even with nothing behind it.
    if ours:
        query["options"] = f"{query.get('options', '')} {ours}".strip()
    query.setdefault("application_name", name)
    # libpq takes whole seconds, and reads 1 as 2.
    query.setdefault("connect_timeout", str(max(2, round(connect_timeout))))
    return str(replace(found, query=query))


def asyncpg_arguments(
    url: str, settings: dict[str, str], connect_timeout: float, name: str
) -> dict[str, Any]:
    """Give the arguments for `asyncpg.connect`."""
    found = URL.parse(url)
    query = {k: v for k, v in found.query.items() if k not in _LIBPQ_ONLY}
    query.setdefault("application_name", name)
    return {
        "dsn": str(replace(found, query=query)),
        "server_settings": settings,
        "timeout": connect_timeout,
        # Then a statement has no name that another client of a pooler could have taken.
        "statement_cache_size": 0,
    }
