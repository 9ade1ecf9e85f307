"""The counts of docs/trust.md are those of the suite; scripts/trust_counts.py writes them."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "trust.md").read_text("utf-8")


@pytest.fixture(scope="module")
def trust_counts():
    spec = importlib.util.spec_from_file_location(
        "trust_counts", ROOT / "scripts" / "trust_counts.py"
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["trust_counts"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["trust_counts"]


def test_the_counts_are_those_of_the_suite(trust_counts, collected, request):
    """Of the files that this run collected as a whole, so the suite is not collected again."""
    arguments = [argument for argument in request.config.args if "::" in argument]
    cases = trust_counts.cases_of(collected)
    partial = {case.path for case in cases if any(case.path in text for text in arguments)}
    files = {case.path for case in cases} - partial
    assert trust_counts.with_counts(PAGE, cases, files) == PAGE, (
        "docs/trust.md is out of date; run scripts/trust_counts.py"
    )


def test_every_row_has_tests(trust_counts):
    table = PAGE.split("<!-- counts")[1].split("<!-- end")[0]
    rows = [line for line in table.splitlines() if line.startswith("| **")]
    assert len(rows) > 20
    assert all(trust_counts.paths_of(row) for row in rows)
    assert trust_counts.missing_paths(PAGE) == []


def test_counts_are_of_cases_and_examples(trust_counts):
    begin, end = trust_counts._BEGIN, trust_counts._END
    page = f"a\n{begin}\n| **p** | how | `a/test_b.py`, `c` | 0 |  |\n{end}\nz"
    cases = [
        trust_counts.Case("a/test_b.py", 0),
        trust_counts.Case("a/test_b.py", 1_000),
        trust_counts.Case("c/d/test_e.py", 200),
        trust_counts.Case("cc/test_f.py", 5),
    ]
    assert "| `a/test_b.py`, `c` | 3 | 1,200 |\n" in trust_counts.with_counts(page, cases)
    assert trust_counts.with_counts(page, cases, {"c/d/test_e.py"}).endswith(f"{end}\nz")
