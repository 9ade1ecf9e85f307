"""A database's URL prepared for each driver, complete: what it leaves out is decided here, once.

libpq (in ADBC) and asyncpg fill what a URL leaves out from the environment, service files, files at
home, and defaults of their own, and not from the same ones.  So one driver could read as another
role, from another server or in another encoding than the other.  Both therefore get a value for
everything that they would fill in: the environment's where it means the same to both
(`_FROM_ENVIRONMENT`, passwords and certificates), or else a fixed one.

libpq sends PGTZ, PGDATESTYLE and PGGEQO whatever the URL says; `ngdata._connections.session_settings`
sets all of a session's settings once it is open.
"""

from __future__ import annotations

import os
import pwd
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote

from ngdata._config import tls
from ngdata._config.password_file import password_in
from ngdata._config.postgres_url import without_password
from ngdata._config.url import URL
from ngdata.errors import ConfigError

__all__ = [
    "LIBPQ_ENVIRONMENT",
    "RECENT_PARAMETERS",
    "SENT_BY_LIBPQ",
    "asyncpg_arguments",
    "libpq_url",
    "without_options",
]

# Parts of the address that both drivers take from the environment, as far as the URL has none.
_FROM_ENVIRONMENT: Final = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "dbname": "PGDATABASE",
}

# libpq and asyncpg each look for a server in other places.
_SOCKET_DIRECTORIES: Final = ("/run/postgresql", "/var/run/postgresql", "/tmp")  # noqa: S108

_NO_HOST: Final = re.compile(r"(:[0-9]*)?")
_PORTS: Final = re.compile(r"[0-9]{1,5}(,[0-9]{1,5})*")

# An empty name would mean a file at home, which libpq checks in modes that must not.
_NO_FILE: Final = "/dev/null/none"

# What both drivers must not take from the environment or a default of their own.
_FIXED: Final = {
    "gsslib": "gssapi",
    "krbsrvname": "postgres",
    "ssl_max_protocol_version": "TLSv1.3",
    "ssl_min_protocol_version": "TLSv1.2",
    "sslnegotiation": "postgres",
    "target_session_attrs": "any",
}

# The same for libpq alone.
_FIXED_FOR_LIBPQ: Final = {
    "channel_binding": "prefer",
    "gssdelegation": "0",
    "gssencmode": "disable",
    "hostaddr": "",
    "load_balance_hosts": "disable",
    "max_protocol_version": "3.0",
    "min_protocol_version": "3.0",
    "options": "",
    # An empty list would allow no method; this one exists on Windows servers only.
    "require_auth": "!sspi",
    "requirepeer": "",
    "sslcompression": "0",
    "sslcrl": "",
    "sslcrldir": "",
    "sslrootcert": _NO_FILE,
    "sslsni": "1",
}

RECENT_PARAMETERS: Final = frozenset(
    {
        "gssdelegation",
        "load_balance_hosts",
        "max_protocol_version",
        "min_protocol_version",
        "require_auth",
        "sslcertmode",
        "sslnegotiation",
    }
)
"""libpq's parameters since PostgreSQL 16, which an older libpq neither knows nor needs."""

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

# The parameters that a URL may have; the others mean something to one of the drivers only.
_KNOWN: Final = (
    _LIBPQ_ONLY
    | _FIXED.keys()
    | tls.FIELDS.keys()
    | {"application_name", "client_encoding", "host", "options", "passfile", "port"}
    | {"sslcrl", "sslpassword"}
)

# ADBC looks up the types by name when it connects, before it can send any setting; libpq prints what
# the server tells of that.
_STARTUP: Final = (
    "-c quote_all_identifiers=off -c search_path=pg_catalog -c client_min_messages=warning"
)

SENT_BY_LIBPQ: Final = {
    "PGDATESTYLE": ('"DateStyle"',),
    "PGGEQO": ('"geqo"',),
    "PGSERVICE": ("definition of service", "service file"),
    "PGTZ": ('"TimeZone"',),
}
"""The environment's variables that can stop libpq from connecting, though not asyncpg.

Each with texts of which the error then contains one, in any language of the server: an error on
connecting has no SQLSTATE.
"""

