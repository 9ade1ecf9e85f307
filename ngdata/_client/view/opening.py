"""The arguments of `client.view`, and its first read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ngdata._arguments.levels import Level, level_index
from ngdata._arguments.numbers import as_flag, whole
from ngdata._arguments.texts import as_text, as_texts
from ngdata._client.view.explorer import Explorer
from ngdata._client.view.registry import Views
from ngdata._client.view.source import Reads, Source
from ngdata._client.view.view import View, stage_module
from ngdata._connections.threads import in_daemon_thread
from ngdata._query.filters import TokenFilter
from ngdata._query.places import Place, Window
from ngdata._query.regions import selected_columns
from ngdata._reading.reader import CacheMode

__all__ = ["MOST_POINTS", "open_view"]

MOST_POINTS: Final = 1_000_000
"""More would be slow in a browser."""


async def open_view(
    reads: Reads,
    views: Views,
    region: Window | None,
    level: Level,
    *,
    color: str | None,
    connections: bool | str | Sequence[str],
    points: int,
    filters: Mapping[str, Any],
    cache: CacheMode | None,
) -> View:
    """Check the arguments, read the first sample, and return the view."""
    number = level_index(level)
    if color is not None:
        color = as_text(color, "color")
        selected_columns([color], name="color")
    place = None if region is None else Place.in_read(region, number)
    is_flag = connections is None or not isinstance(connections, str | Sequence)
    has_lines = bool(as_flag(connections, "connections")) if is_flag else True
    source = Source(
        reads=reads,
        level=number,
        place=place,
        color=color,
        filters=filters,
        filter=TokenFilter(**filters),
        has_lines=has_lines,
        connection_type=None if is_flag else as_texts(connections, "connections"),
        cache=cache,
    )
    explorer = Explorer(source, whole(points, "points", 1, MOST_POINTS))
    # Meanwhile, the libraries of the widget are imported.
    importing = asyncio.ensure_future(in_daemon_thread(stage_module))
    try:
        await explorer.start()
        await importing
    except BaseException:
        importing.cancel()
        await explorer.stop("the first read failed")
        raise
    views.add(explorer)
    return View(explorer)
