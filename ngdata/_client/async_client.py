"""The async client: opens and closes the connections, and holds the namespaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import EllipsisType, TracebackType
from typing import Any, Self

import pandas as pd

from ngdata._arguments.cards import Card
from ngdata._arguments.levels import Level
from ngdata._arguments.numbers import as_flag
from ngdata._client import explain as plans
from ngdata._client import health
from ngdata._client.cache import AsyncCache
from ngdata._client.experience import AsyncExperience
from ngdata._client.explain import Plan
from ngdata._client.graph import AsyncGraph
from ngdata._client.health import Health
from ngdata._client.history import AsyncHistory, Moment
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
from ngdata._connections.revision import HEAD
from ngdata._connections.threads import in_daemon_thread
from ngdata._local.fallback import resolve_servers
from ngdata._query import overview
from ngdata._query.differences import Compared
from ngdata._query.pin import Pin
from ngdata._query.places import Window
from ngdata._query.statements import Statement
from ngdata._reading.cache import CachedReader
from ngdata._reading.cache.past_reader import PastReader
from ngdata._reading.reader import CacheMode, MaxRows, checked_mode
from ngdata.errors import InvalidQueryError

__all__ = ["AsyncClient", "AsyncPastClient"]


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

    def __init__(
        self,
        settings: Settings,
        database: Database,
        reader: CachedReader,
        *,
        refusal: str | None = None,
        views: Views | None = None,
    ) -> None:
        self._settings = settings
        self._database = database
        self._reader = reader
        self._closed = False
        # By the id of the pin, so that all clients as of it share their answers.
        self._past_readers: dict[str, PastReader] = {}
        if views is None:
            views = Views()
            # Added last, so that they end before the connections do.
            database.lifetime.add(views.close, views.cut)
        self._views = views
        ids = reader.ids
        self._levels = AsyncLevels(reader, database, refusal=refusal)
        self._history = AsyncHistory(reader, database, ids, refusal=refusal)
        self.tokens = AsyncTokens(reader, database, ids, refusal=refusal)
        self.graph = AsyncGraph(reader, database, ids, refusal=refusal)
        self.experience = AsyncExperience(reader, database, ids, refusal=refusal)
        self.cache = AsyncCache(reader)

    @classmethod
    async def open(cls, settings: Settings) -> AsyncClient:
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
            client = cls(settings, database, reader)
            if settings.as_of is not None:
                client = await client.as_of(settings.as_of)
                client._owns_database = True
            stack.pop_all()  # `close` closes the database
            return client

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

    async def pin(self, label: str | None = None) -> Pin:
        """Pin the store as it is now: `as_of` reads this moment whatever is written later.

        The pin waits until all transactions that are writing have ended, and writers wait for it;
        it gives up after 30 seconds.  While pins are kept, a row that changes is kept as it was.

        Parameters
        ----------
        label : str, optional
            A name, which is never moved to another moment.

        Returns
        -------
        Pin
            Frozen: ``id``, ``label``, ``created_at``.

        Raises
        ------
        IntegrityError
            A pin has this label already.
        ConfigError
            This user may not write, or the store keeps no history.
        NGDataError
            Other transactions did not end in time; the error says whose they are.

        Examples
        --------
        >>> pin = await ang.pin("before the correction")
        >>> pin.label
        'before the correction'
        >>> await ang.unpin(pin)
        """
        return await self._history.pin(label)

    async def pins(self) -> pd.DataFrame:
        """Return the pins that are kept, the oldest first.

        Returns
        -------
        pandas.DataFrame
            ``pin_id``, ``label`` (str, NaN if none), ``created_at`` (datetime64[us, UTC]), and what was
            kept from this pin to the next: ``rows``, ``bytes`` (int64), without indexes.

        Examples
        --------
        >>> pin = await ang.pin("paper")
        >>> (await ang.pins()).label.tolist()
        ['paper']
        >>> await ang.unpin("paper")
        """
        return await self._history.pins()

    async def unpin(self, label: Pin | str) -> None:
        """Remove a pin, with the rows that are kept for it alone.

        Parameters
        ----------
        label : Pin or str
            The pin, its label or its id.

        Raises
        ------
        NotFoundError
            No such pin is kept.

        Examples
        --------
        >>> pin = await ang.pin()
        >>> await ang.unpin(pin)
        """
        await self._history.unpin(label)

    async def as_of(self, pin: Moment) -> AsyncPastClient:
        """Return a client whose reads all answer as of a pin; it cannot write.

        This client stays as it is.  Both share the connections, which this one closes.

        Parameters
        ----------
        pin : Pin, str or datetime
            A pin, its label or its id, or a time with a zone: the newest pin at or before it.

        Returns
        -------
        AsyncPastClient
            Its ``pin`` is the pin.  Frames say it in ``attrs["ngdata"]["pin"]``.  Answers never change,
            so they are cached without asking the server.

        Raises
        ------
        NotFoundError
            No such pin is kept, or none so early.
        InvalidQueryError
            A time without a zone, or in the future.

        Examples
        --------
        >>> pin = await ang.pin("as published")
        >>> past = await ang.as_of("as published")
        >>> await past.tokens.count_in_region((0, 0, 0), (1, 1, 1))
        0
        >>> await ang.unpin(pin)
        """
        found = await self._history.find(pin, "pin")
        return await self._past_client(found)

    async def _past_client(self, pin: Pin) -> AsyncPastClient:
        reader = self._past_readers.get(pin.id)
        if reader is None:
            reader = self._past_readers[pin.id] = PastReader(self._reader, pin)
            self._database.lifetime.add(reader.close, reader.cut)
        return AsyncPastClient(self, reader, pin)

    async def diff(
        self,
        before: Moment,
        after: Moment | None = None,
        *,
        of: Compared = "tokens",
        within: Window | None = None,
    ) -> pd.DataFrame:
        """Return what differs between two pins, or between a pin and now.

        A row that was changed and changed back is not in it.  It costs what changed, not what the store
        holds.

        Parameters
        ----------
        before, after : Pin, str or datetime
            As in `as_of`; `after` is now by default.
        of : {"tokens", "connections", "events"}
            Which rows are compared.
        within : Region, or (min_coords, max_coords), or either with a level, optional
            Only rows in this region as of one of the two moments: tokens, connections with both ends
            in it, events of a token in it.

        Returns
        -------
        pandas.DataFrame
            Of tokens, a row per token and level on which it differs: ``token_id``, ``level`` (Int64,
            missing for a token that is on none), ``change`` (``added``, ``removed``, ``moved``, or
            ``changed``: in an attribute), ``x_before``, ``y_before``, ``z_before``, ``x_after``,
            ``y_after``, ``z_after`` (float64, NaN where it was not there).
            Of connections: ``connection_id``, ``change``, ``source_id``, ``target_id``,
            ``connection_type``, ``weight_before``, ``weight_after``.
            Of events: ``event_id``, ``change``, ``event_type``, ``timestamp``, ``token_id``,
            ``reward_before``, ``reward_after``.  All by id.

        Raises
        ------
        NotFoundError
            A pin is not kept.
        InvalidQueryError
            An argument is not one of these.

        Examples
        --------
        >>> pin = await ang.pin("yesterday")
        >>> token_id = await ang.tokens.create({"physical": (0.0, 0.0, 0.0)})
        >>> (await ang.diff("yesterday"))[["level", "change", "x_after"]].values.tolist()
        [[0, 'added', 0.0]]
        >>> await ang.tokens.delete(token_id)
        1
        >>> await ang.unpin(pin)
        """
        return await self._history.diff(before, after, of, within)

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
        query = self._reader.own(await plans.query_of(owner, name, args, options))
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
        Shown(drawn=5188, total=5188)
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

    def _card(self) -> Card:
        return self._card_of(repr(self)[1:-1], [("tokens", "await ang.describe() counts them")])

    def _card_of(self, title: str, counts: list[tuple[str, str]]) -> Card:
        stats = self._reader.statistics()
        cached = f"{self._reader.mode}; {stats.entries:,} results, {stats.bytes / 2**20:.1f} MiB"
        rows = [*counts, ("schema", f"revision {HEAD}"), ("cache", cached)]
        return Card(title, rows, "methods: .tokens, .graph, .experience, .cache, and Tab")

    async def _counts(self) -> list[tuple[str, str]]:
        """Return how many rows of what the store holds; of many, about how many."""
        frame = await self._reader.frame(overview.sizes(), "off", None)
        return [
            (name, f"about {about:,.0f}" if pd.isna(rows) else f"{rows:,}")
            for name, rows, about in frame.itertuples(index=False)
        ]

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<{type(self).__name__} of {self._database.where}, {state}>"


class AsyncPastClient(AsyncClient):
    """Tokens, connections and events of one store as of a pin, awaitable; `AsyncClient.as_of` opens it.

    Attributes
    ----------
    pin : Pin
        The moment of all its answers.
    """

    def __init__(self, live: AsyncClient, reader: PastReader, pin: Pin) -> None:
        refusal = (
            f"this client reads the store as of pin {pin.name} and cannot write; write with the client "
            "that as_of was called on"
        )
        super().__init__(live._settings, live._database, reader, refusal=refusal, views=live._views)
        self._live = live
        self._pin = pin
        self._owns_database = False
        # Pins are read and compared by the live tables.
        self._history = AsyncHistory(live._reader, live._database, reader.ids, refusal=refusal)

    @property
    def pin(self) -> Pin:  # type: ignore[override]  # its moment, where a live client can be pinned
        """The moment of all answers."""
        return self._pin

    async def as_of(self, pin: Moment) -> AsyncPastClient:
        """Return a client as of another pin."""
        return await self._live.as_of(pin)

    async def diff(
        self,
        before: Moment,
        after: Moment | None = None,
        *,
        of: Compared = "tokens",
        within: Window | None = None,
    ) -> pd.DataFrame:
        """Return what differs between two pins, or between a pin and this client's."""
        return await super().diff(
            before, self._pin if after is None else after, of=of, within=within
        )

    async def sql(
        self, statement: str, params: Iterable[Any] | None = None, *, max_rows: MaxRows = ...
    ) -> pd.DataFrame:
        """Refuse: a statement of your own reads the tables as they are now."""
        raise InvalidQueryError(
            f"sql reads the tables as they are now, not as of pin {self._pin.name}; call it on the client "
            "that as_of was called on"
        )

    async def close(self) -> None:
        """Close a client that `connect_async` opened as of a pin; else its connections stay open."""
        self._closed = True
        if self._owns_database:
            await self._live.close()

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, as of pin {self._pin.name}>"
