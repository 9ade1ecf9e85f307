"""The embedded default: a private PostgreSQL with PostGIS and a Redis, when no server is configured.

Both run from the binaries on this machine, listen on unix sockets only, and accept their owner only.
`server` starts and stops them in order; each other module holds one part of that.
"""

from ngdata._local.directories import default_home
from ngdata._local.removal import Removable, delete_data, removable
from ngdata._local.server import Addresses, Status, down, status, up

__all__ = [
    "Addresses",
    "Removable",
    "Status",
    "default_home",
    "delete_data",
    "down",
    "removable",
    "status",
    "up",
]
