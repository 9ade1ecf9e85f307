"""The embedded default: a private PostgreSQL with PostGIS and a Redis, for whoever names no server.

Both come from the binaries on this machine, listen on unix sockets only, and are reached by their
owner alone. `server` holds the order of things; each other module holds one part of it.
"""

from ngdata._local.directories import default_home
from ngdata._local.server import Addresses, Status, down, status, up

__all__ = ["Addresses", "Status", "default_home", "down", "status", "up"]
