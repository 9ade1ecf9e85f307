"""What `client.view` returns: a picture of a region that reads more where one looks."""

from __future__ import annotations

import base64
import threading
from typing import Any, Final

from ngdata._arguments.optional_imports import import_optional
from ngdata._arguments.shown import shown
from ngdata._client.view.explorer import Explorer, Shown
from ngdata._client.view.still import still
from ngdata._client.view.texts import caption
from ngdata.errors import InvalidQueryError
from ngdata.regions import Box

__all__ = ["View", "stage_module"]

_CLOSED: Final = "this view is closed, and the picture does not change any more"


def stage_module() -> Any:
    """Return the module of the widget.

    Raises
    ------
    ConfigError
        k3d or ipywidgets is not installed.
    """
    import_optional("k3d", "view", "view")
    return import_optional("ngdata._client.view.stage", "view", "view")


class View:
    """A 3D picture of the tokens of a region, for a notebook; `Client.view` returns it.

    As the value of a cell it is shown there.  It draws a sample of the region at once, and reads a
    finer one of what is in sight each time that the camera rests, in the background: cells can run
    meanwhile.

    Below the picture, a box can be switched on and shaped by a slider for each axis; `box` returns
    it.  What is drawn is not saved in the notebook, but for one small still picture.

    Examples
    --------
    >>> view = ng.view(color="token_type")
    >>> view.shown
    Shown(drawn=14171, total=14171)
    >>> view.box = ngdata.Box((-30, -350, -70), (30, -250, 70))
    >>> ng.tokens.count_in_region(view.box)
    5188
    >>> view.close()
    """

    def __init__(self, explorer: Explorer) -> None:
        self._explorer = explorer
        self._box: Box | None = None
        self._stage: Any = None
        self._lock = threading.RLock()
        explorer.on_change(self._refresh)

    @property
    def shown(self) -> Shown:
        """The number of tokens that are drawn and, once they are counted, of all of them, else None."""
        return self._explorer.shown

    @property
    def box(self) -> Box | None:
        """The box that is drawn, in true coordinates; None if there is none.

        Set it to draw another one.  On a level other than 0, it is bound to that level, so that it
        means the same tokens in each read.
        """
        return self._box

    @box.setter
    def box(self, box: Box | None) -> None:
        if box is not None and not isinstance(box, Box):
            raise InvalidQueryError(
                f"box must be a Box or None, not {shown(box)}; of another region, draw .bounds"
            )
        level = self._explorer.source.level
        if box is not None and box.level not in (None, level):
            raise InvalidQueryError(
                f"box must be on the level of the view, which is {level}, not on level {box.level}; "
                "view that level, or pass a box that is bound to none"
            )
        self._set_box(box)

    def _set_box(self, box: Box | None) -> None:
        level = self._explorer.source.level
        if box is not None and (level or box.level is not None):
            box = box._bound(level or None)
        with self._lock:
            self._box = box
            if self._stage is not None:
                self._stage.show_box(box)

    @property
    def widget(self) -> Any:
        """The widget, to be laid out beside others; None after `close`."""
        with self._lock:
            if self._stage is None and not self._is_closed:
                self._stage = stage_module().Stage(self._explorer, self._set_box)
                self._stage.show_box(self._box)
            return None if self._stage is None else self._stage.root

    @property
    def _is_closed(self) -> bool:
        return self._explorer.problem == _CLOSED

    def close(self) -> None:
        """Remove the picture from the notebook and end its reads.  Closing again does nothing."""
        self._explorer.end(_CLOSED)
        self._explorer.cut(_CLOSED)
        self._explorer.problem = _CLOSED
        with self._lock:
            stage, self._stage = self._stage, None
        if stage is not None:
            stage.close()

    def _refresh(self) -> None:
        with self._lock:
            stage = self._stage
        if stage is not None:
            stage.refresh()

    def __repr__(self) -> str:
        state = ", closed" if self._is_closed else ""
        return f"<View of {caption(self._explorer)}{state}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        bundle: dict[str, Any] = {
            "text/plain": repr(self),
            "image/png": base64.b64encode(still(self._explorer)).decode(),
        }
        if (widget := self.widget) is not None:
            shown_by = widget._repr_mimebundle_(include=include, exclude=exclude) or {}
            bundle = {**shown_by, **bundle}
        return bundle
