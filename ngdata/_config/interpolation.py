"""`${VAR:default}` in a file's values: read, resolved and put in place; knows no file format.

``${VAR}`` must be set; ``${VAR:default}`` and the shell's ``${VAR:-default}`` mean the same: the
default holds where VAR is unset or empty, and may hold references itself.  ``$$`` is a dollar sign,
and so is one that no brace follows.  What a variable holds is taken as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["ReferenceProblem", "interpolate", "is_reference"]

_OPENING: Final = re.compile(r"\$\$|\$\{")
_INNER: Final = re.compile(r"\$\$|\$\{|\}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ReferenceProblem(Exception):  # noqa: N818 - config_file tells it with the file and key
    """A reference that cannot be resolved; its text is for the middle of a sentence."""


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Put variables in place of the references to them.

    Raises
    ------
    ReferenceProblem
        Naming the variable that is missing, or what a reference lacks; never a value.

    Examples
    --------
    >>> from ngdata._config.interpolation import interpolate
    >>> interpolate("${HOST:db}.${ZONE:-${REGION:eu}}.example", {"HOST": "db7"})
    'db7.eu.example'
    """
    parts: list[str] = []
    start = 0
    while mark := _OPENING.search(text, start):
        parts.append(text[start : mark.start()])
        if mark[0] == "$$":
            parts.append("$")
            start = mark.end()
        else:
            start = _closing(text, mark.end())
            parts.append(_resolved(text[mark.end() : start - 1], variables))
    return "".join([*parts, text[start:]])


def is_reference(text: str) -> bool:
    """Tell whether a text is one reference and nothing else.

    Examples
    --------
    >>> from ngdata._config.interpolation import is_reference
    >>> is_reference("${PORT:5432}"), is_reference("${PORT:5432}0")
    (True, False)
    """
    return text.startswith("${") and _closing(text, 2) == len(text)


def _closing(text: str, start: int) -> int:
    """Find the place behind the brace that closes a reference, whose inside begins at `start`."""
    depth = 1
    for mark in _INNER.finditer(text, start):
        depth += {"$$": 0, "${": 1, "}": -1}[mark[0]]
        if depth == 0:
            return mark.end()
    raise ReferenceProblem(
        "a reference that begins with ${ is not closed; write $${ for a plain ${"
    )


def _resolved(inner: str, variables: Mapping[str, str]) -> str:
    """Resolve what stands between the braces."""
    name = _NAME.match(inner)
    rest = inner[name.end() :] if name else inner
    if name is None or (rest and not rest.startswith(":")):
        # What is there may be a password that was not escaped.
        raise ReferenceProblem(
            "a reference must be ${NAME} or ${NAME:default}, NAME of letters, digits and _; write "
            "$${ for a plain ${"
        )
    value = variables.get(name[0])
    if value or (value is not None and not rest):
        return value
    if not rest:
        raise ReferenceProblem(
            f"the variable {name[0]} is not set, and ${{{name[0]}}} gives no default; set it, or "
            f"write ${{{name[0]}:default}}"
        )
    default = rest.removeprefix(":").removeprefix("-")
    return interpolate(default, variables)
