"""What a notebook shows of an object that a cell ends with: a table in HTML, and its twin in text."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["Card", "Shown", "methods_of"]

# Colours of the page, so that a dark theme stays readable; nothing is fetched.
_STYLE: Final = (
    "border-collapse:collapse;font-size:var(--jp-code-font-size,13px);color:inherit;text-align:left"
)
_CELL: Final = "padding:2px 14px 2px 0;text-align:left;vertical-align:top;border:none"


@dataclass(frozen=True)
class Card:
    """A title, and rows of a name and a value.

    Attributes
    ----------
    title : str
    rows : sequence of (str, str)
    note : str
        A line below.
    lines : str
        Text that is shown as it is, in letters of one width.
    """

    title: str
    rows: Sequence[tuple[str, str]] = field(default_factory=list)
    note: str = ""
    lines: str = ""

    def html(self) -> str:
        """Return it as HTML; all text in it is escaped."""
        rows = "".join(
            f'<tr style="background:none"><th style="{_CELL};font-weight:normal;opacity:0.65">'
            f'{html.escape(name)}</th><td style="{_CELL}">{html.escape(value)}</td></tr>'
            for name, value in self.rows
        )
        note = f'<div style="opacity:0.65">{html.escape(self.note)}</div>' if self.note else ""
        lines = f'<pre style="color:inherit">{html.escape(self.lines)}</pre>' if self.lines else ""
        return (
            f"<div><strong>{html.escape(self.title)}</strong>"
            f'<table style="{_STYLE}"><tbody>{rows}</tbody></table>{lines}{note}</div>'
        )

    def text(self) -> str:
        """Return it as text, with the values below each other."""
        width = max((len(name) for name, _ in self.rows), default=0)
        rows = [f"  {name:<{width}}  {value}" for name, value in self.rows]
        return "\n".join(part for part in (self.title, *rows, self.lines, self.note) if part)


class Shown:
    """An object that a notebook shows as a card, and a terminal with IPython as its text."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # IPython takes a class's own __repr__ before the `_repr_pretty_` of its bases.
        cls._repr_pretty_ = Shown._repr_pretty_  # type: ignore[method-assign]

    def _card(self) -> Card:
        raise NotImplementedError

    def _repr_html_(self) -> str:
        return self._card().html()

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        # Within a list or a dict, the text of one line is enough.
        is_part = cycle or bool(printer.stack[1:])
        printer.text(repr(self) if is_part else self._card().text())


def methods_of(owner: object) -> list[tuple[str, str]]:
    """Return the public methods of an object, each with the first line of its docstring."""
    methods = []
    for name in dir(type(owner)):
        method = getattr(type(owner), name)
        if not name.startswith("_") and callable(method):
            summary = (method.__doc__ or "").strip().partition("\n")[0].replace("`", "")
            methods.append((name, summary))
    return methods
