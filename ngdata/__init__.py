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
from ngdata._client.connect import connect, connect_async
from ngdata._client.sync.client import Client

__all__ = ["AsyncClient", "Client", "connect", "connect_async", "errors"]

__version__ = "0.1.0"


def __dir__() -> list[str]:
    # Tab after `ngdata.` offers what is public, not every module.
    return [*__all__, "__version__"]