LIBPQ_ENVIRONMENT: Final = frozenset(
    {
        *_FROM_ENVIRONMENT.values(),
        *SENT_BY_LIBPQ,
        # As files and mode of TLS, the same for both drivers.
        *("PGPASSFILE", "PGSSLCERT", "PGSSLCRL", "PGSSLKEY", "PGSSLMODE", "PGSSLROOTCERT"),
        # Without effect, since all that they could fill in has a value.
        *("PGAPPNAME", "PGCHANNELBINDING", "PGCLIENTENCODING", "PGCONNECT_TIMEOUT"),
        *("PGGSSDELEGATION", "PGGSSENCMODE", "PGGSSLIB", "PGHOSTADDR", "PGKRBSRVNAME"),
        *("PGLOADBALANCEHOSTS", "PGMAXPROTOCOLVERSION", "PGMINPROTOCOLVERSION", "PGOPTIONS"),
        *("PGREQUIREAUTH", "PGREQUIREPEER", "PGREQUIRESSL", "PGSERVICEFILE", "PGSSLCERTMODE"),
        *("PGSSLCOMPRESSION", "PGSSLCRLDIR", "PGSSLMAXPROTOCOLVERSION"),
        *("PGSSLMINPROTOCOLVERSION", "PGSSLNEGOTIATION", "PGSSLSNI", "PGSYSCONFDIR"),
        "PGTARGETSESSIONATTRS",
        # For OAuth, which asyncpg does not support; it prints more.
        "PGOAUTHDEBUG",
    }
)
"""All variables that libpq reads; docs/operations.md says what each means."""


def libpq_url(url: str, settings: dict[str, str], connect_timeout: float, name: str) -> str:
    """Return the URL for libpq, with the session's settings after the URL's own options."""
    parts = _completed(url, name)
    query = _FIXED_FOR_LIBPQ | parts.query
    options = " ".join(f"-c {key}={value}" for key, value in settings.items())
    query["options"] = f"{query['options']} {options} {_STARTUP}".strip()
    query["client_encoding"] = "UTF8"
    query.setdefault("sslcert", _NO_FILE)
    query.setdefault("sslkey", _NO_FILE)
    query.setdefault("sslcertmode", "disable" if query["sslcert"] == _NO_FILE else "allow")
    # libpq accepts whole seconds only, and treats 1 as 2.
    query.setdefault("connect_timeout", str(max(2, round(connect_timeout))))
    if parts.password is None:
        query["password"] = ""
    return str(replace(parts, query=query))


def asyncpg_arguments(
    url: str, settings: dict[str, str], connect_timeout: float, name: str
) -> dict[str, Any]:
    """Return the arguments for `asyncpg.connect`."""
    parts = _completed(url, name)
    query = {key: value for key, value in parts.query.items() if key not in _LIBPQ_ONLY}
    return {
        "dsn": str(replace(parts, query=query)),
        "server_settings": settings,
        "timeout": connect_timeout,
        # Statements are then unnamed; through a pooler, names of several clients could collide.
        "statement_cache_size": 0,
    }


def without_options(url: str) -> str:
    """Return the URL for libpq without `options`, which a pooler refuses."""
    parts = URL.parse(url)
    return str(replace(parts, query=parts.query | {"options": ""}))


def _completed(url: str, name: str) -> URL:
    """Return a normalized URL with everything that the drivers would fill in, the same for both.

    Raises
    ------
    ConfigError
        A parameter is unknown, or a file of TLS that the environment names cannot be used.
    """
    parts = URL.parse(url)
    unknown = sorted(parts.query.keys() - _KNOWN)
    if unknown:
        raise ConfigError(
            f"{without_password(url)} refuses a parameter of its URL: {unknown[0][:200]!r} is not a "
            "connection parameter that both drivers know; correct the part of the URL after the ?"
        )
    query = {key: value for key, value in parts.query.items() if key != "client_encoding"}
    # libpq's rule: the name of the process's user, whatever USER says.
    user = parts.user or _environment("user") or _system_user()
    database = parts.path.removeprefix("/") or quote(_environment("dbname") or user, safe="")
    # Both drivers treat an empty one as missing.
    password = parts.password or _environment("password")
    ports = query.pop("port", "") or _environment("port") or "5432"
    hosts = query.pop("host", "")
    if not hosts and _NO_HOST.fullmatch(parts.hosts):
        ports = parts.hosts.removeprefix(":") or ports
        hosts = _environment("host") or _default_host(ports)
        parts = replace(parts, hosts="")
    names = hosts.split(",") if hosts else _names(parts.hosts)
    if not all(names):
        raise ConfigError(
            f"{without_password(url)} has an empty name among its hosts; write each as host:5432"
        )
    query = _FIXED | {"application_name": name} | query | _tls(query, names)
    if hosts:
        listed = _one_each(ports, names)
        query |= {"host": hosts, "port": ",".join(listed)}
    else:
        parts = replace(parts, hosts=_with_ports(parts.hosts, _one_each(ports, names)))
        listed = [host.rpartition(":")[2] for host in parts.hosts.split(",")]
    file = query.get("passfile") or os.environ.get("PGPASSFILE") or _at_home(".pgpass")
    if password is None:
        password = password_in(file, names, listed, unquote(database), user)
    query["passfile"] = _NO_FILE
    completed = URL(parts.scheme, parts.hosts, f"/{database}", user, password, query)
    try:
        str(completed)
    except UnicodeEncodeError:
        raise ConfigError(
            f"{without_password(url)} cannot be completed: the password file, or a variable of the "
            "environment that begins with PG, is not UTF-8; correct it"
        ) from None
    return completed


