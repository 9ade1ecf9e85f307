"""Spatial token graphs as pandas frames: exact 3D regions, neighbors and events from PostGIS.

Examples
--------
>>> import ngdata
>>> ng = ngdata.connect()
>>> ng.tokens.find_in_region((0, 0, 0), (0, 0, 0)).empty
True
>>> ng.close()
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ngdata import errors
from ngdata._arguments.frame_accessor import register_accessor

if TYPE_CHECKING:
    from ngdata import files, ids, plot, regions
    from ngdata._client.async_client import AsyncClient, AsyncPastClient
    from ngdata._client.connect import connect_async
    from ngdata._client.sync.client import Client, PastClient
    from ngdata._client.sync.connect import connect
    from ngdata._query.pin import Pin
    from ngdata.regions import (
        EVERYWHERE,
        NOWHERE,
        Box,
        HalfSpace,
        Hull,
        Mesh,
        OrientedBox,
        Region,
        Sphere,
    )

__all__ = [
    "EVERYWHERE",
    "NOWHERE",
    "AsyncClient",
    "AsyncPastClient",
    "Box",
    "Client",
    "HalfSpace",
    "Hull",
    "Mesh",
    "OrientedBox",
    "PastClient",
    "Pin",
    "Region",
    "Sphere",
    "connect",
    "connect_async",
    "errors",
    "files",
    "ids",
    "plot",
    "regions",
]

__version__ = "0.1.0"

_LOADED_WHEN_USED: Final = {
    "AsyncClient": "ngdata._client.async_client",
    "AsyncPastClient": "ngdata._client.async_client",
    "Client": "ngdata._client.sync.client",
    "PastClient": "ngdata._client.sync.client",
    "Pin": "ngdata._query.pin",
    "connect": "ngdata._client.sync.connect",
    "connect_async": "ngdata._client.connect",
}

# Public modules, which are attributes of the package before anybody imports them.
_MODULES: Final = ("files", "ids", "plot", "regions")

# The values that users build, each of the public module that defines it.
_VALUES: Final = (
    "EVERYWHERE",
    "NOWHERE",
    "Box",
    "HalfSpace",
    "Hull",
    "Mesh",
    "OrientedBox",
    "Region",
    "Sphere",
)

if not TYPE_CHECKING:  # else type checkers would accept any name

    def __getattr__(name: str) -> Any:
        # The command line, which often needs no frame, imports this package without pandas.
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        if name in _VALUES:
            return getattr(import_module(f"{__name__}.regions"), name)
        if name not in _LOADED_WHEN_USED:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        for public, module in _LOADED_WHEN_USED.items():
            try:
                value = getattr(import_module(module), public)
            except OSError as error:
                raise errors.OutOfResources(
                    f"{__name__}.{name} cannot be loaded: {error}; if too many files are open, close "
                    "some, or allow this process more (ulimit -n)"
                ) from None
            # Help and tracebacks show the path that users import, not the module that defines it.
            value.__module__ = __name__
            globals()[public] = value
        return globals()[name]


register_accessor("ng", "ngdata.plot.accessor", "FrameAccessor")


def __dir__() -> list[str]:
    # Completion after `ngdata.` lists what is public, not every module.
    return [*__all__, "__version__"]
