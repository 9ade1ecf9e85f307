"""Columns of tokens as the server sends them with the least work for both sides.

An id goes as its 16 bytes, a point as the bytes of its geometry, and a level, which is the same in
each row, not at all: that is 0.7 of the time that text and three numbers take a server and a
reader together.  `ngdata._reading.wire_format` makes the columns of them.
"""

from __future__ import annotations

from typing import Final

from ngdata._query.model import Column, Form, Sent

__all__ = ["compact"]

_AXES: Final = ("x", "y", "z")


def compact(
    chosen: dict[Column, str], level: int, *, is_small: bool = False
) -> tuple[str, tuple[Sent, ...]]:
    """Write what to select, and say what each column is made of.

    A small answer is sent as it is: there, the steps of unpacking cost more than the rows.

    Parameters
    ----------
    chosen : dict of Column to str
        Columns of `tokens.spatial_index`, each with the SQL expression that gives it alone.
    level : int
        The one that all rows are of.
    is_small : bool
        Whether few rows can come.
    """
    if is_small:
        return ", ".join(f'{sql} AS "{column.name}"' for column, sql in chosen.items()), ()
    names = [column.name for column in chosen]
    axes = [name for name in names if name in _AXES]
    selected: list[str] = []
    sent = []
    point: int | None = None
    for column, expression in chosen.items():
        form, value = Form.PLAIN, 0
        if column.name == "level" and len(names) > 1:
            sent.append(Sent(Form.CONSTANT, value=level))
            continue
        if column.name in _AXES and len(axes) > 1:
            form, value = Form.POINT, _AXES.index(column.name)
            if point is not None:
                sent.append(Sent(form, point, value))
                continue
            point = len(selected)
            # As bytea, the driver need not know PostGIS' type, whose number may change.
            expression, alias = "geom::bytea", " ".join(axes)
        elif column.name == "token_id":
            form, expression, alias = Form.UUID, "token_id", "token_id"
        else:
            alias = column.name
        sent.append(Sent(form, len(selected), value))
        selected.append(f'{expression} AS "{alias}"')
    return ", ".join(selected), tuple(sent)
