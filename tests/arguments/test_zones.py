"""Time zones by name, as objects that have one, and as fixed offsets."""

import datetime as dt
import zoneinfo
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from ngdata._arguments.zones import as_zone
from ngdata.errors import InvalidQueryError

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")


class LikePytz(dt.tzinfo):
    """Names its zone as pytz does."""

    zone = "Europe/Berlin"


def test_zones():
    stamp = pd.Timestamp("2024-01-01", tz="Europe/Berlin")
    for value in ("Europe/Berlin", np.str_("Europe/Berlin"), BERLIN, LikePytz(), stamp.tz):
        assert as_zone(value) is BERLIN
    offset = dt.timezone(dt.timedelta(hours=-3, minutes=-30))
    assert as_zone(offset) is offset
    assert as_zone(None) is dt.UTC
    assert as_zone("UTC").utcoffset(None) in (None, dt.timedelta(0))


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("Europe/Berlni", "did you mean 'Europe/Berlin'"),
        ("", "not ''"),
        ("../../etc/passwd", "tz must be the name of a time zone"),
        ("/etc/localtime", "tz must be the name of a time zone"),
        ("UTC'; DROP TABLE a; --", "tz must be the name of a time zone"),
        ("a\0", "tz must be the name of a time zone"),
        (1, "tz must be the name of a time zone.*not 1"),
        (dt.timedelta(hours=1), "tz must be the name"),
        (SimpleNamespace(key="UTC"), "tz must be the name"),
        (type("Own", (dt.tzinfo,), {})(), "tz must be the name"),
    ],
)
def test_values_that_are_no_zones(value, problem):
    with pytest.raises(InvalidQueryError, match=problem):
        as_zone(value)
