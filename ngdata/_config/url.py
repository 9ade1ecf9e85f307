"""A server's URL: parsed into its parts, and built from them with everything escaped.

A driver that cannot parse a URL quotes the part that it rejects, which may be half a password.  Such a
URL is therefore refused here, without showing any of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import parse_qsl, quote, unquote, urlencode

from ngdata.errors import ConfigError

__all__ = ["URL", "scheme_of"]

# Half a surrogate pair too: the error of encoding it would hold the whole URL.
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|%00|[\x00-\x20\ud800-\udfff]")
_HOST: Final = re.compile(r"(\[[0-9A-Za-z:.%]+\]|[^:\[\]]*)(:[0-9]*)?")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")

# Parameters whose values may contain an unescaped @.
_SECRETS: Final = re.compile(r"(user|password|sslpassword)=")


def scheme_of(text: str) -> str:
    """Return the part of a supposed URL that an error may show: its scheme, or nothing.

    Examples
    --------
    >>> from ngdata._config.url import scheme_of
    >>> scheme_of("mysql://me:secret@db.example"), scheme_of("postgres//me:secret@db.example")
    ('mysql', '')
    """
    scheme, separator, _ = text.strip().partition("://")
    return scheme[:20] if separator and _SCHEME.fullmatch(scheme) else ""


def _may_be_password(query: str) -> bool:
    """Return whether a supposed query may be the rest of a password that ends at an @."""
    return any("@" in pair and not _SECRETS.match(pair) for pair in query.split("&"))


def _check_ports(text: str, hosts: str, query: dict[str, str]) -> None:
    # After the brackets of an IPv6 address, if there are any.
    ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts.split(",")]
    for port in [*ports, *query.get("port", "").split(",")]:
        if port and not (port.isascii() and port.isdigit() and int(port) <= 65535):
            # Not shown: without the @, a password is where the port would be.
            raise ConfigError(
                f"a port in the URL {scheme_of(text)}://... must be a number from 0 to 65535; "
                "write it after the host, as in host:5432"
            )


@dataclass(frozen=True)
class URL:
    """The parts of a URL, unescaped, except for `hosts` and `path`, which stay as written.

    Attributes
    ----------
    hosts : str
        One or more, each with its port, if any.
    path : str
        Including the slash at its beginning.
    """

    scheme: str
    hosts: str
    path: str = ""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    query: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a URL; an unescaped @ in a password is accepted.

        Raises
        ------
        ConfigError
            The URL is malformed or ambiguous; the error shows only its scheme.

        Examples
        --------
        >>> from ngdata._config.url import URL
        >>> URL.parse("redis://:p@ss@cache.example:6379/0").password
        'p@ss'
        """
        scheme, _, rest = text.strip().partition("://")
        head, _, query = rest.partition("?")
        authority, slash, path = head.partition("/")
        credentials, at, hosts = authority.rpartition("@")
        user, colon, password = credentials.partition(":")
        try:
            hosts_are_plain = all(map(_HOST.fullmatch, hosts.split(",")))
            if not hosts_are_plain or _BAD_ESCAPE.search(rest) or "#" in rest:
                raise ValueError
            if "@" in path or set("[]") & set(credentials) or (not at and _may_be_password(query)):
                raise ValueError
            # A plus in a query is a plus to libpq, but a space to Python.
            pairs = parse_qsl(
                query.replace("+", "%2B"),
                keep_blank_values=True,
                strict_parsing=bool(query),
                errors="strict",
            )
            parameters = dict(pairs)
            _check_ports(text, hosts, parameters)
            return cls(
                scheme.lower(),
                hosts,
                slash + path,
                unquote(user, errors="strict") if user else None,
                unquote(password, errors="strict") if colon else None,
                parameters,
            )
        except ValueError:
            pass
        # Not in the handler: the context of this error would hold a part of the URL.
        raise ConfigError(
            f"the URL {scheme_of(text)}://... cannot be parsed; write the characters "
            "@ : / ? # % in a user, password or path as %40 %3A %2F %3F %23 %25"
        )

    def __str__(self) -> str:
        credentials = quote(self.user or "", safe="")
        if self.password is not None:
            credentials += ":" + quote(self.password, safe="")
        at = f"{credentials}@" if credentials else ""
        query = urlencode(self.query, quote_via=quote, safe="")
        return f"{self.scheme}://{at}{self.hosts}{self.path}" + (f"?{query}" if query else "")
