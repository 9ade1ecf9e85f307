"""The URL of a database: normalized, and shown without its password.

`ngdata._config.driver_arguments` prepares it for each driver.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import quote

from ngdata._config import tls
from ngdata._config.url import URL, scheme_of
from ngdata.errors import ConfigError

__all__ = [
    "compose",
    "normalize",
    "split_password",
    "with_parameters",
    "without_password",
]

_SCHEMES: Final = ("postgresql", "postgres")


def normalize(url: str) -> str:
    """Check a PostgreSQL URL, and return it in a form that means the same to both drivers.

    SQLAlchemy's form is accepted too.  A user, password, host, port or database in the query wins, as
    in libpq; asyncpg would prefer those at the front, and connect elsewhere.
    `ngdata._config.tls.normalize` checks the TLS parameters.

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
    if "service" in query:
        raise ConfigError(
            "a database URL may not name a service; write the service's host, port, user and "
            "database into the URL"
        )
    path, hosts = parts.path, parts.hosts
    if database := query.pop("dbname", ""):
        path = f"/{quote(database, safe='')}"
    if hosts and query.get("host"):
        ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts.split(",")]
        if any(ports):
            query.setdefault("port", ",".join(ports))
        hosts = ""
    elif hosts and query.get("port"):
        hosts = ",".join(re.sub(r":[0-9]*$", "", host) for host in hosts.split(","))
    tls_parameters = tls.normalize(query)
    query = {name: value for name, value in query.items() if name not in tls.FIELDS}
    return str(URL(parts.scheme, hosts, path, user, password, query | tls_parameters))


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
