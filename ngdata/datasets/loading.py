"""Load the sample into a store: missing rows are written, existing rows are left unchanged."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import pandas as pd

from ngdata._arguments.shown import is_instance, shown
from ngdata._client.async_client import AsyncClient
from ngdata._client.sync.client import Client
from ngdata._connections.threads import in_daemon_thread
from ngdata.datasets.sample import read_sample
from ngdata.errors import IntegrityError, InvalidQueryError

__all__ = ["load_celegans", "load_celegans_async"]

# A concurrent load of the same rows makes the whole write fail; then fewer rows are missing.
_ATTEMPTS: Final = 5

_EXISTING_CONNECTIONS: Final = "SELECT id FROM graph.connections WHERE id = ANY ($1::uuid[])"


def load_celegans(ng: Client) -> pd.DataFrame:
    """Load the nervous system of *C. elegans*, and return its neurons.

    Rows that the store already holds are left unchanged, even if they were modified since; rows
    that were deleted are written again.  On level 0, in micrometres:

    - 302 tokens of type ``neuron``, at the soma (metadata: neuron, cell_type, classification,
      diameter);
    - 13,869 tokens of type ``segment``, at the segment's far end (metadata: neuron, segment, name,
      diameter); the segment 0 of a neuron is its soma, at the neuron's own point;
    - 3,638 connections ``chemical`` and 2,168 ``electrical`` between neurons, whose weight is the
      number of synapses; an electrical one is stored once per direction, as published;
    - 13,567 connections ``parent`` from a segment to the one that it grows from.

    Parameters
    ----------
    ng : Client

    Returns
    -------
    pandas.DataFrame
        ``neuron, token_id, x, y, z, diameter, cell_type, classification``: a row per neuron, as
        published, by name.

    Raises
    ------
    InvalidQueryError
        If `ng` is not a sync client.

    Examples
    --------
    >>> from ngdata.datasets import load_celegans
    >>> neurons = load_celegans(ng)
    >>> neurons.loc[neurons.neuron == "AVAL", ["neuron", "x", "y", "z"]]
       neuron     x      y       z
    53   AVAL -0.55 -271.5  37.983
    """
    if not is_instance(ng, Client, "ng"):
        raise InvalidQueryError(
            f"ng must be a client from ngdata.connect(), not {shown(ng)}; with an async client, "
            "await load_celegans_async(ang)"
        )
    return ng._loop.run(load_celegans_async(ng._wrapped))


async def load_celegans_async(ang: AsyncClient) -> pd.DataFrame:
    """Load the nervous system of *C. elegans* through an async client, as `load_celegans` does.

    Parameters
    ----------
    ang : AsyncClient

    Returns
    -------
    pandas.DataFrame
        As `load_celegans` returns it.

    Raises
    ------
    InvalidQueryError
        If `ang` is not an async client.

    Examples
    --------
    >>> import asyncio
    >>> from ngdata.datasets import load_celegans_async
    >>> async def load():
    ...     async with await ngdata.connect_async() as ang:
    ...         return await load_celegans_async(ang)
    >>> len(asyncio.run(load()))
    302
    """
    if not is_instance(ang, AsyncClient, "ang"):
        raise InvalidQueryError(
            f"ang must be a client from ngdata.connect_async(), not {shown(ang)}; with a sync client, "
            "call load_celegans(ng)"
        )
    neurons, tokens, connections = await in_daemon_thread(read_sample)
    tokens = tokens.set_index("token_id", drop=False)
    connections = connections.set_index("connection_id", drop=False)

    async def existing_tokens() -> pd.Series[Any]:
        frame = await ang.tokens.get(tokens.token_id, columns=["token_id"], missing="skip")
        return frame.token_id

    async def existing_connections() -> pd.Series[Any]:
        # Not by `connections`, which warns that a new store holds none.
        frame = await ang.sql(_EXISTING_CONNECTIONS, [connections.connection_id.tolist()])
        return frame.id

    await _complete(tokens, existing_tokens, ang.tokens.bulk_create)
    await _complete(connections, existing_connections, ang.graph.bulk_create)
    return neurons


async def _complete(
    rows: pd.DataFrame,
    existing_ids: Callable[[], Awaitable[pd.Series[Any]]],
    create: Callable[[pd.DataFrame], Awaitable[Any]],
) -> None:
    """Write the rows whose ids do not exist yet."""
    for attempt in range(_ATTEMPTS):
        missing = rows[~rows.index.isin(await existing_ids())]
        if missing.empty:
            return
        try:
            await create(missing)
        except IntegrityError:
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return
