"""Write the counts of docs/trust.md: how many tests the suite has for each promise.

    python scripts/trust_counts.py

The tests are collected, not run, so the counts are the same on every machine.  In the table between the
two comments, a row names files or folders of tests in its third cell, as paths in ``tests/``; its last
two cells are written here: the number of test cases, and that of the random examples that property
tests draw besides.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, NamedTuple

__all__ = ["Case", "cases_of", "main", "missing_paths", "paths_of", "with_counts"]

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "trust.md"
_BEGIN: Final = "<!-- counts: written by scripts/trust_counts.py -->"
_END: Final = "<!-- end of counts -->"


class Case(NamedTuple):
    """A collected test case.

    Attributes
    ----------
    path : str
        Its file, as a path in ``tests/``.
    examples : int
        How many random examples it draws; 0 if it draws none.
    """

    path: str
    examples: int


def cases_of(items: Iterable[Any]) -> list[Case]:
    """Return the cases of pytest's items."""
    cases = []
    for item in items:
        drawn = getattr(item.obj, "_hypothesis_internal_use_settings", None)
        path = item.path.relative_to(ROOT / "tests").as_posix()
        is_random = getattr(item.obj, "is_hypothesis_test", False)
        cases.append(Case(path, drawn.max_examples if is_random and drawn else 0))
    return cases


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")]


def paths_of(line: str) -> list[str]:
    """Return the paths that a row of the table names; none of a heading."""
    cells = _cells(line)
    return re.findall(r"`([\w/]+(?:\.py)?)`", cells[2]) if len(cells) == 5 else []


def missing_paths(page: str) -> list[str]:
    """Return the named paths that do not exist."""
    lines = _table(page).splitlines()
    return [
        path for line in lines for path in paths_of(line) if not (ROOT / "tests" / path).exists()
    ]


def _table(page: str) -> str:
    return page.split(_BEGIN)[1].split(_END)[0]


def with_counts(page: str, cases: list[Case], only: set[str] | None = None) -> str:
    """Return the page with the counts of these cases.

    Parameters
    ----------
    page : str
    cases : list of Case
    only : set of str, optional
        The files that were collected; rows that name others stay as they are.
    """
    table = _table(page)
    lines = []
    for line in table.splitlines():
        paths = paths_of(line)
        matching = [
            case
            for case in cases
            if any(case.path == path or case.path.startswith(f"{path}/") for path in paths)
        ]
        if not paths or (only is not None and not _files(paths) <= only):
            lines.append(line)
            continue
        examples = sum(case.examples for case in matching)
        counts = [f"{len(matching):,}", f"{examples:,}" if examples else ""]
        lines.append(f"| {' | '.join([*_cells(line)[:3], *counts])} |")
    return page.replace(table, "\n".join(lines) + "\n")


def _files(paths: list[str]) -> set[str]:
    tests = ROOT / "tests"
    files = set()
    for path in paths:
        place = tests / path
        members = place.rglob("test_*.py") if place.is_dir() else filter(Path.exists, [place])
        files |= {file.relative_to(tests).as_posix() for file in members}
    return files


class _Collector:
    def __init__(self) -> None:
        self.cases: list[Case] = []

    def pytest_collection_finish(self, session: Any) -> None:
        self.cases = cases_of(session.items)


def main() -> int:
    """Collect all tests, and write the page."""
    import pytest

    collector = _Collector()
    code = pytest.main(
        ["--collect-only", "-qq", "--no-header", "-p", "no:xdist", str(ROOT / "tests")],
        plugins=[collector],
    )
    if code:
        return int(code)
    page = PAGE.read_text("utf-8")
    PAGE.write_text(with_counts(page, collector.cases), "utf-8")
    for path in missing_paths(page):
        sys.stderr.write(f"{PAGE.name} names tests/{path}, which does not exist\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
