"""Progress bars: of tqdm in a terminal, and in a notebook as text that goes when the work is done."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

__all__ = ["progress_bar", "redrawn"]

_REFRESH_SECONDS: Final = 0.5


def progress_bar(total: int | None, unit: str, name: str, progress: bool | None) -> Any:
    """Return a progress bar with the rate and the time left.

    Parameters
    ----------
    total : int or None
        None if it is not known.
    unit : str
        What is counted.
    name : str
        What the user does, such as ``writing tokens``.
    progress : bool or None
        Whether it is shown; None: after two seconds, and not after the end.
    """
    options: dict[str, Any] = {
        "total": total,
        "unit": f" {unit}",
        "unit_scale": True,
        "desc": name,
        "delay": 0 if progress else 2,
        "disable": progress is False,
        "leave": bool(progress),
    }
    if progress is not False and _is_notebook():
        return _notebook_bar()(**options)
    from tqdm.std import tqdm

    return tqdm(**options)


def _is_notebook() -> bool:
    """Return whether a kernel shows what is displayed; a terminal with IPython has none."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def _notebook_bar() -> Any:
    # Imported here: most writes show none.
    import IPython.display
    from tqdm.std import tqdm

    show: Any = IPython.display.display

    class NotebookBar(tqdm):  # type: ignore[type-arg]
        """A bar in an output of the cell, which is empty in the end, and so in the saved notebook.

        tqdm's own for notebooks is a widget, which a notebook is saved with.
        """

        shown: Any = None

        @staticmethod
        def status_printer(file: Any) -> Callable[[str], None]:
            """Return a function that writes nothing, since `display` shows the bar."""
            return lambda text: None

        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            """Show the bar, or an empty text."""
            content = {"text/plain": str(self) if msg is None else msg}
            if self.shown is None:
                self.shown = show(content, raw=True, display_id=True)
            else:
                self.shown.update(content, raw=True)

        def close(self) -> None:
            """Remove it."""
            is_shown = self.shown is not None and not self.disable
            self.leave = False
            super().close()
            if is_shown:
                self.display("")

    return NotebookBar


@contextmanager
def redrawn(bar: Any) -> Iterator[None]:
    """Redraw a progress bar with the elapsed time while the body waits for long statements."""
    refreshing = None if bar.disable else asyncio.ensure_future(_refresh(bar))
    try:
        yield
    finally:
        if refreshing is not None:
            refreshing.cancel()


async def _refresh(bar: Any) -> None:
    await asyncio.sleep(max(_REFRESH_SECONDS, bar.delay))
    while True:
        bar.refresh()
        await asyncio.sleep(_REFRESH_SECONDS)
