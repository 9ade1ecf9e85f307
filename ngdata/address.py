"""A database's URL: what may stand in it, how it is shown, and how each driver takes it.

Both drivers are given the same libpq URL, so that host, socket path, TLS and failover mean one
thing; `asyncpg` takes the few parameters that it lacks as settings, or not at all.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from ngdata.errors import ConfigError

__all__ = ["asyncpg_arguments", "checked", "compose", "libpq_url", "quoted", "shown"]

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
        "tcp_user_timeout",
    }
)


def checked(url: str) -> str:
    """Check that a URL is one for PostgreSQL, and take SQLAlchemy's spelling too.

    Examples
    --------
    >>> from ngdata.address import checked
    >>> checked("postgresql+asyncpg://me@db.example/neurograph")
    'postgresql://me@db.example/neurograph'
    """
    scheme, separator, rest = url.partition("://")
    plain = scheme.lower().partition("+")[0]
    if not separator or plain not in _SCHEMES:
        raise ConfigError(
            f"a database URL begins with postgresql://, not {scheme[:20]!r}; for instance "
            "postgresql://user:password@host:5432/database"
        )
    found = f"postgresql://{rest}"
    try:
        parts = urlsplit(found)
        if parts.query:
            parse_qsl(parts.query, strict_parsing=True)
        for host in parts.netloc.rpartition("@")[2].split(","):
            # A password with a slash in it would be read as a port up to there.
            int(host.rpartition("]")[2].partition(":")[2] or 0)
    except ValueError:
        raise ConfigError(
            f"{shown(found)} cannot be read as a URL; write characters such as @ : / ? # % in a "
            "user, password or path as %40 %3A %2F %3F %23 %25"
        ) from None
    return found


def quoted(text: str, safe: str = "") -> str:
    """Escape a part of a URL."""
    return quote(text, safe=safe)


def compose(
    host: str, port: int, database: str | None, user: str | None, password: str | None
) -> str:
    """Make a URL of its parts; a host that begins with a slash is a directory of sockets.

    Examples
    --------
    >>> from ngdata.address import compose
    >>> compose("/run/postgresql", 5432, "neurograph", "me", None)
    'postgresql://me@/neurograph?host=%2Frun%2Fpostgresql&port=5432'
    """
    who = "" if user is None else quoted(user)
    if password is not None:
        who += ":" + quoted(password)
    at = f"{who}@" if who else ""
    path = "/" + quoted(database or "")
    if host.startswith("/"):
        return f"postgresql://{at}{path}?{urlencode({'host': host, 'port': port})}"
    place = f"[{host}]" if ":" in host else quoted(host)
    return f"postgresql://{at}{place}:{port}{path}"


def shown(url: str) -> str:
    """Write the address as errors and `repr` show it: without its password.

    Examples
    --------
    >>> from ngdata.address import shown
    >>> shown("postgresql://me:secret@db.example:5432/neurograph?sslmode=require")
    'postgresql://me@db.example:5432/neurograph'
    """
    rest = url.partition("://")[2]
    # A password with an unescaped @ must not show either: the last @ of all ends it.
    before, _, behind = rest.rpartition("@")
    user = before.partition(":")[0]
    behind, _, query = behind.partition("?")
    at = f"{user}@" if user else ""
    sockets = [unquote(v) for k, v in parse_qsl(query) if k == "host"]
    return f"postgresql://{at}{behind.partition('#')[0]}" + "".join(f" in {s}" for s in sockets)


def libpq_url(url: str, settings: dict[str, str], connect_timeout: float, name: str) -> str:
    """Give the URL for libpq; the session's settings stand behind the URL's own options."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    ours = " ".join(f"-c {key}={value}" for key, value in settings.items())
    # PgBouncer lets nobody in who brings this word, even with nothing behind it.
    if ours:
        query["options"] = f"{query.get('options', '')} {ours}".strip()
    query.setdefault("application_name", name)
    # libpq takes whole seconds, and reads 1 as 2.
    query.setdefault("connect_timeout", str(max(2, round(connect_timeout))))
    return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote)))


def asyncpg_arguments(
    url: str, settings: dict[str, str], connect_timeout: float, name: str
) -> dict[str, Any]:
    """Give the arguments for `asyncpg.connect`."""
    parts = urlsplit(url)
    query = {k: v for k, v in parse_qsl(parts.query) if k not in _LIBPQ_ONLY}
    query.setdefault("application_name", name)
    return {
        "dsn": urlunsplit(parts._replace(query=urlencode(query, quote_via=quote))),
        "server_settings": settings,
        "timeout": connect_timeout,
        # Then a statement has no name that another client of a pooler could have taken.
        "statement_cache_size": 0,
    }
