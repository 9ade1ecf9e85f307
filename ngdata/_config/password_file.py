"""libpq's password file, read here because asyncpg understands it differently.

asyncpg (0.32) leaves the backslash before an escaped colon in the password, and knows a socket only
as `localhost`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ngdata.errors import ConfigError

__all__ = ["password_in"]

_FIELD: Final = re.compile(r"((?:\\.|[^:\\])*)(?::|$)")
_ESCAPED: Final = re.compile(r"\\(.)")


def password_in(
    file: str, hosts: Sequence[str], ports: Sequence[str], database: str, user: str
) -> str | None:
    """Return the password of the first line that matches one of the hosts; None if there is none.

    Parameters
    ----------
    file : str
        The path; a file that does not exist, or cannot be read, has no passwords.
    hosts, ports : sequence of str
        As many of each.  A directory of sockets matches its path and `localhost`.
    database, user : str

    Raises
    ------
    ConfigError
        The file has a password for this address, and other users can read it.

    Examples
    --------
    >>> from ngdata._config.password_file import password_in
    >>> password_in("/nonexistent", ["db.example"], ["5432"], "neurograph", "me") is None
    True
    """
    path = Path(file)
    try:
        if not path.is_file():
            return None
        lines = path.read_text("utf-8", "surrogateescape").splitlines()
        is_open = bool(path.stat().st_mode & 0o077)
    except OSError:
        return None
    entries = [_fields(line) for line in lines if line.strip() and not line.startswith("#")]
    for host, port in zip(hosts, ports, strict=True):
        names = {"*", host} | ({"localhost"} if host.startswith("/") else set())
        for *address, password in (entry for entry in entries if len(entry) == 5):
            if address[0] in names and all(
                pattern in ("*", value)
                for pattern, value in zip(address[1:], (port, database, user), strict=True)
            ):
                if is_open:
                    raise ConfigError(
                        f"the password file {path} is readable by other users; run `chmod 600` on it"
                    )
                return password
    return None


def _fields(line: str) -> list[str]:
    """Return the five fields of a line, unescaped; nothing if it has fewer."""
    fields: list[str] = []
    rest = line.rstrip("\r\n")
    while len(fields) < 5:
        # As in libpq, the password too ends at a colon that is not escaped.
        match = _FIELD.match(rest)
        if match is None or (not match[1] and match.end() == len(rest)):
            return []
        fields.append(_ESCAPED.sub(r"\1", match[1]))
        rest = rest[match.end() :]
    return fields
