"""The result of one check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "note", "ok", "wrong"]


@dataclass(frozen=True)
class Finding:
    """The result of one check, and what to do about it.

    Attributes
    ----------
    check : str
        The name of the check.
    state : str
        ``ok``; ``note``: worth knowing, but everything works; ``wrong``.
    observed : str
        The state that the check observed.
    advice : str or None
        What to do, if there is something to do.

    Examples
    --------
    >>> from ngdata.admin.doctor import Finding
    >>> Finding("PostGIS", "wrong", "it is missing", "CREATE EXTENSION postgis").state
    'wrong'
    """

    check: str
    state: Literal["ok", "note", "wrong"]
    observed: str
    advice: str | None = None


def ok(check: str, observed: str) -> Finding:
    """Return a finding that everything is as it should be."""
    return Finding(check, "ok", observed)


def note(check: str, observed: str, advice: str | None = None) -> Finding:
    """Return a finding that is worth knowing."""
    return Finding(check, "note", observed, advice)


def wrong(check: str, observed: str, advice: str | None = None) -> Finding:
    """Return a finding that something fails or is wrong; without advice, `observed` says what to do."""
    return Finding(check, "wrong", observed, advice)
