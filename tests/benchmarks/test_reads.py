"""The benchmarks of reads at a small size: ngdata and every other library return the same rows."""

import argparse
import asyncio
import re

import pytest

from benchmarks import __main__ as bench
from benchmarks import concurrency, large, memory, plots, reads
from benchmarks.floor import Drain
from benchmarks.measure import alternate
from tests.benchmarks.conftest import TOKENS

ROW = re.compile(r"\|( [^|]+ \|)+")


# connectorx calls a function that pandas will remove.
@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")
def test_all_methods_return_the_same_rows(small_store, tmp_path):
    """`reads` compares them itself, bit by bit, before it measures."""
    results = asyncio.run(reads.measured(small_store, TOKENS, (50, 400), small_store, limit=2))
    assert [rows for rows, _ in results.regions.values()] == sorted(
        rows for rows, _ in results.regions.values()
    )
    ways = next(iter(results.regions.values()))[1].seconds
    assert len(ways) == 10
    lines = [line for line in reads.tables(results).splitlines() if line.startswith("| ")]
    assert len(lines) == 1 + 2 * 10 + 1 + 2 + 1 + 2
    assert all(map(ROW.fullmatch, lines))
    plots.bars(50, results.regions[50][1], tmp_path / "reads.png")
    assert (tmp_path / "reads.png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_row_is_detected(small_store):
    async def ways():
        async with await reads.ngdata.connect_async(small_store) as ang:
            whole = await ang.tokens.find_in_region((0,) * 3, (9,) * 3)
            two = {reads.COLD: lambda: whole, "peer": lambda: whole.iloc[1:]}
            with pytest.raises(AssertionError, match="peer"):
                await reads.answers_agree(two)

    asyncio.run(ways())


def test_large_reads(small_store, tmp_path):
    results = asyncio.run(large.measured(small_store, TOKENS, (300, TOKENS), turns=2))
    assert results[TOKENS][0] == TOKENS
    assert len(large.tables(results).splitlines()) == 2 + 2 * 4
    plots.large_bars(results, tmp_path / "large.png")
    assert (tmp_path / "large.png").read_bytes().startswith(b"\x89PNG")


def test_many_readers(small_store):
    """The benchmark asserts the rows, the pool's limit and that every reader makes progress."""
    tasks = asyncio.run(concurrency.with_tasks(small_store, TOKENS, 32, seconds=1.0, pool=4))
    threads = concurrency.with_threads(small_store, TOKENS, 8, seconds=1.0, pool=4)
    for crowd in (tasks, threads):
        assert crowd.reads >= 8
        assert crowd.connections <= 4 + 2
    assert len(concurrency.tables({"tasks": tasks, "threads": threads}).splitlines()) == 4


def test_memory_in_processes(small_store):
    whole = {cache: memory.read_whole(small_store, cache) for cache in ("off", "strict")}
    parts = memory.iterated(small_store)
    assert parts.rows == TOKENS
    assert {one.rows for one in whole.values()} == {TOKENS}
    assert 0 < parts.first <= parts.seconds
    assert "| `iter_region` | 3,000 |" in memory.tables(whole, parts)


def test_the_floor_is_all_of_the_answer(small_store):
    with Drain(small_store) as drain:
        # A header of 19 bytes, 2 and 4 and 4 of each row, 2 at the end, and the messages around.
        for rows in (0, 1, 70_000):
            sent = drain.copy(f"SELECT n::int4 FROM generate_series(1, {rows}) AS n")
            assert rows * 10 < sent < rows * 15 + 120
    with Drain(small_store) as drain, pytest.raises(RuntimeError, match="nothing"):
        drain.run("SELECT FROM nothing")


def test_every_method_runs_in_every_turn():
    order = []

    async def later():
        order.append("b")

    timings = asyncio.run(alternate({"a": lambda: order.append("a"), "b": later}, 3))
    assert order == ["a", "b"] * 3
    assert timings.ratio("a", "a") == 1
    assert {name: len(times) for name, times in timings.seconds.items()} == {"a": 3, "b": 3}


def test_handwritten_parts_of_the_page_are_kept(tmp_path):
    page = "before\n<!-- reads: written by make bench -->\nold\n<!-- end of reads -->\nafter\n"
    results = bench.replaced(page, "reads", "| \\1 new |")
    assert results == page.replace("old", "| \\1 new |")
    with pytest.raises(ValueError, match="one pair of comments"):
        bench.replaced(page, "large", "")


def test_the_page_has_comments_for_every_part():
    page = (bench._DOCS / bench._PAGE).read_text()
    for name in bench.PARTS:
        assert bench.replaced(page, name, "here") != page


def test_an_unknown_part_is_refused(capsys):
    with pytest.raises(SystemExit):
        bench.main(["nonsense"])
    assert "unknown part nonsense; the parts are machine, reads" in capsys.readouterr().err


def test_the_machine_is_described_by_cores_and_versions(tmp_path):
    text = bench._machine(argparse.Namespace(home=None, tokens=7), tmp_path)
    assert re.fullmatch(
        r"\d+ cores, PostgreSQL [\d.]+, PostGIS [\d.]+, .* A store of 7 tokens\.", text
    )
