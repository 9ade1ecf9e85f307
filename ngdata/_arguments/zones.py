"""Time zones as arguments: names, or objects of the standard library, pytz and pandas."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from typing import Any, TypeAlias

from ngdata._arguments.shown import guarded, shown
from ngdata._arguments.suggestions import did_you_mean
from ngdata._arguments.texts import plain_text
from ngdata.errors import InvalidQueryError

__all__ = ["Zone", "as_zone"]

Zone: TypeAlias = str | dt.tzinfo


@guarded
def as_zone(value: Any, name: str = "tz") -> zoneinfo.ZoneInfo | dt.timezone:
    """Return a time zone: one with a name, or a fixed offset from UTC.

    Parameters
    ----------
    value : str, datetime.tzinfo or None
        A name of the IANA database, or an object that has one; or `datetime.timezone`.  None is UTC.
    name : str
        The argument's name, for the error.

    Raises
    ------
    InvalidQueryError
        The value is not a time zone, or has no name and no fixed offset.

    Examples
    --------
    >>> from ngdata._arguments.zones import as_zone
    >>> as_zone("Europe/Berlin")
    zoneinfo.ZoneInfo(key='Europe/Berlin')
    """
    if value is None:
        return dt.UTC
    if isinstance(value, dt.timezone):
        return value
    # ZoneInfo has its name as `key`, pytz as `zone`.
    text = plain_text(value)
    if text is None and isinstance(value, dt.tzinfo):
        text = plain_text(getattr(value, "key", None) or getattr(value, "zone", None))
    if text is None:
        raise InvalidQueryError(
            f"{name} must be the name of a time zone, such as 'Europe/Berlin', or a ZoneInfo, not "
            f"{shown(value)}"
        )
    known = zoneinfo.available_timezones()
    if text not in known:
        raise InvalidQueryError(
            f"{name} must be the name of a time zone, such as 'Europe/Berlin', not {shown(text)}"
            f"{did_you_mean(text, known)}"
        )
    return zoneinfo.ZoneInfo(text)
