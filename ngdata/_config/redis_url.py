"""The URL of a Redis: normalized, and built from its parts."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from ngdata._config.url import URL, scheme_of
from ngdata.errors import ConfigError, shown

__all__ = ["compose", "normalize"]

_SCHEMES = ("redis", "rediss", "unix")

_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_TEXT: Final = (re.compile(r".+", re.DOTALL), "text")
_BOOLEAN: Final = (re.compile(r"true|false|yes|no|1|0", re.IGNORECASE), "true or false")

# The client's options that say how to connect: what each must match, and that in words.  Others, such
# as decode_responses and timeouts, would replace what ngdata itself sets; the client would report an
# unknown one only when it connects.
_OPTIONS: Final = {
    "db": (_NUMBER, "the number of a database"),
    "username": _TEXT,
    "password": _TEXT,
    "client_name": (re.compile(r"[!-~]+"), "printable ASCII without spaces"),
    "protocol": (re.compile(r"[23]"), "2 or 3"),
    "ssl_cert_reqs": (re.compile(r"none|optional|required"), "none, optional or required"),
    "ssl_check_hostname": _BOOLEAN,
    "ssl_ca_certs": _TEXT,
    "ssl_ca_path": _TEXT,
    "ssl_certfile": _TEXT,
    "ssl_keyfile": _TEXT,
    "ssl_password": _TEXT,
}


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
    parts = URL.parse(f"{scheme}://{rest}")
    number = parts.path.strip("/")
    if scheme != "unix" and number and not _NUMBER.fullmatch(number):
        # The client would silently use database 0.
        raise ConfigError(
            "the path of a Redis URL must be the number of a database, as in "
            "redis://:password@host:6379/0"
        )
    for name, value in parts.query.items():
        _check_option(scheme, name, value)
    return str(parts)


def _check_option(scheme: str, name: str, value: str) -> None:
    if name not in _OPTIONS:
        raise ConfigError(
            f"unknown option {shown(name)} in the Redis URL; the options are {', '.join(_OPTIONS)}"
        )
    if name.startswith("ssl_") and scheme != "rediss":
        raise ConfigError(f"the option {name} in the Redis URL is for TLS; write rediss://")
    pattern, meaning = _OPTIONS[name]
    if not pattern.fullmatch(value):
        # Not shown: it may be a secret in a wrong place.
        raise ConfigError(f"the option {name} in the Redis URL must be {meaning}")


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
