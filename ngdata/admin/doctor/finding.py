"""What one check found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "note", "ok", "wrong"]


@dataclass(frozen=True)
class Finding:
    """What one check found, and what to do.

    Attributes
    ----------
    check : str
        What was looked at.
    state : str
        ``ok``; ``note``, worth knowing, but all works; ``wrong``.
    found : str
        How it is.
    advice : str or None
        What to do, where there is something to do.

    Examples
    --------
    >>> from ngdata.admin.doctor import Finding
    >>> Finding("PostGIS", "wrong", "it is missing", "CREATE EXTENSION postgis").state
    'wrong'
    """

    check: str
    state: Literal["ok", "note", "wrong"]
    found: str
    advice: str | None = None


def ok(check: str, found: str) -> Finding:
    """All is as it should be."""
    return Finding(check, "ok", found)


def note(check: str, found: str, advice: str | None = None) -> Finding:
    """Something is worth knowing."""
    return Finding(check, "note", found, advice)


def wrong(check: str, found: str, advice: str | None = None) -> Finding:
    """Something does not work, or answers wrongly; without advice, `found` says what to do."""
    return Finding(check, "wrong", found, advice)
