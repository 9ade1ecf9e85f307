"""Errors for names that a client or a part of it does not have: they name the nearest one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

from ngdata._arguments.cards import Shown
from ngdata._arguments.suggestions import did_you_mean, nearest
from ngdata._connections.process_bound import ProcessBound

__all__ = ["Suggesting"]

# Where the methods of a class are, as a caller writes it.
_PLACES: Final = {
    "Client": "",
    "Tokens": "tokens.",
    "Graph": "graph.",
    "Experience": "experience.",
    "Cache": "cache.",
}

_classes: dict[str, type] = {}
"""Those of `_PLACES` by place; the sync ones and the async ones have the same names."""


class Suggesting(Shown, ProcessBound):
    """Names the nearest public name if an attribute is missing, also one of another namespace."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        place = _PLACES.get(cls.__name__.removeprefix("Async"))
        if place is not None:
            _classes.setdefault(place, cls)

    # Type checkers would take any name for an attribute.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            kind = type(self).__name__
            # With its object too, Python would append a suggestion of its own.
            raise AttributeError(
                f"{kind!r} object has no attribute {name!r}{_nearest(self, kind, name)}", name=name
            )


def _nearest(owner: object, kind: str, name: str) -> str:
    # Notebooks and copies ask for names with an underscore, and expect none.
    if name.startswith("_"):
        return ""
    variable = "ang" if kind.startswith("Async") else "ng"
    elsewhere = {
        method: f"{variable}.{place}{method}"
        for place, cls in _classes.items()
        for method in dir(cls)
        if not method.startswith("_")
    }
    if name in elsewhere:
        return f"; it is {elsewhere[name]}"
    own = did_you_mean(name, [method for method in dir(owner) if not method.startswith("_")])
    near = nearest(name, elsewhere)
    return own or ("" if near is None else f"; did you mean {elsewhere[near]}?")
