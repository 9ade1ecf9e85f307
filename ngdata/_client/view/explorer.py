"""What is drawn, and when more is read: a sample of all, then finer ones of what is in sight.

All of it runs in the event loop of the client, beside the cells of the notebook.  `look` may be called
in any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from ngdata._client.view.camera import Camera, Sight
from ngdata._client.view.coloring import Coloring, coloring_of
from ngdata._client.view.reference import Reference
from ngdata._client.view.source import Source
from ngdata._connections.caller_warnings import unwarned
from ngdata._connections.threads import in_daemon_thread
from ngdata.errors import NGDataError

__all__ = ["FIRST", "LINES", "Explorer", "Layer", "Lines", "Shown"]

FIRST: Final = 20_000
"""The most tokens of the first sample, which is there at once."""

LINES: Final = 20_000
"""The most connections that are drawn of the region, and of what is in sight."""

# Seconds without a move until what is in sight is read.
_DEBOUNCE: Final = 0.3

# A camera that is this much nearer sees enough more to read it.
_NEARER: Final = 0.7

# As many tokens in sight tell how many there are, to about a tenth.
_ENOUGH: Final = 100

# Around what is drawn, as a share of its longest side: so that no axis has length 0.
_LEAST_SIDE: Final = 1e-3


class Shown(NamedTuple):
    """How many tokens are drawn, and of how many; `total` is None until they are counted."""

    drawn: int
    total: int | None


@dataclass(frozen=True, eq=False)
class Layer:
    """Tokens that are drawn together.

    Attributes
    ----------
    points : array of float64, of shape (n, 3)
        In the scene's coordinates.
    colors : array of uint32
    sight : Sight or None
        The part of space that they are a sample of; None for the first sample of all.
    is_complete : bool
        Whether they are all tokens there.
    """

    points: np.ndarray
    colors: np.ndarray
    sight: Sight | None
    is_complete: bool


@dataclass(frozen=True, eq=False)
class Lines:
    """Connections that are drawn together: their ends in the scene's coordinates, of shape (n, 2, 3)."""

    ends: np.ndarray
    is_complete: bool


def _nothing() -> Layer:
    return Layer(np.empty((0, 3)), np.empty(0, np.uint32), None, is_complete=True)


