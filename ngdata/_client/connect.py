"""`connect` and `connect_async`: the two ways in."""

from __future__ import annotations

import os
from types import EllipsisType

from ngdata._client.async_client import AsyncClient
from ngdata._client.sync.client import Client
from ngdata._config.settings import load_settings
from ngdata._config.tls import Mode
from ngdata._reading.reader import CacheMode, MaxRows

__all__ = ["connect", "connect_async"]


def connect(
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
) -> Client:
    """Open a client; with nothing configured, start or join the embedded server.

    Works in a script, in a notebook, and from several threads at once.

    Parameters
    ----------
    database_url : str, optional
        ``postgresql://user:password@host:port/database``; else ``NGDATA_DATABASE_URL``, else
        ``POSTGRES_HOST`` and its companions, from the environment or a `.env` file.
    redis_url : str, optional
        ``redis://...``, ``rediss://...`` (TLS) or ``unix://...``; else ``NGDATA_REDIS_URL``, else
        ``REDIS_HOST``.
    config : path, optional
        A `database.yaml`, for all that neither arguments nor environment nor `.env` say; else
        ``NGDATA_CONFIG``.
    pool_min_size, pool_max_size : int, optional
        Connections kept (5) and allowed (20), each for reads and for writes.
    connect_timeout : float, optional
        Seconds until a server that does not answer counts as unavailable (10).
    pool_timeout : float, optional
        Seconds to wait for a connection while all are in use (30).
    statement_timeout : float, optional
        Seconds after which the server stops a query (never).
    application_name : str, optional
        What the server's activity views show (``ngdata``).
    read_only : bool, optional
        True: the server refuses this client's writes, with ConfigError.
    ssl_mode : {"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}, optional
        Whether the connections to PostgreSQL are encrypted (``require``), and by whom
        (``verify-full``: the server of that name); ``verify-full`` if there is an `ssl_root_cert`,
        else ``prefer``.
    ssl_cert, ssl_key : path, optional
        This client's own certificate, and its key.
    ssl_root_cert : path, optional
        The authority that signed the server's certificate; ``system``: those that this machine
        trusts.
    cache : {"strict", "ttl", "off"}, optional
        How an answer may be one that was read before: if the database says that it is still true
        (the default), if it is younger than `default_ttl`, or never.
    cache_bytes : int, optional
        How much memory of this process answers may take (256 MiB).
    default_ttl : int, optional
        Seconds that an answer in Redis is kept (3600).
    max_rows : int or None, optional
        How many rows an answer may have (1,000,000): a larger one is not read, but `ResultTooLarge`
        tells its size.  None: any number.  Each read that can be large takes it too.

    Returns
    -------
    Client
        Also a context manager, which closes it.

    Raises
    ------
    ConfigError
        A setting, or this machine, is not as it must be.
    DatabaseUnavailable
        No server answers.
    SchemaVersionError
        The database's schema is missing, older or newer.

    Examples
    --------
    >>> import ngdata
    >>> with ngdata.connect() as ng:
    ...     count = ng.tokens.count_in_region((0, 0, 0), (1, 1, 1))
    """
    return Client(
        load_settings(
            database_url=database_url,
            redis_url=redis_url,
            config=config,
            pool_min_size=pool_min_size,
            pool_max_size=pool_max_size,
            connect_timeout=connect_timeout,
            pool_timeout=pool_timeout,
            statement_timeout=statement_timeout,
            application_name=application_name,
            read_only=read_only,
            ssl_mode=ssl_mode,
            ssl_cert=ssl_cert,
            ssl_key=ssl_key,
            ssl_root_cert=ssl_root_cert,
            cache=cache,
            cache_bytes=cache_bytes,
            default_ttl=default_ttl,
            max_rows=_max_rows(max_rows),
        )
    )


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
) -> AsyncClient:
    """Open a client whose methods are awaited; see `connect` for the parameters and errors.

    Returns
    -------
    AsyncClient
        Also an async context manager, which closes it.

    Examples
    --------
    >>> import asyncio, ngdata
    >>> async def count():
    ...     async with await ngdata.connect_async() as ang:
    ...         return await ang.tokens.count_in_region((0, 0, 0), (0, 0, 0))
    >>> asyncio.run(count())
    0
    """
    return await AsyncClient.open(
        load_settings(
            database_url=database_url,
            redis_url=redis_url,
            config=config,
            pool_min_size=pool_min_size,
            pool_max_size=pool_max_size,
            connect_timeout=connect_timeout,
            pool_timeout=pool_timeout,
            statement_timeout=statement_timeout,
            application_name=application_name,
            read_only=read_only,
            ssl_mode=ssl_mode,
            ssl_cert=ssl_cert,
            ssl_key=ssl_key,
            ssl_root_cert=ssl_root_cert,
            cache=cache,
            cache_bytes=cache_bytes,
            default_ttl=default_ttl,
            max_rows=_max_rows(max_rows),
        )
    )


def _max_rows(given: MaxRows) -> int | str | None:
    """Say it as a setting, of which None means that nothing is said."""
    if isinstance(given, EllipsisType):
        return None
    return "none" if given is None else given
