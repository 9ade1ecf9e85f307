"""How many token records a second are decoded to a frame and encoded from it; prints two figures.

Run it with the number of records, by default a million.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ngdata.binary import TOKEN, decode_tokens, encode_tokens

_REPEATS: Final = 5


def records(count: int) -> np.ndarray:
    """Return records, half of whose levels are undefined."""
    random = np.random.default_rng(0)
    rows = np.zeros(count, TOKEN)
    rows["coordinates"] = random.integers(-32768, 32767, (count, 8, 3))
    rows["coordinates"][random.random((count, 8)) < 0.5] = 127
    rows["id"] = np.arange(count)
    rows["flags"] = random.integers(0, 2**16, count)
    rows["weight"] = random.random(count)
    rows["timestamp"] = random.integers(0, 2**32, count)
    return rows


def best(work: Callable[[], Any]) -> float:
    """Return the seconds of the fastest of several runs."""
    times = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    data = records(count).tobytes()
    frame = decode_tokens(data)
    coords = np.stack(frame["coords"].tolist())
    assert encode_tokens(frame).tobytes() == data
    for name, work in {
        "decode_tokens": lambda: decode_tokens(data),
        "encode_tokens": lambda: encode_tokens(frame),
        "encode_tokens(coords=)": lambda: encode_tokens(frame.drop(columns="coords"), coords),
    }.items():
        print(f"{name:<24}{count / best(work):>12,.0f} records/s")


if __name__ == "__main__":
    main()
