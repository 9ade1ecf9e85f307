"""Spatial token graphs as pandas frames: exact 3D regions, neighbors and events from PostGIS.

Examples
--------
>>> import ngdata
>>> ng = ngdata.connect()
>>> ng.tokens.find_in_region((0, 0, 0), (0, 0, 0)).empty
True
>>> ng.close()
"""

from ngdata import errors
from ngdata._client.async_client import AsyncClient
from ngdata._client.connect import connect_async
from ngdata._client.sync.client import Client
from ngdata._client.sync.connect import connect

__all__ = ["AsyncClient", "Client", "connect", "connect_async", "errors"]

__version__ = "0.1.0"

# Help and tracebacks show the path that users import, not the module that defines it.
for _name in __all__:
    if hasattr(globals()[_name], "__module__"):  # not so for a module
        globals()[_name].__module__ = __name__
del _name


def __dir__() -> list[str]:
    # Completion after `ngdata.` lists what is public, not every module.
    return [*__all__, "__version__"]
