"""Run benchmarks on one store, and write their tables and pictures into docs/performance.md.

    python -m benchmarks --tokens 1000000            all of them
    python -m benchmarks reads large --home DIR      some, keeping the store for the next time
    python -m benchmarks --print                     without touching the docs

Each gives its part of the page, between two comments that bear its name; all else on the page is
written by hand, and stays.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import platform
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import adbc_driver_postgresql.dbapi as adbc

from benchmarks import cache, concurrency, large, memory, plots, reads, store, versions, writes
from ngdata import _local

_DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
_PAGE: Final = "performance.md"

Part = Callable[[argparse.Namespace, Path], str]


def _machine(given: argparse.Namespace, docs: Path) -> str:
    asked = (
        "SELECT split_part(current_setting('server_version'), ' ', 1), extversion"
        " FROM pg_extension WHERE extname = 'postgis'"
    )
    with (
        store.server(given.home) as addresses,
        adbc.connect(addresses.database_url) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute(asked)
        server, postgis = cursor.fetchone()
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("pandas", "pyarrow", "adbc-driver-postgresql", "asyncpg")
    )
    return (
        f"{os.cpu_count()} cores, PostgreSQL {server}, PostGIS {postgis}, Python"
        f" {platform.python_version()}, {versions}; client and server share the cores, over a unix"
        f" socket. A store of {given.tokens:,} tokens."
    )


def _reads(given: argparse.Namespace, docs: Path) -> str:
    found = reads.main(given.tokens, given.home)
    rows, taken = found.regions[max(found.regions)]
    plots.bars(rows, taken, docs / "performance-reads.png")
    return f"{reads.tables(found)}\n\n![Reads of {rows:,} rows](performance-reads.png)"


def _large(given: argparse.Namespace, docs: Path) -> str:
    found = large.main(given.tokens, given.home)
    plots.large_bars(found, docs / "performance-large.png")
    return f"{large.tables(found)}\n\n![Large reads](performance-large.png)"


def _memory(given: argparse.Namespace, docs: Path) -> str:
    return memory.main(given.tokens, 5 * given.tokens, given.home)


def _concurrency(given: argparse.Namespace, docs: Path) -> str:
    return concurrency.main(given.tokens, given.home)


def _cache(given: argparse.Namespace, docs: Path) -> str:
    sizes = tuple(rows for rows in (1, 1_000, 8_000, 100_000) if rows <= given.tokens)
    # Its rows lie in a row, and it counts on them alone.
    with store.server() as addresses:
        found: str = cache.table(asyncio.run(cache.run(addresses, sizes, turns=200)))
    print(found)
    return found


def _writes(given: argparse.Namespace, docs: Path) -> str:
    # On servers of its own, which are durable.
    found = writes.main(given.tokens, min(50_000, given.tokens), min(200_000, given.tokens))
    print(found)
    return found


def _versions(given: argparse.Namespace, docs: Path) -> str:
    with store.server() as addresses:
        found = versions.table(asyncio.run(versions.run(addresses.database_url, 100_000)))
    print(found)
    return found


PARTS: Final[dict[str, Part]] = {
    "machine": _machine,
    "reads": _reads,
    "large": _large,
    "memory": _memory,
    "concurrency": _concurrency,
    "cache": _cache,
    "versions": _versions,
    "writes": _writes,
}


def replaced(page: str, name: str, text: str) -> str:
    """Put a part into the page, between its two comments."""
    begin, end = f"<!-- {name}: written by make bench -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    if len(pattern.findall(page)) != 1:
        raise ValueError(f"{_PAGE} must have one pair of comments for {name!r}: {begin} {end}")
    return pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page)


def main(arguments: list[str] | None = None) -> None:
    """Run what is asked for, each after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--home", help="keeps what is filled between runs")
    parser.add_argument("--docs", type=Path, default=_DOCS)
    parser.add_argument("--print", action="store_true", help="leave the docs as they are")
    given: Any = parser.parse_args(arguments)
    unknown = set(given.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}, only {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory(prefix="ngdata-bench-") as temporary:
        given.home = given.home or temporary
        try:
            for name in given.parts or PARTS:
                print(f"\n{name}", flush=True)
                if given.print:
                    PARTS[name](given, Path(temporary))
                    continue
                text = PARTS[name](given, given.docs)
                # After each: one that fails later loses nothing of those before.
                page = given.docs / _PAGE
                page.write_text(replaced(page.read_text(), name, text))
        finally:
            _local.down(Path(given.home))


if __name__ == "__main__":
    main()
