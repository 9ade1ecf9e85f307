"""An accessor of pandas, registered once pandas is imported, whose class is imported when it is used."""

from __future__ import annotations

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["register_accessor"]


def register_accessor(name: str, module: str, accessor: str) -> None:
    """Register an accessor of DataFrames, now or as soon as pandas is imported.

    This imports neither pandas nor the accessor's module: many processes need neither.

    Parameters
    ----------
    name : str
        What it is called on a frame.
    module, accessor : str
        The module of its class, and its name there.
    """
    if "pandas" in sys.modules and hasattr(sys.modules["pandas"], "DataFrame"):
        _register(sys.modules["pandas"], name, module, accessor)
    elif not any(isinstance(finder, _AfterPandas) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterPandas(name, module, accessor))


def _register(pandas: Any, name: str, module: str, accessor: str) -> None:
    def accessor_of(frame: Any) -> Any:
        return getattr(importlib.import_module(module), accessor)(frame)

    accessor_of.__doc__ = f"Return {module}.{accessor} of a frame."
    if not hasattr(pandas.DataFrame, name):
        pandas.api.extensions.register_dataframe_accessor(name)(accessor_of)


# Neither of the two is a subclass of those in importlib.abc, which take 10 ms to import.


class _AfterPandas:
    """A finder of modules that registers the accessor after pandas has been imported."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return the spec that the other finders have of pandas, with a loader that registers the accessor."""
        if name != "pandas":
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Registering(spec.loader, self)  # type: ignore[assignment]
        return spec

    def finish(self, pandas: ModuleType) -> None:
        """Register the accessor; later imports are none of its business."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        _register(pandas, *self._arguments)


class _Registering:
    """A loader that does what another one does, and then registers the accessor."""

    def __init__(self, loader: Any, finder: _AfterPandas) -> None:
        self._loader = loader
        self._finder = finder

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Return the module that the other loader makes."""
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Run the module as the other loader does, which it has from then on."""
        # From here on, pandas has its own loader: others ask it for data.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._finder.finish(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
