"""`connect_async`, which opens the async client; its parameters are the settings."""

from __future__ import annotations

import os
from typing import Literal

from ngdata._client.async_client import AsyncClient
from ngdata._config.settings import load_settings
from ngdata._config.tls import Mode
from ngdata._reading.reader import CacheMode, MaxRows

__all__ = ["connect_async"]


async def connect_async(
    database_url: str | None = None,
    *,
    redis_url: str | None = None,
    config: str | os.PathLike[str] | None = None,
    pool_min_size: int | None = None,
    pool_max_size: int | None = None,
    connect_timeout: float | None = None,
    pool_timeout: float | None = None,
    statement_timeout: float | None = None,
    application_name: str | None = None,
    read_only: bool | None = None,
    ssl_mode: Mode | None = None,
    ssl_cert: str | os.PathLike[str] | None = None,
    ssl_key: str | os.PathLike[str] | None = None,
    ssl_root_cert: str | os.PathLike[str] | None = None,
    cache: CacheMode | None = None,
    cache_bytes: int | None = None,
    default_ttl: int | None = None,
    max_rows: MaxRows = ...,
    ids: Literal["uuid", "integer"] | None = None,
    id_space: str | None = None,
    as_of: str | None = None,
) -> AsyncClient:
    """Open a client; with nothing configured, start or join the embedded server.

    The client belongs to the event loop that opens it.

    Parameters
    ----------
    database_url : str, optional
        ``postgresql://user:password@host:port/database``; else ``NGDATA_DATABASE_URL``, else
        ``POSTGRES_HOST`` and its companions, from the environment or a `.env` file.
    redis_url : str, optional
        ``redis://...``, ``rediss://...`` (TLS) or ``unix://...``; else ``NGDATA_REDIS_URL``, else
        ``REDIS_HOST``.
    config : path, optional
        A `database.yaml`, for everything that is in neither arguments nor environment nor `.env`;
        else ``NGDATA_CONFIG``.
    pool_min_size, pool_max_size : int, optional
        Connections kept (5) and allowed (20), each for reads and for writes.
    connect_timeout : float, optional
        Seconds until a server that does not answer counts as unavailable (10).
    pool_timeout : float, optional
        Seconds to wait for a connection while all are in use (30).
    statement_timeout : float, optional
        Seconds after which the server stops a query (never).
    application_name : str, optional
        The name in the server's activity views (``ngdata``).
    read_only : bool, optional
        True: the server refuses this client's writes, with ConfigError.
    ssl_mode : {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}, optional
        Whether the connections to PostgreSQL must be encrypted (``require``) and the server's
        identity verified (``verify-full``); ``verify-full`` if there is an `ssl_root_cert`, else
        ``prefer``.
    ssl_cert, ssl_key : path, optional
        This client's own certificate, and its key.
    ssl_root_cert : path, optional
        The certificate of the authority that signed the server's certificate; ``system``: the
        authorities that this machine trusts.
    cache : {"strict", "ttl", "off"}, optional
        When a cached result is used: if the database confirms that it is up to date (``strict``,
        the default), if it is younger than `default_ttl` (``ttl``), or never (``off``).
    cache_bytes : int, optional
        The limit of this process's memory for cached results (256 MiB).
    default_ttl : int, optional
        Seconds that a result in Redis is kept (3600).
    max_rows : int or None, optional
        The limit of rows in a result (1,000,000): a larger result is not read, but raises
        `ResultTooLarge` with its size.  None: no limit.  Reads with large results have a parameter
        `max_rows` of their own.
    ids : {"uuid", "integer"}, optional
        What token ids are in results: canonical UUIDs as text (``uuid``, the default), or integers
        (uint64).  A token whose id is not an integer of `id_space` is then an error, not a row.
    id_space : str, optional
        The name of the integers' id space (empty): the same integer is another token in another
        space, see `ngdata.ids`.
    as_of : str, optional
        The label or the id of a pin: all reads then answer as of it, and the client cannot write.

    Returns
    -------
    AsyncClient
        Also an async context manager, which closes it.

    Raises
    ------
    ConfigError
        A setting or this machine is not set up correctly.
    DatabaseUnavailable
        No server answers.
    SchemaVersionError
        The database's schema is missing, older or newer.

    Examples
    --------
    >>> import ngdata
    >>> async with await ngdata.connect_async() as ang:
    ...     count = await ang.tokens.count_in_region((0, 0, 0), (1, 1, 1))
    """
    # The parameters are the settings' own names; a test compares them.
    return await AsyncClient.open(load_settings(**locals()))
