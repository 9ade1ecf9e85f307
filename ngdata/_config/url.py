"""A server's URL taken apart, and put together again with everything escaped that must be.

Drivers show the part that they stumble over, which may be the half of a password; so a URL that
they could not read is refused here, without showing any of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Self
from urllib.parse import parse_qsl, quote, unquote, urlencode

from ngdata.errors import ConfigError

__all__ = ["URL", "scheme_of"]

_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|%00|[\x00-\x20]")
_HOST: Final = re.compile(r"(\[[0-9A-Za-z:.%]+\]|[^:\[\]]*)(:[0-9]*)?")
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")

# The @ of a secret may stand in a query as it is.
_SECRETS: Final = re.compile(r"(user|password|sslpassword)=")


def scheme_of(text: str) -> str:
    """Give what an error may show of a text that was meant to be a URL: its scheme, or nothing.

    Examples
    --------
    >>> from ngdata._config.url import scheme_of
    >>> scheme_of("mysql://me:secret@db.example"), scheme_of("postgres//me:secret@db.example")
    ('mysql', '')
    """
    scheme, separator, _ = text.strip().partition("://")
    return scheme[:20] if separator and _SCHEME.fullmatch(scheme) else ""


def _hides_an_end(query: str) -> bool:
    """Tell whether what looks like a query may be the rest of a password, up to an @."""
    return any("@" in pair and not _SECRETS.match(pair) for pair in query.split("&"))


def _check_ports(text: str, hosts: str, query: dict[str, str]) -> None:
    # Behind the brackets of an IPv6 address, if there are any.
    ports = [host.rpartition("]")[2].partition(":")[2] for host in hosts.split(",")]
    for port in [*ports, *query.get("port", "").split(",")]:
        if port and not (port.isascii() and port.isdigit() and int(port) <= 65535):
            # Not shown: where an @ was forgotten, it is a password.
            raise ConfigError(
                f"a port in the address {scheme_of(text)}://... is no number from 0 to 65535"
            )


@dataclass(frozen=True)
class URL:
    """The parts; texts are plain, save `hosts` and `path`, which stay as written.

    Attributes
    ----------
    hosts : str
        One or more, each with its port, if any.
    path : str
        With the slash that it begins with.
    """

    scheme: str
    hosts: str
    path: str = ""
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    query: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take a URL apart; an unescaped @ in a password is taken for what it is.

        Raises
        ------
        ConfigError
            If it cannot be read in one way only; nothing of it is shown.

        Examples
        --------
        >>> from ngdata._config.url import URL
        >>> URL.parse("redis://:p@ss@cache.example:6379/0").password
        'p@ss'
        """
        scheme, _, rest = text.strip().partition("://")
        head, _, query = rest.partition("?")
        authority, slash, path = head.partition("/")
        who, at, hosts = authority.rpartition("@")
        user, colon, password = who.partition(":")
        try:
            hosts_are_plain = all(map(_HOST.fullmatch, hosts.split(",")))
            if not hosts_are_plain or _BAD_ESCAPE.search(rest) or "#" in rest:
                raise ValueError
            if "@" in path or set("[]") & set(who) or (not at and _hides_an_end(query)):
                raise ValueError
            # In a query a plus is a plus to libpq, and a space to Python.
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
            raise ConfigError(
                f"the address {scheme_of(text)}://... cannot be read as a URL; write characters "
                "such as @ : / ? # % in a user, password or path as %40 %3A %2F %3F %23 %25"
            ) from None

    def __str__(self) -> str:
        who = quote(self.user or "", safe="")
        if self.password is not None:
            who += ":" + quote(self.password, safe="")
        at = f"{who}@" if who else ""
        query = urlencode(self.query, quote_via=quote, safe="")
        return f"{self.scheme}://{at}{self.hosts}{self.path}" + (f"?{query}" if query else "")
