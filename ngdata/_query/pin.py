"""A pin as a value: a named moment of the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from ngdata._arguments.cards import Card, Shown

__all__ = ["Pin"]


@dataclass(frozen=True)
class Pin(Shown):
    """A moment of the store that `Client.pin` has named, and `Client.as_of` reads.

    Attributes
    ----------
    id : str
    label : str or None
    created_at : pandas.Timestamp
        When it was taken, in UTC.
    number : int
        It increases from pin to pin.

    Examples
    --------
    >>> pin = ng.pin("before the correction")
    >>> ng.as_of(pin).pin == pin
    True
    >>> ng.unpin(pin)
    """

    id: str
    label: str | None
    created_at: pd.Timestamp
    number: int

    @property
    def name(self) -> str:
        """The label in quotes, or the id."""
        return self.id if self.label is None else repr(self.label)

    def _card(self) -> Card:
        taken = f"{self.created_at:%Y-%m-%d %H:%M:%S} UTC"
        note = "ng.as_of(pin) reads this moment, ng.diff(pin) what changed since"
        return Card(f"pin {self.name}", [("id", self.id), ("taken", taken)], note)

    def to_attrs(self) -> dict[str, Any]:
        """Return what ``attrs["ngdata"]["pin"]`` of a frame says, as JSON has it."""
        return {"id": self.id, "label": self.label, "created_at": self.created_at.isoformat()}
