"""A store of random experience and the same rows as frames, for comparison with pandas."""

import numpy as np
import pandas as pd
import pytest

import ngdata
from ngdata._arguments.texts import STR
from tests.conftest import empty, with_texts

ZERO = pd.Timestamp("1969-12-31T23:00Z")
TOKENS, EVENTS = 40, 400


@pytest.fixture(scope="module")
def store(server):
    empty(server.database_url)
    with ngdata.connect(server.database_url) as client:
        yield client


@pytest.fixture(scope="module")
def tokens(store):
    """Tokens on a lattice on level 0, half of them also on level 4."""
    rng = np.random.default_rng(5)
    coords = np.full((TOKENS, 8, 3), np.nan)
    coords[:, 0] = rng.integers(0, 4, (TOKENS, 3))
    coords[::2, 4] = rng.normal(size=(TOKENS // 2, 3))
    kinds = rng.choice(["a", "b"], TOKENS)
    ids = store.tokens.bulk_create({"token_type": kinds}, coords=coords)
    frame = with_texts(pd.DataFrame({"token_id": ids, "token_type": kinds}))
    for level in (0, 4):
        for place, axis in enumerate("xyz"):
            frame[f"{axis}{level}"] = coords[:, level, place]
    return frame


@pytest.fixture(scope="module")
def events(store, tokens):
    """Events around 1970, many at the same microsecond; some without token or trajectory."""
    rng = np.random.default_rng(6)
    runs = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(4)]
    frame = pd.DataFrame(
        {
            "event_type": rng.choice(["step", "it's"], EVENTS),
            "timestamp": ZERO + pd.Timedelta("1min") * rng.integers(0, 120, EVENTS),
            "token_id": rng.choice([*tokens.token_id[:30], None], EVENTS),
            "trajectory_id": rng.choice([*runs, None], EVENTS),
            "sequence_number": pd.array(
                [int(n) if n < 90 else None for n in rng.integers(0, 100, EVENTS)], "Int64"
            ),
            # Multiples of 1/8 sum exactly in any order.
            "reward": rng.integers(-16, 17, EVENTS) / 8,
            "metadata": [{"note": n} if n % 4 == 1 else None for n in range(EVENTS)],
            "state_after": [{"n": n, "at": {"x": n / 2}} if n % 3 else None for n in range(EVENTS)],
        }
    )
    frame["event_id"] = store.experience.bulk_create(frame)
    frame = frame.astype(dict.fromkeys(["event_type", "token_id", "trajectory_id"], STR))
    frame["timestamp"] = frame.timestamp.dt.as_unit("us")
    # Stable: events that are equal in both keep the order of the frame.
    return frame.sort_values(["timestamp", "sequence_number"], ignore_index=True)
