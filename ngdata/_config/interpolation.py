"""References ``${VAR:default}`` in text: parsed, and replaced by variables; independent of any format.

The variable of ``${VAR}`` must be set.  ``${VAR:default}`` and the shell's ``${VAR:-default}`` mean the
same: the default, which may itself contain references, replaces an unset or empty VAR.  ``$$`` is a
dollar sign, and so is a ``$`` without a brace after it.  A variable's value is inserted unchanged: a
reference in it is not resolved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["ReferenceProblem", "interpolate", "is_reference"]

_OPENING: Final = re.compile(r"\$\$|\$\{")
_INNER: Final = re.compile(r"\$\$|\$\{|\}")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class ReferenceProblem(Exception):  # noqa: N818 - the caller raises a ConfigError of it
    """A reference that cannot be resolved; its text completes a sentence that names the place."""


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """Replace the references in a text by the variables that they name.

    Raises
    ------
    ReferenceProblem
        A variable is not set, or a reference is malformed; the error never shows a value.

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
            start = _end_of_reference(text, mark.end())
            parts.append(_resolve(text[mark.end() : start - 1], variables))
    return "".join([*parts, text[start:]])


def is_reference(text: str) -> bool:
    """Return whether a text is exactly one reference.

    Examples
    --------
    >>> from ngdata._config.interpolation import is_reference
    >>> is_reference("${PORT:5432}"), is_reference("${PORT:5432}0")
    (True, False)
    """
    return text.startswith("${") and _end_of_reference(text, 2) == len(text)


def _end_of_reference(text: str, start: int) -> int:
    """Return the position after the closing brace of a reference whose inside begins at `start`."""
    depth = 1
    for mark in _INNER.finditer(text, start):
        depth += {"$$": 0, "${": 1, "}": -1}[mark[0]]
        if depth == 0:
            return mark.end()
    raise ReferenceProblem(
        "a reference that begins with ${ has no closing brace; add it, or write $${ for a plain ${"
    )


def _resolve(inner: str, variables: Mapping[str, str]) -> str:
    """Return the value of a reference, given the text between its braces."""
    name = _NAME.match(inner)
    rest = inner[name.end() :] if name else inner
    if name is None or (rest and not rest.startswith(":")):
        # Not shown: the text may be a password with an unescaped ${.
        raise ReferenceProblem(
            "a reference must be ${NAME} or ${NAME:default}, with a NAME of letters, digits and _; "
            "write $${ for a plain ${"
        )
    value = variables.get(name[0])
    if value or (value is not None and not rest):
        return value
    if not rest:
        raise ReferenceProblem(
            f"the variable {name[0]} is not set, and ${{{name[0]}}} has no default; set the "
            f"variable, or write ${{{name[0]}:default}}"
        )
    default = rest.removeprefix(":").removeprefix("-")
    return interpolate(default, variables)
