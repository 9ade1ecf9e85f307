"""Run benchmarks on one store, and write their tables and pictures into docs/performance.md.

    python -m benchmarks --tokens 1000000            all of them
    python -m benchmarks reads large --home DIR      some, keeping the store for the next time
    python -m benchmarks --print                     without touching the docs
    python -m benchmarks soak --minutes 5            what grows under load; it prints its table

Each writes its part of the page, between two comments with its name; everything else on the page is
written by hand and is not changed.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import adbc_driver_postgresql.dbapi as adbc

from benchmarks import (
    batches,
    cache,
    concurrency,
    growth,
    history,
    ids,
    imports,
    large,
    memory,
    pins,
    plots,
    reads,
    regions,
    scaling,
    single,
    soak,
    store,
    summaries,
    versions,
    writes,
)
from ngdata import _local

_DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
_PAGE: Final = "performance.md"

Part = Callable[[argparse.Namespace, Path], str]


def _machine(options: argparse.Namespace, docs: Path) -> str:
    asked = (
        "SELECT split_part(current_setting('server_version'), ' ', 1), extversion"
        " FROM pg_extension WHERE extname = 'postgis'"
    )
    with (
        store.server(options.home) as addresses,
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
        f" socket. A store of {options.tokens:,} tokens."
    )


def _reads(options: argparse.Namespace, docs: Path) -> str:
    results = reads.main(options.tokens, options.home)
    rows, timings = results.regions[max(results.regions)]
    plots.bars(rows, timings, docs / "performance-reads.png")
    return f"{reads.tables(results)}\n\n![Reads of {rows:,} rows](performance-reads.png)"


def _large(options: argparse.Namespace, docs: Path) -> str:
    results = large.main(options.tokens, options.home)
    plots.large_bars(results, docs / "performance-large.png")
    return f"{large.tables(results)}\n\n![Large reads](performance-large.png)"


def _batches(options: argparse.Namespace, docs: Path) -> str:
    return batches.tables(batches.main(options.tokens, options.home))


def _memory(options: argparse.Namespace, docs: Path) -> str:
    return memory.main(options.tokens, 5 * options.tokens, options.home)


def _concurrency(options: argparse.Namespace, docs: Path) -> str:
    return concurrency.main(options.tokens, options.home)


def _cache(options: argparse.Namespace, docs: Path) -> str:
    sizes = tuple(rows for rows in (1, 1_000, 8_000, 100_000) if rows <= options.tokens)
    # Its tokens are on one line, and it needs a store without others.
    with store.server() as addresses:
        results: str = cache.table(asyncio.run(cache.run(addresses, sizes, turns=200)))
    print(results)
    return results


def _history(options: argparse.Namespace, docs: Path) -> str:
    results = history.main(options.tokens, options.home)
    print(results)
    return results


def _writes(options: argparse.Namespace, docs: Path) -> str:
    # On separate servers, which are durable.
    results = writes.main(options.tokens, min(50_000, options.tokens), min(200_000, options.tokens))
    print(results)
    return results


def _single(options: argparse.Namespace, docs: Path) -> str:
    return single.main(options.tokens, options.home)


def _versions(options: argparse.Namespace, docs: Path) -> str:
    with store.server() as addresses:
        results = versions.table(asyncio.run(versions.run(addresses.database_url, 100_000)))
    print(results)
    return results


def _ids(options: argparse.Namespace, docs: Path) -> str:
    return ids.main(min(300_000, options.tokens))


def _regions(options: argparse.Namespace, docs: Path) -> str:
    return regions.main(options.tokens, options.home)


def _summaries(options: argparse.Namespace, docs: Path) -> str:
    return summaries.main(options.tokens, options.home)


def _pins(options: argparse.Namespace, docs: Path) -> str:
    return pins.main(options.tokens, options.home)


def _imports(options: argparse.Namespace, docs: Path) -> str:
    # In processes of its own, on separate servers.
    return imports.main()


def _scaling(options: argparse.Namespace, docs: Path) -> str:
    with (
        store.server(options.home) as addresses,
        store.temporary(addresses.database_url, "files") as url,
    ):
        scaling.load(url, options.tokens)
        results = scaling.files(url, options.tokens, turns=15)
    print(results)
    return results


def _growth(options: argparse.Namespace, docs: Path) -> str:
    sizes = [tokens for tokens in (options.tokens // 10, options.tokens) if tokens]
    return growth.main(options.sizes or sizes, options.home)


PARTS: Final[dict[str, Part]] = {
    "machine": _machine,
    "reads": _reads,
    "large": _large,
    "batches": _batches,
    "memory": _memory,
    "concurrency": _concurrency,
    "cache": _cache,
    "history": _history,
    "versions": _versions,
    "writes": _writes,
    "single": _single,
    "ids": _ids,
    "regions": _regions,
    "summaries": _summaries,
    "pins": _pins,
    "imports": _imports,
    "scaling": _scaling,
    "growth": _growth,
}


def replaced(page: str, name: str, text: str) -> str:
    """Return the page with a part replaced, between its two comments."""
    begin, end = f"<!-- {name}: written by make bench -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(end)}", re.DOTALL)
    if len(pattern.findall(page)) != 1:
        raise ValueError(f"{_PAGE} must have one pair of comments for {name!r}: {begin} {end}")
    return pattern.sub(lambda _: f"{begin}\n{text}\n{end}", page)


def main(arguments: list[str] | None = None) -> None:
    """Run the named parts, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default; or soak")
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--sizes", type=int, nargs="+", help="the stores of growth, in tokens")
    parser.add_argument("--home", help="keep the filled store here between runs")
    parser.add_argument("--docs", type=Path, default=_DOCS)
    parser.add_argument("--print", action="store_true", help="leave the docs as they are")
    parser.add_argument("--minutes", type=float, default=5, help="how long soak runs")
    options: Any = parser.parse_args(arguments)
    if options.parts == ["soak"]:
        result = soak.main(options.minutes, options.home)
        sys.exit(1 if result.failures or result.not_flat else 0)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"unknown part {', '.join(sorted(unknown))}; the parts are {', '.join(PARTS)}")
    with tempfile.TemporaryDirectory(prefix="ngdata-bench-") as temporary:
        options.home = options.home or temporary
        try:
            for name in options.parts or PARTS:
                print(f"\n{name}", flush=True)
                if options.print:
                    PARTS[name](options, Path(temporary))
                    continue
                text = PARTS[name](options, options.docs)
                # After each part, so that a later failure keeps the earlier results.
                page = options.docs / _PAGE
                page.write_text(replaced(page.read_text(), name, text))
        finally:
            _local.down(Path(options.home))


if __name__ == "__main__":
    main()
