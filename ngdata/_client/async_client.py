"""The async client: opens and closes the connections, and holds the namespaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import EllipsisType, TracebackType
from typing import Any, Self

import pandas as pd

from ngdata._arguments.levels import Level
from ngdata._arguments.numbers import as_flag
from ngdata._client import explain as plans
from ngdata._client import health
from ngdata._client.cache import AsyncCache
from ngdata._client.experience import AsyncExperience
from ngdata._client.explain import Plan
from ngdata._client.graph import AsyncGraph
from ngdata._client.health import Health
from ngdata._client.levels import AsyncLevels
from ngdata._client.recorder import attached_to
from ngdata._client.suggesting import Suggesting
from ngdata._client.tokens import AsyncTokens
from ngdata._client.view.opening import open_view
from ngdata._client.view.registry import Views
from ngdata._client.view.source import Reads
from ngdata._client.view.view import View
from ngdata._config.settings import Settings
from ngdata._connections.database import Database
from ngdata._connections.opening import open_database
from ngdata._connections.threads import in_daemon_thread
from ngdata._local.fallback import resolve_servers
from ngdata._query.places import Window
from ngdata._query.statements import Statement
from ngdata._reading.cache import CachedReader
from ngdata._reading.reader import CacheMode, MaxRows, checked_mode
from ngdata.errors import InvalidQueryError

__all__ = ["AsyncClient"]


class AsyncClient(Suggesting):
    """Tokens, connections and events of one store, awaitable; `ngdata.connect_async` opens it.

    It belongs to the event loop that opens it.

    Attributes
    ----------
    tokens : AsyncTokens
    graph : AsyncGraph
    experience : AsyncExperience
    cache : AsyncCache
    """

    def __init__(self, settings: Settings, database: Database, reader: CachedReader) -> None:
        self._settings = settings
        self._database = database
        self._reader = reader
        self._closed = False
        ids = reader.ids
        self._views = Views()
        # Added last, so that they end before the connections do.
        database.lifetime.add(self._views.close, self._views.cut)
        self._levels = AsyncLevels(self._reader, database)
        self.tokens = AsyncTokens(self._reader, database, ids)
        self.graph = AsyncGraph(self._reader, database, ids)
        self.experience = AsyncExperience(self._reader, database, ids)
        self.cache = AsyncCache(self._reader)

    @classmethod
    async def open(cls, settings: Settings) -> Self:
        """Connect; with no database configured, start or join the embedded one.

        Parameters
        ----------
        settings : Settings
            See `ngdata._config.settings.load_settings`.

        Returns
        -------
        AsyncClient

        Raises
        ------
        ConfigError, DatabaseUnavailable, SchemaVersionError
            The database cannot be used; the error says why, and what to do.

        Examples
        --------
        >>> from ngdata._config.settings import load_settings
        >>> ang = await ngdata.AsyncClient.open(load_settings(pool_max_size=4))
        """
        settings = await in_daemon_thread(lambda: resolve_servers(settings))
        # A bad mode is reported even if the server does not answer.
        checked_mode(settings.cache)
        async with AsyncExitStack() as stack:
            database = await stack.enter_async_context(open_database(settings))
            reader = CachedReader(database, settings)
            reader.max_rows = settings.max_rows
            database.lifetime.add(reader.close, reader.cut)
            if settings.cache != "off":
                await reader.open()
            stack.pop_all()  # `close` closes the database
            return cls(settings, database, reader)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with attached_to(error):
            await self.close()

    async def close(self) -> None:
        """Close all connections; the servers keep running.  Closing again does nothing.

        A client whose event loop has ended can be closed in another one.

        Examples
        --------
        >>> other = await ngdata.connect_async()
        >>> await other.close()
        """
        self._closed = True
        await self._database.close()
        # Those that the recorders could not write.
        self.experience._recordings.report()

    async def health(self) -> Health:
        """Return the state of both servers; problems are part of the result, not raised.

        Returns
        -------
        dict
            ``ok`` (whether reads and writes work); ``database`` with ``ok, latency_ms,
            postgresql, postgis, revision, head, notes``; ``redis`` with ``ok, latency_ms, redis``.

        Examples
        --------
        >>> (await ang.health())["ok"]
        True
        """
        return await health.check(
            self._database, self._settings.redis_url, self._settings.connect_timeout
        )

    async def pool_status(self) -> dict[str, dict[str, int]]:
        """Count the connections to PostgreSQL.

        Returns
        -------
        dict
            For ``read`` and ``write``: ``size, in_use, idle, waiting, limit``.

        Examples
        --------
        >>> (await ang.pool_status())["read"]["in_use"]
        0
        """
        return self._database.pool_status()

    async def describe(self, *, cache: CacheMode | None = None) -> pd.DataFrame:
        """Return what the store holds: a row per level that has tokens.

        Parameters
        ----------
        cache : {"strict", "ttl", "off"}, optional
            Cache mode; the client's by default.

        Returns
        -------
        pandas.DataFrame
            ``level`` (int32), ``name``, ``unit`` (str, NaN if none is set), ``tokens`` (int64),
            ``x_min``, ``x_max``, ``y_min``, ``y_max``, ``z_min``, ``z_max`` (float64: the extent),
            ``token_types`` (dicts of the number of tokens by type, the most frequent first),
            ``description`` (str); by level.  All tokens are read, unless nothing was written since
            the last call: a second per few million of them.

        Examples
        --------
        >>> overview = await ang.describe()
        >>> overview[["level", "name", "unit", "tokens"]].values.tolist()
        [[0, 'physical', '\u00b5m', 14171]]
        >>> overview.token_types[0]
        {'segment': 13869, 'neuron': 302}
        """
        return await self._levels.describe(cache=cache)

    async def set_level(
        self,
        level: Level,
        *,
        unit: str | EllipsisType | None = None,
        description: str | EllipsisType | None = None,
    ) -> None:
        """Set the unit of a level's coordinates, its description, or both.

        Frames then have the unit in ``attrs["ngdata"]["unit"]``; coordinates are not converted.

        Parameters
        ----------
        level : int or str
        unit, description : str, optional
            None and ``...`` leave the present text unchanged, an empty text removes it.  A unit
            has at most 100 characters.

        Raises
        ------
        InvalidQueryError
            An unknown level, a value that is not text, or nothing to change; nothing was written.
        ConfigError
            This user or connection may not write.

        Examples
        --------
        >>> await ang.set_level("physical", unit="\u00b5m", description="From the CATMAID project")
        >>> head = await ang.tokens.find_nearest((0, 0, 0))
        >>> head.attrs["ngdata"]["level"], head.attrs["ngdata"]["unit"]
        (0, '\u00b5m')
        """
        await self._levels.set_level(level, unit=unit, description=description)

    async def explain(
        self, read: Callable[..., Any], *args: Any, analyze: bool = False, **options: Any
    ) -> Plan:
        """Return the server's plan of a read, and whether it uses the spatial index.

        Parameters
        ----------
        read : method
            A reading method of this client, such as ``ng.tokens.find_in_region``.
        *args, **options
            The arguments of the read.
        analyze : bool
            Run the query as well, and show times and buffers.

        Returns
        -------
        Plan
            Prints as the plan; `uses_spatial_index` is whether the GiST index is used.

        Raises
        ------
        InvalidQueryError
            `read` is not a reading method of this client.

        Examples
        --------
        >>> plan = await ang.explain(ang.tokens.find_nearest, (0, 0, 0), k=1)
        >>> plan.uses_spatial_index
        True
        """
        is_run = bool(as_flag(analyze, "analyze"))
        owner, name = plans.owner_and_name(read, "read")
        if owner._database is not self._database:
            raise InvalidQueryError(
                f"read must be a method of this client, but this {name} is one of another client; "
                "call explain on that client"
            )
        query = await plans.query_of(owner, name, args, options)
        return await plans.plan_of(self._database, query, analyze=is_run)

    async def sql(
        self,
        statement: str,
        params: Iterable[Any] | None = None,
        *,
        max_rows: MaxRows = ...,
    ) -> pd.DataFrame:
        """Return the rows of a statement of your own, which may only read.

        The tables and their columns are in docs/tables.md.  The answer is read in a transaction of
        its own that is rolled back, and it is never cached.

        Parameters
        ----------
        statement : str
            One SELECT of PostgreSQL (also WITH, VALUES or TABLE).
        params : sequence, optional
            The values of ``$1, $2, ...``, bound by the server: None, bools, numbers, text, bytes,
            UUIDs, dates, times with a zone, durations, dicts (as JSON), and lists of these (as
            arrays).  A parameter has the type that its place asks for, or ``$1::type``.
        max_rows : int or None, optional
            Maximum number of rows, None for no maximum; the client's by default.

        Returns
        -------
        pandas.DataFrame
            The dtype of a column follows from its type alone: ``Int16``, ``Int32``, ``Int64`` and
            ``boolean``; ``float32`` and ``float64``, also for numeric; ``str`` for text, enums and
            uuid (integer ids too); ``datetime64[us, UTC]`` for timestamptz, ``datetime64[us]`` for
            timestamp and date, ``timedelta64[us]`` for interval; and objects for all others: parsed
            JSON, flat lists for arrays, bytes for bytea, geometry and types not named here, which
            ``::text`` makes readable.

        Raises
        ------
        InvalidQueryError
            The server rejects the statement, which may be because it writes; a parameter that cannot
            be sent; a column without a name of its own, or with a value that pandas cannot hold.
        ResultTooLarge
            The answer has more rows than `max_rows`; the error's `count` is their number.

        Examples
        --------
        >>> counts = await ang.sql(
        ...     "SELECT token_type, count(*) AS n FROM tokens.tokens WHERE weight >= $1"
        ...     " GROUP BY 1 ORDER BY 1", [0.5])
        >>> counts.columns.tolist(), str(counts.n.dtype)
        (['token_type', 'n'], 'Int64')
        """
        return await self._reader.statement_frame(Statement.of(statement, params), max_rows)

    async def view(
        self,
        region: Window | None = None,
        level: Level = 0,
        *,
        color: str | None = None,
        connections: bool | str | Sequence[str] = False,
        points: int = 100_000,
        token_type: str | Sequence[str] | None = None,
        where: Mapping[str, Any] | None = None,
        flags: int | None = None,
        min_weight: float | None = None,
        cache: CacheMode | None = None,
    ) -> View:
        """Return a 3D picture of a region for a notebook, which reads more where one looks.

        It draws a sample of at most 20,000 tokens at once.  Each time that the camera rests, it
        reads a finer sample of what is in sight, or all tokens there, if there are no more than
        `points`.  It needs K3D (``pip install 'ngdata[view]'``).

        Parameters
        ----------
        region : region, (region, level), or (min_coords, max_coords[, level]), optional
            Show the tokens in this region, as ``within=`` of `Tokens.sample`; all by default.
        level : int or str
            The level whose coordinates are drawn.
        color : str, optional
            A column of `Tokens.find_in_region`, or ``metadata.KEY``: numbers and times get a colour
            bar, text gets a legend of the ten most frequent values.
        connections : bool, str or sequence of str
            Draw lines for connections, or for those of these types: at most 20,000 of those within
            the region, and as many of what is in sight.  The filters below do not apply to them.
        points : int
            The most tokens of a finer sample, up to 1,000,000.
        token_type, where, flags, min_weight
            As in `Tokens.find_in_region`.
        cache : {"strict", "ttl", "off"}, optional
            Cache mode of the first read; the client's by default.  What is in sight is read anew.

        Returns
        -------
        View
            Shown as the value of a cell.  `View.shown` is how many tokens of how many it draws,
            `View.box` the box that a reader has drawn, or None.

        Raises
        ------
        InvalidQueryError
            An unknown column or level, an invalid region.
        ConfigError
            K3D is not installed.

        Examples
        --------
        >>> view = await ang.view(((-30, -350, -70), (30, -250, 70)), color="token_type")
        >>> view.shown
        Shown(drawn=1840, total=1840)
        >>> view.close()
        """
        filters = {
            "token_type": token_type,
            "where": where,
            "flags": flags,
            "min_weight": min_weight,
        }
        reads = Reads(
            self._reader,
            self.tokens.count_in_region,
            self.tokens.join,
            self.graph.connections,
        )
        return await open_view(
            reads,
            self._views,
            region,
            level,
            color=color,
            connections=connections,
            points=points,
            filters=filters,
            cache=cache,
        )

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<{type(self).__name__} of {self._database.where}, {state}>"
