"""Frames that come one after the other, from a generator of the caller's."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd

from ngdata._arguments.shown import guarded, shown
from ngdata._connections.threads import in_daemon_thread
from ngdata._store.input_frames import Frame
from ngdata.errors import InvalidQueryError

__all__ = ["callers_errors", "frames_of"]

# Iterable, but over columns or rows: a frame alone, where several are expected.
_FRAMES = (pd.DataFrame, pd.Series, Mapping, np.ndarray, str, bytes)


@guarded
def _iterator(frames: Any, name: str) -> Any:
    if not isinstance(frames, _FRAMES) and not hasattr(frames, "__arrow_c_stream__"):
        if isinstance(frames, AsyncIterable):
            return aiter(frames)
        if isinstance(frames, Iterable):
            return iter(frames)
    raise InvalidQueryError(
        f"{name} must be an iterable of frames, such as a generator, not {shown(frames)}; of one frame, "
        "call bulk_create, or pass [frame]"
    )


def frames_of(frames: Iterable[Frame] | AsyncIterable[Frame]) -> AsyncIterator[Frame]:
    """Return the frames of an argument; a generator of the caller's runs on a thread.

    Raises
    ------
    InvalidQueryError
        It is a frame, or cannot be iterated.
    """
    return _frames(_iterator(frames, "frames"))


async def _frames(iterator: Any) -> AsyncIterator[Frame]:
    while True:
        try:
            if isinstance(iterator, AsyncIterator):
                frame = await anext(iterator, None)
            else:
                frame = await in_daemon_thread(lambda: next(iterator, None))
        except Exception as error:
            raise _FromCaller(error) from None
        if frame is None:
            return
        yield frame
        del frame


class _FromCaller(Exception):  # noqa: N818 - what the caller's generator raised is the error
    """An error of the caller's generator, which is none of the database, whatever its type."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@contextmanager
def callers_errors() -> Iterator[None]:
    """Raise from a block what the caller's generator raised, as it was."""
    try:
        yield
    except _FromCaller as stopped:
        error = stopped.error
    else:
        return
    raise error
