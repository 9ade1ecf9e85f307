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

__all__ = ["URL"]

_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})|%00|[\x00-\x20]")
_HOST: Final = re.compile(r"(\[[0-9A-Za-z:.%]+\]|[^:\[\]]*)(:[0-9]*)?")

# The @ of a secret may stand in a query as it is.
_SECRETS: Final = re.compile(r"(user|password|sslpassword)=")


def _hides_an_end(query: str) -> bool:
    """Tell whether what looks like a query may be the rest of a password, up to an @."""
    return any("@" in pair and not _SECRETS.match(pair) for pair in query.split("&"))


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
        >>> from ngdata.url import URL
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
            return cls(
                scheme.lower(),
                hosts,
                slash + path,
                unquote(user, errors="strict") if user else None,
                unquote(password, errors="strict") if colon else None,
                dict(pairs),
            )
        except ValueError:
            raise ConfigError(
                f"the address {scheme[:20]}://... cannot be read as a URL; write characters such as "
                "@ : / ? # % in a user, password or path as %40 %3A %2F %3F %23 %25"
            ) from None

    def __str__(self) -> str:
        who = quote(self.user or "", safe="")
        if self.password is not None:
            who += ":" + quote(self.password, safe="")
        at = f"{who}@" if who else ""
        query = urlencode(self.query, quote_via=quote, safe="")
        return f"{self.scheme}://{at}{self.hosts}{self.path}" + (f"?{query}" if query else "")
