"""The sync client: the async one's methods, blocking.

Written by scripts/generate_sync.py out of ngdata/_client/async_client.py; change that file, and run it again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ngdata._client.explain import Plan
from ngdata._client.health import Health
from ngdata._client.sync.lifecycle import Opened

__all__ = ["Client"]


class Client(Opened):
    """Tokens, connections and events of one store; `ngdata.connect` opens it."""

    def close(self) -> None:
        """Close all connections; the servers stay up, and closing twice is no error.

        Examples
        --------
        >>> other = ngdata.connect()
        >>> other.close()
        """
        return self._loop.run(self._twin.close())

    def health(self) -> Health:
        """Ask both servers whether they are well; what is wrong is told, not raised.

        Returns
        -------
        dict
            ``ok`` (whether reads and writes work); ``database`` with ``ok, latency_ms,
            postgresql, postgis, revision, head, notes``; ``redis`` with ``ok, latency_ms, redis``.

        Examples
        --------
        >>> ng.health()["ok"]
        True
        """
        return self._loop.run(self._twin.health())

    def pool_status(self) -> dict[str, dict[str, int]]:
        """Count the connections to PostgreSQL.

        Returns
        -------
        dict
            For ``read`` and ``write``: ``size, in_use, idle, waiting, limit``.

        Examples
        --------
        >>> ng.pool_status()["read"]["in_use"]
        0
        """
        return self._loop.run(self._twin.pool_status())

    def explain(
        self, read: Callable[..., Any], *args: Any, analyze: bool = False, **options: Any
    ) -> Plan:
        """Show the server's plan of a read, and whether the spatial index serves it.

        Parameters
        ----------
        read : method
            A reading method of this client, such as ``ng.tokens.find_in_region``.
        *args, **options
            What it would be called with.
        analyze : bool
            Run the query too, and show times and buffers.

        Returns
        -------
        Plan
            Prints as the plan; `uses_spatial_index` tells whether the GiST index found the rows.

        Raises
        ------
        InvalidQueryError
            `read` is no reading method of this client.

        Examples
        --------
        >>> plan = ng.explain(ng.tokens.find_nearest, (0, 0, 0), k=1)
        >>> plan.uses_spatial_index
        True
        """
        return self._loop.run(self._twin.explain(read, *args, analyze=analyze, **options))