@dataclass(eq=False)
class Explorer:
    """The state of one picture.

    Attributes
    ----------
    source : Source
    budget : int
        The most tokens of a finer sample.
    unit : str or None
        That of the level.
    reference : Reference
    low, high : array of shape (3,)
        The corners of what is drawn, in the scene's coordinates.
    whole, near : Layer
        The sample of the region, and the finer one of what is in sight.
    lines, near_lines : Lines or None
    total : int or None
        The number of tokens in the region, once they are counted.
    problem : str or None
        Why the last read failed, or why nothing is read any more.
    is_closed : bool
    """

    source: Source
    budget: int
    unit: str | None = None
    reference: Reference = field(default_factory=lambda: Reference(np.zeros(3), 1.0))
    low: np.ndarray = field(default_factory=lambda: np.full(3, -1.0))
    high: np.ndarray = field(default_factory=lambda: np.ones(3))
    whole: Layer = field(default_factory=_nothing)
    near: Layer | None = None
    lines: Lines | None = None
    near_lines: Lines | None = None
    total: int | None = None
    problem: str | None = None
    is_reading: bool = False
    is_closed: bool = False

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._coloring: Coloring = coloring_of(None, None)
        self._changed: Callable[[], object] = lambda: None
        self._tasks: set[asyncio.Task[None]] = set()
        self._reading: asyncio.Task[None] | None = None
        self._asked: Sight | None = None

    @property
    def coloring(self) -> Coloring:
        """What the colours say."""
        return self._coloring

    @property
    def shown(self) -> Shown:
        """How many tokens are drawn."""
        whole, near = self.whole, self.near
        if near is None:
            return Shown(len(whole.points), self.total)
        # The tokens of the coarse sample that are in sight are in the finer one too.
        beside = 0 if near.sight is None else int((~near.sight.contains(whole.points)).sum())
        return Shown(len(near.points) + beside, self.total)

    @property
    def camera(self) -> Camera:
        """The camera that sees all that is drawn."""
        return Camera.around(self.low, self.high)

    def on_change(self, changed: Callable[[], object]) -> None:
        """Call this after each change, in a thread of its own."""
        self._changed = changed

    async def start(self) -> None:
        """Read the first sample; count the tokens and read connections in the background."""
        count = min(self.budget, FIRST)
        frame, is_complete = await self.source.points(count, None)
        await in_daemon_thread(lambda: self._begin(frame, is_complete=is_complete))
        if self.whole.is_complete:
            self.total = len(frame)
        else:
            self._start(self._count)
        if self.source.has_lines:
            self._start(lambda: self._read_lines(None))

    def _begin(self, frame: pd.DataFrame, *, is_complete: bool) -> None:
        self.unit = (frame.attrs.get("ngdata") or {}).get("unit")
        points = frame[["x", "y", "z"]].to_numpy(np.float64)
        values = None if self.source.color is None else frame[self.source.color]
        self._coloring = coloring_of(values, self.source.color)
        if len(points):
            low, high = points.min(axis=0), points.max(axis=0)
            self.reference = Reference.of(low, high)
            low, high = self.reference.apply(low), self.reference.apply(high)
            least = _LEAST_SIDE * (float((high - low).max()) or float(np.abs(high).max()) or 1.0)
            room = np.where(high - low < least, least, 0.0)
            self.low, self.high = low - room, high + room
        self.whole = self._layer(frame, None, is_complete=is_complete)

    def _layer(self, frame: pd.DataFrame, sight: Sight | None, *, is_complete: bool) -> Layer:
        points = self.reference.apply(frame[["x", "y", "z"]].to_numpy(np.float64))
        values = None if self.source.color is None else frame[self.source.color]
        return Layer(points, self._coloring.colors(values, len(points)), sight, is_complete)

    def look(self, numbers: Iterable[Any]) -> None:
        """Read what a camera sees, once it rests; may be called in any thread."""
        if (camera := Camera.of(numbers)) is not None:
            with contextlib.suppress(RuntimeError):  # the event loop has ended
                self._loop.call_soon_threadsafe(self._look, camera)

    def _look(self, camera: Camera) -> None:
        if self.is_closed:
            return
        seen = camera.sight(self.low, self.high, margin=1.0)
        if self._asked is not None and seen is not None and _serves(self._asked, seen):
            return
        is_needed = seen is not None and self.needs(seen)
        if self._reading is not None and (self._asked is not None or is_needed):
            # It reads what is not looked at any more.
            self._reading.cancel()
            self._reading = self._asked = None
        if not is_needed:
            return
        sight = camera.sight(self.low, self.high)
        assert sight is not None
        self._asked = sight
        self._reading = self._start(lambda: self._refine(sight))

    def needs(self, seen: Sight) -> bool:
        """Return whether what is drawn is too coarse for what is in sight."""
        if self.whole.is_complete or (seen.is_whole and self.budget <= len(self.whole.points)):
            return False
        if self.near is None or self.near.sight is None:
            return True
        if self.near.is_complete and self.near.sight.covers(seen):
            return False
        return not _serves(self.near.sight, seen)

    async def _refine(self, sight: Sight) -> None:
        await asyncio.sleep(_DEBOUNCE)
        self.is_reading = True
        try:
            region = None if sight.is_whole else sight.region(self.reference)
            expected = self._expected(sight)
            frame, is_complete = await self.source.points(self.budget, region, expected)
            self.near = await in_daemon_thread(
                lambda: self._layer(frame, sight, is_complete=is_complete)
            )
            self.problem = None
        finally:
            self.is_reading = False
            if self._asked is sight:
                self._asked = None
        await self._report()
        if self.source.has_lines and region is not None:
            await self._read_lines(sight)

    def _expected(self, sight: Sight) -> float | None:
        """Return about how many tokens are in sight, as the sample of all says it; None if it cannot."""
        count = int(sight.contains(self.whole.points).sum())
        if self.total is None or count < _ENOUGH:
            return None
        return self.total * count / len(self.whole.points)

    async def _count(self) -> None:
        self.total = await self.source.count()
        await self._report()

    async def _read_lines(self, sight: Sight | None) -> None:
        region = None if sight is None else sight.region(self.reference)
        ends = await self.source.lines(LINES, region)
        lines = Lines(self.reference.apply(ends), is_complete=len(ends) < LINES)
        if sight is None:
            self.lines = lines
        else:
            self.near_lines = lines
        await self._report()

    def _start(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        task = self._loop.create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _guarded(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run a read that nobody waits for; what fails is part of the picture."""
        try:
            with unwarned():
                await work()
        except Exception as error:
            self.problem = str(error) if isinstance(error, NGDataError) else repr(error)
            await self._report()

    async def _report(self) -> None:
        await in_daemon_thread(self._notify)

    def _notify(self) -> None:
        self._changed()

    async def stop(self, reason: str) -> None:
        """End all reads; say why nothing changes any more."""
        if self.is_closed:
            return
        self.cut(reason)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with contextlib.suppress(Exception):
            await self._report()

    def cut(self, reason: str) -> None:
        """Read nothing any more, in any thread."""
        if not self.is_closed:
            self.is_closed, self.problem = True, reason

    def end(self, reason: str) -> None:
        """End all reads soon, in any thread."""
        with contextlib.suppress(RuntimeError):  # the event loop has ended, and the reads with it
            self._loop.call_soon_threadsafe(functools.partial(self._end, reason))

    def _end(self, reason: str) -> None:
        for task in list(self._tasks):
            task.cancel()
        self.cut(reason)


def _serves(read: Sight, seen: Sight) -> bool:
    """Return whether a sample of one part of space is fine enough for another one."""
    return read.covers(seen) and seen.distance > _NEARER * read.distance