def _environment(part: str) -> str | None:
    value = os.environ.get(_FROM_ENVIRONMENT[part]) or None
    if part == "port" and value is not None and not _PORTS.fullmatch(value):
        raise ConfigError(f"PGPORT must be a number from 0 to 65535, not {value[:200]!r}")
    return value


def _system_user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise ConfigError(
            f"the database URL has no user, and user id {os.geteuid()} has no name on this machine; "
            "write the user into the URL: postgresql://user@host/database"
        ) from None


def _default_host(port: str) -> str:
    """Return the first directory with a server's socket, or this machine."""
    for directory in _SOCKET_DIRECTORIES:
        if Path(directory, f".s.PGSQL.{port}").exists():
            return directory
    return "localhost"


def _names(hosts: str) -> list[str]:
    """Return the hosts of a URL without their ports."""
    return [unquote(re.sub(r":[0-9]*$", "", host)) for host in hosts.split(",")]


def _one_each(ports: str, hosts: list[str]) -> list[str]:
    """Return one port for each host."""
    listed = ports.split(",")
    if len(listed) == 1:
        return listed * len(hosts)
    if len(listed) != len(hosts):
        raise ConfigError(
            f"the database URL has {len(hosts)} hosts and {len(listed)} ports; write each port after "
            "its host, as in host:5432"
        )
    return listed


def _with_ports(hosts: str, ports: list[str]) -> str:
    """Return the hosts of a URL, each with its port."""
    # After the brackets of an IPv6 address, if there are any.
    return ",".join(
        host if host.rpartition("]")[2].partition(":")[2] else f"{host.removesuffix(':')}:{port}"
        for host, port in zip(hosts.split(","), ports, strict=True)
    )


def _tls(query: dict[str, str], hosts: list[str]) -> dict[str, str]:
    """Return the parameters of TLS; as in both drivers, there is none on a socket."""
    if all(host.startswith("/") for host in hosts):
        return {"sslmode": query.get("sslmode", "disable")}
    values = dict(query)
    if "sslmode" not in values and "sslrootcert" not in values:
        values["sslmode"] = os.environ.get("PGSSLMODE") or "prefer"
    if values.get("sslmode") != "disable" and not {"sslcert", "sslkey"} & values.keys():
        values |= _client_certificate()
    parameters = tls.normalize(values)
    if parameters["sslmode"] in ("require", "verify-ca", "verify-full"):
        revoked = query.get("sslcrl") or os.environ.get("PGSSLCRL")
        if revoked is None and Path(_at_home(".postgresql/root.crl")).exists():
            revoked = _at_home(".postgresql/root.crl")
        if revoked is not None:
            parameters["sslcrl"] = tls.readable("sslcrl", revoked)
    return parameters


def _client_certificate() -> dict[str, str]:
    """Return the certificate and key of the environment, or else those at home, if there are any."""
    certificate = os.environ.get("PGSSLCERT") or _at_home(".postgresql/postgresql.crt")
    if not os.environ.get("PGSSLCERT") and not Path(certificate).exists():
        return {}
    key = os.environ.get("PGSSLKEY") or _at_home(".postgresql/postgresql.key")
    return {"sslcert": certificate, "sslkey": key}


def _at_home(name: str) -> str:
    # Path.expanduser raises for a user without a home.
    return os.path.join(os.path.expanduser("~"), name)
