"""The base class of what cannot be sent to another process: it holds connections of this one."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

__all__ = ["ProcessBound"]


class ProcessBound:
    """Refuses to be pickled or copied: a copy would share its connections, or have none."""

    _opened_by: ClassVar[str] = "ngdata.connect()"

    def __reduce_ex__(self, _: Any) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__} cannot be pickled or copied, because its connections belong to "
            f"this process; call {self._opened_by} in the worker instead"
        )
