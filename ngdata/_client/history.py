"""Pins: moments of the whole store that are kept, read again, and compared.

`client.pin`, `pins`, `unpin`, `as_of` and `diff` call these methods.
"""

from __future__ import annotations

import datetime as dt
import time
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from ngdata._arguments.shown import guarded, shown
from ngdata._arguments.suggestions import did_you_mean
from ngdata._arguments.texts import as_text, plain_text
from ngdata._arguments.times import as_utc
from ngdata._client.namespace import Namespace
from ngdata._query import pins as query
from ngdata._query.differences import Compared, checked_rows, difference
from ngdata._query.moments import check_sql, pages_if_kept
from ngdata._query.pin import Pin
from ngdata._query.places import Place, Window
from ngdata._reading.reader import described
from ngdata._store import pins as store
from ngdata.errors import InvalidQueryError, NotFoundError

__all__ = ["AsyncHistory", "Moment"]

Moment: TypeAlias = "Pin | str | dt.datetime | pd.Timestamp"
"""A pin, its label or its id; or a time: the newest pin at or before it."""


class AsyncHistory(Namespace):
    """The pins of a store."""

    async def pin(self, label: str | None) -> Pin:
        """Pin the store as it is now."""
        checked = None if label is None else _checked_label(label)
        async with self._transaction() as connection:
            return await store.add_pin(connection, self._database.where, checked)

    async def pins(self) -> pd.DataFrame:
        """Return a row per pin that is kept."""
        return await self._reader.frame(query.kept(), "off", None)

    async def unpin(self, pin: Pin | str) -> None:
        """Remove a pin, and what only it needs."""
        async with self._transaction() as connection:
            pins, _ = await store.read_pins(connection)
            others_are_kept = await store.remove_pin(connection, _named(pin, pins, "label"))
        if not others_are_kept:
            async with self._transaction() as connection:
                await store.rest_pins(connection)

    async def find(self, moment: Moment, name: str) -> Pin:
        """Return the pin of a moment."""
        async with self._database.transaction() as connection:
            await store.check_sees_all_rows(connection, self._database.where)
            pins, now = await store.read_pins(connection)
        return _found(moment, pins, now, name)

    async def diff(
        self, before: Moment, after: Moment | None, of: Compared, within: Window | None
    ) -> pd.DataFrame:
        """Return the rows that differ between two moments; the second is now if it is None."""
        started = time.perf_counter()
        rows = checked_rows(of, "of")
        place = None if within is None else Place.within(within)
        first = await self.find(before, "before")
        last = None if after is None else await self.find(after, "after")
        moments = [first] if last is None else [first, last]
        checks = " || ';' || ".join(f"coalesce(({check_sql(pin)}), '')" for pin in moments)
        frame, text = await self._reader.frame_and_version(
            difference(rows, first, last, place), f"SELECT {checks}"
        )
        for pin, found in zip(moments, (text or "").split(";"), strict=True):
            pages_if_kept(pin, found)
        compared = {
            "before": first.to_attrs(),
            "after": None if last is None else last.to_attrs(),
        }
        return described(frame, "database", None, started, compared)


_MAX_LABEL = 200


def _checked_label(label: Any) -> str:
    text = as_text(label, "label")
    if not text.strip() or len(text) > _MAX_LABEL:
        raise InvalidQueryError(
            f"label must be a text of 1 to {_MAX_LABEL} characters, not {shown(label)}; leave it out "
            "for a pin without one"
        )
    return text


@guarded
def _found(moment: Any, pins: list[Pin], now: pd.Timestamp, name: str) -> Pin:
    if not isinstance(moment, dt.datetime | np.datetime64):
        return _named(moment, pins, name)
    at = pd.Timestamp(as_utc(moment, name))
    if at > now:
        raise InvalidQueryError(
            f"{name} must not be in the future, but {at.isoformat()} is; the server's time is "
            f"{now.isoformat()}"
        )
    earlier = [pin for pin in pins if pin.created_at <= at]
    if not earlier:
        oldest = f"the oldest is {pins[0].name} of {pins[0].created_at}" if pins else "none is kept"
        raise NotFoundError(f"no pin was taken at or before {at.isoformat()}; {oldest}", ())
    return earlier[-1]


@guarded
def _named(pin: Any, pins: list[Pin], name: str) -> Pin:
    text = pin.id if isinstance(pin, Pin) else plain_text(pin)
    if text is None:
        raise InvalidQueryError(
            f"{name} must be a pin, a label or a time with a zone, not {shown(pin)}"
        )
    for each in pins:
        if text in (each.label, each.id) and (not isinstance(pin, Pin) or each.id == pin.id):
            return each
    called = pin.name if isinstance(pin, Pin) else shown(text)
    labels = [each.label for each in pins if each.label is not None]
    kept = "; no pin is kept"
    if labels:
        kept = f"; those kept are {shown(', '.join(labels))}"
    raise NotFoundError(
        f"no pin is called {called}{did_you_mean(text, labels)}{kept}; pins() lists them", (text,)
    )
