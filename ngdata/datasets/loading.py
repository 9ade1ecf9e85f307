"""The sample into a store: what is missing is written, what is there is left as it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import pandas as pd

from ngdata._client.async_client import AsyncClient
from ngdata._client.sync.client import Client
from ngdata._connections.threads import in_daemon_thread
from ngdata.datasets.sample import read_sample
from ngdata.errors import IntegrityError, InvalidQueryError

__all__ = ["load_celegans", "load_celegans_async"]

# Somebody who loads the same rows first makes ours fail, whole; then there is less to write.
_ATTEMPTS: Final = 5


def load_celegans(ng: Client) -> pd.DataFrame:
    """Load the nervous system of *C. elegans*, and give its neurons.

    A store that holds it already is left as it is, rows that were changed since too; rows that
    were deleted are written again.  On level 0, in micrometres:

    - 302 tokens of type ``neuron``, at the soma (metadata: neuron, cell_type, classification,
      diameter);
    - 13,869 tokens of type ``segment``, at the segment's far end (metadata: neuron, segment, name,
      diameter); the segment 0 of a neuron is its soma, at the neuron's own point;
    - 3,638 connections ``chemical`` and 2,168 ``electrical`` between neurons, whose weight is the
      number of synapses; an electrical one stands there once each way, as published;
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
        `ng` is no sync client.

    Examples
    --------
    >>> from ngdata.datasets import load_celegans
    >>> neurons = load_celegans(ng)
    >>> neurons.loc[neurons.neuron == "AVAL", ["neuron", "x", "y", "z"]]
       neuron     x      y       z
    53   AVAL -0.55 -271.5  37.983
    """
    if not isinstance(ng, Client):
        raise InvalidQueryError(
            f"load_celegans takes the client that ngdata.connect() gives, not {ng!r}; with an "
            "async one, await load_celegans_async(ang)"
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
        As `load_celegans` gives it.

    Raises
    ------
    InvalidQueryError
        `ang` is no async client.

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
    if not isinstance(ang, AsyncClient):
        raise InvalidQueryError(
            f"load_celegans_async takes the client that ngdata.connect_async() gives, not {ang!r};"
            " with a sync one, call load_celegans(ng)"
        )
    neurons, tokens, connections = await in_daemon_thread(read_sample)
    tokens = tokens.set_index("token_id", drop=False)
    connections = connections.set_index("connection_id", drop=False)

    async def tokens_there() -> pd.Series[Any]:
        found = await ang.tokens.get(tokens.token_id, columns=["token_id"], missing="skip")
        return found.token_id

    async def connections_there() -> pd.Series[Any]:
        found = await ang.graph.connections(connections.source_id)
        return found.connection_id

    await _complete(tokens, tokens_there, ang.tokens.bulk_create)
    await _complete(connections, connections_there, ang.graph.bulk_create)
    return neurons


async def _complete(
    rows: pd.DataFrame,
    there: Callable[[], Awaitable[pd.Series[Any]]],
    create: Callable[[pd.DataFrame], Awaitable[Any]],
) -> None:
    """Write the rows whose ids are not there yet."""
    for attempt in range(_ATTEMPTS):
        missing = rows[~rows.index.isin(await there())]
        if missing.empty:
            return
        try:
            await create(missing)
        except IntegrityError:
            if attempt == _ATTEMPTS - 1:
                raise
        else:
            return
